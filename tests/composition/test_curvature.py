"""Second derivatives without matrices, against closed forms, differences and dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from tests.composition.transformations import difference, unit_directions
from tests.errors.expectation import refused

RNG = np.random.default_rng(1)
X, V = RNG.normal(size=5), RNG.normal(size=5)
TREE = {"a": RNG.normal(size=(2, 2)), "b": [RNG.normal(size=()), None]}
CHUNKS = [None, 1, 2, 3, 100]


def near(found, expected, tolerance=1e-12):
    assert tree.structure(found) == tree.structure(expected)
    for leaf, other in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert type(leaf) is np.ndarray
        assert (leaf.shape, leaf.dtype) == (np.shape(other), np.asarray(other).dtype)
        np.testing.assert_allclose(leaf, other, rtol=tolerance, atol=tolerance)


def coupled(x):
    """Return a function with a full Hessian: exp(sum(c x)) + sum(sin(x))."""
    return np.exp(0.3 * np.sum(x)) + np.sum(np.sin(x))


def hessian_of_coupled(x):
    return 0.09 * np.exp(0.3 * np.sum(x)) * np.ones((x.size, x.size)) - np.diag(np.sin(x))


def of_tree(p):
    return np.sum(np.cos(p["a"] @ p["a"])) * p["b"][0] + p["b"][0] ** 3 * np.sum(p["a"])


def second_differences(f, x):
    """Return the second derivative along each element of each leaf, by nested differences."""
    results = [np.zeros_like(leaf) for leaf in tree.leaves(x)]
    for i, result in enumerate(results):
        for place, direction in unit_directions(x, i, 1.0):
            result[place] = difference(lambda y, d=direction: difference(f, y, d), x, direction)
    return tree.unflatten(tree.structure(x), results)


# hvp ----------------------------------------------------------------------------------------------


def test_hessian_vector_products_equal_the_hessian_times_the_vector():
    near(ad.hvp(coupled, (X,), (V,)), hessian_of_coupled(X) @ V)
    near(ad.jit(lambda x, v: ad.hvp(coupled, (x,), (v,)))(X, V), hessian_of_coupled(X) @ V)
    rows = ad.vmap(lambda v: ad.hvp(coupled, (X,), (v,)))(np.eye(5))
    near(rows, hessian_of_coupled(X))


def test_several_arguments_give_a_tuple_with_all_their_couplings():
    def f(x, s):
        return np.sum(x**2) * s**3

    s, t = 2.0, 0.5
    product = ad.hvp(f, (X, s), (V, t))
    # H = [[2 s^3, 6 s^2 x], [6 s^2 x, 6 s |x|^2]]
    by_hand = (
        2 * s**3 * V + 6 * s**2 * X * t,
        np.asarray(6 * s**2 * np.dot(X, V) + 6 * s * np.dot(X, X) * t),
    )
    assert isinstance(product, tuple)
    near(product, by_hand)
    near(ad.hvp(f, [X, s], [V, t]), by_hand)


def test_products_of_trees_have_their_structure():
    v = tree.map(lambda leaf: np.asarray(RNG.normal(size=leaf.shape)), TREE)
    product = ad.hvp(of_tree, (TREE,), (v,))

    def gradient(p):
        leaves = [np.zeros_like(leaf) for leaf in tree.leaves(p)]
        for i, leaf in enumerate(leaves):
            for place, direction in unit_directions(p, i, 1.0):
                leaf[place] = difference(of_tree, p, direction)
        return tree.unflatten(tree.structure(p), leaves)

    near(product, difference(gradient, TREE, v), 1e-8)


def test_products_differentiate_and_follow_python_control_flow():
    def f(x):
        return np.sum(x**4) if x[0] > 0 else np.sum(x**2)

    x = np.array([1.0, 2.0])
    near(ad.hvp(f, (x,), (np.ones(2),)), 12 * x**2)
    near(ad.hvp(f, (-x,), (np.ones(2),)), np.full(2, 2.0))
    third = ad.grad(lambda y: np.sum(ad.hvp(f, (y,), (np.ones(2),))))(x)
    near(third, 24 * x)
    closed_over = ad.grad(lambda s: ad.hvp(lambda y: s**2 * np.sum(y**2), (x,), (x,)).sum())(3.0)
    near(closed_over, np.asarray(2 * 3.0 * 2 * x.sum()))


def test_products_keep_element_types():
    x = X.astype(np.float32)
    assert ad.hvp(coupled, (x,), (x,)).dtype == np.float32
    z, w = X + 1j * V, V - 0.5j * X
    # |z|^4 has the gradient 4 |z|^2 conj(z), whose derivative along w is taken by differences
    found = ad.hvp(lambda z: np.sum(np.abs(z) ** 4), (z,), (w,))
    near(found, difference(lambda z: 4 * np.abs(z) ** 2 * np.conj(z), z, w), 1e-9)


# ggn_vp -------------------------------------------------------------------------------------------


def squares(y):
    return np.sum(y**2)


def test_gauss_newton_products_leave_out_the_curvature_of_the_model():
    found = ad.ggn_vp(np.sin, squares, X, V)
    near(found, 2 * np.cos(X) ** 2 * V)  # the Hessian would have -2 sin(x)**2 V beside it
    near(ad.jit(lambda x, v: ad.ggn_vp(np.sin, squares, x, v))(X, V), 2 * np.cos(X) ** 2 * V)


def test_gauss_newton_products_are_differentiable_and_linear_in_v():
    by_x = ad.grad(lambda x: np.sum(ad.ggn_vp(np.sin, squares, x, V)))(X)
    near(by_x, -4 * np.cos(X) * np.sin(X) * V)
    _, product = ad.linearize(lambda v: ad.ggn_vp(np.sin, squares, X, v), V)
    near(product(X), 2 * np.cos(X) ** 2 * X)


def test_a_loss_that_does_not_need_all_outputs_and_outputs_without_derivative():
    def model(p):
        return {"y": np.sin(p), "label": np.argmax(p), "unused": p**2}

    found = ad.ggn_vp(model, lambda out: np.sum(out["y"] ** 2) * (1.0 + out["label"]), X, V)
    near(found, (1 + np.argmax(X)) * 2 * np.cos(X) ** 2 * V)
    near(ad.ggn_vp(lambda p: 3.0, lambda y: y * y, X, V), np.zeros(5))


# hess_diag and laplacian --------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_the_diagonal_and_the_trace_of_a_full_hessian(chunk_size):
    diagonal = ad.hess_diag(coupled, chunk_size=chunk_size)
    near(diagonal(X), np.diag(hessian_of_coupled(X)))
    near(ad.jit(diagonal)(X), np.diag(hessian_of_coupled(X)))
    trace = ad.laplacian(coupled, chunk_size=chunk_size)
    near(trace(X), np.asarray(np.trace(hessian_of_coupled(X))))
    near(ad.jit(trace)(X), np.asarray(np.trace(hessian_of_coupled(X))))


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_diagonals_of_trees_have_their_structure(chunk_size):
    expected = second_differences(of_tree, TREE)
    near(ad.hess_diag(of_tree, chunk_size=chunk_size)(TREE), expected, 1e-7)
    trace = sum(leaf.sum() for leaf in tree.leaves(expected))
    near(ad.laplacian(of_tree, chunk_size=chunk_size)(TREE), np.asarray(trace), 1e-7)


def test_the_arguments_are_chosen_by_position():
    def f(x, c, y):
        return c * np.sum(x**3) * y**2

    x, c, y = np.array([1.0, 2.0]), 0.5, 3.0
    by_x, by_y = 6 * x * c * y**2, np.asarray(2 * c * np.sum(x**3))
    near(ad.hess_diag(f)(x, c, y), by_x)
    near(ad.hess_diag(f, -1)(x, c, y), by_y)
    near(ad.hess_diag(f, (0, 2))(x, c, y), (by_x, by_y))
    near(ad.laplacian(f, (2, 0))(x, c, y), np.asarray(by_x.sum() + by_y))
    near(ad.hess_diag(lambda x, *, c, y: f(x, c, y))(x, c=c, y=y), by_x)


def test_diagonals_compose():
    x = np.array([0.5, -1.0, 2.0])
    gradient = ad.grad(lambda y: np.sum(ad.hess_diag(lambda z: np.sum(z**4))(y)))(x)
    near(gradient, 24 * x)
    biharmonic = ad.laplacian(ad.laplacian(lambda z: np.sum(z**2) ** 2))
    near(biharmonic(x), np.asarray(8.0 * 3 * (3 + 2)))  # lap |x|^4 = 4 (n+2) |x|^2
    mapped = ad.vmap(ad.laplacian(lambda z: np.sum(z**4)))(np.stack([x, 2 * x]))
    near(mapped, np.array([12 * np.sum(x**2), 48 * np.sum(x**2)]))
    closed_over = ad.grad(lambda s: ad.laplacian(lambda z: s**3 * np.sum(z**2))(x))(2.0)
    near(closed_over, np.asarray(3 * 2.0**2 * 6))


def test_a_harmonic_function_has_laplacian_zero():
    x = np.array([1.0, 2.0, -0.5])
    found = ad.laplacian(lambda x: 1 / np.sqrt(np.sum(x**2)))(x)
    np.testing.assert_allclose(found, 0.0, atol=1e-15)


def test_the_function_runs_once_and_its_control_flow_sees_values():
    calls = []

    def f(x):
        calls.append(x)
        return np.sum(x**3) if x[0] > 0 else np.sum(x**2)

    x = np.array([1.0, 2.0, 3.0])
    near(ad.hess_diag(f, chunk_size=1)(x), 6 * x)
    near(ad.hess_diag(f)(-x), np.full(3, 2.0))
    assert len(calls) == 2


def test_values_are_computed_once_for_all_directions():
    graph = ad.make_graph(ad.laplacian(lambda x: np.sum(np.tanh(x))))(np.zeros(7))
    tanhs = [eqn for eqn in graph.eqns if str(eqn.primitive) == "tanh"]
    assert tanhs
    assert {eqn.outputs[0].aval.shape for eqn in tanhs} == {(7,)}


def test_scalars_empty_arrays_and_functions_without_curvature():
    near(ad.hess_diag(np.sin)(0.5), np.asarray(-np.sin(0.5)))
    near(ad.laplacian(np.sin)(0.5), np.asarray(-np.sin(0.5)))
    near(ad.hess_diag(lambda x: np.sum(x))(np.zeros((0, 3))), np.zeros((0, 3)))
    near(ad.laplacian(lambda x: np.sum(x))(np.zeros(0)), np.asarray(0.0))
    near(ad.hess_diag(lambda x: 2.0 * np.sum(x))(X), np.zeros(5))
    near(ad.laplacian(lambda x: 1.5)(X), np.asarray(0.0))
    near(ad.laplacian(lambda x: 1.5)({}), np.asarray(0.0))


def test_diagonals_keep_element_types():
    x = {"x": X.astype(np.float32), "y": V}

    def f(p):
        return np.sum(p["x"] ** 3) + np.sum(p["y"] ** 3)

    found = ad.hess_diag(f)(x)
    near(found, {"x": 6 * x["x"], "y": 6 * V}, 1e-6)
    assert ad.laplacian(lambda x: np.sum(x**3))(x["x"]).dtype == np.float32


# Bad input ----------------------------------------------------------------------------------------

CALLS = {
    "hvp": lambda f, x: ad.hvp(f, (x,), (x,)),  # here
    "hess_diag": lambda f, x: ad.hess_diag(f)(x),  # here
    "laplacian": lambda f, x: ad.laplacian(f)(x),  # here
    "ggn_vp": lambda f, x: ad.ggn_vp(lambda p: p, f, x, x),  # here
}


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    near(ad.hvp(squares, (X,), (V,)), 2 * V)


@pytest.mark.parametrize("name", CALLS)
def test_a_function_that_is_not_a_scalar(name):
    def f(x):
        return x * 2.0

    with refused(
        TypeError,
        f"{name}: the output of f must be a scalar, got shape=(5,).",
        fix="reduce it (for instance with .sum()), or use jacrev, or vjp with a cotangent.",
    ):
        CALLS[name](f, X)


@pytest.mark.parametrize("name", CALLS)
def test_an_integer_input_is_named(name):
    params = {"w": [X, np.arange(3)]}
    root = "p" if name == "ggn_vp" else "q"

    def f(q):
        return np.sum(q["w"][0])

    path = "params['w'][1]" if root == "p" else "q['w'][1]"
    with refused(
        TypeError,
        f"{name}: the input must be of a real or complex floating type, got {path} of type "
        "int64[3].",
        fix="convert it with .astype(float).",
    ):
        CALLS[name](f, params)


@pytest.mark.parametrize("name", ["hess_diag", "laplacian"])
def test_a_complex_input_is_named(name):
    def f(q):
        return np.sum(np.abs(q) ** 2)

    with refused(
        TypeError,
        f"{name}: the input must be real, got q of type complex128[5].",
        fix="take the real and imaginary parts as two arguments.",
    ):
        CALLS[name](f, X + 0j)


@pytest.mark.parametrize("name", ["hess_diag", "laplacian"])
def test_positions_and_chunks_that_cannot_be(name):
    function = getattr(ad, name)
    with refused(
        ValueError,
        f"{name}: chunk_size must be at least 1, got chunk_size=0.",
        fix="pass a positive chunk_size, or None to take all axes at once.",
    ):
        function(squares, chunk_size=0)  # here
    with refused(
        ValueError,
        f"{name}: argnums must name positional arguments of the call, of which there are 1, "
        "got argnums=1.",
        fix="pass the argument by position, not by keyword.",
    ):
        function(squares, 1)(X)  # here
    with refused(
        TypeError,
        f"{name}: the first argument must be a function, got fun=3.0.",
        fix=f"write {name}(f)(x), not {name}(f(x)).",
    ):
        function(3.0)  # here


def test_tangents_that_do_not_match():
    fix = "convert it with .astype, or reshape it."
    bare: Any = X
    with refused(
        TypeError,
        "hvp: tangents must have the shapes and dtypes of primals, got tangents[0]=float64[4] "
        "where float64[5] is expected.",
        fix=fix,
    ):
        ad.hvp(squares, (X,), (X[:4],))  # here
    with refused(
        TypeError,
        "ggn_vp: v must have the shapes and dtypes of params, got v['w']=float32[5] where "
        "float64[5] is expected.",
        fix=fix,
    ):
        ad.ggn_vp(lambda p: p["w"], squares, {"w": X}, {"w": X.astype(np.float32)})  # here
    with refused(
        TypeError,
        "hvp: primals must be a tuple or list with one entry per argument, got primals of type "
        "ndarray.",
        fix="write primals=(x,).",
    ):
        ad.hvp(squares, bare, (X,))  # here
    with pytest.raises(TypeError, match="hvp: tangents must have the structure of primals"):
        ad.hvp(squares, (X,), (X, X))
    with pytest.raises(TypeError, match="ggn_vp: v must have the structure of params"):
        ad.ggn_vp(lambda p: p["w"], squares, {"w": X}, {"v": X})
