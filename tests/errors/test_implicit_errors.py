"""What the implicit tools say of functions, types and residuals that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import normalized, refused
from tests.implicit.doubles import eliminate

A = np.array([[2.0, 1.0], [0.0, 4.0]])
B = np.array([1.0, 2.0])


def wrong(matvec, b):
    """Return what solves nothing."""
    return 0.5 * b


def identity(x):
    return x


def divide(g, y):
    return y / g(1.0)


# --------------------------------------------------------------------------------- linear systems


def test_a_matrix_in_place_of_a_function():
    with refused(
        TypeError,
        f"custom_linear_solve: matvec must be a function, got matvec={A!r}.",
        fix="pass the function itself, not its result.",
    ):
        ad.custom_linear_solve(A, B, eliminate)  # type: ignore[arg-type]  # here


def test_a_solver_that_is_no_function():
    with refused(
        TypeError,
        "custom_linear_solve: solve must be a function, got solve=None.",
        fix="pass the function itself, not its result.",
    ):
        ad.custom_linear_solve(identity, B, None)  # type: ignore[arg-type]  # here


def test_a_leaf_of_the_side_that_is_no_array():
    with refused(
        TypeError,
        "custom_linear_solve: every leaf of b must be an array or a number, "
        "got b['y']='text' of type str.",
        fix="close over what is not an array instead of passing it.",
    ):
        ad.custom_linear_solve(identity, {"x": B, "y": "text"}, eliminate)  # here


def test_a_side_without_arrays():
    with refused(TypeError, "custom_linear_solve: b must have at least one array, got b={}."):
        ad.custom_linear_solve(identity, {}, eliminate)  # here


def test_a_product_of_another_shape():
    with refused(
        TypeError,
        "custom_linear_solve: the output of matvec must have the shapes and dtypes of b, "
        "got float64[2] at ['x'] where float64[3] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):

        def matvec(t):
            return {"x": t["x"][:2]}

        ad.custom_linear_solve(matvec, {"x": np.ones(3)}, wrong)  # here


def test_a_product_of_another_type():
    with refused(
        TypeError,
        "custom_linear_solve: the output of matvec must have the shapes and dtypes of b, "
        "got complex128[2] where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):

        def matvec(x):
            return 1j * x

        ad.custom_linear_solve(matvec, B, eliminate)  # here


def test_a_product_of_another_structure():
    with refused(
        TypeError,
        "custom_linear_solve: the output of matvec must have the structure of b, "
        "got a tuple of length 2 where a leaf was expected at the output of matvec.",
        fix="return the same containers, keys and lengths.",
    ):

        def matvec(x):
            return x, x

        ad.custom_linear_solve(matvec, B, eliminate)  # here


def test_a_solution_of_another_shape():
    with refused(
        TypeError,
        "custom_linear_solve: the output of solve must have the shapes and dtypes of b, "
        "got float64 where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):

        def solve(matvec, b):
            return b[0]

        ad.custom_linear_solve(identity, B, solve)  # here


def test_an_argument_given_to_matvec_that_does_not_fit():
    with refused(
        TypeError,
        "custom_linear_solve: the argument of matvec must have the shapes and dtypes of b, "
        "got float64[1] where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):

        def solve(matvec, b):
            return matvec(b[:1])  # here

        ad.custom_linear_solve(identity, B, solve)


def test_aux_that_was_promised_and_is_not_there():
    with refused(
        TypeError,
        "custom_linear_solve: with has_aux=True solve must return a pair (solution, aux), "
        "got an output of type Tracer.",
        fix="return (solution, aux), or leave has_aux out.",
    ):

        def solve(matvec, b):
            return b

        ad.custom_linear_solve(identity, B, solve, has_aux=True)  # here


def test_reverse_mode_without_a_solver_of_the_transposed_system():
    def f(b):
        return np.sum(ad.custom_linear_solve(lambda x: A @ x, b, eliminate))  # here

    with refused(
        ad.MissingRuleError,
        "custom_linear_solve: reverse mode needs a solver of the transposed system, "
        "got transpose_solve=None.",
        fix="pass transpose_solve=, or symmetric=True if the matrix equals its transpose.",
    ):
        ad.grad(f)(B)
    assert ad.jvp(f, (B,), (B,))[1] > 0


def test_a_transpose_with_respect_to_the_matrix():
    def f(a):
        return ad.custom_linear_solve(lambda x: a * x, B, eliminate, symmetric=True)  # here

    with refused(
        ad.MissingRuleError,
        "custom_linear_solve: the solution is not linear in what the matrix is made of.",
        fix="use vjp, which linearizes first, in place of linear_transpose.",
    ):
        ad.linear_transpose(f, 1.0)(B)


def test_a_failure_inside_a_solver_leaves_nothing_half_traced():
    def failing(matvec, b):
        raise RuntimeError("no convergence")

    def f(b):
        with pytest.raises(RuntimeError):
            ad.custom_linear_solve(identity, b, failing)
        return np.sum(b**2)

    np.testing.assert_array_equal(ad.grad(f)(B), 2 * B)
    np.testing.assert_array_equal(ad.jit(ad.grad(f))(B), 2 * B)


# ------------------------------------------------------------------------------------------- roots


def test_a_function_whose_value_does_not_fit_its_argument():
    with refused(
        TypeError,
        "custom_root: the output of f must have the shapes and dtypes of initial_guess, "
        "got float64 where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):

        def f(x):
            return np.sum(x)

        ad.custom_root(f, B, wrong, wrong)  # here


def test_a_tangent_solve_of_another_type():
    def tangent_solve(g, y):
        return y.astype(np.float32)

    def f(a):
        return ad.custom_root(lambda x: a - x, 1.0, lambda f, x: x + f(x), tangent_solve)  # here

    with refused(
        TypeError,
        "custom_root: the output of tangent_solve must have the shapes and dtypes of "
        "initial_guess, got float32 where float64 is expected.",
        fix="convert it with .astype, or reshape it.",
    ):
        ad.grad(f)(2.0)


def test_a_guess_of_whole_numbers_is_taken_as_floats():
    x = ad.custom_root(lambda x: 3.0 - x, 1, lambda f, x: x + f(x), wrong)
    assert type(x) is np.ndarray and x.dtype == np.float64 and x == 3.0


def test_aux_of_the_default_iteration():
    with refused(
        TypeError,
        "custom_fixed_point: has_aux=True needs a solver that returns aux, got solve=None.",
        fix="pass solve=, or leave has_aux out.",
    ):
        ad.custom_fixed_point(np.cos, 0.5, has_aux=True)  # here


def test_a_transpose_of_a_root():
    def f(a):
        return ad.custom_root(lambda x: x - a, 1.0, lambda f, x: x - f(x), wrong)  # here

    with refused(
        ad.MissingRuleError,
        "custom_root: a root is not a linear function of anything.",
        fix="use vjp, which linearizes first, in place of linear_transpose.",
    ):
        ad.linear_transpose(f, 1.0)(1.0)


# ------------------------------------------------------------------------------ iterative solvers

SOLVERS = {"cg": ad.cg, "gmres": ad.gmres, "bicgstab": ad.bicgstab}
on_every_solver = pytest.mark.parametrize("name", SOLVERS)


@on_every_solver
def test_a_matrix_that_is_not_square(name):
    with refused(
        TypeError,
        f"{name}: A must be a function of a vector or a square matrix, got A of type float64[2,3].",
        fix="give matrices as arrays of shape (n, n), others as the function that multiplies by "
        "them.",
    ):
        SOLVERS[name](np.ones((2, 3)), B)  # here


@on_every_solver
def test_a_tolerance_that_is_negative(name):
    with refused(ValueError, f"{name}: tol must be a number that is not negative, got tol=-1.0."):
        SOLVERS[name](A, B, tol=-1.0)  # here


@on_every_solver
def test_no_iterations_at_all(name):
    with refused(ValueError, f"{name}: maxiter must be a positive integer, got maxiter=0."):
        SOLVERS[name](A, B, maxiter=0)  # here


def test_no_restart_at_all():
    with refused(ValueError, "gmres: restart must be a positive integer, got restart=0.5."):
        ad.gmres(A, B, restart=0.5)  # type: ignore[arg-type]  # here


@on_every_solver
def test_a_start_of_another_shape(name):
    with refused(
        TypeError,
        f"{name}: x0 must have the shapes and dtypes of b, "
        "got float64[3] where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):
        SOLVERS[name](A, B, x0=np.ones(3))  # here


@on_every_solver
def test_a_preconditioner_of_another_shape(name):
    with refused(
        TypeError,
        f"{name}: the output of half must have the shapes and dtypes of b, "
        "got float64[1] where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):

        def half(r):
            return r[:1]

        SOLVERS[name](A, B, M=half)  # here


# ------------------------------------------------------------------------- AUTODIFF_CHECK=residuals

_FIX = (
    "let the solver iterate longer or start it closer, check that the matrix is not singular, or "
    "leave residuals out of AUTODIFF_CHECK."
)


def _unsolved(b):
    return ad.custom_linear_solve(lambda x: A @ x, b, wrong, wrong)  # here


# A x - b for x = b / 2 is (1, 2), |b| the root of 5
_SENTENCE = "custom_linear_solve: ||A x - b|| must be at most 0.000224, got residual=2.24."


@pytest.mark.parametrize("function", [_unsolved, ad.jit(_unsolved)], ids=["eager", "jit"])
def test_a_solution_that_solves_nothing_is_told_where_checks_are_on(function):
    assert np.array_equal(function(B), 0.5 * B)
    with ad.override(check="residuals"), refused(FloatingPointError, _SENTENCE, fix=_FIX):
        function(B)


def test_the_systems_of_derivatives_are_checked_too():
    def half_right(matvec, b):
        return eliminate(matvec, b)

    def f(b):
        x = ad.custom_linear_solve(lambda x: A @ x, b, half_right, wrong)  # here
        return np.sum(x)

    with ad.override(check="residuals"):
        assert ad.jvp(f, (B,), (B,))[1] > 0
        with pytest.raises(FloatingPointError) as caught:
            ad.jit(ad.grad(f))(B)
    assert normalized(str(caught.value)).splitlines()[1] == "At here"


def test_each_of_mapped_systems_is_checked():
    """The second system is right by chance; the third is the first that is wrong."""

    def f(a):
        return ad.custom_linear_solve(lambda x: a * x, B, wrong)  # here

    with (
        ad.override(check="residuals"),
        refused(
            FloatingPointError,
            "custom_linear_solve: ||A x - b|| must be at most 0.000224 for the system at (2,) of "
            "the mapped axes, got residual=1.12.",
            fix=_FIX,
        ),
    ):
        ad.vmap(f)(np.array([2.0, 2.0, 3.0]))


def test_a_root_that_is_none():
    def f(a):
        return ad.custom_root(lambda x: x**2 - a, 3.0, lambda f, x: x, divide)  # here

    for function in (f, ad.jit(f), ad.grad(f)):
        assert function(2.0)
        with (
            ad.override(check="residuals"),
            refused(
                FloatingPointError,
                "custom_root: ||f(root)|| must be at most 0.0008, got residual=7.",
                fix=_FIX,
            ),
        ):
            function(2.0)


def test_a_fixed_point_that_was_given_up():
    with (
        ad.override(check="residuals"),
        refused(
            FloatingPointError,
            "custom_fixed_point: ||f(root)|| must be at most 0.0002, got residual=0.125.",
            fix=_FIX,
        ),
    ):
        ad.custom_fixed_point(lambda x: 0.5 * x + 1.0, 0.0, maxiter=3)  # here


@on_every_solver
def test_a_solver_that_has_not_converged(name):
    singular = np.diag([1.0, 0.0])
    with ad.override(check="residuals"), pytest.raises(FloatingPointError) as caught:
        SOLVERS[name](singular, B)  # here
    text = normalized(str(caught.value)).splitlines()
    assert text[0].startswith(f"{name}: ||A x - b|| must be at most 0.000224, got residual=")
    assert text[1:] == ["At here", f"To fix: {_FIX}"]


def test_what_is_solved_passes_the_check_in_every_transformation():
    with ad.override(check="residuals"):
        f = lambda b: np.sum(ad.gmres(A, b)[0] ** 2)
        hessian = ad.hessian(f)(B)
        mapped = ad.jit(ad.vmap(ad.grad(f)))(np.stack([B, -B, 0 * B]))
        root = ad.grad(lambda a: ad.custom_fixed_point(lambda x: 0.5 * (x + a / x), a))(2.0)
    inverse = np.linalg.inv(A)
    np.testing.assert_allclose(hessian, 2 * inverse.T @ inverse, rtol=1e-8)
    np.testing.assert_allclose(mapped[0], 2 * inverse.T @ inverse @ B, rtol=1e-8)
    np.testing.assert_allclose(root, 0.5 / 2**0.5, rtol=1e-12)


def test_the_word_of_the_setting():
    with pytest.raises(ValueError, match="a comma-separated list of nans, residuals"):
        ad.configure(check="residual")
