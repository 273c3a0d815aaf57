"""asin, acos, atan and atan2: odd polynomials near zero, and identities that lead there.

Muller, Elementary functions, 3rd edition, 2016, section 11.4 has the identities; constants such as
pi/2 are added in two parts.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from autodiff.codegen.cpu_math import special_coefficients as table
from autodiff.codegen.cpu_math.polynomials import polynomial
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.scalar_types import F32, ScalarType, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder

#: pi to 60 digits (OEIS A000796).
_PI = Fraction("3.14159265358979323846264338327950288419716939937510582097494459")


def _in_two(number: Fraction, type: ScalarType) -> tuple[float, float]:
    """Return the float nearest to `number` and the one nearest to what is left."""
    rounded = np.float32 if type is F32 else np.float64
    high = float(rounded(float(number)))
    return high, float(rounded(float(number - Fraction(high))))


def _arcsine_core(b: VectorBuilder, magnitude: Value) -> tuple[Value, Value, Value]:
    """Return the mask of |x| > 1/2, s, and arcsin(s) - s, for s = |x|, there sqrt((1 - |x|)/2).

    That square root is sin((pi/2 - arcsin|x|)/2): both arguments lie in [0, 1/2]. Polynomial of
    degree 11 (F32, error 2**-27.6) or 25 (F64, 2**-55.9).
    """
    type = magnitude.type
    half = b.const(0.5, type)
    outer = b.fcmp("ogt", magnitude, half)
    complement = b.fmul(b.fsub(b.const(1.0, type), magnitude), half)
    z = b.select(outer, complement, b.fmul(magnitude, magnitude))
    s = b.select(outer, b.sqrt(complement), magnitude)
    rest = polynomial(b, z, table.ARCSINE_F32 if type is F32 else table.ARCSINE_F64)
    return outer, s, b.fmul(b.fmul(s, z), rest)


@math_function("asin", ulp=(1.5, 1.5))
def asin(b: VectorBuilder, x: Value) -> Value:
    """Return the angle in [-pi/2, pi/2] whose sine is x; NaN where |x| > 1.

    |x| <= 1/2: polynomial. Else pi/2 - 2 arcsin sqrt((1 - |x|)/2).
    """
    outer, s, rest = _arcsine_core(b, b.fabs(x))
    high, low = (b.const(part, x.type) for part in _in_two(_PI / 2, x.type))
    difference, lost = b.fast_two_sum(high, b.fneg(b.fadd(s, s)))
    folded = b.fadd(difference, b.fadd(lost, b.fsub(low, b.fadd(rest, rest))))
    return b.copysign(b.select(outer, folded, b.fadd(s, rest)), x)


@math_function("acos", ulp=(1.5, 1.5))
def acos(b: VectorBuilder, x: Value) -> Value:
    """Return the angle in [0, pi] whose cosine is x; NaN where |x| > 1.

    |x| <= 1/2: pi/2 - arcsin x. Beyond, with a = 2 arcsin sqrt((1 - |x|)/2): a, or pi - a below
    zero.
    """
    type = x.type
    outer, s, rest = _arcsine_core(b, b.fabs(x))
    zero, two = b.const(0.0, type), b.const(2.0, type)
    negative = b.fcmp("olt", x, zero)
    # What arcsin s is multiplied by: -sign x, or 2 sign x beyond 1/2.
    factor = b.select(outer, two, b.const(-1.0, type))
    factor = b.select(negative, b.fneg(factor), factor)
    half, whole = _in_two(_PI / 2, type), _in_two(_PI, type)
    high, low = (
        b.select(
            outer,
            b.select(negative, b.const(whole[part], type), zero),
            b.const(half[part], type),
        )
        for part in (0, 1)
    )
    return b.fadd(b.fadd(high, b.fmul(s, factor)), b.fadd(b.fmul(rest, factor), low))


def _arctangent(b: VectorBuilder, u: Value) -> tuple[Value, Value]:
    """Return u and arctan(u) - u for |u| <= tan(pi/8).

    Degree 11 (F32, error 2**-30.4) or 23 (F64, 2**-59.4).
    """
    z = b.fmul(u, u)
    rest = polynomial(b, z, table.ARCTANGENT_F32 if u.type is F32 else table.ARCTANGENT_F64)
    return u, b.fmul(b.fmul(u, z), rest)


def _folded_quotient(b: VectorBuilder, y: Value, x: Value) -> tuple[Value, Value, Value]:
    """Return u and the two masks that say what to add to arctan u, for y >= 0 and x >= 0.

    arctan(y/x) is arctan u for y/x below tan(pi/8) (first mask), pi/4 + arctan u below tan(3pi/8)
    (second mask), else pi/2 + arctan u, with u = y/x, (y - x)/(y + x) and -x/y: |u| <= tan(pi/8),
    at the cost of one division.
    """
    low = b.fcmp("olt", y, b.fmul(x, b.const(math.tan(math.pi / 8), x.type)))
    high = b.fcmp("olt", y, b.fmul(x, b.const(math.tan(3 * math.pi / 8), x.type)))
    upper = b.select(low, y, b.select(high, b.fsub(y, x), b.fneg(x)))
    lower = b.select(low, x, b.select(high, b.fadd(y, x), y))
    return b.fdiv(upper, lower), low, high


def _octant(
    b: VectorBuilder, low: Value, high: Value, quarters: tuple[int, int, int], type: ScalarType
) -> tuple[Value, Value]:
    """Return, in two parts, the multiple of pi/4 that `_folded_quotient`'s masks choose."""
    parts = [_in_two(_PI * quarter / 4, type) for quarter in quarters]
    first, second = (
        b.select(
            low,
            b.const(parts[0][k], type),
            b.select(high, b.const(parts[1][k], type), b.const(parts[2][k], type)),
        )
        for k in (0, 1)
    )
    return first, second


