"""erf, erfc, erfinv, the normal distribution function, exp(-x**2) and exp(-x**2 / 2).

exp(-x**2) is computed with x**2 in two floats: rounding the square alone would cost x**2 units in
the last place (Cody, Rational Chebyshev approximations for the error function, 1969, section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autodiff.codegen.cpu_math import special_coefficients as table
from autodiff.codegen.cpu_math.coefficients import EXPM1_F32, EXPM1_F64
from autodiff.codegen.cpu_math.exponential import reduce
from autodiff.codegen.cpu_math.piecewise import piecewise_polynomial
from autodiff.codegen.cpu_math.polynomials import polynomial
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.scalar_types import F32, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder


@math_function("erf", ulp=(2.4, 2.4))
def erf(b: VectorBuilder, x: Value) -> Value:
    """Return the error function of x.

    |x| < 1: x + x P(x**2), degree 17 (F32, error 2**-30) or 27 (F64, 2**-56). Else 1 - Q(|x|)**k
    with Q close to the k-th root of erfc, which a polynomial follows well: degree 7 and k = 4 (F32,
    error 2**-25.3, to |x| = 3.92), degree 17 and k = 8 (F64, 2**-55.1, to 5.86), and 1 beyond. Both
    polynomials share one Horner scheme.
    """
    type = x.type
    single = type is F32
    one = b.const(1.0, type)
    magnitude = b.fabs(x)
    near = b.fcmp("olt", magnitude, one)
    variable = b.select(near, b.fmul(x, x), magnitude)
    pieces = (
        (table.ERF_NEAR_F32, table.ERFC_ROOT4_F32)
        if single
        else (table.ERF_NEAR_F64, table.ERFC_ROOT8_F64)
    )
    value = piecewise_polynomial(b, variable, [(near, pieces[0]), (None, pieces[1])])
    inner = b.muladd(x, value, x)
    power = value
    for _ in range(2 if single else 3):
        power = b.fmul(power, power)
    # Where erfc is below 2**-25 or 2**-54, 1 is nearest.
    limit = b.const(3.9193 if single else 5.8636, type)
    power = b.select(b.fcmp("oge", magnitude, limit), b.const(0.0, type), power)
    outer = b.copysign(b.fsub(one, power), x)
    return b.select(near, inner, outer)


def times_exponential(
    b: VectorBuilder, high: Value, low: Value, factor: Value, factor_low: Value
) -> Value:
    """Return (factor + factor_low) * exp(high + low) for -1000 < high <= 0, to about one ulp.

    high - n ln 2 = r in [-ln 2/2, ln 2/2] (Tang, Table-driven implementation of the exponential
    function, 1989, without the table); with q = exp(r + low) - 1 the result is
    factor + (factor q + factor_low), scaled by 2**n: only the last addition rounds at full size.
    """
    r, multiple, _ = reduce(b, high)
    # Where r is not the larger one, what is lost is far below the last place of the result.
    r, lost = b.fast_two_sum(r, low)
    series = polynomial(b, r, EXPM1_F32 if r.type is F32 else EXPM1_F64)
    q = b.fadd(r, b.muladd(b.fmul(r, r), series, lost))
    value = b.fadd(factor, b.muladd(factor, q, factor_low))
    return b.scale_by_power(value, multiple)


def _negative_square(b: VectorBuilder, x: Value) -> tuple[Value, Value]:
    high, low = b.two_product(x, x)
    return b.fneg(high), b.fneg(low)


#: Beyond these exp(-x**2) and erfc(x) are zero.
_LIMIT = {"f32": 10.5, "f64": 27.5}


@math_function("gaussian", ulp=(1.8, 1.8))
def gaussian(b: VectorBuilder, x: Value) -> Value:
    """Return exp(-x**2), without loss in the tails: x**2 is in two parts."""
    magnitude = b.fmin(b.fabs(x), b.const(_LIMIT[x.type.suffix], x.type))
    return _exponential(b, *_negative_square(b, magnitude))


@math_function("half_gaussian", ulp=(1.8, 1.8))
def half_gaussian(b: VectorBuilder, x: Value) -> Value:
    """Return exp(-x**2 / 2), without loss in the tails."""
    half = b.const(0.5, x.type)
    magnitude = b.fmin(b.fabs(x), b.const(1.5 * _LIMIT[x.type.suffix], x.type))
    high, low = _negative_square(b, magnitude)
    return _exponential(b, b.fmul(high, half), b.fmul(low, half))


def _exponential(b: VectorBuilder, high: Value, low: Value) -> Value:
    one, nothing = b.const(1.0, high.type), b.const(0.0, high.type)
    return times_exponential(b, high, low, one, nothing)


#: Shift of |x| and middle of the reciprocal, as in kernels/cpu/special_functions.py.
_SCALED = {
    "f32": (2.5, 0.1953125, table.ERFC_SCALED_SINGLE_F32),
    "f64": (3.0, 0.125, table.ERFC_SCALED_DOUBLE_F64),
}


@math_function("erfc", ulp=(2.3, 2.3))
def erfc(b: VectorBuilder, x: Value) -> Value:
    """Return 1 - erf(x) without cancellation, down to the smallest subnormal.

    exp(t**2) erfc(t) (t + K) for t = |x| is a polynomial in s - M, s = 1/(t + K) (after Shepherd
    and Laframboise, Chebyshev approximation of (1 + 2x) exp(x**2) erfc x, 1981): degree 9 (F32,
    K = 2.5, error 2**-26) or 22 (F64, K = 3, 2**-53.8). Times s, with the rounding of s made good,
    times exp(-t**2). Below zero 2 - erfc(t).
    """
    type = x.type
    t = b.fmin(b.fabs(x), b.const(_LIMIT[type.suffix], type))
    value = _tail(b, t, b.const(0.0, type), *_negative_square(b, t), times=1.0)
    below = b.fcmp("olt", x, b.const(0.0, type))
    return b.select(below, b.fsub(b.const(2.0, type), value), value)


#: 1/sqrt(2) rounded to F32 and F64, and what is lost.
_ROOT_HALF = {
    "f32": (0.7071067690849304, 1.210161710447897e-08),
    "f64": (0.7071067811865476, -4.833646656726457e-17),
}


@math_function("ndtr", ulp=(2.5, 2.5))
def ndtr(b: VectorBuilder, x: Value) -> Value:
    """Return the normal distribution function, erfc(-x / sqrt(2)) / 2, to the last subnormal.

    As erfc, of t = |x| / sqrt(2) in two parts, with t**2 = x**2 / 2; above zero 1 - ndtr(-x).
    """
    type = x.type
    size = b.fmin(b.fabs(x), b.const(1.415 * _LIMIT[type.suffix], type))
    root, root_low = (b.const(number, type) for number in _ROOT_HALF[type.suffix])
    t, lost = b.two_product(size, root)
    t_low = b.muladd(size, root_low, lost)
    half = b.const(0.5, type)
    high, low = (b.fmul(part, half) for part in _negative_square(b, size))
    value = _tail(b, t, t_low, high, low, times=0.5)
    above = b.fcmp("ogt", x, b.const(0.0, type))
    return b.select(above, b.fsub(b.const(1.0, type), value), value)


def _tail(
    b: VectorBuilder, t: Value, t_low: Value, high: Value, low: Value, *, times: float
) -> Value:
    """Return erfc(t + t_low) times a power of 2, for t >= 0 and high + low = -(t + t_low)**2."""
    type = t.type
    shift, middle, scaled = _SCALED[type.suffix]
    one = b.const(1.0, type)
    total, lost = b.two_sum(t, b.const(shift, type))
    lost = b.fadd(lost, t_low)
    s = b.fdiv(one, total)
    back, back_low = b.two_product(s, total)
    remainder = b.fsub(b.fsub(one, back), b.muladd(s, lost, back_low))
    s_low = b.fmul(s, remainder)
    u, u_low = b.fast_two_sum(b.fsub(s, b.const(middle, type)), s_low)
    # The last step of the polynomial in two parts, for the result is to be rounded once.
    inner = polynomial(b, u, scaled[1:])
    rest, rest_low = b.two_product(u, inner)
    p, p_low = b.two_sum(b.const(scaled[0], type), rest)
    p_low = b.fadd(p_low, b.muladd(u_low, inner, rest_low))
    s, s_low = (b.fmul(part, b.const(times, type)) for part in (s, s_low))
    factor, factor_low = b.two_product(s, p)
    factor_low = b.muladd(s, p_low, b.muladd(s_low, p, factor_low))
    return times_exponential(b, high, low, factor, factor_low)


@math_function("erfinv", ulp=(2.5, 2.5))
def erfinv(b: VectorBuilder, x: Value) -> Value:
    """Return the y with erf(y) = x; infinities at -1 and 1, NaN beyond.

    x P(w - 2.625) with w = -log(1 - x**2) < 5; beyond, x Q(sqrt(w) - c), in one piece (F32) or two
    (F64) (Giles, Approximating the erfinv function, GPU Computing Gems Jade edition, 2011, chapter
    10; coefficients of our own). Degree 10 (F32, error 2**-28) or 20 (F64, 2**-52.8).
    """
    type = x.type
    one = b.const(1.0, type)
    magnitude = b.fabs(x)
    # Of 1 - x**2 as a product both factors keep their digits as |x| nears 1.
    product = b.fmul(b.fsub(one, magnitude), b.fadd(one, magnitude))
    w = b.fneg(b.call("log", product))
    root = b.sqrt(w)
    central = b.fcmp("olt", w, b.const(5.0, type))
    middle = b.const(3.125, type)
    pieces: list[tuple[Value | None, tuple[float, ...]]]
    if type is F32:
        pieces = [(central, table.ERFINV_CENTRAL_F32), (None, table.ERFINV_OUTER_F32)]
    else:
        outer = b.fcmp("olt", root, b.const(4.0, type))
        middle = b.select(outer, middle, b.const(5.0, type))
        pieces = [
            (central, table.ERFINV_CENTRAL_F64),
            (outer, table.ERFINV_OUTER_F64),
            (None, table.ERFINV_TAIL_F64),
        ]
    variable = b.select(central, b.fsub(w, b.const(2.625, type)), b.fsub(root, middle))
    value = b.fmul(x, piecewise_polynomial(b, variable, pieces))
    infinite = b.copysign(b.const(np.inf, type), x)
    return b.select(b.fcmp("oeq", magnitude, one), infinite, value)
