"""Cholesky and triangular systems: every variant against dense solves, published figures."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.builder import bind_primitive
from autodiff.primitives.linear_algebra import cholesky, triangular_solve
from autodiff.testing import check_grads

_FLAGS = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")


def _random(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, shape)
    return (x + 1j * random.uniform(-1, 1, shape) if np.dtype(dtype).kind == "c" else x).astype(
        dtype
    )


def _dense(a: np.ndarray, lower: bool, transpose_a: bool, conjugate_a: bool, unit_diagonal: bool):
    triangle = np.tril(a) if lower else np.triu(a)
    if unit_diagonal:
        size = a.shape[-1]
        triangle = np.where(np.eye(size, dtype=bool), 1, triangle)
    triangle = np.swapaxes(triangle, -1, -2) if transpose_a else triangle
    return np.conj(triangle) if conjugate_a else triangle


@pytest.mark.parametrize("flags", list(product([False, True], repeat=5)), ids=str)
@pytest.mark.parametrize("stack", [(), (2,), (3, 4)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_every_variant_solves_its_system(dtype, stack, flags):
    """One matrix and small stacks go to BLAS, large ones by substitution: both paths are here."""
    params = dict(zip(_FLAGS, flags, strict=True))
    a = _random((*stack, 5, 5), dtype) + 3 * np.eye(5)
    b = _random((*stack, *((5, 2) if params["left_side"] else (2, 5))), dtype, 1)
    x = triangular_solve(a, b, **params)
    dense = _dense(a, *flags[1:])
    product_of_both = dense @ x if params["left_side"] else x @ dense
    np.testing.assert_allclose(product_of_both, b, rtol=1e-13, atol=1e-13)


def test_the_other_triangle_and_a_unit_diagonal_are_not_read():
    params = dict.fromkeys(_FLAGS, False) | {"left_side": True, "unit_diagonal": True}
    a = np.where(np.triu(np.ones((3, 3)), 1) == 1, 2.0, np.nan)
    x = triangular_solve(a, np.ones((3, 1)), **params)
    np.testing.assert_array_equal(x[:, 0], [1.0, -1.0, 1.0])
    gradient = ad.grad(lambda a: ad.numpy.sum(triangular_solve(a, np.ones((3, 1)), **params)))(a)
    assert (np.tril(gradient) == 0).all()
    assert np.isfinite(gradient).all()


def test_a_zero_on_the_diagonal_is_an_error():
    params = dict.fromkeys(_FLAGS, False) | {"left_side": True}
    with pytest.raises(np.linalg.LinAlgError, match="got a zero at index 1"):
        triangular_solve(np.diag([1.0, 0.0, 2.0]), np.ones((3, 1)), **params)


def test_empty_systems_have_empty_solutions():
    params = dict.fromkeys(_FLAGS, False) | {"left_side": True}
    assert triangular_solve(np.ones((0, 0)), np.ones((0, 2)), **params).shape == (0, 2)
    assert triangular_solve(np.eye(2), np.ones((2, 0)), **params).shape == (2, 0)
    assert cholesky(np.ones((0, 3, 3))).shape == (0, 3, 3)


# ---------------------------------------------------------------------------------------- Cholesky


def _hermitian(size: int, dtype: Any, seed: int = 0) -> np.ndarray:
    x = _random((size, size), dtype, seed)
    return x @ np.conj(x.T) + np.eye(size)


def _factor(a: Any) -> Any:
    """The factor as NumPy computes it, from the lower triangle."""
    return bind_primitive(cholesky, (a,), {})


def test_the_holomorphic_gradient_through_a_complex_factor_has_the_published_value():
    a = np.array([[5, 2 + 3j, 5j], [2 - 3j, 7, 1 + 7j], [-5j, 1 - 7j, 12]])

    def function(x: Any) -> Any:
        factor = np.linalg.cholesky(x)
        return ad.numpy.sum((factor - np.sin(factor)) ** 2)

    found = ad.grad(function, holomorphic=True)(a)
    upper = {
        (0, 0): -0.75342447,
        (0, 1): -3.0509021 - 10.940544j,
        (0, 2): 5.989684 + 3.5422976j,
        (1, 1): -8.904487,
        (1, 2): -5.1351547 - 6.5593696j,
        (2, 2): 0.01320434,
    }
    for (i, j), value in upper.items():
        assert found[i, j] == pytest.approx(value, rel=1e-4)
        assert found[j, i] == pytest.approx(np.conj(value), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_the_derivative_is_that_of_the_hermitian_part_in_both_modes(dtype):
    a = _hermitian(4, dtype)
    v, u = _random((4, 4), dtype, 1), _random((4, 4), dtype, 2)
    part = (v + np.conj(v.T)) / 2
    _, pushed = ad.jvp(_factor, (a,), (v,))
    step = 1e-6
    differences = (np.linalg.cholesky(a + step * part) - np.linalg.cholesky(a - step * part)) / (
        2 * step
    )
    np.testing.assert_allclose(pushed, differences, rtol=1e-8, atol=1e-8)
    assert (np.triu(pushed, 1) == 0).all()
    (pulled,) = ad.vjp(_factor, a)[1](u)
    np.testing.assert_allclose(pulled, pulled.T if dtype is np.float64 else np.conj(pulled.T))
    assert np.sum(u * pushed).real == pytest.approx(np.sum(pulled * v).real, rel=1e-12)


def test_only_the_lower_triangle_is_read_as_in_numpy():
    a = _hermitian(3, np.float64)
    lower = np.tril(a) + np.triu(np.full((3, 3), 7.0), 1)
    np.testing.assert_array_equal(_factor(lower), np.linalg.cholesky(a))
    np.testing.assert_array_equal(ad.jit(np.linalg.cholesky)(lower), np.linalg.cholesky(a))


def test_the_gradient_of_the_log_determinant_is_the_inverse():
    a = _hermitian(5, np.float64)
    function = lambda a: 2 * ad.numpy.sum(ad.numpy.log(ad.numpy.diagonal(np.linalg.cholesky(a))))
    np.testing.assert_allclose(ad.grad(function)(a), np.linalg.inv(a), rtol=1e-12)
    direction = a @ a
    _, curved = ad.jvp(ad.grad(function), (a,), (direction,))
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(curved, -inverse @ direction @ inverse, rtol=1e-10, atol=1e-10)


def test_a_matrix_that_is_not_positive_definite_is_numpys_error():
    with pytest.raises(np.linalg.LinAlgError):
        ad.grad(lambda a: ad.numpy.sum(np.linalg.cholesky(a)))(-np.eye(2))


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_third_derivatives_of_a_stack_agree_with_differences(dtype):
    a = np.stack([_hermitian(2, dtype, seed) for seed in range(2)])
    check_grads(cholesky, (a,), order=3)
