"""Results are nobody else's memory: writing into one changes no argument, constant or result."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree

CONSTANT = np.array([[1.0, 2.0], [3.0, 4.0]])


def same(x):
    return x


def captured(x):
    return CONSTANT


def twice(x):
    y = x * 2.0
    return y, y


def with_argument(x):
    return x, x, x + 1.0


def views(x):
    y = np.sin(x)
    return y, y.T, y[0], y.reshape(-1), y[::-1], np.broadcast_to(y, (2, 2, 2))


def views_of_argument(x):
    return x.T, x[1], x.reshape(4), np.real(x), x[:, ::-1]


def views_of_constant(x):
    return CONSTANT.T, CONSTANT[0] * 1.0, x @ CONSTANT


def linear(x):
    return x + CONSTANT


FUNCTIONS = [
    same,
    captured,
    twice,
    with_argument,
    views,
    views_of_argument,
    views_of_constant,
    linear,
]


def by_plain_jit(f, x):
    return ad.jit(f)(x)


def by_jvp(f, x):
    return ad.jvp(f, (x,), (x,))


def by_vjp(f, x):
    out, pull = ad.vjp(f, x)
    return out, pull(out)


def by_linearize(f, x):
    out, push = ad.linearize(f, x)
    return out, push(x)


def by_vmap(f, x):
    return ad.vmap(f)(np.stack([x, x]))


def by_unmapped_vmap(f, x):
    return ad.vmap(lambda i, x: f(x), in_axes=(0, None))(np.arange(3), x)


def by_grad(f, x):
    value, gradient = ad.value_and_grad(lambda x: sum(np.sum(y) for y in tree.leaves(f(x))))(x)
    return value, gradient


def by_aux(f, x):
    return ad.grad(lambda x: (np.sum(x), f(x)), has_aux=True)(x)


def by_jacobians(f, x):
    return ad.jacfwd(f)(x), ad.jacrev(f)(x)


TRANSFORMATIONS = [
    by_plain_jit,
    by_jvp,
    by_vjp,
    by_linearize,
    by_vmap,
    by_unmapped_vmap,
    by_grad,
    by_aux,
    by_jacobians,
]


@pytest.mark.parametrize("times", [1, 4], ids=["first_call", "compiled"])
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("transformation", TRANSFORMATIONS, ids=lambda t: t.__name__)
def test_results_share_no_memory_with_anything(transformation, f, times):
    x = np.array([[0.5, -1.0], [2.0, 0.25]])
    before, constant = x.copy(), CONSTANT.copy()
    for _ in range(times):
        results = transformation(f, x)
    leaves = tree.leaves(results)
    for leaf in leaves:
        assert type(leaf) is np.ndarray
        assert leaf.flags.writeable
        assert not np.shares_memory(leaf, x)
        assert not np.shares_memory(leaf, CONSTANT)
        assert np.unique(np.asarray(_addresses(leaf))).size == leaf.size
    for one, other in combinations(leaves, 2):
        assert not np.shares_memory(one, other)
    expected = [leaf.copy() for leaf in leaves]
    for leaf in leaves:
        leaf[...] = np.nan
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(CONSTANT, constant)
    for leaf, wanted in zip(tree.leaves(transformation(f, x)), expected, strict=True):
        # kernels, which compute what has been seen often enough, round in their own ways
        np.testing.assert_allclose(leaf, wanted, rtol=1e-14)


def _addresses(x):
    """Return the offset of every element of `x` in memory, to find elements that are one."""
    offsets = np.zeros(x.shape, np.int64)
    for axis, stride in enumerate(x.strides):
        shape = [1] * x.ndim
        shape[axis] = -1
        offsets = offsets + np.arange(x.shape[axis]).reshape(shape) * stride
    return offsets.ravel()


def test_writing_into_an_argument_later_does_not_change_a_vjp_or_a_linearization():
    x = np.array([1.0, 2.0])
    _, pull = ad.vjp(lambda x: x**2, x)
    _, push = ad.linearize(lambda x: x * x, x)
    x[:] = 100.0
    np.testing.assert_array_equal(pull(np.ones(2))[0], [2.0, 4.0])
    np.testing.assert_array_equal(push(np.ones(2)), [2.0, 4.0])


def test_writing_into_the_output_does_not_change_a_vjp_or_a_linearization():
    x = np.array([0.0, 1.0])
    y, pull = ad.vjp(np.exp, x)
    z, push = ad.linearize(np.exp, x)
    y[:], z[:] = 7.0, 7.0
    np.testing.assert_array_equal(pull(np.ones(2))[0], np.exp(x))
    np.testing.assert_array_equal(push(np.ones(2)), np.exp(x))


def test_writing_into_a_captured_array_later_does_not_change_a_vjp_or_a_jitted_function():
    scale = np.array([2.0, 3.0])
    jitted = ad.jit(lambda x: x * scale)
    jitted(np.ones(2))
    _, pull = ad.vjp(lambda x: x * scale, np.ones(2))
    _, push = ad.linearize(lambda x: x * scale, np.ones(2))
    scale[:] = 100.0
    np.testing.assert_array_equal(jitted(np.ones(2)), [2.0, 3.0])
    np.testing.assert_array_equal(pull(np.ones(2))[0], [2.0, 3.0])
    np.testing.assert_array_equal(push(np.ones(2)), [2.0, 3.0])


def test_a_captured_array_changed_between_uses_in_one_trace_is_read_twice():
    buffer = np.array([1.0, 1.0])

    def f(x):
        y = x * buffer
        buffer[:] = 5.0
        z = x * buffer
        buffer[:] = 1.0
        return np.sum(y + z)

    np.testing.assert_array_equal(ad.grad(f)(np.ones(2)), [6.0, 6.0])
    np.testing.assert_array_equal(ad.jit(ad.grad(f))(np.ones(2)), [6.0, 6.0])


def test_captured_arrays_are_read_anew_by_every_call_outside_jit():
    scale = np.array([2.0, 3.0])
    gradient = ad.grad(lambda x: np.sum(x * scale))
    np.testing.assert_array_equal(gradient(np.ones(2)), [2.0, 3.0])
    scale[:] = 7.0
    np.testing.assert_array_equal(gradient(np.ones(2)), [7.0, 7.0])


def test_nan_in_a_captured_array_is_captured():
    scale = np.array([np.nan, 1.0])
    found = ad.grad(lambda x: np.sum(np.where(x > 1.5, 0.0, x) * scale * scale))(np.ones(2))
    np.testing.assert_array_equal(found, [np.nan, 1.0])
