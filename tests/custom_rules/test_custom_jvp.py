"""custom_jvp: the author's rule is used, to every order, with every kind of argument and output."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp

X = np.array([0.3, -0.7, 1.1])


def close(found, expected, rtol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-14)


@ad.custom_jvp
def tripled(x):
    """The identity, with a derivative of 3: a rule that cannot be taken for the function's own."""
    return x * 1.0


@tripled.defjvp
def _tripled(primals, tangents):
    return tripled(primals[0]), 3.0 * tangents[0]


@ad.custom_jvp
def log1pexp(x):
    return np.log1p(np.exp(x))


@log1pexp.defjvp
def _log1pexp(primals, tangents):
    (x,), (t,) = primals, tangents
    return log1pexp(x), t * logistic(x)


@ad.custom_jvp
def logistic(x):
    return 1.0 / (1.0 + np.exp(-x))


@logistic.defjvp
def _logistic(primals, tangents):
    y = logistic(primals[0])
    return y, tangents[0] * y * (1.0 - y)


def test_plain_arrays_are_given_to_the_function_itself():
    seen = []

    @ad.custom_jvp
    def f(x):
        seen.append(type(x))
        return x

    f(X)
    assert seen == [np.ndarray]


def test_every_transformation_uses_the_rule():
    close(ad.grad(tripled)(2.0), 3.0)
    close(ad.jvp(tripled, (2.0,), (5.0,)), (2.0, 15.0))
    close(ad.vjp(tripled, X)[1](X)[0], 3 * X)
    close(ad.linearize(tripled, X)[1](X), 3 * X)
    close(ad.jacfwd(tripled)(X), 3 * np.eye(3))
    close(ad.jacrev(tripled)(X), 3 * np.eye(3))
    close(ad.vmap(ad.grad(tripled))(X), np.full(3, 3.0))
    close(ad.grad(lambda x: ad.vmap(tripled)(x).sum())(X), np.full(3, 3.0))
    close(ad.grad(ad.jit(tripled))(2.0), 3.0)
    close(ad.jit(ad.grad(tripled))(2.0), 3.0)
    close(ad.jit(tripled)(X), X)


def test_a_rule_used_twice_counts_twice():
    close(ad.grad(lambda x: tripled(tripled(x)) * x)(2.0), 9.0 * 2.0 + 2.0)


def test_the_stable_rule_has_no_overflow_at_any_order():
    """Derivatives of log(1 + exp x) are s, s (1 - s), s (1 - s) (1 - 2 s), s the logistic of x."""
    d1 = ad.grad(log1pexp)
    d2, d3 = ad.grad(d1), ad.grad(ad.grad(d1))
    close([d1(1000.0), d2(1000.0), d3(1000.0)], [1.0, 0.0, 0.0])
    s = 1 / (1 + np.exp(-0.3))
    close([d1(0.3), d2(0.3), d3(0.3)], [s, s * (1 - s), s * (1 - s) * (1 - 2 * s)])
    forward = ad.jacfwd(ad.jacfwd(ad.jacfwd(log1pexp)))
    close(forward(0.3), s * (1 - s) * (1 - 2 * s))
    close(ad.jacfwd(ad.grad(d1))(0.3), s * (1 - s) * (1 - 2 * s))
    close(ad.jit(ad.vmap(d3))(np.array([0.3, 1000.0])), [s * (1 - s) * (1 - 2 * s), 0.0])


def test_an_infinite_family_of_functions_may_be_each_others_derivatives():
    """d/dx sin(x + n pi / 2) = sin(x + (n + 1) pi / 2), with n not differentiated."""
    traced = []

    @partial(ad.custom_jvp, nondiff_argnums=(0,))
    def shifted_sine(n, x):
        traced.append(n)
        return np.sin(x + n * np.pi / 2)

    @shifted_sine.defjvp
    def _rule(n, primals, tangents):
        (x,), (t,) = primals, tangents
        return shifted_sine(n, x), t * shifted_sine(n + 1, x)

    f = partial(shifted_sine, 0)
    close(ad.grad(f)(0.4), np.cos(0.4))
    assert max(traced) == 1  # no further than asked for
    close(ad.grad(ad.grad(ad.grad(f)))(0.4), -np.cos(0.4))
    close(ad.jacfwd(ad.jacfwd(ad.jacfwd(ad.jacfwd(f))))(0.4), np.sin(0.4))
    close(ad.vmap(ad.grad(ad.grad(f)))(X), -np.sin(X))


