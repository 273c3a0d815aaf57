"""Jacobians, Hessians, and their products with vectors and matrices."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import random
from tests.cookbook.data import close

ROW_0 = np.array([0.05981756, 0.12883782, 0.088576])
ROW_2 = np.array([0.12188289, 0.01406341, -0.3047072])
BY_B = np.array([0.11503378, 0.04563539, 0.23439017, 0.00189768])
# The Jacobian's entries are products of rounded float32 numbers near 1; the last figure's own
# digits end at 1e-8, so entries are compared absolutely, too.
ATOL = 2e-8


@pytest.fixture
def predictions(model, drawn):
    """The predictions as a function of the weights."""
    return lambda W: model.predict(W, drawn.b)


def curved(xp):
    """Return X -> sum(tanh(X)**2)."""
    return lambda X: xp.sum(xp.tanh(X) ** 2)


HESSIAN_VECTOR_PRODUCTS = {
    "grad of grad": lambda f, X, V: ad.grad(lambda x: np.vdot(ad.grad(f)(x), V))(X),
    "grad of grad, both closed over": lambda f, X, V: ad.grad(
        lambda x: np.tensordot(ad.grad(f)(x), V, V.ndim)
    )(X),
    "forward over reverse": lambda f, X, V: ad.jvp(ad.grad(f), (X,), (V,))[1],
    "reverse over forward": lambda f, X, V: ad.grad(lambda x: ad.jvp(f, (x,), (V,))[1])(X),
    "linearized gradient": lambda f, X, V: ad.linearize(ad.grad(f), X)[1](V),
}


def test_hessian_vector_products_in_every_mode_equal_the_full_hessian(xp):
    f = curved(xp)
    first, second = random.split(random.key(0))
    X, V = random.normal(first, (30, 40)), random.normal(second, (30, 40))
    full = np.tensordot(ad.hessian(f)(X), V, 2)
    # f is separable: f'' = 2 (1 - tanh**2) (1 - 3 tanh**2), which checks the full Hessian itself
    t = np.tanh(X.astype(np.float64))
    close(full, 2 * (1 - t**2) * (1 - 3 * t**2) * V, rtol=1e-4, atol=1e-5)
    for product in HESSIAN_VECTOR_PRODUCTS.values():
        close(product(f, X, V), full, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("jacobian", [ad.jacfwd, ad.jacrev], ids=["forward", "reverse"])
def test_jacobian_of_the_predictions(predictions, drawn, jacobian):
    found = jacobian(predictions)(drawn.W)
    assert (found.shape, found.dtype) == ((4, 3), np.float32)
    close(found[0], ROW_0, atol=ATOL)
    close(found[2], ROW_2, atol=ATOL)


def test_jacobian_with_a_dict_argument(model, drawn):
    found = ad.jacrev(lambda p: model.predict(p["W"], p["b"]))({"W": drawn.W, "b": drawn.b})
    assert found["W"].shape == (4, 3)
    close(found["W"][0], ROW_0, atol=ATOL)
    close(found["W"][2], ROW_2, atol=ATOL)
    close(found["b"], BY_B, atol=ATOL)


def test_hessian_of_the_predictions(predictions, drawn):
    found = ad.hessian(predictions)(drawn.W)
    assert (found.shape, found.dtype) == ((4, 3, 3), np.float32)
    close(found[0, 0], np.array([0.02285465, 0.0492254, 0.03384246]), atol=ATOL)
    close(found[2, 2], np.array([0.03959271, 0.00456839, -0.09898177]), atol=ATOL)
    close(ad.jacfwd(ad.jacrev(predictions))(drawn.W), found)
    close(found, np.swapaxes(found, 1, 2), rtol=1e-5, atol=1e-8)


def test_forward_and_reverse_products_pair_up(predictions, drawn):
    W = drawn.W
    _, subkey = random.split(drawn.key)
    v = random.normal(subkey, W.shape)
    y, u = ad.jvp(predictions, (W,), (v,))
    again, pull = ad.vjp(predictions, W)
    close(y, predictions(W), rtol=1e-6)
    close(again, y, rtol=1e-6)
    close(u, ad.jacfwd(predictions)(W) @ v, rtol=1e-5, atol=1e-7)
    ct = random.normal(random.key(1), y.shape)
    close(np.vdot(ct, u), np.vdot(pull(ct)[0], v), rtol=1e-6, atol=1e-6)


def test_vector_valued_gradient_by_pulling_back_ones(xp):
    def pulled(f, x):
        y, pull = ad.vjp(f, x)
        return pull(xp.ones(y.shape, y.dtype))[0]

    x = np.ones((2, 2), np.float32)
    found = pulled(lambda x: 3 * x**2, x)
    np.testing.assert_array_equal(found, np.full((2, 2), 6.0, np.float32))


def test_matrix_jacobian_products_by_loop_and_by_vmap(predictions, drawn):
    y, pull = ad.vjp(predictions, drawn.W)
    M = random.normal(random.key(2), (128, *y.shape))
    looped = np.stack([pull(row)[0] for row in M])
    (mapped,) = ad.vmap(pull)(M)
    assert mapped.shape == (128, 3)
    close(mapped, looped, rtol=1e-5, atol=1e-6)
    one, many = ad.make_graph(pull)(M[0]), ad.make_graph(ad.vmap(pull))(M)
    assert len(many.eqns) == len(one.eqns)


def test_jacobian_matrix_products_by_loop_and_by_vmap(predictions, drawn):
    W = drawn.W
    M = random.normal(random.key(3), (128, *W.shape))

    def push(v):
        return ad.jvp(predictions, (W,), (v,))[1]

    looped = np.stack([push(row) for row in M])
    mapped = ad.vmap(push)(M)
    assert mapped.shape == (128, 4)
    close(mapped, looped, rtol=1e-5, atol=1e-6)
    one, many = ad.make_graph(push)(M[0]), ad.make_graph(ad.vmap(push))(M)
    # One equation more: inputs @ v makes the new axis its last, and it is moved to the front.
    assert len(many.eqns) <= len(one.eqns) + 1


def test_own_jacobians_from_vmap_over_an_identity_matrix(predictions, model, drawn, xp):
    W = drawn.W

    def own_jacrev(f):
        def jacobian(x):
            y, pull = ad.vjp(f, x)
            return ad.vmap(pull, in_axes=0)(xp.eye(len(y), dtype=np.float32))[0]

        return jacobian

    def own_jacfwd(f):
        def jacobian(x):
            push = lambda v: ad.jvp(f, (x,), (v,))[1]
            columns = xp.eye(len(x), dtype=np.float32)
            return ad.vmap(push, in_axes=1, out_axes=1)(columns)

        return jacobian

    # Which operand of a product is in C order decides how BLAS rounds.
    np.testing.assert_allclose(own_jacrev(predictions)(W), ad.jacrev(predictions)(W), rtol=1e-6)
    np.testing.assert_allclose(own_jacfwd(predictions)(W), ad.jacfwd(predictions)(W), rtol=1e-6)
    gradient = ad.grad(lambda W: model.loss(W, drawn.b))
    for own in (own_jacrev, own_jacfwd):
        close(own(gradient)(W), ad.jacfwd(gradient)(W), rtol=1e-5, atol=1e-6)


def branching(x):
    """Decide by the value, raise on one path and catch on another."""
    if x < 3:
        return 2.0 * x**3
    try:
        if x > 3.5:
            raise ValueError("above the range")
        return -x
    except ValueError:
        return np.pi * x


def test_vjp_through_if_raise_and_except():
    value, pull = ad.vjp(branching, 4.0)
    close(value, np.array(4 * np.pi))
    close(pull(1.0), (np.array(3.1415927),))
    close(ad.jit(pull)(1.0), (np.array(3.1415927),))


def test_the_other_branch_of_the_same_function():
    value, pull = ad.vjp(branching, 2.0)
    close((value, *pull(1.0)), (np.array(16.0), np.array(24.0)))
