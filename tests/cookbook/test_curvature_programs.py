"""Gauss-Newton products: the model is linearized once, and its matrix is never formed."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree

RNG = np.random.default_rng(7)
INPUTS, LABELS = RNG.normal(size=(6, 3)), np.array([0, 2, 1, 1, 0, 2])
PARAMS = {
    "hidden": {"w": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4)},
    "out": {"w": RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)},
}
V = tree.map(lambda leaf: RNG.normal(size=leaf.shape), PARAMS)


def model(params):
    """Return the logits of a network with one hidden layer, beside its regularized weights."""
    hidden = np.tanh(INPUTS @ params["hidden"]["w"] + params["hidden"]["b"])
    return {"logits": hidden @ params["out"]["w"] + params["out"]["b"], "w": params["out"]["w"]}


def loss(outputs):
    """Return the mean cross entropy and a penalty: convex in the outputs."""
    logits = outputs["logits"]
    chosen = logits[np.arange(6), LABELS]
    return np.mean(np.log(np.sum(np.exp(logits), axis=1)) - chosen) + 0.1 * np.sum(
        outputs["w"] ** 2
    )


def flat(values):
    return np.concatenate([np.ravel(leaf) for leaf in tree.leaves(values)])


def matrix(values, columns):
    """Return a pytree of blocks `(*rows, *columns of a leaf)` as rows of one matrix."""
    widths = [int(np.prod(leaf.shape)) for leaf in tree.leaves(columns)]
    blocks = [
        np.reshape(leaf, (-1, width))
        for leaf, width in zip(tree.leaves(values), widths, strict=True)
    ]
    return np.concatenate(blocks, axis=1)


@pytest.fixture(scope="module")
def dense():
    """The matrix J' H J, multiplied out by NumPy from whole Jacobians and the whole Hessian."""
    outputs = model(PARAMS)
    jacobian, hessian = ad.jacfwd(model)(PARAMS), ad.hessian(loss)(outputs)
    J = np.concatenate([matrix(jacobian[name], PARAMS) for name in ("logits", "w")])
    H = np.concatenate([matrix(hessian[name], outputs) for name in ("logits", "w")])
    assert J.shape == (30, 31)
    assert H.shape == (30, 30)
    return J.T @ H @ J


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_the_product_equals_the_dense_matrix_times_the_vector(dense):
    product = ad.ggn_vp(model, loss, PARAMS, V)
    assert tree.structure(product) == tree.structure(PARAMS)
    close(flat(product), dense @ flat(V))
    jitted = ad.jit(lambda params, v: ad.ggn_vp(model, loss, params, v))
    close(flat(jitted(PARAMS, V)), dense @ flat(V))


def test_the_matrix_is_symmetric_and_positive_semidefinite(dense):
    np.testing.assert_allclose(dense, dense.T, atol=1e-14)
    assert np.linalg.eigvalsh(dense).min() > -1e-12


def test_many_products_at_one_point_run_the_model_once(dense):
    calls = []

    def counted(params):
        calls.append(params)
        return model(params)

    vectors = RNG.normal(size=(31, 31))
    ends = np.cumsum([leaf.size for leaf in tree.leaves(PARAMS)])[:-1]

    def unflat(vector):
        parts = [
            np.reshape(part, leaf.shape)
            for part, leaf in zip(np.split(vector, ends), tree.leaves(PARAMS), strict=True)
        ]
        return tree.unflatten(tree.structure(PARAMS), parts)

    stacked = [unflat(vector) for vector in vectors]
    batch = tree.map(lambda *leaves: np.stack(leaves), *stacked)
    products = ad.vmap(lambda v: ad.ggn_vp(counted, loss, PARAMS, v))(batch)
    rows = np.stack([flat(tree.map(lambda leaf, i=i: leaf[i], products)) for i in range(31)])
    close(rows, vectors @ dense)
    assert len(calls) == 1


def test_the_model_is_linearized_once_for_both_factors():
    """One hidden layer: one tanh, whatever is pushed forward and pulled back through it."""

    def count(function, *arguments):
        graph = ad.make_graph(function)(*arguments)
        return sum(str(eqn.primitive) == "tanh" for eqn in graph.eqns)

    assert count(model, PARAMS) == 1
    assert count(lambda p, v: ad.ggn_vp(model, loss, p, v), PARAMS, V) == 1
    batch = tree.map(lambda leaf: np.stack([leaf] * 3), V)
    many = ad.vmap(lambda p, v: ad.ggn_vp(model, loss, p, v), (None, 0))
    assert count(many, PARAMS, batch) == 1
    graph = ad.make_graph(many)(PARAMS, batch)
    shapes = [eqn.outputs[0].aval.shape for eqn in graph.eqns if str(eqn.primitive) == "tanh"]
    assert shapes == [(6, 4)]  # of the one point, not of each vector


def test_a_gauss_newton_step_solves_a_linear_least_squares_problem_at_once():
    """For a linear model the step from anywhere lands on the normal equations' solution."""
    A, b = RNG.normal(size=(8, 3)), RNG.normal(size=8)
    x = RNG.normal(size=3)

    def half_squares(residual):
        return 0.5 * np.sum(residual**2)

    def residual(x):
        return A @ x - b

    gradient = ad.grad(lambda x: half_squares(residual(x)))(x)
    G = ad.vmap(lambda v: ad.ggn_vp(residual, half_squares, x, v))(np.eye(3))
    close(x - np.linalg.solve(G, gradient), np.linalg.lstsq(A, b, rcond=None)[0])
