"""`autodiff.numpy.linalg`: the functions as NumPy and SciPy define them, traced and plain."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.linalg

import autodiff as ad
from autodiff.numpy.linalg import cholesky, solve_triangular
from autodiff.testing import check_grads


def _matrix(size: int, complex_numbers: bool = False) -> np.ndarray:
    random = np.random.default_rng(size)
    a = random.normal(size=(size, size)) + 3 * np.eye(size)
    return a + 1j * random.normal(size=(size, size)) if complex_numbers else a


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("complex_numbers", [False, True])
def test_both_factors_are_numpys(upper, complex_numbers):
    x = _matrix(4, complex_numbers)
    a = np.stack([x @ np.conj(x.T), np.eye(4)])
    expected = np.linalg.cholesky(a, upper=upper)
    np.testing.assert_array_equal(cholesky(a, upper=upper), expected)
    traced = ad.jit(lambda a: np.linalg.cholesky(a, upper=upper))(a)
    np.testing.assert_array_equal(traced, expected)


def test_integers_are_factored_as_float64():
    a = np.array([[4, 2], [2, 2]])
    assert ad.jit(cholesky)(a).dtype == cholesky(a).dtype == np.float64


@pytest.mark.parametrize("shape", [(3,), (2, 3), ()])
def test_a_matrix_that_is_not_square_is_refused(shape):
    with pytest.raises(np.linalg.LinAlgError, match=re.escape(f"got a of shape {shape}")):
        cholesky(np.ones(shape))


@pytest.mark.parametrize("trans", [0, 1, 2, "N", "T", "C"])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("unit_diagonal", [False, True])
@pytest.mark.parametrize("columns", [None, 2])
def test_triangular_systems_are_scipys(trans, lower, unit_diagonal, columns):
    a = _matrix(4, complex_numbers=True)
    b = np.random.default_rng(9).normal(size=4 if columns is None else (4, columns))
    options = {"trans": trans, "lower": lower, "unit_diagonal": unit_diagonal}
    expected = scipy.linalg.solve_triangular(a, b, **options)
    for found in (
        solve_triangular(a, b, **options),
        ad.jit(lambda a, b: solve_triangular(a, b, **options))(a, b),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_stacks_of_systems_broadcast():
    a, b = _matrix(3), np.random.default_rng(1).normal(size=(5, 3, 2))
    found = solve_triangular(a, b)
    np.testing.assert_allclose(found, [scipy.linalg.solve_triangular(a, x) for x in b], rtol=1e-13)


@pytest.mark.parametrize("trans", [0, 2])
def test_derivatives_of_triangular_systems(trans):
    a, b = _matrix(3, complex_numbers=True), np.random.default_rng(2).normal(size=3)
    check_grads(lambda a, b: solve_triangular(a, b, trans, lower=True), (a, b), order=2)


def test_mapped_right_hand_sides_are_solved_together():
    a, b = _matrix(3), np.random.default_rng(3).normal(size=(6, 3))
    mapped = ad.vmap(lambda b: solve_triangular(a, b))
    np.testing.assert_allclose(mapped(b), scipy.linalg.solve_triangular(a, b.T).T, rtol=1e-13)
    graph = str(ad.make_graph(mapped)(b))
    assert "broadcast" not in graph  # the matrix is not repeated


def test_wrong_arguments_are_named():
    a = np.eye(3)
    with pytest.raises(
        ValueError, match="trans must be one of 0, 1, 2, 'N', 'T', 'C', got trans=3"
    ):
        solve_triangular(a, np.ones(3), trans=3)
    with pytest.raises(ValueError, match=r"got a of shape \(3, 3\) and b of shape \(2,\)"):
        solve_triangular(a, np.ones(2))
    with pytest.raises(ValueError, match="all numbers must be finite"):
        solve_triangular(a, np.array([1.0, np.nan, 0.0]))
    assert np.isnan(solve_triangular(a, np.array([1.0, np.nan, 0.0]), check_finite=False)[1])
