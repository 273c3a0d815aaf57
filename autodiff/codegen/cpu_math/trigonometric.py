"""sin, cos, tan and sinc.

Arguments of moderate size are reduced by subtracting multiples of pi (of pi/2 for tan) in several
parts (Cody and Waite, Software manual for the elementary functions, 1980, chapters 8 and 9): with
fused multiplication three full parts, elsewhere parts so short that their multiples are exact.
Larger arguments, lane by lane, go to the C library, which reduces any number exactly.

Everything is computed of |x|, the sign put back at the end, so zeros keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from autodiff.codegen.cpu_math import special_coefficients as table
from autodiff.codegen.cpu_math.polynomials import polynomial
from autodiff.codegen.cpu_math.registry import math_function
from autodiff.codegen.scalar_types import F32, ScalarType, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder

#: pi to 60 digits (OEIS A000796).
_PI = Fraction("3.14159265358979323846264338327950288419716939937510582097494459")

#: Beyond these the multiples of the parts are no longer exact: 2**15 or 2**29 halves of pi.
_BOUND = {"f32": 5.0e4, "f64": 8.0e8}


def _parts(number: Fraction, bits: Sequence[int]) -> list[float]:
    """Return floats of so many bits each whose sum is close to `number`."""
    parts = []
    for count in bits:
        # The scale that leaves `count` bits before the point.
        scale = Fraction(2) ** (count - 1 - math.floor(math.log2(abs(number))))
        part = Fraction(round(number * scale)) / scale
        parts.append(float(part))
        number -= part
    return parts


def _reduced(
    b: VectorBuilder, x: Value, multiple: Value, unit: Fraction
) -> tuple[Value, Value | None]:
    """Return r and what its rounding lost, or None for that: x - multiple*unit, |r| <= unit/2.

    With fused multiplication r is right to little more than half a unit in the last place, so what
    it lost may be left out. Without, the multiples of all parts but the last are exact, and what
    their subtractions lose is summed up.
    """
    type = x.type
    full = type.mantissa_bits + 1
    if b.has_fma:
        for part in _parts(unit, [full] * 3):
            x = b.muladd(multiple, b.const(-part, type), x)
        return x, None
    *short, last = _parts(unit, [8] * 5 + [full] if type is F32 else [23] * 4 + [full])
    lost = b.fmul(multiple, b.const(-last, type))
    for part in short:
        x, error = b.two_sum(x, b.fmul(multiple, b.const(-part, type)))
        lost = b.fadd(lost, error)
    return b.fast_two_sum(x, lost)


def _reduced_in_two(
    b: VectorBuilder, x: Value, multiple: Value, unit: Fraction
) -> tuple[Value, Value]:
    """Return r and what its rounding lost: x - multiple*unit, |r| <= unit/2."""
    if not b.has_fma:
        r, lost = _reduced(b, x, multiple, unit)
        assert lost is not None
        return r, lost
    first, second, third = _parts(unit, [x.type.mantissa_bits + 1] * 3)
    # The first difference is exact.
    x = b.fma(multiple, b.const(-first, x.type), x)
    product, error = b.two_product(multiple, b.const(-second, x.type))
    r, lost = b.two_sum(x, product)
    return r, b.fma(multiple, b.const(-third, x.type), b.fadd(lost, error))


def _with_sign(b: VectorBuilder, x: Value, *signs: Value) -> Value:
    """Return x, negated once for every integer of `signs` whose highest bit is set."""
    bits = b.bitcast(x, x.type.integer)
    for sign in signs:
        highest = b.const(-(1 << (x.type.bits - 1)), sign.type)
        bits = b.xor(bits, b.and_(sign, highest))
    return b.bitcast(bits, x.type)


def _odd_to_sign(b: VectorBuilder, n: Value) -> Value:
    """Return the lowest bit of n as the highest."""
    return b.shl(n, b.const(n.type.bits - 1, n.type))


def _sine_polynomial(b: VectorBuilder, r: Value) -> Value:
    """Return sin r for |r| <= pi/2: degree 9 (F32, error 2**-27.3) or 17 (F64, 2**-61.5)."""
    z = b.fmul(r, r)
    rest = polynomial(b, z, table.SINE_F32 if r.type is F32 else table.SINE_F64)
    return b.muladd(b.fmul(r, z), rest, r)


def _library_name(name: str, type: ScalarType) -> str:
    return name + "f" if type is F32 else name


@math_function("sin", ulp=(2.0, 2.0))
def sin(b: VectorBuilder, x: Value) -> Value:
    """Return the sine of x.

    |x| - n*pi in [-pi/2, pi/2], one odd polynomial, negated for odd n and for negative x. Beyond
    5e4 (F32) or 8e8 (F64) the C library's.
    """
    magnitude = b.fabs(x)
    multiple, n = b.round_product(magnitude, b.const(1 / math.pi, x.type))
    value = _sine_polynomial(b, _reduced(b, magnitude, multiple, _PI)[0])
    value = _with_sign(b, value, _odd_to_sign(b, n), b.bitcast(x, x.type.integer))
    huge = b.fcmp("ogt", magnitude, b.const(_BOUND[x.type.suffix], x.type))
    return b.rare(huge, _library_name("sin", x.type), value, x)


@math_function("cos", ulp=(2.0, 2.0))
def cos(b: VectorBuilder, x: Value) -> Value:
    """Return the cosine of x.

    r = |x| - (n + 1/2)*pi in [-pi/2, pi/2]; the cosine is -sin r for even n, sin r for odd n (the
    polynomial of `sin`, and its bounds).
    """
    magnitude = b.fabs(x)
    half = b.const(0.5, x.type)
    turns = b.muladd(magnitude, b.const(1 / math.pi, x.type), b.const(-0.5, x.type))
    whole, n = b.round_small(turns)
    value = _sine_polynomial(b, _reduced(b, magnitude, b.fadd(whole, half), _PI)[0])
    value = b.fneg(_with_sign(b, value, _odd_to_sign(b, n)))
    huge = b.fcmp("ogt", magnitude, b.const(_BOUND[x.type.suffix], x.type))
    return b.rare(huge, _library_name("cos", x.type), value, x)


@math_function("tan", ulp=(2.4, 2.4))
def tan(b: VectorBuilder, x: Value) -> Value:
    """Return the tangent of x.

    r = |x| - n*pi/2 in [-pi/4, pi/4] in two floats; sine and cosine of it by polynomials of degree
    7 and 8 (F32) or 13 and 14 (F64), the low part of r entering both to first order; their quotient
    for even n, minus its inverse for odd n. One division. Bounds as for `sin`.
    """
    type = x.type
    magnitude = b.fabs(x)
    multiple, n = b.round_product(magnitude, b.const(2 / math.pi, type))
    high, low = _reduced_in_two(b, magnitude, multiple, _PI / 2)
    z = b.fmul(high, high)
    sine, cosine = (
        (table.SINE_QUARTER_F32, table.COSINE_QUARTER_F32)
        if type is F32
        else (table.SINE_QUARTER_F64, table.COSINE_QUARTER_F64)
    )
    # cos r = 1 - z/2 + z**2 C(z) - r low, the rounding of 1 - z/2 made good.
    one, half = b.const(1.0, type), b.fmul(z, b.const(0.5, type))
    leading = b.fsub(one, half)
    lost = b.fsub(b.fsub(one, leading), half)
    rest = b.muladd(b.fmul(z, z), polynomial(b, z, cosine), b.muladd(b.fneg(high), low, lost))
    cosine_value = b.fadd(leading, rest)
    # sin r = r + r z S(z) + low cos r.
    rest = b.muladd(b.fmul(high, z), polynomial(b, z, sine), b.fmul(low, leading))
    sine_value = b.fadd(high, rest)
    odd = b.icmp("ne", b.and_(n, b.const(1, n.type)), b.const(0, n.type))
    value = b.fdiv(
        b.select(odd, cosine_value, sine_value), b.select(odd, b.fneg(sine_value), cosine_value)
    )
    value = _with_sign(b, value, b.bitcast(x, type.integer))
    huge = b.fcmp("ogt", magnitude, b.const(_BOUND[type.suffix], type))
    return b.rare(huge, _library_name("tan", type), value, x)


def sine_of_pi(b: VectorBuilder, r: Value) -> Value:
    """Return sin(pi r)/pi for |r| <= 1/2: degree 9 (F32, error 2**-27) or 17 (F64, 2**-60)."""
    z = b.fmul(r, r)
    rest = polynomial(b, z, table.SINE_OF_PI_F32 if r.type is F32 else table.SINE_OF_PI_F64)
    return b.muladd(b.fmul(r, z), rest, r)


@math_function("sinc", ulp=(2.4, 2.4))
def sinc(b: VectorBuilder, x: Value) -> Value:
    """Return sin(pi x)/(pi x), 1 at zero, NaN for infinities.

    x - n is exact, so no multiple of pi is ever subtracted: zeros at the integers are exact.
    """
    zero, one = b.const(0.0, x.type), b.const(1.0, x.type)
    magnitude = b.fabs(x)
    nearest = b.rint(magnitude)
    half = b.fmul(nearest, b.const(0.5, x.type))
    odd = b.fcmp("une", half, b.rint(half))
    sine = sine_of_pi(b, b.fsub(magnitude, nearest))
    # The addition makes every zero a positive one.
    sine = b.fadd(b.select(odd, b.fneg(sine), sine), zero)
    return b.select(b.fcmp("oeq", x, zero), one, b.fdiv(sine, magnitude))
