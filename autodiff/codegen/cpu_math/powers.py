"""Powers and roots: pow, sqrt, rsqrt, cbrt and hypot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from autodiff.codegen.cpu_math.coefficients import (
    ATANH_SHORT_F64,
    ATANH_TAIL_F64,
    EXP2_F32,
    INVERSE_CUBE_ROOT_F32,
    INVERSE_CUBE_ROOT_F64,
)
from autodiff.codegen.cpu_math.exponential import exp_of_reduced, ln2_parts, reduce
from autodiff.codegen.cpu_math.polynomials import by_type, clamp, polynomial
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.scalar_types import F32, F64, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder

#: 1/3 rounded to F64 and what the rounding left out.
_THIRD = (1 / 3, float.fromhex("0x1.5555555555555p-56"))


@math_function("sqrt", ulp=(0.5, 0.5))
def sqrt(b: VectorBuilder, x: Value) -> Value:
    """Return the square root of x, rounded correctly."""
    return b.sqrt(x)


@math_function("rsqrt", ulp=(1.5, 1.5))
def rsqrt(b: VectorBuilder, x: Value) -> Value:
    """Return 1/sqrt(x) within 1.5 ulp: both operations are rounded."""
    return b.fdiv(b.const(1.0, x.type), b.sqrt(x))


@math_function("cbrt", ulp=(0.8, 0.8))
def cbrt(b: VectorBuilder, x: Value) -> Value:
    """Return the cube root of x within 0.8 ulp.

    |x| = z 8**k with z = m 2**j, j in {-1, 0, 1}. A polynomial of degree 5 in m gives r = z**(-1/3)
    to 17 bits, for F64 doubled by Newton's iteration r + r (1 - z r**3)/3, which has no division.
    Then y = z r**2 is corrected by (z - y**3) r**2/3 with y**3 to twice its digits. (Muller,
    Elementary functions, 3rd edition 2016, section 5.3, for the iterations.)
    """
    type = x.type
    m, e = b.mantissa_and_exponent(b.fabs(x))
    k, whole = b.round_product(e, b.const(1 / 3, type))
    j = b.muladd(k, b.const(-3.0, type), e)
    negative = b.fcmp("olt", j, b.const(0.0, type))
    positive = b.fcmp("ogt", j, b.const(0.0, type))

    def by_sign(below: float, zero: float, above: float) -> Value:
        middle = b.select(positive, b.const(above, type), b.const(zero, type))
        return b.select(negative, b.const(below, type), middle)

    table = INVERSE_CUBE_ROOT_F32 if type is F32 else INVERSE_CUBE_ROOT_F64
    z = b.fmul(m, by_sign(0.5, 1.0, 2.0))
    r = b.fmul(polynomial(b, m, table), by_sign(2 ** (1 / 3), 1.0, 2 ** (-1 / 3)))
    third = b.const(1 / 3, type)
    if type is F64:
        cube = b.fmul(b.fmul(r, r), r)
        error = b.fsub(b.const(1.0, type), b.fmul(z, cube))
        r = b.muladd(b.fmul(r, third), error, r)
    square = b.fmul(r, r)
    y = b.fmul(z, square)
    y2, y2_low = b.two_product(y, y)
    y3, y3_low = b.two_product(y2, y)
    error = b.fsub(b.fsub(b.fsub(z, y3), y3_low), b.fmul(y2_low, y))
    root = b.muladd(b.fmul(error, third), square, y)
    scaled = b.copysign(b.fmul(root, b.power_of_two(whole, type)), x)
    # Zeros and infinities are the numbers that doubling leaves alone.
    return b.select(b.fcmp("ueq", b.fadd(x, x), x), x, scaled)


@math_function("hypot", ulp=(1.2, 1.2))
def hypot(b: VectorBuilder, x: Value, y: Value) -> Value:
    """Return sqrt(x**2 + y**2) within 1.2 ulp, infinite where either is, even beside a NaN.

    Both are scaled by a power of 2 where the larger one's square would over- or underflow.
    """
    type = x.type
    x, y = b.fabs(x), b.fabs(y)
    larger = b.fmax(x, y)
    low, high = by_type(type, 2.0**-50, 2.0**-400), by_type(type, 2.0**50, 2.0**400)
    up, down = by_type(type, 2.0**100, 2.0**600), by_type(type, 2.0**-75, 2.0**-600)
    small = b.fcmp("olt", larger, b.const(low, type))
    large = b.fcmp("ogt", larger, b.const(high, type))

    def by_size(below: float, above: float) -> Value:
        middle = b.select(large, b.const(above, type), b.const(1.0, type))
        return b.select(small, b.const(below, type), middle)

    scale = by_size(up, down)
    a, c = b.fmul(x, scale), b.fmul(y, scale)
    root = b.sqrt(b.muladd(a, a, b.fmul(c, c)))
    result = b.fmul(root, by_size(1 / up, 1 / down))
    infinite = b.const(np.inf, type)
    either = b.or_(b.fcmp("oeq", x, infinite), b.fcmp("oeq", y, infinite))
    return b.select(either, infinite, result)


@math_function("pow", ulp=(1.3, 1.5))
def pow(b: VectorBuilder, x: Value, y: Value) -> Value:
    """Return x**y within 1.3 ulp (F32) or 1.5 ulp (F64), special cases as in C99, annex F.9.4.4.

    For positive finite x and finite y it is exp(y log x), with log x to 40 bits by F64 arithmetic
    for F32, and as a sum of two numbers for F64. Vectors with any other lane take a branch.
    """
    type = x.type
    magnitude = b.fabs(x)
    power = _pow_f32(b, magnitude, y) if type is F32 else _pow_f64(b, magnitude, y)
    infinite, zero = b.const(np.inf, type), b.const(0.0, type)
    plain = b.and_(b.fcmp("ogt", x, zero), b.fcmp("olt", x, infinite))
    plain = b.and_(plain, b.fcmp("olt", b.fabs(y), infinite))
    return b.where_any(b.not_(plain), lambda: _special_pow(b, x, y, power), power)


def _pow_f32(b: VectorBuilder, x: Value, y: Value) -> Value:
    """Return x**y for positive finite F32 x and finite y, as 2**(n + r) with n + r = y log2(x).

    Only the logarithm, which the product magnifies, and the product itself need F64.
    """
    mantissa, exponent = b.mantissa_and_exponent(x)
    m, e = b.fpext(mantissa, F64), b.fpext(exponent, F64)
    one = b.const(1.0, F64)
    f = b.fsub(m, one)
    s = b.fdiv(f, b.fadd(m, one))
    z = b.fmul(s, s)
    series = b.muladd(z, polynomial(b, z, ATANH_SHORT_F64), one)
    log2 = b.muladd(b.fmul(s, b.const(2 / math.log(2), F64)), series, e)
    product = clamp(b, b.fmul(b.fpext(y, F64), log2), -151.0, 129.0)
    n, _ = b.round_small(product)
    r = b.fptrunc(b.fsub(product, n), F32)
    fraction = b.muladd(r, polynomial(b, r, EXP2_F32), b.const(1.0, F32))
    return b.scale_by_power(fraction, b.fptrunc(n, F32))


def _pow_f64(b: VectorBuilder, x: Value, y: Value) -> Value:
    """Return x**y for positive finite F64 x and finite y.

    log x = e ln 2 + 2s (1 + z/3 + z**2 Q(z)) with s = f/(2 + f) and z = s**2, every term but Q as a
    sum of two numbers: relative error about 2**-64, hence an absolute one of about 2**-55 in
    y log x <= 746. (Tang's and Ziv's arrangements use tables instead; double-word arithmetic as in
    Muller et al., Handbook of floating-point arithmetic, 2nd edition 2018, section 14.1.)
    """
    one = b.const(1.0, F64)
    m, e = b.mantissa_and_exponent(x)
    f = b.fsub(m, one)
    # s + s_low = f/(2 + f)
    d, d_low = b.fast_two_sum(b.const(2.0, F64), f)
    inverse = b.fdiv(one, d)
    s = b.fmul(f, inverse)
    product, product_low = b.two_product(s, d)
    missing = b.fsub(b.fsub(f, product), product_low)
    s_low = b.fmul(b.fsub(missing, b.fmul(s, d_low)), inverse)
    # z + z_low = (s + s_low)**2
    z, z_low = b.two_product(s, s)
    z_low = b.muladd(b.fadd(s, s), s_low, z_low)
    # t + t_low = 1/3 + z Q(z)
    q = polynomial(b, z, ATANH_TAIL_F64)
    tail = b.muladd(z, q, b.fmul(z_low, q))
    t, t_low = b.fast_two_sum(b.const(_THIRD[0], F64), tail)
    t_low = b.fadd(t_low, b.const(_THIRD[1], F64))
    # v + v_low = 1 + z (t + t_low)
    u, u_low = b.two_product(z, t)
    u_low = b.fadd(u_low, b.muladd(z, t_low, b.fmul(z_low, t)))
    v, v_low = b.fast_two_sum(one, u)
    v_low = b.fadd(v_low, u_low)
    # log m = 2 (s + s_low) (v + v_low)
    twice, twice_low = b.fadd(s, s), b.fadd(s_low, s_low)
    log, log_low = b.two_product(twice, v)
    log_low = b.fadd(log_low, b.muladd(twice, v_low, b.fmul(twice_low, v)))
    # log x = e ln 2 + log m
    high, low = ln2_parts(F64)
    log, carried = b.fast_two_sum(b.fmul(e, b.const(high, F64)), log)
    log_low = b.fadd(carried, b.muladd(e, b.const(low, F64), log_low))
    log, log_low = b.fast_two_sum(log, log_low)
    # x**y = exp(y log x)
    product, product_low = b.two_product(y, log)
    product_low = b.muladd(y, log_low, product_low)
    product = clamp(b, product, -746.0, 710.0)
    # Beyond the clamp the low part is large or NaN, and of no account.
    near = b.fcmp("olt", b.fabs(product_low), b.const(2.0**-30, F64))
    product_low = b.select(near, product_low, b.const(0.0, F64))
    r, n, _ = reduce(b, product)
    return b.scale_by_power(exp_of_reduced(b, b.fadd(r, product_low)), n)


def _special_pow(b: VectorBuilder, x: Value, y: Value, power: Value) -> Value:
    """Return x**y for all x and y, given |x|**y where |x| is positive and finite and y finite."""
    type = x.type
    zero, one = b.const(0.0, type), b.const(1.0, type)
    infinite, nan = b.const(np.inf, type), b.const(np.nan, type)
    magnitude = b.fabs(x)
    falling = b.fcmp("olt", y, zero)

    # |x| = 0 or inf, for y != 0
    vanishes = b.fcmp("oeq", magnitude, zero)
    edge = b.or_(vanishes, b.fcmp("oeq", magnitude, infinite))
    result = b.select(edge, b.select(b.xor(vanishes, falling), zero, infinite), power)

    # y = inf or -inf: by |x| < 1, = 1, > 1
    endless = b.fcmp("oeq", b.fabs(y), infinite)
    shrinks = b.xor(b.fcmp("olt", magnitude, one), falling)
    limit = b.select(shrinks, zero, infinite)
    limit = b.select(b.fcmp("oeq", magnitude, one), one, limit)
    result = b.select(endless, limit, result)

    # x with a minus sign: -|x|**y for odd y, NaN for fractional y
    whole = b.fcmp("oeq", b.rint(y), y)
    half = b.fmul(y, b.const(0.5, type))
    odd = b.and_(whole, b.fcmp("one", b.rint(half), half))
    result = b.select(odd, b.copysign(result, x), result)
    undefined = b.and_(b.fcmp("olt", x, zero), b.not_(b.or_(whole, edge)))
    result = b.select(undefined, nan, result)

    result = b.select(b.fcmp("uno", x, y), nan, result)
    certain = b.or_(b.fcmp("oeq", y, zero), b.fcmp("oeq", x, one))
    return b.select(certain, one, result)
