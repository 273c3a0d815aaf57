"""Logarithms: log, log2, log10, log1p and logaddexp.

All write the argument as m 2**e with m in [0.75, 1.5), so that near 1 e is 0, and take
log(1 + f) = f + g with f = m - 1, which is exact. g is

- F32: f**2 q(f), q a minimax polynomial of degree 8;
- F64: s (f**2/2 + R) - f**2/2 with s = f/(2 + f) and R = 2 z P(z), z = s**2, from
  log(1 + f) = 2 atanh(s): the arrangement of fdlibm's `log` (Sun Microsystems 1993), in which the
  error of s weighs little; P a minimax polynomial of degree 7.

0, infinities, negative numbers and NaN need no case of their own: see
`VectorBuilder.mantissa_and_exponent`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from autodiff.codegen.cpu_math.coefficients import ATANH_F64, LOG_F32
from autodiff.codegen.cpu_math.exponential import exp_of_negative, ln2_parts
from autodiff.codegen.cpu_math.polynomials import exact_muladd, polynomial
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.scalar_types import F32, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder

#: 1/ln 2 and 1/ln 10 rounded to F32 and to F64, and what the rounding left out.
_LOG2_E = {
    "float": (float.fromhex("0x1.715476p+0"), float.fromhex("0x1.4ae0bf85ddf44p-26")),
    "double": (float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.777d0ffda0d24p-56")),
}
_LOG10_E = {
    "float": (float.fromhex("0x1.bcb7b2p-2"), float.fromhex("-0x1.5b235e39ab2a9p-27")),
    "double": (float.fromhex("0x1.bcb7b1526e50ep-2"), float.fromhex("0x1.95355baaafad3p-57")),
}
#: log10 2 truncated to 15 and 41 bits, and the rest.
_LOG10_2 = {
    "float": (float.fromhex("0x1.3440p-2"), float.fromhex("0x1.3509f79fef312p-18")),
    "double": (float.fromhex("0x1.34413509f7p-2"), float.fromhex("0x1.3fde623e2566bp-43")),
}


def log_of_mantissa(b: VectorBuilder, f: Value) -> Value:
    """Return g = log(1 + f) - f for -1/4 <= f <= 1/2."""
    if f.type is F32:
        return b.fmul(b.fmul(f, f), polynomial(b, f, LOG_F32))
    s = b.fdiv(f, b.fadd(f, b.const(2.0, f.type)))
    z = b.fmul(s, s)
    half = b.fmul(b.fmul(f, f), b.const(0.5, f.type))
    remainder = b.fmul(z, polynomial(b, z, [2 * c for c in ATANH_F64]))
    return b.fsub(b.fmul(s, b.fadd(half, remainder)), half)


def _natural(b: VectorBuilder, f: Value, e: Value) -> Value:
    """Return log(1 + f) + e ln 2."""
    high, low = ln2_parts(f.type)
    rest = b.muladd(e, b.const(low, f.type), log_of_mantissa(b, f))
    return b.muladd(e, b.const(high, f.type), b.fadd(rest, f))


def _in_base(
    b: VectorBuilder, x: Value, factor: tuple[float, float], two: tuple[float, float]
) -> Value:
    """Return log(x) in the base whose 1/ln and whose logarithm of 2 are given, each in two parts.

    f times the factor is kept to twice its digits until the parts of the sum that are small have
    been added to it.
    """
    m, e = b.mantissa_and_exponent(x)
    f = b.fsub(m, b.const(1.0, x.type))
    rest = b.fmul(f, b.const(factor[1], x.type))
    if two[1]:
        rest = b.muladd(e, b.const(two[1], x.type), rest)
    rest = b.muladd(log_of_mantissa(b, f), b.const(factor[0], x.type), rest)
    small = exact_muladd(b, f, b.const(factor[0], x.type), rest)
    return b.muladd(e, b.const(two[0], x.type), small)


@math_function("log", ulp=(1.1, 1.1))
def log(b: VectorBuilder, x: Value) -> Value:
    """Return the natural logarithm of x within 1.1 ulp."""
    m, e = b.mantissa_and_exponent(x)
    return _natural(b, b.fsub(m, b.const(1.0, x.type)), e)


@math_function("log2", ulp=(2.3, 2.3))
def log2(b: VectorBuilder, x: Value) -> Value:
    """Return the logarithm of x to base 2 within 2.3 ulp (1.8 fused); exact for powers of 2."""
    return _in_base(b, x, _LOG2_E[x.type.name], (1.0, 0.0))


@math_function("log10", ulp=(2.2, 2.2))
def log10(b: VectorBuilder, x: Value) -> Value:
    """Return the logarithm of x to base 10 within 2.2 ulp."""
    return _in_base(b, x, _LOG10_E[x.type.name], _LOG10_2[x.type.name])


@math_function("log1p", ulp=(1.2, 1.2))
def log1p(b: VectorBuilder, x: Value) -> Value:
    """Return log(1 + x) within 1.2 ulp."""
    return b.copysign(log_of_one_plus(b, x), x)


def log_of_one_plus(
    b: VectorBuilder, w: Value, large: Value | None = None, instead: Value | None = None
) -> Value:
    """Return log(1 + w), or log(2 * instead) where `large` is set.

    1 + w is a sum u + c without rounding. c 2**-e is added to f = m - 1, which makes f = w for
    small w. (fdlibm's `log1p`, Sun Microsystems 1993, divides c by u instead and adds it last.)
    """
    one, zero = b.const(1.0, w.type), b.const(0.0, w.type)
    # Exact for w > 1 too, as long as 1 is a multiple of u's last place; beyond, c hardly counts.
    u, c = b.fast_two_sum(one, w)
    if large is not None and instead is not None:
        u, c = b.select(large, instead, u), b.select(large, zero, c)
    m, e = b.mantissa_and_exponent(u)
    scaled = b.scale_by_power(c, b.fneg(e))
    # For u = 0 and u = inf, where e is infinite, this is NaN: there c counts for nothing.
    scaled = b.select(b.fcmp("ord", scaled, scaled), scaled, zero)
    f = b.fadd(b.fsub(m, one), scaled)
    if large is not None:
        e = b.fadd(e, b.select(large, one, zero))
    return _natural(b, f, e)


@math_function("logaddexp", ulp=(2.5, 2.5))
def logaddexp(b: VectorBuilder, x: Value, y: Value) -> Value:
    """Return log(exp(x) + exp(y)), as the larger one plus log1p(exp(-|x - y|)).

    Within 2.5 units in the last place of the largest of the result and its two terms, which cancel
    near a result of 0. x - y is taken without rounding, else its last place would count where the
    larger operand is near 0.
    """
    one = b.const(1.0, x.type)
    above = b.fcmp("ogt", x, y)
    larger, smaller = b.select(above, x, y), b.select(above, y, x)
    difference, low = b.two_sum(smaller, b.fneg(larger))
    # Where it is large, or NaN, the difference is so too, and its exponential 0 or NaN.
    low = b.select(b.fcmp("olt", b.fabs(low), one), low, b.const(0.0, x.type))
    u, c = b.fast_two_sum(one, exp_of_negative(b, difference, low))
    # u is in [1, 2]: its mantissa and exponent are a matter of one comparison.
    halved = b.fcmp("oge", u, b.const(1.5, x.type))
    scale = b.select(halved, b.const(0.5, x.type), one)
    exponent = b.select(halved, one, b.const(0.0, x.type))
    f = b.muladd(c, scale, b.fsub(b.fmul(u, scale), one))
    total = b.fadd(larger, _natural(b, f, exponent))
    # Equal infinities have no difference.
    same = b.fadd(larger, b.const(math.log(2), x.type))
    return b.select(b.fcmp("oeq", x, y), same, total)