def test_defjvps_takes_one_rule_per_argument():
    f = ad.custom_jvp(lambda x, y, z: x * y + z)
    f.defjvps(lambda t, out, x, y, z: 10 * t * y, None, lambda t, out, x, y, z: None)
    close(ad.grad(f, (0, 1, 2))(2.0, 3.0, 4.0), (30.0, 0.0, 0.0))


def test_defjvps_rules_see_the_output_and_may_return_trees():
    f = ad.custom_jvp(lambda x: {"exp": np.exp(x), "twice": 2 * x})
    f.defjvps(lambda t, out, x: {"exp": 7 * t * out["exp"], "twice": t})
    _, moved = ad.jvp(f, (0.5,), (1.0,))
    close(moved["exp"], 7 * np.exp(0.5))
    close(moved["twice"], 1.0)
    close(ad.grad(lambda x: f(x)["exp"])(0.5), 7 * np.exp(0.5))


def test_arguments_and_outputs_may_be_trees():
    @ad.custom_jvp
    def f(params, x):
        return {"y": params["w"] * x, "z": [params["b"]]}

    @f.defjvp
    def _rule(primals, tangents):
        (params, x), (dparams, dx) = primals, tangents
        moved = dparams["w"] * x + 100.0 * params["w"] * dx
        return f(params, x), {"y": moved, "z": [None]}

    params = {"w": X, "b": np.float32(2.0)}
    grads = ad.grad(lambda p, x: (f(p, x)["y"]).sum() + f(p, x)["z"][0], (0, 1))(params, 2.0 * X)
    close(grads[0]["w"], 2.0 * X)
    assert grads[0]["b"] == 0 and grads[0]["b"].dtype == np.float32
    close(grads[1], 100.0 * X)


def test_integer_and_boolean_leaves_get_zero_tangents_and_no_cotangents():
    @ad.custom_jvp
    def taken(x, index, keep):
        return np.where(keep, x[index], 0.0), index + 1

    @taken.defjvp
    def _rule(primals, tangents):
        (x, index, keep), (t, index_tangent, keep_tangent) = primals, tangents
        assert index_tangent.dtype == np.int64 and keep_tangent.dtype == bool
        assert not index_tangent.any()
        return taken(x, index, keep), (5.0 * np.where(keep, t[index], 0.0), None)

    index, keep = np.array([2, 0]), np.array([True, False])
    out, moved = ad.jvp(lambda x: taken(x, index, keep), (X,), (X,))
    close(out[0], [1.1, 0.0])
    assert out[1].tolist() == [3, 1]
    close(moved[0], [5.5, 0.0])
    assert moved[1].tolist() == [0, 0]
    close(ad.grad(lambda x: taken(x, index, keep)[0].sum())(X), [0.0, 0.0, 5.0])
    grads = ad.grad(lambda x, i: taken(x, i, keep)[0].sum(), (0, 1), allow_int=True)(X, index)
    assert grads[1].dtype == np.int64 and not grads[1].any()


def test_types_are_kept():
    x = X.astype(np.float32)
    assert ad.grad(lambda x: tripled(x).sum())(x).dtype == np.float32
    assert ad.jvp(tripled, (x,), (x,))[1].dtype == np.float32
    z = X + 1j
    close(ad.jvp(tripled, (z,), (1j * z,))[1], 3j * z)
    close(ad.grad(lambda z: tripled(z), holomorphic=True)(1 + 2j), 3.0)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (2, 3)])
def test_any_shape_will_do(shape):
    x = np.ones(shape)
    found = ad.grad(lambda x: tripled(x).sum())(x)
    assert type(found) is np.ndarray and found.shape == shape
    close(found, 3 * x)
    close(ad.vmap(tripled)(np.ones((2, *shape))), np.ones((2, *shape)))


def test_a_mapped_axis_of_size_zero():
    assert ad.vmap(ad.grad(tripled))(np.ones(0)).shape == (0,)


def test_python_may_ask_for_values_in_the_function_and_in_the_rule():
    @ad.custom_jvp
    def f(x):
        return x if x > 0 else -x

    @f.defjvp
    def _rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), (10 * t if x > 1 else 20 * t)

    close(ad.grad(f)(2.0), 10.0)
    close(ad.grad(f)(0.5), 20.0)
    close(ad.jvp(lambda x: f(-x), (0.5,), (1.0,)), (0.5, -20.0))
    with pytest.raises(ad.ConcretizationError):
        ad.jit(f)(2.0)


