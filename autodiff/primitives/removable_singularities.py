"""sinc, sinhc and exprel: quotients whose value and derivatives at 0 are their limits.

Each function is an integral over [0, 1], and so are its derivatives, of order n:

    sin(y) / y      =  int cos(u y) du        n-th:  int u**n cos^(n)(u y) du
    sinh(x) / x     =  int cosh(u x) du              int u**n cosh^(n)(u x) du
    expm1(x) / x    =  int exp(u x) du               int u**n exp(u x) du   =: E_n(x)

Expanding the integrand gives the power series sum over j of g^(n+j)(0) x**j / (j! (n+j+1)), used
near 0; integrating by parts gives the recurrence  x F_n = g^(n-1)'(x) - n F_(n-1)  (g^(n-1)': the
n-th derivative of sin, sinh, exp), used away from it. Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.primitive import Samples
from autodiff.primitives.arithmetic import guarded_multiply
from autodiff.primitives.families import REAL, elementwise
from autodiff.primitives.special import float_type

_TAYLOR_OF_COSINE = (1.0, 0.0, -1.0, 0.0)
_TAYLOR_OF_HYPERBOLIC_COSINE = (1.0, 0.0)
_TAYLOR_OF_EXPONENTIAL = (1.0,)


def _near_zero(x: Any, order: int, limit: float, taylor: tuple[float, ...]) -> Any:
    """Return the power series for |x| <= limit; `taylor` are g's derivatives at 0, repeating."""
    coefficients = []
    j, power = 0, 1.0
    while power > 1e-18 or j < limit:
        value = taylor[(order + j) % len(taylor)]
        coefficients.append(value / (factorial(j) * (order + j + 1)))
        j += 1
        power = limit**j / factorial(j)
    total = coefficients[-1] + 0 * x
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _limit(order: int) -> float:
    """Return up to which |x| the series is used; the recurrence is stable from there on."""
    return max(1.0, 0.6 * order)


def _sinc_derivative(x: Any, *, order: int) -> Any:
    """d^n/dx^n sin(pi x) / (pi x). Error at most 2e-15 of pi**n / (n + 1) up to order 8."""
    wide = np.complex128 if dtypes.is_complex(x.dtype) else np.float64
    y = np.pi * x.astype(wide)
    limit = _limit(order)
    small = np.abs(y) <= limit
    near = _near_zero(np.where(small, y, 0), order, limit, _TAYLOR_OF_COSINE)
    y = np.where(small, 1, y)
    sine, cosine = np.sin(y), np.cos(y)
    value = sine / y
    for k in range(1, order + 1):
        derivative = (sine, cosine, -sine, -cosine)[k % 4]
        value = (derivative - k * value) / y
    return (np.pi**order * np.where(small, near, value)).astype(x.dtype)


