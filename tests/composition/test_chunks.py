"""`chunk_size`: vmap, jacfwd, jacrev and hessian in parts give what they give at once."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree

SIZES = [1, 2, 3, 4, 5, 100]
X = np.arange(1.0, 13.0).reshape(4, 3) / 7
PARAMS = {"w": np.array([[0.5, -1.0], [2.0, 0.25], [1.5, -0.5]]), "b": [np.array(0.75)]}


def near(found, expected):
    assert tree.structure(found) == tree.structure(expected)
    for leaf, other in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert type(leaf) is np.ndarray
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(leaf, other, rtol=1e-12, atol=1e-13)


def model(params, x):
    return {"y": np.tanh(x @ params["w"] + params["b"][0]), "n": x.sum() * params["b"][0] ** 3}


@pytest.mark.parametrize("chunk_size", SIZES)
def test_trees_in_and_out_and_axes_of_every_form(chunk_size):
    mapped = ad.vmap(
        model,
        in_axes=({"w": None, "b": [0]}, 1),
        out_axes={"y": 1, "n": 0},
        chunk_size=chunk_size,
    )
    scales = np.arange(4.0)
    params = {"w": PARAMS["w"], "b": [scales]}
    expected = {
        "y": np.tanh(X @ PARAMS["w"] + scales[:, None]).T,
        "n": X.sum(1) * scales**3,
    }
    near(mapped(params, X.T), expected)
    near(ad.jit(mapped)(params, X.T), expected)


@pytest.mark.parametrize("chunk_size", SIZES)
def test_an_output_that_all_examples_share(chunk_size):
    mapped = ad.vmap(
        lambda x, c: (x + c, 2 * c, c), (0, None), out_axes=(0, None, 1), chunk_size=chunk_size
    )
    near(mapped(X, X[0]), (X + X[0], 2 * X[0], np.stack([X[0]] * 4, 1)))
    with pytest.raises(ValueError, match="must not depend on the example"):
        ad.vmap(np.sin, out_axes=None, chunk_size=chunk_size)(X)


@pytest.mark.parametrize("chunk_size", SIZES)
def test_chunks_of_traced_examples(chunk_size):
    def total(X, c):
        chunked = ad.vmap(lambda x: np.sum(np.sin(x * c)), chunk_size=chunk_size)
        return np.sum(chunked(X) ** 2)

    s = np.sin(X * 2.0).sum(1)
    by_x = 2 * s[:, None] * 2.0 * np.cos(X * 2.0)
    by_c = np.sum(2 * s[:, None] * X * np.cos(X * 2.0))
    near(ad.grad(total, (0, 1))(X, 2.0), (by_x, np.asarray(by_c)))
    near(ad.jit(ad.grad(total))(X, 2.0), by_x)
    near(ad.jvp(lambda c: total(X, c), (2.0,), (1.0,))[1], np.asarray(by_c))
    both = ad.vmap(ad.grad(total), (None, 0), chunk_size=chunk_size)
    near(both(X, np.array([2.0, 2.0, 2.0])), np.stack([by_x] * 3))


@pytest.mark.parametrize("chunk_size", SIZES)
def test_nothing_to_map(chunk_size):
    none = np.zeros((0, 3))
    near(ad.vmap(np.sum, chunk_size=chunk_size)(none), np.zeros(0))
    near(ad.jacfwd(np.sin, chunk_size=chunk_size)(np.zeros(0)), np.zeros((0, 0)))
    near(ad.jacrev(np.sin, chunk_size=chunk_size)(np.zeros(0)), np.zeros((0, 0)))
    hessian = ad.hessian(lambda x: np.sum(x**2), chunk_size=chunk_size)
    near(hessian(np.zeros(0)), np.zeros((0, 0)))


def test_the_function_runs_once_however_many_chunks_there_are():
    calls = []

    def f(x):
        calls.append(x)
        return x * 2

    near(ad.vmap(f, chunk_size=1)(X), 2 * X)
    assert len(calls) == 1


def test_no_intermediate_value_is_larger_than_a_chunk():
    graph = ad.make_graph(ad.vmap(lambda x: np.sum(np.sin(x)), chunk_size=2))(np.zeros((6, 5)))
    sizes = {out.aval.shape for eqn in graph.eqns for out in eqn.outputs if out.aval.ndim == 2}
    assert sizes == {(2, 5)}


@pytest.mark.parametrize("chunk_size", SIZES)
@pytest.mark.parametrize("jacobian", [ad.jacfwd, ad.jacrev], ids=["forward", "reverse"])
def test_jacobians_of_trees(jacobian, chunk_size):
    x = X[0]
    found = jacobian(model, chunk_size=chunk_size)(PARAMS, x)
    slope = 1 - np.tanh(x @ PARAMS["w"] + 0.75) ** 2
    near(found["y"]["b"][0], slope)
    near(found["y"]["w"], np.einsum("k,i,kj->kij", slope, x, np.eye(2)))
    near(found["n"]["b"][0], np.asarray(3 * 0.75**2 * x.sum()))
    near(found["n"]["w"], np.zeros((3, 2)))
    near(ad.jit(jacobian(model, chunk_size=chunk_size))(PARAMS, x), found)
    mapped = ad.vmap(jacobian(model, chunk_size=chunk_size), (None, 0))(PARAMS, X)
    near(tree.map(lambda leaf: np.asarray(leaf[0]), mapped), found)


@pytest.mark.parametrize("chunk_size", SIZES)
def test_hessians(chunk_size):
    def f(p):
        return np.sum(p["x"] ** 2 * p["s"]) + p["s"] ** 3

    x, s = X[1], 2.0
    found = ad.hessian(f, chunk_size=chunk_size)({"x": x, "s": s})
    near(found["x"]["x"], 2 * s * np.eye(3))
    near(found["x"]["s"], 2 * x)
    near(found["s"]["x"], 2 * x)
    near(found["s"]["s"], np.asarray(6 * s))
    third = ad.jacfwd(lambda s: ad.hessian(f, chunk_size=chunk_size)({"x": x, "s": s})["x"]["x"])
    near(third(s), 2 * np.eye(3))
