"""Exponential functions: exp, exp2, expm1, the logistic function and its derivative.

All but exp2 write x = n ln 2 + r with an integer n and |r| <= ln(2)/2, and scale a polynomial of r
by 2**n (Cody and Waite, Software manual for the elementary functions, 1980, chapter 6). ln 2 is the
sum of two constants, the first short enough that n times it is exact, with or without fused
multiplication (Muller, Elementary functions, 3rd edition 2016, section 11.2).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from autodiff.codegen.cpu_math.coefficients import (
    EXP2_F32,
    EXP2_F64,
    EXP_F32,
    EXP_F64,
    EXPM1_F32,
    EXPM1_F64,
)
from autodiff.codegen.cpu_math.polynomials import by_type, clamp, exact_muladd, polynomial
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.scalar_types import F32, ScalarType, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder

#: ln 2 truncated to 15 bits (F32) and 41 bits (F64), and the rest: hexadecimal of ln 2 from Muller,
#: appendix; truncation keeps both parts positive, so that infinities times them agree in sign.
LN2_PARTS_F32 = (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cf79abcap-20"))
LN2_PARTS_F64 = (float.fromhex("0x1.62e42fefa3p-1"), float.fromhex("0x1.3de6af278ece6p-42"))


def ln2_parts(type: ScalarType) -> tuple[float, float]:
    """Return ln 2 as a short number and the rest."""
    return LN2_PARTS_F32 if type is F32 else LN2_PARTS_F64


def reduce(b: VectorBuilder, x: Value) -> tuple[Value, Value, Value]:
    """Return r, n as a float and n as an integer, with x = n ln 2 + r.

    |x| must be below 2**(mantissa_bits - 1) and n below 2**8 (F32) or 2**11 (F64). The error of r
    is at most half a unit in the last place of ln(2)/2.
    """
    high, low = ln2_parts(x.type)
    n, whole = b.round_product(x, b.const(1 / math.log(2), x.type))
    r = b.muladd(n, b.const(-high, x.type), x)
    return b.muladd(n, b.const(-low, x.type), r), n, whole


def exp_of_reduced(b: VectorBuilder, r: Value) -> Value:
    """Return exp(r) for |r| <= ln(2)/2: 1 + r (1 + r q(r)), q of degree 4 (F32) or 9 (F64)."""
    return polynomial(b, r, (1.0, 1.0, *(EXP_F32 if r.type is F32 else EXP_F64)))


def expm1_of_reduced(b: VectorBuilder, r: Value) -> Value:
    """Return exp(r) - 1 for |r| <= ln(2)/2: r + r**2 q(r), q of degree 5 (F32) or 10 (F64)."""
    q = polynomial(b, r, EXPM1_F32 if r.type is F32 else EXPM1_F64)
    return b.muladd(b.fmul(r, r), q, r)


@math_function("exp", ulp=(1.3, 1.3))
def exp(b: VectorBuilder, x: Value) -> Value:
    """Return e**x within 1.3 ulp (0.9 with fused multiplication), subnormal results included.

    Outside [-104.5, 89] (F32) or [-746, 710] (F64) the result is 0 or infinite: x is clamped there.
    """
    low, high = by_type(x.type, -104.5, -746.0), by_type(x.type, 89.0, 710.0)
    r, n, _ = reduce(b, clamp(b, x, low, high))
    return b.scale_by_power(exp_of_reduced(b, r), n)


@math_function("exp2", ulp=(1.3, 1.3))
def exp2(b: VectorBuilder, x: Value) -> Value:
    """Return 2**x within 1.3 ulp: 2**n (1 + r c(r)), |r| <= 1/2, c of degree 5 or 10 (F64)."""
    x = clamp(b, x, by_type(x.type, -151.0, -1076.0), by_type(x.type, 129.0, 1025.0))
    n, _ = b.round_small(x)
    r = b.fsub(x, n)
    c = polynomial(b, r, EXP2_F32 if x.type is F32 else EXP2_F64)
    return b.scale_by_power(b.muladd(r, c, b.const(1.0, x.type)), n)


@math_function("expm1", ulp=(1.7, 2.0))
def expm1(b: VectorBuilder, x: Value) -> Value:
    """Return e**x - 1 within 1.7 ulp (F32) or 2 ulp (F64).

    With p = exp(r) - 1 the result is 2 (p 2**(n-1) + (2**(n-1) - 1/2)): halved, since 2**n alone
    may be infinite where the result is not. Near 0, where halving would lose bits of subnormals, it
    is x.
    """
    type = x.type
    r, _, n = reduce(b, clamp(b, x, by_type(type, -20.0, -40.0), by_type(type, 89.0, 710.0)))
    p = expm1_of_reduced(b, r)
    half = b.power_of_two(b.sub(n, b.const(1, n.type)), type)
    halved = b.muladd(p, half, b.fsub(half, b.const(0.5, type)))
    tiny = b.fcmp("olt", b.fabs(x), b.const(by_type(type, 2.0**-40, 2.0**-80), type))
    return b.select(tiny, x, b.fadd(halved, halved))


@math_function("logistic", ulp=(2.5, 2.5))
def logistic(b: VectorBuilder, x: Value) -> Value:
    """Return 1/(1 + exp(-x)) within 2.5 ulp.

    With e = exp(-|x|) it is 1/(1 + e), or e/(1 + e) for negative x, which keeps subnormal results.
    """
    one = b.const(1.0, x.type)
    e = exp_of_negative(b, b.fneg(b.fabs(x)))
    above = b.select(b.fcmp("olt", x, b.const(0.0, x.type)), e, one)
    return b.fdiv(above, b.fadd(one, e))


@math_function("logistic_derivative", ulp=(2.5, 2.5))
def logistic_derivative(b: VectorBuilder, x: Value) -> Value:
    """Return logistic(x) (1 - logistic(x)) within 2.5 ulp, as e/(1 + e)**2 with e = exp(-|x|).

    The product of the two factors loses all digits where the first rounds to 1.
    """
    e = exp_of_negative(b, b.fneg(b.fabs(x)))
    return b.fdiv(e, square_of_one_plus(b, e))


def square_of_one_plus(b: VectorBuilder, e: Value) -> Value:
    """Return (1 + e)**2 for 0 <= e <= 1 within 0.8 ulp, as e (2 + e) + 1."""
    one, two = b.const(1.0, e.type), b.const(2.0, e.type)
    return exact_muladd(b, e, b.fadd(e, two), one)


def exp_of_negative(b: VectorBuilder, x: Value, low: Value | None = None) -> Value:
    """Return exp(x + low) for x <= 0, as `exp` does; it needs one bound less."""
    r, n, _ = reduce(b, b.fmax(x, b.const(by_type(x.type, -104.5, -746.0), x.type)))
    if low is not None:
        r = b.fadd(r, low)
    return b.scale_by_power(exp_of_reduced(b, r), n)