def _sinc_type(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """NumPy's: its own floating and complex types stay, bfloat16 is float32, integers float64."""
    (kind,) = operands
    dtype = kind if isinstance(kind, np.dtype) else dtypes.default_dtype(kind)
    own = dtype if dtypes.is_inexact(dtype) else np.dtype(np.float64)
    own = np.dtype(np.float32) if own == dtypes.bfloat16 else own
    return (own,), (own,)


_ORDERS = tuple({"order": n} for n in (1, 2, 3, 4))


def _lower_sinc(o: Any, x: Any) -> Any:
    """As NumPy's, whose zeros are not exact: at 0 of a number so small that it is its own sine."""
    angle = o.multiply(x, np.pi)
    angle = o.where(o.equal(angle, 0), float(np.finfo(x.dtype).eps), angle)
    return o.divide(o.math("sin", angle), angle)


sinc = elementwise(
    "sinc",
    lambda x: np.sinc(x),
    even=True,
    doc="sin(pi x) / (pi x), 1 at 0.",
    promote=_sinc_type,
    jvp=lambda t, out, x: t * sinc_derivative(x, order=1),
    numpy=(np.sinc,),
    # NumPy rounds pi x before it takes the sine: close to the zeros at the integers n the error is
    # n / |x - n| units, so random operands stay between the first two.
    samples=Samples(span=(-0.95, 0.95), points=(-2.5, -0.0, 0.0, 1e-30, 1e-8, 1.5, 7.25, np.nan)),
    ulp={"float16": 2, "float32": 16, "float64": 16},
    lower=_lower_sinc,
)

sinc_derivative = elementwise(
    "sinc_derivative",
    _sinc_derivative,
    doc="Derivative of sinc of a fixed order from 1.",
    promote=_sinc_type,
    jvp=lambda t, out, x, *, order: t * sinc_derivative(x, order=order + 1),
    dtypes="fc",
    public=False,
    samples=Samples(span=(-3.0, 3.0), points=(-1.0, -0.0, 0.0, 1e-30, 1e-8), params=_ORDERS),
    # complex products are rounded in other ways here and there, within the error stated above
    ulp={"complex128": 8},
)


def _in_double(formula: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, *, order: int = 0) -> Any:
        dtype = float_type((x.dtype,))[1][0]
        return formula(x.astype(np.float64), order).astype(dtype)

    return reference


def _exprel(x: Any, n: int) -> Any:
    """E_n(x) = int over [0, 1] of u**n exp(u x) du, relative error below 1e-14 up to n = 8.

    0 <= x <= n + 4: its power series; -n - 4 <= x < 0: exp(x) sum |x|**k / ((n+1) ... (n+1+k))
    (Abramowitz and Stegun 1964, 6.5.29); both have terms of one sign. Beyond: the recurrence, for
    x > 0 with the factor exp(x) taken out, so that only the result itself can overflow.
    """
    limit = n + 4.0
    near = _near_zero(np.clip(x, 0, limit), n, limit, _TAYLOR_OF_EXPONENTIAL)
    below = np.exp(np.maximum(x, -limit)) * _confluent_series(np.clip(-x, 0, limit), n, limit)
    size = np.maximum(np.abs(x), limit)
    decayed = np.exp(-size)
    left = -np.expm1(-size) / size  # E_0(-size), and exp(-size) E_0(size)
    right = left
    for k in range(1, n + 1):
        left = (k * left - decayed) / size
        right = (1 - k * right) / size
    grown = np.where(np.isinf(size), size, np.exp(size) * np.where(np.isinf(size), 1, right))
    inner = np.where(x < 0, below, near)
    outer = np.where(x < 0, left, grown)
    return np.where(np.isnan(x), x, np.where(np.abs(x) <= limit, inner, outer))


def _confluent_series(size: Any, n: int, limit: float) -> Any:
    """Return sum over k of size**k / ((n+1) ... (n+1+k)) for 0 <= size <= limit."""
    term = 1 / (n + 1) + 0 * size
    total, bound, k = term, 1.0, 0
    while bound > 1e-18:
        k += 1
        term = term * (size / (n + 1 + k))
        total = total + term
        bound *= limit / (n + 1 + k)
    return total


def _sinhc(x: Any, n: int) -> Any:
    """n-th derivative of sinh(x) / x: (E_n(x) + (-1)**n E_n(-x)) / 2, near 0 a power series."""
    limit = n + 4.0
    small = np.abs(x) <= limit
    near = _near_zero(np.where(small, x, 0), n, limit, _TAYLOR_OF_HYPERBOLIC_COSINE)
    other = _exprel(-x, n)
    far = 0.5 * _exprel(x, n) + (-0.5 if n % 2 else 0.5) * other
    return np.where(small, near, far)


_GROWTH = (-1000.0, -0.0, 0.0, 1e-30, 1e-8, 5.0, 700.0, np.inf, -np.inf, np.nan)

exprel = elementwise(
    "exprel",
    lambda x: _in_double(_exprel)(x),
    doc="(exp(x) - 1) / x, 1 at 0.",
    promote=float_type,
    jvp=lambda t, out, x: guarded_multiply(t, exprel_derivative(x, order=1)),
    dtypes=REAL,
    public=False,
    samples=Samples(points=_GROWTH),
)

exprel_derivative = elementwise(
    "exprel_derivative",
    _in_double(_exprel),
    doc="Derivative of exprel of a fixed order from 1.",
    promote=float_type,
    jvp=lambda t, out, x, *, order: guarded_multiply(t, exprel_derivative(x, order=order + 1)),
    dtypes=REAL,
    public=False,
    samples=Samples(points=_GROWTH, params=_ORDERS),
)

sinhc = elementwise(
    "sinhc",
    lambda x: _in_double(_sinhc)(x),
    doc="sinh(x) / x, 1 at 0.",
    promote=float_type,
    jvp=lambda t, out, x: guarded_multiply(t, sinhc_derivative(x, order=1)),
    dtypes=REAL,
    public=False,
    samples=Samples(points=_GROWTH),
)

sinhc_derivative = elementwise(
    "sinhc_derivative",
    _in_double(_sinhc),
    doc="Derivative of sinhc of a fixed order from 1.",
    promote=float_type,
    jvp=lambda t, out, x, *, order: guarded_multiply(t, sinhc_derivative(x, order=order + 1)),
    dtypes=REAL,
    public=False,
    samples=Samples(points=_GROWTH, params=_ORDERS),
)
