"""custom_linear_solve against dense solves of plain NumPy, and its derivatives' closed forms."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.implicit.doubles import PAIRS, compare, eliminate

A = np.array([[2.0, 0.3, -0.4], [0.1, 1.8, 0.5], [-0.2, 0.4, 2.2]])
S = A @ A.T
b = np.array([0.7, -1.1, 0.4])
INVERSE = np.linalg.inv(A)
X = np.linalg.solve(A, b)


def close(found, expected, rtol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-13)


def solve(matrix, side):
    """Solve by a matvec that closes over the matrix."""
    return ad.custom_linear_solve(lambda x: matrix @ x, side, eliminate, eliminate)


def solve_symmetric(matrix, side):
    """Solve with a matrix that is symmetrised by the matvec."""
    return ad.custom_linear_solve(
        lambda x: 0.5 * (matrix @ x + matrix.T @ x), side, eliminate, symmetric=True
    )


# --------------------------------------------------------------------------- every transformation


@pytest.mark.parametrize("names", PAIRS, ids="_of_".join)
def test_pairs_of_transformations_agree_with_a_dense_solve(names):
    compare(
        names,
        lambda t: {"x": solve(t["A"], t["b"])},
        lambda t: {"x": np.linalg.solve(t["A"], t["b"][..., None])[..., 0]},
        {"A": A, "b": b},
    )


@pytest.mark.parametrize("names", [pair for pair in PAIRS if "grad" in pair], ids="_of_".join)
def test_pairs_of_transformations_of_a_symmetric_system(names):
    compare(
        names,
        lambda t: solve_symmetric(t[1:], t[0]),
        lambda t: np.linalg.solve(0.5 * (t[1:] + t[1:].T), t[0]),
        np.vstack([b, S]),
    )


@pytest.mark.parametrize(
    "names",
    [
        ("jvp", "vjp", "vmap"),
        ("jit", "grad", "vmap"),
        ("vmap", "grad", "jvp"),
        ("grad", "vmap", "vjp"),
        ("jvp", "jvp", "jvp"),
        ("linearize", "jit", "vjp"),
        ("grad", "vmap_of_closure", "grad"),
    ],
    ids="_of_".join,
)
def test_triples_of_transformations_agree_with_a_dense_solve(names):
    compare(
        names,
        lambda t: solve(t[1:], t[0]),
        lambda t: np.linalg.solve(t[1:], t[0]),
        np.vstack([b, A]),
    )


@pytest.mark.parametrize("name", ["jacfwd", "jacrev", "hessian"])
def test_jacobians_and_hessian_agree_with_a_dense_solve(name):
    compare((name,), lambda t: solve(A * t, b), lambda t: np.linalg.solve(A * t, b), A / 2)


# ------------------------------------------------------------------------------------ closed forms


def test_the_cotangents_of_matrix_and_side_are_the_closed_forms():
    """ct_b = A^-T ct and ct_A = -ct_b x^T (Giles 2008, section 2.3.1)."""
    x, pull = ad.vjp(solve, A, b)
    ct = np.array([1.0, 2.0, -3.0])
    ct_matrix, ct_side = pull(ct)
    close(x, X)
    close(ct_side, INVERSE.T @ ct)
    close(ct_matrix, -np.outer(INVERSE.T @ ct, X))


def test_the_hessian_in_the_side_of_the_squared_solution_is_that_of_the_inverse():
    hessian = ad.hessian(lambda side: np.sum(solve(A, side) ** 2))(b)
    close(hessian, 2 * INVERSE.T @ INVERSE)


def test_mapping_over_sides_over_matrices_and_over_both():
    sides = np.stack([b, 2 * b, b[::-1]])
    matrices = np.stack([A, A.T, S])
    close(ad.vmap(solve, (None, 0))(A, sides), np.linalg.solve(A, sides.T).T)
    close(ad.vmap(solve, (0, None))(matrices, b), np.linalg.solve(matrices, b))
    both = np.linalg.solve(matrices, sides[..., None])[..., 0]
    close(ad.vmap(solve)(matrices, sides), both)
    close(ad.jit(ad.vmap(solve, (2, 1)))(np.moveaxis(matrices, 0, 2), sides.T), both)


def test_a_linear_transpose_solves_the_transposed_system():
    pull = ad.linear_transpose(lambda side: solve(A, side), b)
    close(pull(b)[0], np.linalg.solve(A.T, b))


def test_the_transpose_of_the_transpose_is_the_system_itself():
    back = ad.linear_transpose(
        lambda ct: ad.linear_transpose(lambda side: solve(A, side), b)(ct)[0], b
    )
    close(back(b)[0], X)


def test_derivatives_of_higher_order_along_a_curve():
    """x(t) = (A + t B)^-1 (b + t c): x_k = A^-1 (b_k - k B x_(k-1))."""
    B, c = np.diag([0.3, -0.2, 0.5]), np.array([1.0, 0.0, -1.0])
    x, series = ad.jet(lambda t: solve(A + t * B, b + t * c), (0.0,), ([1.0, 0.0, 0.0],))
    first = INVERSE @ (c - B @ X)
    second = INVERSE @ (-2 * B @ first)
    close(x, X)
    close(np.stack(series), np.stack([first, second, INVERSE @ (-3 * B @ second)]))


# ------------------------------------------------------------------------------- what is not seen


def test_the_derivative_never_enters_the_solver():
    """A solver whose own derivative is wrong everywhere leaves the system's derivative right."""

    def opaque(matvec, side):
        return ad.stop_gradient(eliminate(matvec, side))

    def f(t):
        return ad.custom_linear_solve(lambda x: t * (A @ x), b, opaque, opaque)

    close(ad.jacfwd(f)(1.0), -X)
    close(ad.jacrev(f)(1.0), -X)
    close(ad.jacfwd(ad.jacrev(f))(1.0), 2 * X)


