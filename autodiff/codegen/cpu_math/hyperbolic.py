"""Hyperbolic functions and their inverses, and the derivative of tanh.

The functions are built from exp and expm1 of |x| (`exponential`), the inverses from the logarithm
of a sum in two parts (`logarithmic`); odd functions take their sign from x last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autodiff.codegen.cpu_math.exponential import (
    exp_of_reduced,
    expm1_of_reduced,
    reduce,
    square_of_one_plus,
)
from autodiff.codegen.cpu_math.logarithmic import log_of_one_plus
from autodiff.codegen.cpu_math.polynomials import by_type
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.scalar_types import Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder


@math_function("tanh", ulp=(2.4, 2.4))
def tanh(b: VectorBuilder, x: Value) -> Value:
    """Return tanh(x) within 2.4 ulp, as (1 - e)/(1 + e) with e = exp(-2|x|).

    With p = exp(r) - 1 both sums are p 2**n + (2**n -+ 1), which loses nothing near 0. For negative
    n the error of p is made smaller; exp(2|x|) would make it larger. -2|x| is clamped at -20 (F32)
    or -40 (F64), where the result has long been 1.
    """
    one = b.const(1.0, x.type)
    magnitude = b.fabs(x)
    doubled = b.fneg(b.fadd(magnitude, magnitude))
    r, _, n = reduce(b, b.fmax(doubled, b.const(by_type(x.type, -20.0, -40.0), x.type)))
    scale = b.power_of_two(n, x.type)
    p = expm1_of_reduced(b, r)
    above = b.muladd(p, scale, b.fsub(scale, one))
    below = b.muladd(p, scale, b.fadd(scale, one))
    return b.copysign(b.fdiv(above, below), x)


@math_function("tanh_derivative", ulp=(2.5, 2.5))
def tanh_derivative(b: VectorBuilder, x: Value) -> Value:
    """Return 1 - tanh(x)**2 within 2.5 ulp, as 4e/(1 + e)**2 with e = exp(-2|x|).

    The textbook expression loses all digits where tanh(x) rounds to 1. It is 4e that is scaled by a
    power of 2: from a subnormal e it would inherit the rounding.
    """
    magnitude = b.fabs(x)
    doubled = b.fneg(b.fadd(magnitude, magnitude))
    low = b.const(by_type(x.type, -106.0, -748.0), x.type)
    r, n, _ = reduce(b, b.fmax(doubled, low))
    above = b.scale_by_power(exp_of_reduced(b, r), b.fadd(n, b.const(2.0, x.type)))
    e = b.fmul(above, b.const(0.25, x.type))
    return b.fdiv(above, square_of_one_plus(b, e))


@math_function("sinh", ulp=(2.5, 2.5))
def sinh(b: VectorBuilder, x: Value) -> Value:
    """Return sinh(x) within 2.5 ulp, as 2 (q + q/(4q + 1)) with q = expm1(|x|)/4.

    The quarter is finite wherever the result is. Near 0 the result is x.
    """
    type = x.type
    magnitude = b.fabs(x)
    r, _, n = reduce(b, b.fmin(magnitude, b.const(by_type(type, 89.5, 710.6), type)))
    quarter = b.power_of_two(b.sub(n, b.const(2, n.type)), type)
    q = b.muladd(expm1_of_reduced(b, r), quarter, b.fsub(quarter, b.const(0.25, type)))
    below = b.muladd(q, b.const(4.0, type), b.const(1.0, type))
    half = b.fadd(q, b.fdiv(q, below))
    tiny = b.fcmp("olt", magnitude, b.const(by_type(type, 2.0**-40, 2.0**-80), type))
    return b.select(tiny, x, b.copysign(b.fadd(half, half), x))


@math_function("cosh", ulp=(2.0, 2.0))
def cosh(b: VectorBuilder, x: Value) -> Value:
    """Return cosh(x) within 2 ulp, as 2 (q + 1/(16q)) with q = exp(|x|)/4."""
    type = x.type
    r, _, n = reduce(b, b.fmin(b.fabs(x), b.const(by_type(type, 89.5, 710.6), type)))
    quarter = b.power_of_two(b.sub(n, b.const(2, n.type)), type)
    q = b.fmul(exp_of_reduced(b, r), quarter)
    half = b.fadd(q, b.fdiv(b.const(0.0625, type), q))
    return b.fadd(half, half)


@math_function("asinh", ulp=(2.5, 2.5))
def asinh(b: VectorBuilder, x: Value) -> Value:
    """Return asinh(x) within 2.5 ulp, as log1p(a + a**2/(1 + sqrt(1 + a**2))) with a = |x|.

    From 2**30 (F32) or 2**60 (F64) up it is log(a) + ln 2. The form is that of fdlibm's `asinh`
    (Sun Microsystems, 1993).
    """
    one = b.const(1.0, x.type)
    a = b.fabs(x)
    square = b.fmul(a, a)
    w = b.fadd(a, b.fdiv(square, b.fadd(one, b.sqrt(b.fadd(one, square)))))
    return b.copysign(log_of_one_plus(b, w, _large(b, a), a), x)


@math_function("acosh", ulp=(2.5, 2.5))
def acosh(b: VectorBuilder, x: Value) -> Value:
    """Return acosh(x) within 2.5 ulp, as log1p(t + sqrt(2t + t**2)) with t = x - 1; NaN below 1.

    From 2**30 (F32) or 2**60 (F64) up it is log(x) + ln 2.
    """
    one = b.const(1.0, x.type)
    t = b.fsub(x, one)
    t = b.select(b.fcmp("olt", x, one), b.const(np.nan, x.type), t)
    w = b.fadd(t, b.sqrt(b.muladd(t, t, b.fadd(t, t))))
    return log_of_one_plus(b, w, _large(b, x), x)


@math_function("atanh", ulp=(2.5, 2.5))
def atanh(b: VectorBuilder, x: Value) -> Value:
    """Return atanh(x) within 2.5 ulp, as log1p(2a/(1 - a))/2 with a = |x|; NaN above 1."""
    a = b.fabs(x)
    w = b.fdiv(b.fadd(a, a), b.fsub(b.const(1.0, x.type), a))
    return b.copysign(b.fmul(log_of_one_plus(b, w), b.const(0.5, x.type)), x)


def _large(b: VectorBuilder, x: Value) -> Value:
    return b.fcmp("ogt", x, b.const(by_type(x.type, 2.0**30, 2.0**60), x.type))
