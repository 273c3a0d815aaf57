"""custom_batching: the author's rule under vmap, the function itself elsewhere."""

from __future__ import annotations

import numpy as np

import autodiff as ad

MATRIX = np.arange(6.0).reshape(2, 3)
X = np.array([0.3, -0.7, 1.1])


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def marked(seen):
    """Return a function whose rule gives ten times its results, and notes how it was called."""

    @ad.custom_batching
    def f(x, w):
        return {"dot": (x * w["w"]).sum(), "first": w["w"][0]}

    @f.defbatch
    def _rule(size, in_batched, x, w):
        seen.append((size, in_batched))
        rows = (x * w["w"]).sum(-1) * 10.0
        mapped = in_batched[1]["w"]
        return {"dot": rows, "first": w["w"][..., 0] * 10.0}, {"dot": True, "first": mapped}

    return f


def test_vmap_uses_the_rule_with_the_mapped_axis_first():
    seen = []
    f = marked(seen)
    out = ad.vmap(f, in_axes=(1, None))(MATRIX.T, {"w": X})
    close(out["dot"], 10 * MATRIX @ X)
    close(out["first"], np.full(2, 3.0))
    assert seen == [(2, (True, {"w": False}))]
    out = ad.vmap(f, in_axes=(None, 0))(X, {"w": MATRIX})
    close(out["first"], 10 * MATRIX[:, 0])
    assert seen[-1] == (2, (False, {"w": True}))
    close(ad.jit(ad.vmap(f, in_axes=(0, None)))(MATRIX, {"w": X})["dot"], 10 * MATRIX @ X)


def test_elsewhere_the_function_is_itself():
    f = marked([])
    close(f(X, {"w": X})["dot"], X @ X)
    close(ad.jit(f)(X, {"w": X})["dot"], X @ X)
    close(ad.grad(lambda x: f(x, {"w": X})["dot"])(X), X)
    close(ad.hessian(lambda x: f(x, {"w": x})["dot"])(X), 2 * np.eye(3))


def test_the_derivative_of_the_mapped_function_is_that_of_the_rule():
    f = marked([])

    def total(w):
        return ad.vmap(f, in_axes=(0, None))(MATRIX, {"w": w})["dot"].sum()

    close(ad.grad(total)(X), 10 * MATRIX.sum(0))
    close(ad.jit(ad.grad(total))(X), 10 * MATRIX.sum(0))
    close(ad.jvp(total, (X,), (X,))[1], 10 * (MATRIX @ X).sum())


def test_the_mapped_derivative_is_that_of_the_function():
    gradient = ad.grad(lambda x, w: marked([])(x, {"w": w})["dot"])
    close(ad.vmap(gradient, in_axes=(0, None))(MATRIX, X), np.stack([X, X]))


def test_a_second_mapped_axis_maps_the_rule():
    twice = ad.vmap(ad.vmap(marked([]), in_axes=(0, None)), in_axes=(None, 0))
    vectors = np.stack([X, 2 * X, 3 * X])
    close(twice(MATRIX, {"w": vectors})["dot"], 10 * (MATRIX @ vectors.T).T)


def test_a_rule_is_run_anew_for_each_call():
    factor = [1.0]

    @ad.custom_batching
    def f(x):
        return x

    @f.defbatch
    def _rule(size, in_batched, x):
        return factor[0] * x, True

    close(ad.vmap(f)(X), X)
    factor[0] = 2.0
    close(ad.vmap(f)(X), 2 * X)


def test_the_function_and_its_rule_may_close_over_values_that_are_not_mapped():
    def outer(scale, x):
        @ad.custom_batching
        def f(x):
            return scale * x

        @f.defbatch
        def _rule(size, in_batched, x):
            return 10.0 * (x * scale), True

        return ad.vmap(f)(x)

    scale = np.array(2.0)
    close(outer(scale, X), 20 * X)
    close(ad.jit(outer)(scale, X), 20 * X)
    close(ad.grad(lambda s: outer(s, X).sum())(scale), 10 * X.sum())


def test_methods_may_have_batching_rules():
    @ad.custom_batching
    def f(x, y=2.0):
        return x * y

    f.defbatch(lambda size, in_batched, x, y: (x * y, True))
    close(ad.vmap(lambda x: f(y=x, x=3.0))(X), 3 * X)
