"""custom_vjp: the author's backward rule in reverse mode, its transpose in forward mode."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import numpy as np
import pytest

import autodiff as ad

X = np.array([0.3, -0.7, 1.1])


def close(found, expected, rtol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-14)


@ad.custom_vjp
def fivefold(x):
    """The identity, with a derivative of 5."""
    return x * 1.0


fivefold.defvjp(lambda x: (fivefold(x), None), lambda residuals, ct: (5.0 * ct,))


@ad.custom_vjp
def product(x, y):
    """The product x sin(y)."""
    return x * np.sin(y)


def _forward(x, y):
    return product(x, y), (x, np.sin(y), np.cos(y))


def _backward(residuals, ct):
    x, sine, cosine = residuals
    return ct * sine, ct * x * cosine


product.defvjp(_forward, _backward)


@ad.custom_vjp
def clipped(x):
    return x


clipped.defvjp(lambda x: (x, None), lambda residuals, ct: (np.clip(ct, -1.0, 1.0),))


def test_every_transformation_uses_the_rule():
    close(ad.grad(fivefold)(2.0), 5.0)
    close(ad.vjp(fivefold, X)[1](X)[0], 5 * X)
    close(ad.jacrev(fivefold)(X), 5 * np.eye(3))
    close(ad.vmap(ad.grad(fivefold))(X), np.full(3, 5.0))
    close(ad.grad(lambda x: ad.vmap(fivefold)(x).sum())(X), np.full(3, 5.0))
    close(ad.grad(ad.jit(fivefold))(2.0), 5.0)
    close(ad.jit(ad.grad(fivefold))(2.0), 5.0)


def test_forward_mode_transposes_the_backward_rule():
    close(ad.jvp(fivefold, (2.0,), (3.0,)), (2.0, 15.0))
    close(ad.linearize(fivefold, X)[1](X), 5 * X)
    close(ad.jacfwd(fivefold)(X), 5 * np.eye(3))
    close(ad.jit(ad.vmap(lambda x: ad.jvp(fivefold, (x,), (x,))[1]))(X), 5 * X)


def test_derivatives_of_every_order_and_mode_agree_with_closed_forms():
    """x sin(y): d2/dxdy = cos y, d2/dy2 = -x sin y, d3/dxdy2 = -sin y, d3/dy3 = -x cos y."""
    x, y = 1.7, 0.4

    def f(v):
        return product(v[0], v[1])

    v = np.array([x, y])
    hessian = [[0.0, np.cos(y)], [np.cos(y), -x * np.sin(y)]]
    for second in (
        ad.hessian(f),
        ad.jacrev(ad.jacrev(f)),
        ad.jacfwd(ad.jacfwd(f)),
        ad.jacrev(ad.jacfwd(f)),
        ad.jit(ad.hessian(f)),
    ):
        close(second(v), hessian)
    third = ad.jacfwd(ad.jacrev(ad.jacrev(f)))(v)
    close(third[:, 1, 1], [-np.sin(y), -x * np.cos(y)])
    close(third[:, 0, 1], [0.0, -np.sin(y)])
    close(ad.vmap(ad.hessian(f))(np.stack([v, v])), [hessian, hessian])


def test_clipping_a_gradient_works_in_reverse_mode():
    close(ad.grad(lambda x: (np.array([0.5, 3.0, -7.0]) * clipped(x)).sum())(X), [0.5, 1.0, -1.0])
    close(ad.vmap(ad.grad(lambda x: 10.0 * clipped(x)))(X), np.ones(3))
    close(ad.jit(ad.grad(lambda x: 10.0 * clipped(x)))(2.0), 1.0)


def test_bounds_of_the_clipping_may_be_arguments_without_derivative():
    @partial(ad.custom_vjp, nondiff_argnums=(0, 1))
    def clip(low, high, x):
        return x

    clip.defvjp(
        lambda low, high, x: (x, None),
        lambda low, high, residuals, ct: (np.clip(ct, low, high),),
    )
    close(ad.grad(lambda x: 10.0 * clip(-2.0, 3.0, x))(1.0), 3.0)
    close(ad.jit(lambda low, x: ad.grad(lambda x: -10.0 * clip(low, 3.0, x))(x))(-2.0, 1.0), -2.0)
    mapped = ad.vmap(lambda high: ad.grad(lambda x: 10.0 * clip(-2.0, high, x))(1.0))
    close(mapped(np.array([1.0, 4.0, 20.0])), [1.0, 4.0, 10.0])


def test_none_is_a_zero_cotangent_at_any_depth():
    @ad.custom_vjp
    def f(x, params):
        return x * params["w"] + params["b"][0]

    f.defvjp(
        lambda x, params: (f(x, params), x),
        lambda x, ct: (None, {"w": ct * x, "b": None}),
    )
    params = {"w": 2.0, "b": (3.0, 4.0)}
    dx, dparams = ad.grad(f, (0, 1))(5.0, params)
    close(dx, 0.0)
    close(dparams["w"], 5.0)
    close(dparams["b"], (0.0, 0.0))
    close(ad.jvp(lambda x: f(x, params), (5.0,), (1.0,)), (13.0, 0.0))
    close(ad.jvp(f, (5.0, params), (1.0, params)), (13.0, 10.0))


def test_integer_arguments_have_no_cotangent_and_integer_outputs_a_zero_one():
    @ad.custom_vjp
    def f(x, index):
        return x[index], index * 2

    def bwd(residuals, ct):
        index, size = residuals
        ct_x, ct_index = ct
        assert ct_index.dtype == np.int64 and not ct_index.any()
        return 4.0 * ad.at(np.zeros(size))[index].add(ct_x), None

    f.defvjp(lambda x, index: (f(x, index), (index, x.size)), bwd)
    index = np.array([2, 2])
    close(ad.grad(lambda x: f(x, index)[0].sum())(X), [0.0, 0.0, 8.0])
    grads = ad.grad(lambda x, i: f(x, i)[0].sum(), (0, 1), allow_int=True)(X, index)
    assert grads[1].dtype == np.int64


def test_residuals_may_be_any_tree_with_anything_in_it():
    @ad.custom_vjp
    def f(x):
        return np.sin(x)

    note = object()

    def bwd(residuals, ct):
        assert residuals["note"] is note
        assert residuals["name"] == "sin"
        (cosine,) = residuals["kept"]
        return (ct * cosine * residuals["factor"],)

    f.defvjp(
        lambda x: (f(x), {"kept": [np.cos(x)], "note": note, "name": "sin", "factor": 2.0}), bwd
    )
    close(ad.grad(f)(0.5), 2 * np.cos(0.5))
    close(ad.vmap(ad.grad(f))(X), 2 * np.cos(X))
    close(ad.jvp(f, (0.5,), (1.0,))[1], 2 * np.cos(0.5))


def test_an_argument_shared_by_mapped_examples_gets_the_sum_of_their_cotangents():
    def mapped(x, y):
        return ad.vmap(product, in_axes=(0, None))(x, y).sum()

    close(ad.grad(mapped)(X, 0.4), np.full(3, np.sin(0.4)))
    close(ad.grad(mapped, 1)(X, 0.4), X.sum() * np.cos(0.4))
    close(ad.jit(ad.grad(mapped, 1))(X, 0.4), X.sum() * np.cos(0.4))
    close(ad.grad(ad.grad(mapped, 1), 1)(X, 0.4), -X.sum() * np.sin(0.4))
    close(ad.jvp(lambda y: mapped(X, y), (0.4,), (1.0,))[1], X.sum() * np.cos(0.4))
    twice = ad.vmap(ad.vmap(product, in_axes=(0, None)), in_axes=(None, 0))
    weights = np.arange(6.0).reshape(2, 3)
    found = ad.grad(lambda x, y: (weights * twice(x, y)).sum(), (0, 1))(X, X[:2])
    close(found[0], np.sin(X[:2]) @ weights)
    close(found[1], np.cos(X[:2]) * (weights @ X))


def test_a_cotangent_that_does_not_depend_on_the_example_is_summed_too():
    @ad.custom_vjp
    def f(x, y):
        return x + y

    f.defvjp(lambda x, y: (x + y, None), lambda residuals, ct: (ct, 2.0 * np.ones(())))
    close(ad.grad(lambda y: ad.vmap(f, in_axes=(0, None))(X, y).sum())(1.0), 6.0)


def test_python_may_ask_for_values_in_every_rule():
    seen = []

    @ad.custom_vjp
    def f(x):
        return x if x > 0 else -x

    def fwd(x):
        return f(x), (x, 10.0 if x > 1 else 20.0)

    def bwd(residuals, ct):
        x, factor = residuals
        seen.append(float(x))
        return (factor * ct if x > 3 else -factor * ct,)

    f.defvjp(fwd, bwd)
    close([ad.grad(f)(4.0), ad.grad(f)(2.0), ad.grad(f)(0.5)], [10.0, -10.0, -20.0])
    assert seen == [4.0, 2.0, 0.5]


def test_a_cotangent_has_no_value_python_could_ask_for():
    @ad.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: (x, None), lambda residuals, ct: (ct if ct > 0 else -ct,))
    with pytest.raises(ad.ConcretizationError, match="cotangents"):
        ad.grad(f)(1.0)


def test_types_are_kept():
    x = X.astype(np.float32)
    assert ad.grad(lambda x: fivefold(x).sum())(x).dtype == np.float32
    z = X + 2j
    close(ad.vjp(fivefold, z)[1](1j * z)[0], 5j * z)
    assert ad.jacfwd(fivefold)(x).dtype == np.float32


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (2, 3)])
def test_any_shape_will_do(shape):
    x = np.ones(shape)
    close(ad.grad(lambda x: fivefold(x).sum())(x), 5 * x)
    close(ad.jvp(fivefold, (x,), (x,))[1], 5 * x)


def test_rules_nest_in_functions_and_in_rules():
    @ad.custom_vjp
    def outer(x):
        return fivefold(np.sin(x))

    def bwd(x, ct):
        return (ct * fivefold(np.cos(x)),)

    outer.defvjp(lambda x: (outer(x), x), bwd)
    close(ad.grad(outer)(0.4), np.cos(0.4))  # its own rule, which uses only the value of fivefold
    close(ad.grad(ad.grad(outer))(0.4), -5 * np.sin(0.4))
    close(ad.jacfwd(ad.jacfwd(outer))(0.4), -5 * np.sin(0.4))


# Both rules on one function -----------------------------------------------------------------------


def _with_both(kind):
    """The identity whose derivative is 10 in forward mode and 100 in reverse mode."""
    f = kind(lambda x: x * 1.0)
    f.defjvp(lambda primals, tangents: (f(*primals), 10.0 * tangents[0]))
    f.defvjp(lambda x: (f(x), None), lambda residuals, ct: (100.0 * ct,))
    return f


@pytest.mark.parametrize("kind", [ad.custom_jvp, ad.custom_vjp])
def test_each_mode_uses_its_own_rule(kind):
    f = _with_both(kind)
    close(ad.jvp(f, (2.0,), (1.0,))[1], 10.0)
    close(ad.jacfwd(f)(X), 10 * np.eye(3))
    close(ad.linearize(f, 2.0)[1](1.0), 10.0)
    close(ad.grad(f)(2.0), 100.0)
    close(ad.vjp(f, X)[1](X)[0], 100 * X)
    close(ad.jacrev(f)(X), 100 * np.eye(3))
    close(ad.vmap(ad.grad(f))(X), np.full(3, 100.0))
    close(ad.vmap(lambda x: ad.jvp(f, (x,), (x,))[1])(X), 10 * X)
    close(ad.jit(ad.grad(f))(2.0), 100.0)
    close(ad.vmap(lambda x: ad.linearize(f, x)[1](x))(X), 10 * X)
    # forward over reverse: x f'(x) with f' = 100, then the derivative of x * 100 alone
    close(ad.jvp(lambda x: ad.grad(f)(x) * x, (2.0,), (1.0,))[1], 100.0)
    close(ad.jvp(lambda x: ad.grad(lambda x: f(x) ** 2)(x), (2.0,), (1.0,))[1], 2 * 100.0 * 10.0)
    close(ad.grad(lambda x: ad.grad(lambda x: f(x) ** 2)(x))(2.0), 2 * 100.0 * 100.0)


# custom_gradient ----------------------------------------------------------------------------------


def test_custom_gradient_keeps_what_its_function_closes_over():
    @ad.custom_gradient
    def f(x, y):
        sine = np.sin(x)
        return sine * y, lambda ct: (7.0 * ct * np.cos(x) * y, ct * sine)

    close(f(0.3, 2.0), np.sin(0.3) * 2.0)
    close(ad.grad(f, (0, 1))(0.3, 2.0), (14 * np.cos(0.3), np.sin(0.3)))
    close(ad.grad(ad.grad(f))(0.3, 2.0), -14 * np.sin(0.3))
    close(ad.grad(ad.grad(f), 1)(0.3, 2.0), 7 * np.cos(0.3))
    close(ad.jvp(f, (0.3, 2.0), (1.0, 0.0))[1], 14 * np.cos(0.3))
    close(ad.vmap(ad.grad(f), in_axes=(0, None))(X, 2.0), 14 * np.cos(X))
    close(ad.jit(ad.grad(f))(0.3, 2.0), 14 * np.cos(0.3))


# closure_convert ----------------------------------------------------------------------------------


def test_closure_convert_hoists_traced_values_alone():
    weights = np.array([1.0, 2.0, 3.0])

    def f(a):
        converted, consts = ad.closure_convert(lambda x: a * weights * x["x"], {"x": X})
        assert len(consts) == 1
        return converted({"x": X}, *consts).sum()

    close(ad.grad(f)(2.0), (weights * X).sum())
    converted, consts = ad.closure_convert(lambda x: weights * x, X)
    assert consts == []
    close(converted(X), weights * X)


def test_a_function_with_rules_differentiates_through_another_function_s_closure():
    """The root of g(x) = x**2 - a by its implicit derivative 1 / (2 x)."""

    @partial(ad.custom_vjp, nondiff_argnums=(0,))
    def root(g, start, *consts):
        x = start
        for _ in range(30):
            x = x - g(x, *consts) / (2 * x)
        return x

    def fwd(g, start, *consts):
        x = root(g, start, *consts)
        return x, (x, consts)

    def bwd(g, residuals, ct):
        x, consts = residuals
        _, pull_x = ad.vjp(lambda x: g(x, *consts), x)
        _, pull_consts = ad.vjp(lambda *consts: g(x, *consts), *consts)
        return (None, *pull_consts(-ct / pull_x(np.ones_like(x))[0]))

    root.defvjp(fwd, bwd)

    def f(a):
        converted, consts = ad.closure_convert(lambda x: x * x - a, 1.0)
        return root(converted, 1.0, *consts)

    close(ad.grad(f)(2.0), 0.5 / np.sqrt(2.0))
    close(ad.jit(ad.grad(f))(2.0), 0.5 / np.sqrt(2.0))
    close(ad.vmap(ad.grad(f))(np.array([2.0, 3.0])), 0.5 / np.sqrt([2.0, 3.0]))


# Memory -------------------------------------------------------------------------------------------


def test_rules_that_call_their_own_function_keep_no_arguments_alive():
    x = np.ones(5)
    argument = weakref.ref(x)
    ad.grad(lambda x: fivefold(x).sum())(x)
    ad.grad(lambda x: ad.grad(lambda x: product(x.sum(), x[0]))(x).sum())(x)
    del x
    gc.collect()
    assert argument() is None
