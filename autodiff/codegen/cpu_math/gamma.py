"""lgamma and digamma.

Both are computed in F64 for F32 arguments, with polynomials that are just good enough for F32: near
the zeros at negative arguments only more digits help. Negative arguments are reflected, in a block
that vectors without any skip.

Near the zeros of the functions at negative arguments the error of F64 results is absolute, not
relative: some units in the last place of the largest term of the reflection formula.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from autodiff.codegen.cpu_math import special_coefficients as table
from autodiff.codegen.cpu_math.piecewise import piecewise_polynomial
from autodiff.codegen.cpu_math.polynomials import polynomial
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.cpu_math.trigonometric import sine_of_pi
from autodiff.codegen.scalar_types import F32, F64, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder

#: log(2 pi)/2 - 1/2 (NIST DLMF 5.11.1).
_STIRLING = 0.4189385332046727

#: Below it sin(pi t)/pi is t to the last place.
_TINY = 2.0**-30


@math_function("lgamma", ulp=(1.0, 2.5))
def lgamma(b: VectorBuilder, x: Value) -> Value:
    """Return log |gamma(x)|; infinity at 0, -1, -2, ..., and SciPy's -inf at -inf.

    The zeros at 1 and 2 are factors: (t - 1) P(t - 1) and (t - 2) Q(t - 2), of degree 20 (error
    2**-56; 11 for F32), serve 0.72 <= t < 2.5; t + 1 leads there from below, t - 1, t - 2, ... from
    8 and below, the logarithm of the product of the steps added; beyond 8 Stirling's series (NIST
    DLMF 5.11.1) with a minimax polynomial in 1/t**2.
    F64: up to 2.5 ulp for x > 0, next to the zeros too; for x < 0 up to 4 units in the last place
    of the largest of the result, lgamma(-x) and 1. F32: 1 ulp everywhere.
    """
    if x.type is F32:
        return b.fptrunc(_lgamma(b, b.fpext(x, F64), short=True), F32)
    return _lgamma(b, x, short=False)


def _lgamma(b: VectorBuilder, x: Value, *, short: bool) -> Value:
    zero, one = b.const(0.0, F64), b.const(1.0, F64)
    t = b.fabs(x)
    small = b.fcmp("olt", t, b.const(0.72, F64))
    least = b.fcmp("olt", t, b.const(0.4, F64))
    below_two = b.fcmp("olt", t, b.const(1.4, F64))
    near = b.fcmp("olt", t, b.const(2.5, F64))
    far = b.fcmp("oge", t, b.const(8.0, F64))
    # t - k in [1.5, 2.5) and the product of the k numbers from there to t - 1.
    y, product = t, one
    for _ in range(6):
        above = b.fcmp("oge", y, b.const(2.5, F64))
        lower = b.fsub(y, one)
        y = b.select(above, lower, y)
        product = b.select(above, b.fmul(product, lower), product)
    around_one = b.or_(least, b.and_(b.xor(small, b.const(1, small.type)), below_two))
    u = b.select(least, t, b.select(below_two, b.fsub(t, one), b.fsub(y, b.const(2.0, F64))))
    ones, twos, stirling = (
        (table.LOG_GAMMA_ONE_F32, table.LOG_GAMMA_TWO_F32, table.LOG_GAMMA_FAR_F32)
        if short
        else (table.LOG_GAMMA_ONE_F64, table.LOG_GAMMA_TWO_F64, table.LOG_GAMMA_FAR_F64)
    )
    bounded = b.fmul(u, piecewise_polynomial(b, u, [(around_one, ones), (None, twos)]))
    argument = b.select(b.or_(small, far), t, b.select(near, one, product))
    logarithm = b.call("log", argument)
    inside = b.fadd(bounded, b.select(small, b.fneg(logarithm), logarithm))
    inverse = b.fdiv(one, t)
    rest = polynomial(b, b.fmul(inverse, inverse), stirling)
    rest = b.muladd(rest, inverse, b.const(_STIRLING, F64))
    outside = b.muladd(b.fsub(t, b.const(0.5, F64)), b.fsub(logarithm, one), rest)
    positive = b.select(far, outside, inside)
    negative = b.fcmp("olt", x, zero)

    def reflected() -> Value:
        # log|gamma(-t)| = -log(t |sin pi t|/pi) - log gamma(t), and gamma(t) = gamma(t + 1)/t.
        fraction = b.fsub(t, b.rint(t))
        sine = b.fabs(sine_of_pi(b, fraction))
        sine = b.select(b.fcmp("olt", t, b.const(_TINY, F64)), t, sine)
        of_sine = b.call("log", b.select(small, sine, b.fmul(t, sine)))
        value = b.fneg(b.fadd(of_sine, b.select(small, bounded, positive)))
        value = b.select(b.fcmp("oeq", fraction, zero), b.const(np.inf, F64), value)
        # The fraction of infinity is NaN; SciPy's value there is -inf.
        infinite = b.fcmp("oeq", t, b.const(np.inf, F64))
        value = b.select(infinite, b.const(-np.inf, F64), value)
        return b.select(negative, value, positive)

    return b.where_any(negative, reflected, positive)


#: The zero of digamma, 1.4616321..., less 1, in two parts (OEIS A030169).
_ZERO, _ZERO_LOW = 0.46163214496836236, -1.5522348162858677e-17


@math_function("digamma", ulp=(1.0, 2.5))
def digamma(b: VectorBuilder, x: Value) -> Value:
    """Return the derivative of lgamma; SciPy's infinities at the zeros, NaN at -1, -2, ...

    The zero x0 = 1.46... is a factor: (t - x0) P(t - 1.5) on [1, 2] of degree 21 (error 2**-53.6;
    12 for F32), to which digamma(t) = digamma(t + 1) - 1/t leads from below; a polynomial of degree
    19 on [2, 3.5]; beyond, log t - 1/(2 t) + P(1/t**2)/t**2 of degree 9 (NIST DLMF 5.11.2).
    F64: up to 2.5 ulp for x > 0, next to the zero too; for x < 0 up to 4 units in the last place
    of the largest of the result, digamma(-x) and 1. F32: 1 ulp, but within 1e-6 of a zero below 0.
    """
    if x.type is F32:
        return b.fptrunc(_digamma(b, b.fpext(x, F64), short=True), F32)
    return _digamma(b, x, short=False)


def _digamma(b: VectorBuilder, x: Value, *, short: bool) -> Value:
    zero, one = b.const(0.0, F64), b.const(1.0, F64)
    t = b.fabs(x)
    small = b.fcmp("olt", t, one)
    near = b.fcmp("olt", t, b.const(2.0, F64))
    below = b.fcmp("olt", t, b.const(3.5, F64))
    inverse = b.fdiv(one, t)
    square = b.fmul(inverse, inverse)
    # From x0 - 1 for t + 1, from x0 for t; both differences are exact near x0.
    shifted = b.select(small, t, b.fsub(t, one))
    distance = b.fsub(b.fsub(shifted, b.const(_ZERO, F64)), b.const(_ZERO_LOW, F64))
    variable = b.select(
        near,
        b.fsub(shifted, b.const(0.5, F64)),
        b.select(below, b.fsub(t, b.const(2.75, F64)), square),
    )
    pieces = (
        (table.DIGAMMA_NEAR_F32, table.DIGAMMA_MIDDLE_F32, table.DIGAMMA_FAR_F32)
        if short
        else (table.DIGAMMA_NEAR_F64, table.DIGAMMA_MIDDLE_F64, table.DIGAMMA_FAR_F64)
    )
    value = piecewise_polynomial(
        b, variable, [(near, pieces[0]), (below, pieces[1]), (None, pieces[2])]
    )
    bounded = b.select(near, b.fmul(distance, value), value)
    rest = b.muladd(value, square, b.fmul(inverse, b.const(-0.5, F64)))
    outside = b.fadd(b.call("log", t), rest)
    # digamma(t + 1) below 1, digamma(t) from there on.
    started = b.select(below, bounded, outside)
    signed = b.copysign(inverse, x)
    positive = b.select(small, b.fsub(started, signed), started)
    negative = b.fcmp("olt", x, zero)

    def reflected() -> Value:
        # digamma(-t) = digamma(t + 1) + pi cot(pi t).
        fraction = b.fsub(t, b.rint(t))
        half = b.const(0.5, F64)
        sine = sine_of_pi(b, fraction)
        cosine = sine_of_pi(b, b.fsub(half, b.fabs(fraction)))
        cotangent = b.fdiv(b.fmul(b.const(math.pi, F64), cosine), sine)
        tiny = b.fcmp("olt", t, b.const(_TINY, F64))
        cotangent = b.select(tiny, inverse, cotangent)
        value = b.fadd(b.select(small, started, b.fadd(started, inverse)), cotangent)
        value = b.select(b.fcmp("oeq", fraction, zero), b.const(np.nan, F64), value)
        return b.select(negative, value, positive)

    return b.where_any(negative, reflected, positive)
