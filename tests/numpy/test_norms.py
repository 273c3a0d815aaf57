"""Norms of vectors and matrices against NumPy's, and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from tests.numpy.traced_and_plain import (
    assert_equal_arrays,
    check_derivatives,
    layouts,
    sample,
)

VECTOR_ORDERS = [None, 2, 1, 0, 3, 0.5, -1, -2, np.inf, -np.inf]
MATRIX_ORDERS = [None, "fro", 1, -1, np.inf, -np.inf]


def check(function: Any, x: Any, **options: Any) -> None:
    expected = np.asarray(function(x, **options))
    found = ad.jit(lambda x: function(x, **options))(x)
    # Roots and powers of sums whose order is free.
    assert_equal_arrays(found, expected, 16)


@pytest.mark.parametrize("dtype", ["i4", "f4", "f8", "c16"])
@pytest.mark.parametrize("order", VECTOR_ORDERS)
def test_vector_norms_are_numpys(order: Any, dtype: str) -> None:
    x = sample((3, 4), dtype) + (order in (-1, -2)) * np.ones((), dtype) / 4
    x = x.astype(dtype if dtype != "i4" or order not in (-1, -2) else "f8")
    for array in layouts(x):
        check(np.linalg.norm, array, ord=order, axis=1)
    check(np.linalg.norm, x[0], ord=order)
    check(np.linalg.norm, x, ord=order, axis=-2, keepdims=True)
    if order is not None:
        check(np.linalg.vector_norm, x, ord=order)
        check(np.linalg.vector_norm, x, ord=order, axis=(0, 1), keepdims=True)


@pytest.mark.parametrize("dtype", ["i4", "f4", "f8", "c16"])
@pytest.mark.parametrize("order", MATRIX_ORDERS)
def test_matrix_norms_are_numpys(order: Any, dtype: str) -> None:
    x = sample((2, 3, 4), dtype)
    check(np.linalg.norm, x[0], ord=order)
    check(np.linalg.norm, x[0], ord=order, keepdims=True)
    for axis in ((0, 1), (2, 0), (-1, -2)):
        check(np.linalg.norm, x, ord=order, axis=axis)
        check(np.linalg.norm, x, ord=order, axis=axis, keepdims=True)
    if order is not None:
        check(np.linalg.matrix_norm, x, ord=order)
        check(np.linalg.matrix_norm, x, ord=order, keepdims=True)


def test_the_norm_of_any_array_is_numpys() -> None:
    for shape in ((), (0,), (2, 3, 4)):
        check(np.linalg.norm, sample(shape, "f8"))
        check(np.linalg.norm, sample(shape, "f8"), keepdims=True)


@pytest.mark.parametrize("order", [None, 1, 3, 0.5, -1, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_derivatives_of_vector_norms(order: Any, dtype: str) -> None:
    x = sample((2, 3), dtype) + 0.3
    check_derivatives(lambda x: np.linalg.norm(x, order, axis=1), x, order=2)


@pytest.mark.parametrize("order", MATRIX_ORDERS)
def test_derivatives_of_matrix_norms(order: Any) -> None:
    check_derivatives(lambda x: np.linalg.norm(x, order), sample((2, 3), "f8") + 0.3)


@pytest.mark.parametrize("order", [None, 2, 1, 3, 1.5, np.inf])
def test_derivative_of_the_norm_of_a_zero_row_is_a_zero_row(order: Any) -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0]])

    def total(x: Any) -> Any:
        return np.linalg.norm(x, order, axis=1).sum()

    found = ad.grad(total)(x)
    np.testing.assert_array_equal(found[0], [0, 0])
    assert np.all(np.isfinite(found[1])) and np.any(found[1])
    assert ad.jvp(total, (x,), (np.array([[1.0, 0], [0, 0]]),))[1] == 0
    second = ad.hessian(total)(x)
    np.testing.assert_array_equal(second[0], np.zeros((2, 2, 2)))
    assert np.all(np.isfinite(second))


def test_what_norm_cannot_do_is_named() -> None:
    x = np.ones((2, 3, 4))
    with pytest.raises(ValueError, match="norm: the order of a norm of traced matrices must be"):
        ad.jit(lambda x: np.linalg.norm(x[0], "nuc"))(x)
    with pytest.raises(ValueError, match="norm: the order of a norm of traced vectors must be"):
        ad.jit(lambda x: np.linalg.norm(x[0, 0], "fro"))(x)
    with pytest.raises(ValueError, match="norm: the norm is taken over one axis or two"):
        ad.jit(lambda x: np.linalg.norm(x, 1))(x)