def test_what_only_the_solver_closes_over_has_zero_derivative():
    def f(t):
        def scaled(matvec, side):
            return eliminate(lambda x: t * matvec(x), t * side)

        return np.sum(ad.custom_linear_solve(lambda x: A @ x, b, scaled, scaled))

    assert ad.grad(f)(2.0) == 0.0
    assert ad.jvp(f, (2.0,), (1.0,))[1] == 0.0


def test_aux_is_passed_through_without_derivative():
    def with_aux(matvec, side):
        return eliminate(matvec, side), {"largest": np.max(side), "note": "text", "n": 3}

    def f(side):
        x, aux = ad.custom_linear_solve(lambda x: A @ x, side, with_aux, with_aux, has_aux=True)
        assert aux["note"] == "text"
        return np.sum(x) + aux["largest"], aux["n"]

    (value, count), gradient = ad.value_and_grad(f, has_aux=True)(b)
    close(value, np.sum(X) + np.max(b))
    assert count == 3
    close(gradient, INVERSE.sum(axis=0))
    mapped, counts = ad.vmap(f)(np.stack([b, b]))
    close(mapped, [value, value])
    assert counts.tolist() == [3, 3]


# -------------------------------------------------------------------------------- kinds of values


def test_pytrees_in_place_of_vectors():
    """The unknowns (u, v) of [[a I, 1], [1^T, d]] with a vector u and a number v."""

    def f(a, side):
        def matvec(t):
            return {"u": a * t["u"] + t["v"], "v": np.sum(t["u"]) + 5.0 * t["v"]}

        def solver(matvec, side):
            u, v = side["u"], side["v"]
            corner = 5.0 - u.shape[0] / a
            v = (v - np.sum(u) / a) / corner
            return {"u": (u - v) / a, "v": v}

        return ad.custom_linear_solve(matvec, side, solver, symmetric=True)

    def dense(a, side):
        matrix = np.array([[a, 0.0, 1.0], [0.0, a, 1.0], [1.0, 1.0, 5.0]])
        return np.linalg.solve(matrix, np.append(side["u"], side["v"]))

    side = {"u": np.array([1.0, -2.0]), "v": np.array(0.5)}
    x = f(3.0, side)
    close(np.append(x["u"], x["v"]), dense(3.0, side))
    gradient, ct = ad.grad(lambda a, side: np.sum(f(a, side)["u"] ** 2), (0, 1))(3.0, side)
    h = 1e-5
    value = lambda a: np.sum(dense(a, side)[:2] ** 2)
    close(gradient, (value(3.0 + h) - value(3.0 - h)) / (2 * h), rtol=1e-8)
    close(
        ct["v"],
        (
            np.sum(dense(3.0, {**side, "v": 0.5 + h})[:2] ** 2)
            - np.sum(dense(3.0, {**side, "v": 0.5 - h})[:2] ** 2)
        )
        / (2 * h),
        rtol=1e-8,
    )


