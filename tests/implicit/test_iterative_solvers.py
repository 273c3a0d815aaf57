"""cg, gmres and bicgstab against dense solves, and the properties of each method."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg as reference

import autodiff as ad
from tests.implicit.doubles import compare

_random = np.random.default_rng(11)
N = _random.normal(size=(6, 6)) / 3 + 2 * np.eye(6)
S = N @ N.T
b = _random.normal(size=6)

SOLVERS = {"cg": ad.cg, "gmres": ad.gmres, "bicgstab": ad.bicgstab}
METHODS = [pytest.param(SOLVERS[name], S if name == "cg" else N, id=name) for name in SOLVERS]
on_every_method = pytest.mark.parametrize("method, matrix", METHODS)


def close(found, expected, rtol=1e-9):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-11)


def counted(matrix):
    """Return the product with a matrix, and the list of how often it has been applied."""
    calls = []

    def noted(x):
        calls.append(1)
        return x

    def matvec(x):
        return matrix @ ad.pure_callback(noted, x, x)

    return matvec, calls


# ------------------------------------------------------------------------------------ the solution


@on_every_method
def test_matrices_and_functions_give_the_solution_to_the_tolerance(method, matrix):
    expected = np.linalg.solve(matrix, b)
    for A in (matrix, lambda x: matrix @ x):
        x, info = method(A, b, tol=1e-12)
        assert type(x) is np.ndarray and type(info) is np.ndarray and info == 0
        close(x, expected)
        rough, info = method(A, b, tol=0.2)
        assert info == 0
        assert 1e-13 < np.linalg.norm(matrix @ rough - b) <= 0.2 * np.linalg.norm(b)


@on_every_method
def test_the_search_may_start_anywhere(method, matrix):
    expected = np.linalg.solve(matrix, b)
    x, info = method(matrix, b, x0=np.full(6, 100.0), tol=1e-12)
    close(x, expected)
    assert info == 0
    x, info = method(matrix, b, x0=expected)
    assert np.array_equal(x, expected) and info == 0


@on_every_method
def test_the_absolute_tolerance_is_the_larger_of_two(method, matrix):
    x, info = method(matrix, b, atol=1e3)
    assert not x.any() and info == 0


@on_every_method
def test_what_has_not_converged_says_after_how_many_iterations(method, matrix):
    keywords = {"restart": 1} if method is ad.gmres else {}
    _, info = method(matrix, b, tol=1e-14, maxiter=2, **keywords)
    assert info == 2


@on_every_method
def test_the_size_of_numbers_does_not_matter(method, matrix):
    """Squares of 1e-200 and of 1e200 are no floating numbers; in float32 those of 1e-30."""
    expected = np.linalg.solve(matrix, b)
    for scale in (1e-200, 1e200):
        x, info = method(matrix, scale * b, tol=1e-10)
        close(x / scale, expected, rtol=1e-8)
        assert info == 0
    narrow = (1e-30 * b).astype(np.float32)
    x, info = method(matrix.astype(np.float32), narrow, tol=1e-5)
    np.testing.assert_allclose(x / 1e-30, expected, rtol=0, atol=1e-4)
    assert info == 0


@on_every_method
def test_a_side_of_zeros_has_zeros_as_solution_at_once(method, matrix):
    x, info = method(matrix, np.zeros(6), tol=0.0)
    assert not x.any() and info == 0
    mapped, infos = ad.vmap(lambda side: method(matrix, side, tol=1e-12))(
        np.stack([np.zeros(6), b])
    )
    close(mapped, np.stack([np.zeros(6), np.linalg.solve(matrix, b)]))
    assert not infos.any()


@on_every_method
def test_systems_of_no_and_of_one_unknown(method, matrix):
    assert method(lambda x: x, np.zeros(0))[0].shape == (0,)
    x, _ = method(np.array([[4.0]]), np.array([2.0]))
    close(x, [0.5])
    x, _ = method(lambda x: 4.0 * x, 2.0)
    assert type(x) is np.ndarray and x.shape == ()
    close(x, 0.5)


@on_every_method
def test_no_nan_is_made_on_the_way(method, matrix):
    with ad.override(check="nans,residuals"):
        sides = np.stack([np.zeros(6), b, matrix[:, 0]])
        x, _ = ad.vmap(lambda side: method(matrix, side, tol=1e-12))(sides)
    close(x, np.linalg.solve(matrix, sides.T).T)


def test_conjugate_gradients_take_no_more_iterations_than_eigenvalues():
    """Three different eigenvalues: three iterations, and one product with A in each."""
    basis, _ = np.linalg.qr(_random.normal(size=(12, 12)))
    matrix = (basis * np.repeat([1.0, 2.0, 5.0], 4)) @ basis.T
    side = _random.normal(size=12)
    assert ad.cg(matrix, side, tol=1e-10, maxiter=3)[1] == 0
    assert ad.cg(matrix, side, tol=1e-10, maxiter=2)[1] == 2
    matvec, calls = counted(matrix)
    ad.cg(matvec, side, tol=1e-10)
    assert len(calls) == 3


def test_conjugate_gradients_go_the_way_of_an_independent_implementation():
    for steps in (1, 2, 4):
        x, _ = ad.cg(S, b, tol=0.0, maxiter=steps)
        other, _ = reference.cg(S, b, rtol=0.0, maxiter=steps)
        close(x, other)


def test_gmres_leaves_the_smallest_residual_of_its_krylov_space():
    for m in (1, 2, 3, 6):
        x, _ = ad.gmres(N, b, tol=0.0, restart=m, maxiter=1)
        space = np.stack([np.linalg.matrix_power(N, k) @ b for k in range(m)], axis=1)
        best, *_ = np.linalg.lstsq(N @ space, b, rcond=None)
        close(x, space @ best, rtol=1e-8)


def test_gmres_restarted_ends_where_it_stagnates():
    """A cyclic shift: nothing is gained before the last step of a full space."""
    shift = np.roll(np.eye(5), 1, axis=0)
    side = np.eye(5)[0]
    x, info = ad.gmres(shift, side, restart=4)
    assert info == 4
    x, info = ad.gmres(shift, side, restart=5)
    assert info == 0
    close(x, shift.T @ side)


def test_bicgstab_starts_anew_where_its_residual_is_lost():
    """For a skew matrix (r, A r) = 0: the method as published divides by zero at once."""
    skew = np.array([[1e-3, 1.0], [-1.0, 1e-3]])
    side = np.array([1.0, 1.0])
    x, info = ad.bicgstab(skew, side, tol=1e-10, maxiter=50)
    assert info == 0
    close(x, np.linalg.solve(skew, side))


def test_a_singular_system_without_solution_is_told():
    singular = np.diag([1.0, 2.0, 0.0])
    for method in (ad.cg, ad.bicgstab, ad.gmres):
        x, info = method(singular, np.ones(3))
        assert info > 0
    close(x[:2], [1.0, 0.5])  # of gmres, the last: least squares, whatever the null space
    assert np.abs(x[2]) < 1e3


def test_a_preconditioner_saves_iterations_and_changes_no_result():
    scales = np.array([1.0, 10.0, 100.0, 1e3, 1e4, 1e5])
    matrix = S * np.sqrt(np.outer(scales, scales))
    expected = np.linalg.solve(matrix, b)
    inverse = np.diag(1 / np.diag(matrix))
    for method in SOLVERS.values():
        for M in (inverse, lambda r: r / np.diag(matrix)):
            x, info = method(matrix, b, M=M, tol=1e-12)
            assert info == 0
            np.testing.assert_allclose(x, expected, rtol=1e-6)
    with_it, without = counted(matrix), counted(matrix)
    ad.cg(with_it[0], b, M=inverse, tol=1e-10)
    ad.cg(without[0], b, tol=1e-10)
    assert len(with_it[1]) < len(without[1])


# --------------------------------------------------------------------------------- transformations


@pytest.mark.parametrize(
    "names",
    [
        ("grad",),
        ("jvp",),
        ("vmap",),
        ("grad", "jvp"),
        ("vmap", "grad"),
        ("jit", "linearize"),
        ("vjp", "vmap_of_closure"),
        ("grad", "grad"),
    ],
    ids="_of_".join,
)
@on_every_method
def test_transformations_agree_with_a_dense_solve(method, matrix, names):
    matrix, side = matrix[:3, :3], b[:3]
    symmetric = method is ad.cg

    def f(t):
        A = t[1:] + t[1:].T if symmetric else t[1:]
        return method(A, t[0], tol=1e-13)[0]

    def dense(t):
        A = t[1:] + t[1:].T if symmetric else t[1:]
        return np.linalg.solve(A, t[0])

    compare(names, f, dense, np.vstack([side, matrix]))


@on_every_method
def test_products_with_vectors_in_reverse_mode_cost_one_solve_each(method, matrix):
    """The reverse sweep solves one transposed system; nothing of the iterations is kept."""
    f = lambda side: np.sum(method(lambda x: matrix @ x, side, tol=1e-12)[0])
    close(ad.grad(f)(b), np.linalg.solve(matrix.T, np.ones(6)))
    graph = ad.make_graph(ad.grad(f))(b)
    assert sum(eqn.primitive.name == "linear_solve" for eqn in graph.eqns) <= 2


@on_every_method
def test_the_start_and_the_preconditioner_have_no_derivative(method, matrix):
    expected = np.linalg.solve(matrix.T, np.ones(6))

    def f(side, start, weight):
        x, _ = method(matrix, side, x0=start, M=weight * np.eye(6), tol=1e-12)
        return np.sum(x)

    cts = ad.grad(f, (0, 1, 2))(b, np.ones(6), 0.7)
    close(cts[0], expected)
    assert not cts[1].any() and not cts[2].any()
    moved = ad.jvp(f, (b, np.ones(6), 0.7), (np.zeros(6), np.ones(6), 1.0))[1]
    assert not moved.any()


def test_the_preconditioner_of_the_transposed_system_is_transposed():
    """With the exact inverse the transposed system takes one iteration, too."""
    inverse = np.linalg.inv(N)
    f = lambda side: ad.gmres(N, side, M=inverse, tol=1e-10, restart=1, maxiter=1)[0]
    _, pull = ad.vjp(f, b)
    close(pull(b)[0], np.linalg.solve(N.T, b))


@on_every_method
def test_complex_systems(method, matrix):
    skew = 0.3 * np.triu(np.ones((6, 6)), 1)
    A = matrix + 1j * (skew - skew.T)  # Hermitian where the real part is symmetric
    side = b + 1j * b[::-1]
    x, pull = ad.vjp(lambda A, side: method(A, side, tol=1e-12)[0], A, side)
    close(x, np.linalg.solve(A, side))
    ct_matrix, ct_side = pull(b + 0j)
    expected = np.linalg.solve(A.T, b)
    close(ct_side, expected)
    close(ct_matrix, -np.outer(expected, x))


@on_every_method
def test_a_real_side_of_a_complex_matrix_becomes_complex(method, matrix):
    x, info = method(matrix + 0j, b, tol=1e-12)
    assert x.dtype == np.complex128 and info == 0
    x, _ = method(matrix, np.arange(6), tol=1e-12)
    close(x, np.linalg.solve(matrix, np.arange(6)))


@on_every_method
def test_float32_stays_float32_in_both_modes(method, matrix):
    narrow, side = matrix.astype(np.float32), b.astype(np.float32)
    f = lambda side: method(narrow, side)[0]
    assert f(side).dtype == ad.jacrev(f)(side).dtype == ad.jacfwd(f)(side).dtype == np.float32
    np.testing.assert_allclose(ad.jacrev(f)(side), np.linalg.inv(matrix), rtol=0, atol=1e-4)


@on_every_method
def test_trees_of_unknowns(method, matrix):
    def matvec(t):
        y = matrix @ np.concatenate([t["u"].ravel(), t["v"]])
        return {"u": y[:4].reshape(2, 2), "v": y[4:]}

    side = {"u": b[:4].reshape(2, 2), "v": b[4:]}
    f = lambda side: method(matvec, side, tol=1e-12)[0]
    x, pull = ad.vjp(f, side)
    expected = np.linalg.solve(matrix, b)
    close(x["u"].ravel(), expected[:4])
    close(x["v"], expected[4:])
    (ct,) = pull(side)
    close(np.append(ct["u"], ct["v"]), np.linalg.solve(matrix.T, b))


@pytest.mark.parametrize("method", [ad.gmres, ad.bicgstab], ids=["gmres", "bicgstab"])
def test_a_product_without_a_transpose_is_solved_and_refused_in_reverse_mode_alone(method):
    matvec, _ = counted(N)
    f = lambda side: np.sum(method(matvec, side, tol=1e-12)[0])
    close(f(b), np.sum(np.linalg.solve(N, b)))
    close(ad.jvp(f, (b,), (2 * b,))[1], 2 * np.sum(np.linalg.solve(N, b)))
    with pytest.raises(ad.MissingRuleError, match="pure_callback"):
        ad.grad(f)(b)


def test_a_large_system_by_a_stencil_without_a_matrix():
    """Minus the second difference on 200 points: x_i = i (n + 1 - i) / 2 for ones."""
    n = 200

    def stencil(x, weight=1.0):
        padded = np.pad(x, 1)
        return weight * (2 * padded[1:-1] - padded[:-2] - padded[2:])

    i = np.arange(1.0, n + 1)
    x, info = ad.cg(stencil, np.ones(n), tol=1e-12)
    assert info == 0
    close(x, i * (n + 1 - i) / 2)
    f = lambda w: np.sum(ad.cg(lambda x: stencil(x, w), np.ones(n), tol=1e-12)[0])
    close(ad.grad(f)(2.0), -np.sum(x) / 4)
