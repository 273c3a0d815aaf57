"""Polynomials given by their coefficients, highest power first, and Vandermonde matrices.

Unlike NumPy's functions these do not drop leading coefficients that are 0, since a result's shape
must not depend on values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.numpy.convolution import convolve
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, joined, reshaped, sliced
from autodiff.primitives.arithmetic import add, divide, multiply, subtract
from autodiff.primitives.families import broadcast_to, convert


def _coefficients(value: Any) -> Any:
    x = array_of(value)
    return reshaped(x, (x.size,)) if x.ndim == 0 else x


@array_function(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    """Return the values at `x` of the polynomial with coefficients `p`, by Horner's scheme."""
    coefficients, x = array_of(p), array_of(x)
    value = multiply(x, x.dtype.type(0))
    for i in range(coefficients.shape[0]):
        value = add(multiply(value, x), coefficients[i])
    return value


def _to_length(x: Any, size: int) -> Any:
    missing = size - x.shape[0]
    return joined((np.zeros(missing, x.dtype), x), 0) if missing else x


@array_function(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    """Return the coefficients of the sum of two polynomials."""
    x, y = _coefficients(a1), _coefficients(a2)
    size = max(x.shape[0], y.shape[0])
    return add(_to_length(x, size), _to_length(y, size))


@array_function(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    """Return the coefficients of the difference of two polynomials."""
    x, y = _coefficients(a1), _coefficients(a2)
    size = max(x.shape[0], y.shape[0])
    return subtract(_to_length(x, size), _to_length(y, size))


@array_function(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    """Return the coefficients of the product of two polynomials."""
    return convolve(_coefficients(a1), _coefficients(a2))


@array_function(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    """Return the coefficients of the m-th derivative of a polynomial."""
    if m < 0:
        raise ValueError(f"polyder: m must not be negative, got m={m}.")
    x = array_of(p)
    for _ in range(m):
        degree = x.shape[0] - 1
        if degree < 0:
            return x
        x = multiply(sliced(x, 0, 0, degree), np.arange(degree, 0, -1))
    return x


@array_function(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """Return the coefficients of an m-fold integral of a polynomial; `k`: integration constants."""
    if m < 0:
        raise ValueError(f"polyint: m must not be negative, got m={m}.")
    x = array_of(p)
    constants = np.zeros(m) if k is None else _coefficients(k)
    if constants.shape[0] == 1 and m > 1:
        constants = broadcast_to(constants, (m,))
    if constants.shape[0] < m:
        raise ValueError(f"polyint: k must be one number or {m}, got shape={constants.shape}.")
    for i in range(m):
        degree = x.shape[0]
        x = joined((divide(x, np.arange(degree, 0, -1)), sliced(constants, 0, i, i + 1)), 0)
    return x


@array_function(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """Return the matrix whose columns are powers of `x`, falling unless `increasing`."""
    x = array_of(x)
    if x.ndim != 1:
        raise ValueError(f"vander: x must have one axis, got shape={x.shape}.")
    count = x.shape[0] if N is None else N
    x = convert(x, np.promote_types(x.dtype, np.int64))
    column = reshaped(x, (x.shape[0], 1))
    powers = [np.ones((x.shape[0], 1), x.dtype)]
    for _ in range(count - 1):
        powers.append(multiply(powers[-1], column))
    powers = powers[:count] if increasing else powers[:count][::-1]
    if not powers:
        return np.zeros((x.shape[0], 0), x.dtype)
    return joined(powers, 1)