def test_complex_systems_transpose_without_conjugation():
    matrix, side = A + 1j * np.diag([0.5, -0.2, 0.1]), b + 0.3j
    x, pull = ad.vjp(solve, matrix, side)
    ct = np.array([1.0, 1j, -2.0])
    ct_matrix, ct_side = pull(ct)
    expected = np.linalg.solve(matrix.T, ct)
    close(x, np.linalg.solve(matrix, side))
    close(ct_side, expected)
    close(ct_matrix, -np.outer(expected, x))


def test_a_hermitian_matrix_takes_its_own_solver_for_the_transpose():
    matrix = S + 1j * np.array([[0, 1, 0], [-1, 0, 2], [0, -2, 0]]) / 4

    def f(side):
        return ad.custom_linear_solve(lambda x: matrix @ x, side, eliminate, eliminate)

    _, pull = ad.vjp(f, b + 0j)
    close(pull(b + 0j)[0], np.linalg.solve(matrix.T, b))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_narrow_types_stay_what_they_are(dtype):
    matrix, side = A.astype(dtype), b.astype(dtype)
    x, pull = ad.vjp(solve, matrix, side)
    assert x.dtype == dtype
    assert [ct.dtype for ct in pull(x)] == [dtype, dtype]
    np.testing.assert_allclose(x, X, rtol=2e-6)  # a few roundings of 6e-8


def test_integers_are_taken_as_floats_and_numbers_as_arrays():
    x = ad.custom_linear_solve(lambda x: 4 * x, 2, lambda matvec, side: side / matvec(1.0))
    assert type(x) is np.ndarray and x.dtype == np.float64
    assert x == 0.5


def test_an_empty_system_has_an_empty_solution():
    x = ad.custom_linear_solve(lambda x: 2 * x, np.zeros(0), lambda matvec, side: side)
    assert x.shape == (0,)


def test_the_result_shares_no_memory_with_the_side():
    side = np.array([1.0, 2.0])
    x = ad.custom_linear_solve(lambda x: x, side, lambda matvec, side: side, symmetric=True)
    assert not np.shares_memory(x, side)


def test_forward_mode_needs_no_solver_of_the_transposed_system():
    def f(side):
        return ad.custom_linear_solve(lambda x: A @ x, side, eliminate)

    close(ad.jacfwd(f)(b), INVERSE)


def test_a_loop_around_a_solve_is_differentiated():
    def f(t):
        return np.sum(ad.fori_loop(0, 3, lambda i, x: solve(t * A, x), b))

    cubed = np.linalg.matrix_power(INVERSE, 3) @ b
    close(f(2.0), np.sum(cubed) / 8)
    close(ad.grad(f)(2.0), -3 * np.sum(cubed) / 16)
    close(ad.grad(ad.grad(f))(2.0), 12 * np.sum(cubed) / 32)


def test_random_systems_obey_the_dot_product_identity():
    random = np.random.default_rng(5)
    for size in (1, 2, 5):
        matrix = random.normal(size=(size, size)) + 4 * np.eye(size)
        side, ct, dside = random.normal(size=(3, size))
        dmatrix = random.normal(size=(size, size))
        _, moved = ad.jvp(solve, (matrix, side), (dmatrix, dside))
        _, pull = ad.vjp(solve, matrix, side)
        ct_matrix, ct_side = pull(ct)
        close(np.vdot(ct, moved), np.vdot(ct_matrix, dmatrix) + np.vdot(ct_side, dside), 1e-11)


def test_a_recorded_solve_is_one_equation():
    graph = ad.make_graph(solve)(A, b)
    assert [eqn.primitive.name for eqn in graph.eqns] == ["linear_solve"]