def test_nondiff_arguments_may_be_functions_text_and_numbers():
    @partial(ad.custom_jvp, nondiff_argnums=(0, 2, 3))
    def apply(fun, x, name, power):
        return fun(x) ** power if name == "power" else fun(x)

    @apply.defjvp
    def _rule(fun, name, power, primals, tangents):
        assert (name, power) == ("power", 3)
        return apply(fun, *primals, name, power), 2.0 * tangents[0]

    close(ad.grad(lambda x: apply(np.sin, x, "power", 3))(0.5), 2.0)
    close(ad.jit(lambda x: apply(np.sin, x, "power", 3))(0.5), np.sin(0.5) ** 3)


def test_nondiff_arguments_may_be_traced_by_jit_and_vmap():
    @partial(ad.custom_jvp, nondiff_argnums=(0,))
    def scaled(factor, x):
        return factor * x

    @scaled.defjvp
    def _rule(factor, primals, tangents):
        return scaled(factor, primals[0]), 10.0 * factor * tangents[0]

    close(ad.jit(lambda n, x: ad.grad(partial(scaled, n))(x))(2.0, 3.0), 20.0)
    close(ad.vmap(lambda n, x: ad.grad(partial(scaled, n))(x))(X, X), 10 * X)
    second = ad.vmap(lambda n, x: ad.grad(lambda x: ad.grad(partial(scaled, n))(x) * x)(x))
    close(second(X, X), 10 * X)
    close(ad.jit(ad.vmap(lambda n: scaled(n, 2.0)))(X), 2 * X)


def test_a_function_and_its_rule_may_close_over_arrays_and_mapped_values():
    weights = np.array([1.0, 2.0, 3.0])

    def total(scale, x):
        @ad.custom_jvp
        def f(x):
            return scale * weights * x

        @f.defjvp
        def _rule(primals, tangents):
            return f(primals[0]), 10.0 * scale * weights * tangents[0]

        return f(x).sum()

    gradients = ad.vmap(ad.grad(total, 1), in_axes=(0, None))(X, X)
    close(gradients, 10.0 * X[:, None] * weights)
    close(ad.jit(ad.grad(total, 1))(2.0, X), 20.0 * weights)


def test_second_derivatives_of_a_function_that_closes_over_mapped_values():
    """With f = s x and f' = s f by its rule, f'' = s f' = s**3 x."""

    def second(scale, x):
        @ad.custom_jvp
        def f(x):
            return scale * x

        @f.defjvp
        def _rule(primals, tangents):
            return f(primals[0]), scale * f(primals[0]) * tangents[0]

        return ad.grad(ad.grad(f))(x)

    close(ad.vmap(second, in_axes=(0, None))(X, 2.0), X**3 * 2.0)
    close(ad.jit(second)(np.array(3.0), 2.0), 54.0)


def test_keyword_arguments_are_taken_by_position():
    f = ad.custom_jvp(lambda x, y=2.0: x * y)
    f.defjvps(lambda t, out, x, y: 5.0 * t * y, lambda t, out, x, y: t)
    close(ad.grad(lambda x: f(x=x))(3.0), 10.0)
    close(ad.grad(lambda x: f(y=x, x=2.0))(3.0), 1.0)


def test_methods_may_have_rules():
    class Layer:
        def __init__(self, gain):
            self.gain = gain

        @partial(ad.custom_jvp, nondiff_argnums=(0,))
        def apply(self, x):
            return self.gain * x

    @Layer.apply.defjvp
    def _rule(self, primals, tangents):
        return self.apply(primals[0]), -self.gain * tangents[0]

    close(ad.grad(Layer(4.0).apply)(1.0), -4.0)


def test_a_derivative_with_respect_to_some_arguments_needs_no_work_for_the_others():
    @ad.custom_jvp
    def f(x, w):
        return x * w

    @f.defjvp
    def _rule(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        return f(x, w), dx * w + x * dw

    text = str(ad.make_graph(lambda x: ad.jvp(lambda x: f(x, X), (x,), (x,))[1])(X))
    assert text.count("multiply") <= 3, text  # x w in f and in the rule, dx w; not x dw
    close(ad.grad(lambda x: f(x, X).sum())(X), X)


def test_random_nesting_in_numpy_functions_is_traced():
    f = ad.custom_jvp(lambda x: anp.sort(x))
    f.defjvps(lambda t, out, x: 2.0 * t)
    close(ad.jacrev(f)(X), 2.0 * np.eye(3))
