"""Types, numbers and places: what loops and branches take and give."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree

X = np.array([0.5, -1.5], np.float32)


def test_single_precision_stays_through_values_and_derivatives():
    def f(x):
        def body(i, c):
            return c * np.cos(x) + i * 0.5

        c = ad.fori_loop(0, 3, body, x)
        c, ys = ad.scan(lambda c, r: (c + r, c * 2), c, np.ones((2, 2), np.float32))
        return ad.while_loop(lambda v: np.sum(v) < 4.0, lambda v: v * 1.5 + 1.0, c), ys

    for function in (f, ad.jit(f), ad.vmap(f, in_axes=None, axis_size=2)):
        assert {leaf.dtype for leaf in tree.leaves(function(X))} == {np.dtype(np.float32)}
    y, pull = ad.vjp(f, X)
    assert pull(y)[0].dtype == np.float32
    assert {t.dtype for t in tree.leaves(ad.jvp(f, (X,), (X,)))} == {np.dtype(np.float32)}


def test_a_number_takes_the_type_that_the_loop_gives_it():
    total, _ = ad.scan(lambda c, x: (c + x, None), 0, X)
    assert total.dtype == np.float32
    value = ad.while_loop(lambda c: c < 3, lambda c: c + np.float32(1.0), 0.5)
    assert (value, value.dtype) == (3.5, np.float32)
    assert ad.fori_loop(0, 3, lambda i, c: c + i, 0).dtype == np.int64


def test_the_index_of_a_loop_between_numbers_takes_the_type_of_what_it_meets():
    assert ad.fori_loop(0, 3, lambda i, c: c * i, X).dtype == np.float32
    bound = np.int32(3)
    found = ad.jit(lambda n: ad.fori_loop(0, n, lambda i, c: c + i, np.int32(0)))(bound)
    assert (found, found.dtype) == (3, np.int32)


def test_results_are_fresh_arrays_whatever_the_loop_did():
    x = np.ones(2)
    results = [
        ad.scan(lambda c, _: (c, c), x, length=0)[0],
        *ad.scan(lambda c, r: (c, r), x, np.ones((3, 2))),
        ad.while_loop(lambda c: c[0] < 0, lambda c: c, x),
        ad.cond(True, lambda v: v, lambda v: v, x),
        ad.cond(True, lambda: x, lambda: x),
        ad.associative_scan(np.add, x[:1]),
        ad.jit(lambda v: ad.cond(v[0] > 0, lambda: (v, v), lambda: (v, v)))(x)[1],
    ]
    for result in results:
        assert type(result) is np.ndarray
        assert not np.shares_memory(result, x)
        result[...] = 7.0
    assert x.tolist() == [1.0, 1.0]


def test_scalars_come_back_as_arrays_without_axes():
    for result in (
        ad.scan(lambda c, x: (c + x, x), 0.0, np.ones(3))[0],
        ad.while_loop(lambda c: c < 3, lambda c: c + 1, 0),
        ad.cond(np.True_, lambda: 1.0, lambda: 2.0),
        ad.switch(-5, [lambda: 1, lambda: 2]),
    ):
        assert type(result) is np.ndarray
        assert result.shape == ()


def test_complex_carries_have_the_derivative_of_the_program_written_out():
    z, w = np.array(0.4 + 0.3j), np.array([0.5 - 0.2j, -0.1 + 0.9j])

    def looped(z):
        return np.sum(np.abs(ad.scan(lambda c, r: (c * r + z, c**2), z, w)[1]) ** 2)

    def plain(z):
        c, total = z, 0.0
        for r in w:
            total = total + np.abs(c**2) ** 2
            c = c * r + z
        return total

    np.testing.assert_allclose(ad.grad(looped)(z), ad.grad(plain)(z), rtol=1e-14)
    np.testing.assert_allclose(ad.jit(ad.grad(looped))(z), ad.grad(plain)(z), rtol=1e-14)


def test_integer_and_boolean_arguments_of_loops_get_no_derivative():
    n, flags = np.arange(3), np.array([True, False, True])

    def f(x, n, flags):
        body = lambda c, r: (np.where(r[1], c * r[0], c + 1.0), None)
        return ad.scan(body, x, (n, flags))[0]

    assert ad.grad(f)(2.0, n, flags) == 0.0  # the first factor is 0
    gradients = ad.grad(f, (0, 1), allow_int=True)(2.0, n + 1, flags)
    assert gradients[0] == 3.0
    assert gradients[1].dtype == n.dtype
    assert not gradients[1].any()


def test_pytrees_of_every_kind_are_carried():
    carry = {"a": (np.ones(2), None), "b": [np.array(2.0), {}]}

    def body(c, _):
        return {"a": (c["a"][0] * c["b"][0], None), "b": [c["b"][0] + 1.0, {}]}, c["b"]

    last, ys = ad.scan(body, carry, length=3)
    assert tree.structure(last) == tree.structure(carry)
    assert ys[0].tolist() == [2.0, 3.0, 4.0]
    assert last["a"][0].tolist() == [24.0, 24.0]
    gradient = ad.grad(lambda c: np.sum(ad.scan(body, c, length=3)[0]["a"][0]))(carry)
    # a b (b + 1) (b + 2) at b = 2, summed over two elements
    assert gradient["a"][0].tolist() == [24.0, 24.0]
    assert gradient["b"][0] == 2 * (3 * 4 + 2 * 4 + 2 * 3)


def test_loops_read_views_with_any_strides():
    base = np.arange(24.0).reshape(4, 6)
    for rows in (base[::-1, ::2], base.T, base[:, 3:4], np.broadcast_to(base[0], (5, 6))):
        _, ys = ad.scan(lambda c, r: (c, r * 2), 0.0, rows)
        np.testing.assert_array_equal(ys, 2 * rows)
        total = ad.grad(lambda x: np.sum(ad.scan(lambda c, r: (c, r**2), 0.0, x)[1]))(rows)
        np.testing.assert_array_equal(total, 2 * rows)


def test_nothing_carried_and_nothing_returned_is_fine():
    assert ad.scan(lambda c, x: (c, None), None, np.ones(3)) == (None, None)
    assert ad.scan(lambda c, x: ((), ()), (), length=2) == ((), ())
    assert ad.fori_loop(5, 2, lambda i, c: c + 1, 7) == 7


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_associative_scans_go_along_any_axis_for_any_length(axis):
    for n in range(9):
        x = np.cos(np.arange(3.0 * n)).reshape((n, 3) if axis == 0 else (3, n))
        np.testing.assert_allclose(
            ad.associative_scan(np.add, x, axis=axis), np.cumsum(x, axis=axis), atol=1e-14
        )
        found = ad.jit(lambda v: ad.associative_scan(np.multiply, v, reverse=True, axis=axis))(x)
        flipped = np.flip(np.cumprod(np.flip(x, axis), axis=axis), axis)
        np.testing.assert_allclose(found, flipped, atol=1e-14)


def test_associative_scan_keeps_the_order_of_operands_that_do_not_commute():
    matrices = np.random.default_rng(1).normal(size=(7, 2, 2))
    found = ad.associative_scan(np.matmul, matrices)
    expected = [matrices[0]]
    for m in matrices[1:]:
        expected.append(expected[-1] @ m)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    back = ad.associative_scan(np.matmul, matrices, reverse=True)
    expected = [matrices[-1]]
    for m in matrices[-2::-1]:
        expected.append(expected[-1] @ m)
    np.testing.assert_allclose(back, expected[::-1], rtol=1e-12)


def test_a_finished_lane_keeps_its_value_though_the_loop_would_spoil_it():
    """sqrt of ever smaller numbers: lanes that went on would turn into NaN."""

    def f(x):
        return ad.while_loop(lambda c: c > 0.5, lambda c: np.sqrt(c - 0.5) * 0.9, x)

    x = np.array([0.3, 0.9, 3.0, 0.55])
    expected, slopes = [], []
    for value in x:
        slope = 1.0
        while value > 0.5:
            slope *= 0.45 / np.sqrt(value - 0.5)
            value = np.sqrt(value - 0.5) * 0.9
        expected.append(value)
        slopes.append(slope)
    np.testing.assert_allclose(ad.vmap(f)(x), expected, rtol=1e-14)
    np.testing.assert_allclose(ad.vmap(ad.grad(f))(x), slopes, rtol=1e-13)
    np.testing.assert_allclose(ad.grad(lambda v: np.sum(ad.vmap(f)(v)))(x), slopes, rtol=1e-13)
    pushed = ad.jvp(ad.vmap(f), (x,), (np.ones(4),))[1]
    np.testing.assert_allclose(pushed, slopes, rtol=1e-13)


def test_a_mapped_choice_takes_each_examples_branch_and_no_nan_from_the_other():
    def f(x):
        return ad.cond(x > 0.0, np.log, lambda v: v**2, x)

    x = np.array([-2.0, 0.5, 0.0])
    np.testing.assert_allclose(ad.vmap(f)(x), [4.0, np.log(0.5), 0.0])
    np.testing.assert_allclose(ad.vmap(ad.grad(f))(x), [-4.0, 2.0, 0.0])
    np.testing.assert_allclose(ad.grad(lambda v: np.sum(ad.vmap(f)(v)))(x), [-4.0, 2.0, 0.0])


def test_maps_over_no_examples_are_empty():
    def f(x):
        return ad.while_loop(lambda c: c < x, lambda c: c + 1.0, x * 0.0)

    empty = np.zeros(0)
    assert ad.vmap(f)(empty).shape == (0,)
    assert ad.vmap(ad.grad(f))(empty).shape == (0,)
    assert ad.map(lambda x: np.stack([x, x]), empty).shape == (0, 2)


def test_a_bound_stops_the_loop_and_its_derivative():
    def f(x, bound):
        return ad.while_loop(lambda c: c > 0, lambda c: c * x, x, max_steps=bound)

    for bound in (0, 1, 5):
        assert f(2.0, bound) == 2.0 ** (bound + 1)
        assert ad.grad(f)(2.0, bound) == (bound + 1) * 2.0**bound
        mapped = ad.vmap(ad.grad(lambda x, b=bound: f(x, b)))(np.array([2.0, 1.0]))
        assert mapped.tolist() == [(bound + 1) * 2.0**bound, bound + 1.0]


def test_branches_may_close_over_one_number_several_times():
    a, b = np.float64(2.0), np.ones(2)

    def f(x):
        one = lambda v: v * a + b * a + b
        other = lambda v: v - a * b * a
        return ad.switch(0, [one, other], x), ad.switch(1, [one, other], x)

    for function in (f, lambda x: ad.vjp(f, x)[0], ad.jit(f)):
        first, second = function(np.array([1.0, -1.0]))
        np.testing.assert_array_equal(first, [5.0, 1.0])
        np.testing.assert_array_equal(second, [-3.0, -5.0])