@math_function("atan", ulp=(2.0, 2.0))
def atan(b: VectorBuilder, x: Value) -> Value:
    """Return the angle in [-pi/2, pi/2] whose tangent is x, by `_folded_quotient` of |x| and 1."""
    u, low, high = _folded_quotient(b, b.fabs(x), b.const(1.0, x.type))
    leading, rest = _arctangent(b, u)
    base, base_low = _octant(b, low, high, (0, 1, 2), x.type)
    angle = b.fadd(base, b.fadd(leading, b.fadd(rest, base_low)))
    return b.copysign(angle, x)


@math_function("atan2", ulp=(2.2, 2.2))
def atan2(b: VectorBuilder, y: Value, x: Value) -> Value:
    """Return the angle of the point (x, y), in [-pi, pi], with C's values for zeros and infinities.

    `_folded_quotient` of |y| and |x|, both first scaled by one power of two away from overflow and
    from subnormals (what is lost at the small end is below the last place of the result); for
    negative x the angle is taken from pi.
    """
    type = x.type
    zero, one = b.const(0.0, type), b.const(1.0, type)
    up, down = b.fabs(y), b.fabs(x)
    # Both infinite: any equal numbers have the angle. Both zero: y/x = 0 for x of the same sign.
    infinite = b.const(np.inf, type)
    both = b.and_(b.fcmp("oeq", up, infinite), b.fcmp("oeq", down, infinite))
    none = b.and_(b.fcmp("oeq", up, zero), b.fcmp("oeq", down, zero))
    up = b.select(both, one, up)
    down = b.select(b.or_(both, none), one, down)
    larger = b.fmax(up, down)
    large, small = (
        b.const(2.0 ** (type.bias - 4), type),
        b.const(2.0 ** (10 - type.bias // 2), type),
    )
    shrink, grow = b.const(2.0**-8, type), b.const(2.0 ** (type.bias // 2 - 10), type)
    scale = b.select(
        b.fcmp("ogt", larger, large), shrink, b.select(b.fcmp("olt", larger, small), grow, one)
    )
    u, low, high = _folded_quotient(b, b.fmul(up, scale), b.fmul(down, scale))
    leading, rest = _arctangent(b, u)
    sign = b.bitcast(x, type.integer)
    left = b.icmp("slt", sign, b.const(0, sign.type))
    right_base = _octant(b, low, high, (0, 1, 2), type)
    left_base = _octant(b, low, high, (4, 3, 2), type)
    base, base_low = (
        b.select(left, near, far) for near, far in zip(left_base, right_base, strict=True)
    )
    leading = b.select(left, b.fneg(leading), leading)
    rest = b.select(left, b.fneg(rest), rest)
    angle = b.fadd(base, b.fadd(leading, b.fadd(rest, base_low)))
    return b.copysign(angle, y)
