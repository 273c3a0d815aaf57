"""What the lowering rules of primitives are written with: NumPy's operations on typed values.

A rule (`lower=` of a declaration) is given an `Operations` and one `Typed` value for each operand;
it knows element types and nothing of the text that is emitted. `Operations` writes that text
through a `VectorBuilder`. Each method has NumPy's result for each element type it takes, special
values included; functions of the math library (`math`) have theirs within a few units in the last
place. A number stands wherever a value may: it takes the type of the other operand.

float16 and bfloat16 are held as 32-bit floats whose value the narrow type can represent: an
operation computes in 32 bits and rounds once, as NumPy does. Masks are held as one bit a lane.
`loaded` and `stored` convert between what is held and what is in memory. Complex values are pairs
of real ones (codegen/complex_operations.py).

Reading order: `Typed`; `Operations` from its constructor down: constants and memory, casts,
arithmetic, division, rounding, choices, comparisons, bits, functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import frexp, isfinite
from typing import Any

import ml_dtypes
import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.cpu_math.complex import COMPLEX_FUNCTIONS
from autodiff.codegen.vectors import (
    F16,
    F32,
    F64,
    I1,
    I8,
    I16,
    I32,
    I64,
    ScalarType,
    Value,
    VectorBuilder,
)

_BOOL = np.dtype(bool)
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_HALF, _BFLOAT = np.dtype(np.float16), dtypes.bfloat16
_INTEGERS = {1: I8, 2: I16, 4: I32, 8: I64}


@dataclass(frozen=True, slots=True)
class Typed:
    """A value in a register, held as the module's docstring says, and its element type.

    `number` is set for a constant: what every lane holds.
    """

    value: Value
    dtype: np.dtype
    number: bool | int | float | None = None

    @property
    def is_ordered(self) -> bool:
        """Whether it is known not to be NaN."""
        return self.number is not None and self.number == self.number

    @property
    def is_regular(self) -> bool:
        """Whether it is known to be neither 0 nor infinite nor NaN."""
        return self.number is not None and isfinite(self.number) and self.number != 0


#: What a method takes for an operand: a value, or a number that becomes one.
Operand = Typed | float | bool


def held_type(dtype: np.dtype) -> ScalarType:
    """Return the type of a lane that holds an element of `dtype` in a register.

    >>> held_type(np.dtype(np.float16)).name, held_type(np.dtype(np.uint8)).name
    ('float', 'i8')
    """
    kind = dtypes.kind(dtype)
    if kind == "b":
        return I1
    if kind == "f":
        return F64 if dtype == _DOUBLE else F32
    return _INTEGERS[dtype.itemsize]


def memory_type(dtype: np.dtype) -> ScalarType:
    """Return the type of an element of `dtype` in memory; 16-bit floats are their bits.

    >>> memory_type(np.dtype(np.float16)).name, memory_type(np.dtype(bool)).name
    ('i16', 'i8')
    """
    return _INTEGERS[dtype.itemsize] if _is_narrow(dtype) or dtype == _BOOL else held_type(dtype)


class Operations:
    """NumPy's operations on values in registers.

    >>> from autodiff.schedule.target import AVX2
    >>> b = VectorBuilder(AVX2, 8)
    >>> o = Operations(b)
    >>> x = Typed(Value("%x", F32), np.dtype(np.float32))
    >>> y = o.where(o.less(x, 0), 0, x)
    >>> print(*b.lines, sep="\\n")
      %v0 = fcmp olt <8 x float> %x, splat (float 0x0000000000000000)
      %v1 = select <8 x i1> %v0, <8 x float> splat (float 0x0000000000000000), <8 x float> %x

    Args:
        builder: what the instructions are appended to. Its `contract` holds for `add`, `subtract`
            and `multiply`, and for nothing that must be exact.
    """

    def __init__(self, builder: VectorBuilder) -> None:
        self.builder = builder
        self._has_half = builder.target.has("f16c") or builder.target.has("neon")

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """Keep products and sums apart: for formulas that rest on how each is rounded."""
        contract, self.builder.contract = self.builder.contract, False
        try:
            yield
        finally:
            self.builder.contract = contract

    # ---- constants and memory

    def constant(self, number: Any, dtype: np.dtype) -> Typed:
        """Return a number in every lane, rounded to `dtype` as NumPy does."""
        kind = dtypes.kind(dtype)
        if kind == "b":
            return Typed(self.builder.const(bool(number), I1), dtype, bool(number))
        with np.errstate(over="ignore"):
            element = np.asarray(number).astype(dtype)
        if kind == "f":
            value = self.builder.const(float(element), held_type(dtype))
            return Typed(value, dtype, float(element))
        signed = element.view(f"i{dtype.itemsize}") if kind == "u" else element
        return Typed(self.builder.const(int(signed), held_type(dtype)), dtype, int(element))

    def loaded(self, value: Value, dtype: np.dtype) -> Typed:
        """Return the element whose `memory_type` value has been loaded."""
        b = self.builder
        if dtype == _BOOL:
            return Typed(b.icmp("ne", value, b.const(0, I8)), dtype)
        if dtype == _BFLOAT:
            return Typed(b.bitcast(b.shl(b.zext(value, I32), b.const(16, I32)), F32), dtype)
        if dtype == _HALF:
            if self._has_half:
                return Typed(b.fpext(b.bitcast(value, F16), F32), dtype)
            return Typed(self._half_from_bits(b.zext(value, I32)), dtype)
        return Typed(value, dtype)

    def stored(self, x: Typed) -> Value:
        """Return the `memory_type` value of an element, ready to be stored."""
        b = self.builder
        if x.dtype == _BOOL:
            return b.zext(x.value, I8)
        if x.dtype == _BFLOAT:
            return b.itrunc(b.lshr(b.bitcast(x.value, I32), b.const(16, I32)), I16)
        if x.dtype == _HALF:
            if self._has_half:
                return b.bitcast(b.fptrunc(x.value, F16), I16)
            return b.itrunc(self._bits_of_half(x.value), I16)
        return x.value

    def _half_from_bits(self, bits: Value) -> Value:
        """Return the float whose float16 bits are in the low half of a 32-bit integer.

        Shifted into place, the exponent is too small by 127 - 15 = 112; a product with 2**112 mends
        it, of subnormal numbers too.
        """
        b = self.builder
        placed = b.shl(b.and_(bits, b.const(0x7FFF, I32)), b.const(13, I32))
        finite = b.fmul(b.bitcast(placed, F32), b.const(2.0**112, F32))
        endless = b.bitcast(b.or_(placed, b.const(0x7F800000, I32)), F32)
        is_endless = b.icmp("uge", placed, b.const(0x7C00 << 13, I32))
        sign = b.shl(b.and_(bits, b.const(0x8000, I32)), b.const(16, I32))
        return b.copysign(b.select(is_endless, endless, finite), b.bitcast(sign, F32))

    def _bits_of_half(self, x: Value) -> Value:
        """Return the float16 bits of a float that float16 can represent: the same way back."""
        b = self.builder
        magnitude = b.fabs(x)
        scaled = b.bitcast(b.fmul(magnitude, b.const(2.0**-112, F32)), I32)
        fraction = b.and_(b.lshr(b.bitcast(x, I32), b.const(13, I32)), b.const(0x3FF, I32))
        endless = b.or_(fraction, b.const(0x7C00, I32))
        is_endless = b.fcmp("uge", magnitude, b.const(np.inf, F32))
        bits = b.select(is_endless, endless, b.lshr(scaled, b.const(13, I32)))
        sign = b.and_(b.lshr(b.bitcast(x, I32), b.const(16, I32)), b.const(0x8000, I32))
        return b.or_(bits, sign)

    # ---- casts

    def cast(self, x: Typed, dtype: np.dtype) -> Typed:
        """Return the same number as another element type, as `astype` gives it.

        Floats that an integer type cannot hold become what x86 makes of them, as NumPy's do there.
        """
        b, source, kind = self.builder, dtypes.kind(x.dtype), dtypes.kind(dtype)
        if x.dtype == dtype:
            return x
        if kind == "b":
            return self.not_equal(x, 0)
        if kind == "f":
            if source == "f":
                return self._cast_float(x, dtype)
            to_float = b.sitofp if source == "i" else b.uitofp
            return self._rounded(to_float(x.value, held_type(dtype)), dtype)
        held = held_type(dtype)
        if source == "f":
            to_integer = b.fptosi if kind == "i" else b.fptoui
            return Typed(to_integer(x.value, held), dtype)
        if held.bits == x.value.type.bits:
            return Typed(x.value, dtype)
        if held.bits < x.value.type.bits:
            return Typed(b.itrunc(x.value, held), dtype)
        extend = b.sext if source == "i" else b.zext
        return Typed(extend(x.value, held), dtype)

    def _cast_float(self, x: Typed, dtype: np.dtype) -> Typed:
        b = self.builder
        if dtype == _DOUBLE:
            return Typed(b.fpext(x.value, F64), dtype)
        if x.dtype == _DOUBLE:
            narrowed = self._to_odd(x.value) if dtype == _HALF else x.value
            return self._rounded(b.fptrunc(narrowed, F32), dtype)
        return self._rounded(x.value, dtype)

    def _to_odd(self, x: Value) -> Value:
        """Return x with what a 32-bit float cannot hold gathered in that float's last bit.

        So that rounding to 32 and then to 16 bits is rounding once (Boldo and Melquiond, Emulation
        of a FMA and correctly rounded sums, IEEE Trans. Computers 57, 2008, theorem 1).
        """
        b = self.builder
        bits, lost = b.bitcast(x, I64), b.const((1 << 29) - 1, I64)
        rest = b.icmp("ne", b.and_(bits, lost), b.const(0, I64))
        last = b.select(rest, b.const(1 << 29, I64), b.const(0, I64))
        return b.bitcast(b.or_(b.and_(bits, b.not_(lost)), last), F64)

    def _rounded(self, value: Value, dtype: np.dtype) -> Typed:
        """Return what has been computed in 32 bits, rounded to `dtype` if that is narrower."""
        b = self.builder
        if dtype == _HALF and self._has_half:
            return Typed(b.fpext(b.fptrunc(value, F16), F32), dtype)
        if dtype == _HALF:
            return Typed(self._rounded_to_half(value), dtype)
        if dtype == _BFLOAT:
            return Typed(self._rounded_at(value, 16), dtype)
        return Typed(value, dtype)

    def _rounded_at(self, value: Value, dropped: int) -> Value:
        """Return a 32-bit float rounded to even at the last `dropped` bits of its fraction."""
        b = self.builder
        bits, places = b.bitcast(value, I32), b.const(dropped, I32)
        odd = b.and_(b.lshr(bits, places), b.const(1, I32))
        half = b.add(odd, b.const((1 << (dropped - 1)) - 1, I32))
        kept = b.and_(b.add(bits, half), b.const(-(1 << dropped), I32))
        is_nan = b.fcmp("uno", value, value)
        return b.select(is_nan, b.const(np.nan, F32), b.bitcast(kept, F32))

    def _rounded_to_half(self, value: Value) -> Value:
        """Return a 32-bit float rounded to float16, without an instruction for that.

        Below 2**-14 float16 is a fixed point of 2**-24, the last place of numbers from 1/2 to 1:
        adding 1/2 rounds there.
        """
        b = self.builder
        with self.exactly():
            magnitude, half = b.fabs(value), b.const(0.5, F32)
            fixed = b.fsub(b.fadd(magnitude, half), half)
        normal = self._rounded_at(magnitude, 13)
        normal = b.select(
            b.fcmp("oge", normal, b.const(2.0**16, F32)), b.const(np.inf, F32), normal
        )
        small = b.fcmp("olt", magnitude, b.const(2.0**-14, F32))
        return b.copysign(b.select(small, fixed, normal), value)

    # ---- arithmetic

    def add(self, x: Operand, y: Operand) -> Typed:
        """Return x + y; of masks their union."""
        return self._arithmetic("add", "or_", x, y)

    def subtract(self, x: Operand, y: Operand) -> Typed:
        """Return x - y."""
        return self._arithmetic("sub", "xor", x, y)

    def multiply(self, x: Operand, y: Operand) -> Typed:
        """Return x * y; of masks their intersection."""
        return self._arithmetic("mul", "and_", x, y)

    def _arithmetic(self, name: str, of_masks: str, x: Operand, y: Operand) -> Typed:
        x, y = self._alike(x, y)
        if dtypes.is_float(x.dtype):
            return self._rounded(getattr(self.builder, f"f{name}")(x.value, y.value), x.dtype)
        method = of_masks if dtypes.is_bool(x.dtype) else name
        return Typed(getattr(self.builder, method)(x.value, y.value), x.dtype)

    def divide(self, x: Operand, y: Operand) -> Typed:
        """Return x / y of floats; by a constant power of 2 as the product of the same bits."""
        x, y = self._alike(x, y)
        if y.number is not None and y.is_regular:
            mantissa, _ = frexp(y.number)
            if abs(mantissa) == 0.5 and abs(y.number) * float(ml_dtypes.finfo(y.dtype).max) >= 1:
                return self.multiply(x, 1 / y.number)
        return self._rounded(self.builder.fdiv(x.value, y.value), x.dtype)

    def fused_multiply_add(self, x: Operand, y: Operand, z: Operand) -> Typed:
        """Return x * y + z of floats, rounded once."""
        x, y, z = self._alike(x, y, z)
        return self._rounded(self.builder.fma(x.value, y.value, z.value), x.dtype)

    def negative(self, x: Typed) -> Typed:
        """Return -x, of zeros too; integers wrap."""
        b = self.builder
        if dtypes.is_float(x.dtype):
            return Typed(b.fneg(x.value), x.dtype)
        return Typed(b.sub(b.const(0, x.value.type), x.value), x.dtype)

    def absolute(self, x: Typed) -> Typed:
        """Return |x|; the most negative integer stays."""
        kind = dtypes.kind(x.dtype)
        if kind == "f":
            return Typed(self.builder.fabs(x.value), x.dtype)
        return self.where(self.less(x, 0), self.negative(x), x) if kind == "i" else x

    def sign(self, x: Typed) -> Typed:
        """Return -1, 0 or 1 as x is; a NaN stays, and of bfloat16 the sign of a zero."""
        one, zero = self.constant(1, x.dtype), self.constant(0, x.dtype)
        if x.dtype == _BFLOAT:
            signed = self.copysign(one, x)
            return self.where(self.greater(self.absolute(x), 0), signed, x)
        result = self.where(self.greater(x, zero), one, zero)
        if dtypes.kind(x.dtype) in "bu":
            return result
        result = self.where(self.less(x, zero), self.negative(one), result)
        return self.where(self.isnan(x), x, result) if dtypes.is_float(x.dtype) else result

    def square(self, x: Typed) -> Typed:
        """Return x * x."""
        return self.multiply(x, x)

    def sqrt(self, x: Typed) -> Typed:
        """Return the square root of a float, correctly rounded; NaN below 0."""
        return self._rounded(self.builder.sqrt(x.value), x.dtype)

    def reciprocal(self, x: Typed) -> Typed:
        """Return 1 / x; of integers the quotient without its fraction."""
        if dtypes.is_float(x.dtype):
            return self.divide(1, x)
        return self.cast(self.divide(1, self.cast(x, _DOUBLE)), x.dtype)

    # ---- division with a remainder

    def fmod(self, x: Operand, y: Operand) -> Typed:
        """Return the remainder of x / y rounded towards 0; 0 of integers where y is 0."""
        x, y = self._alike(x, y)
        if dtypes.is_float(x.dtype):
            return Typed(self._float_fmod(x.value, y.value), x.dtype)
        _, rest = self._integer_division(x, y)
        return rest

    def remainder(self, x: Operand, y: Operand) -> Typed:
        """Return the remainder of x / y rounded down; 0 of integers where y is 0."""
        x, y = self._alike(x, y)
        if dtypes.is_float(x.dtype):
            return self._float_divmod(x, y)[1]
        _, rest = self._integer_division(x, y)
        return self.where(self._differ_in_sign(rest, y), self.add(rest, y), rest)

    def floor_divide(self, x: Operand, y: Operand) -> Typed:
        """Return x / y rounded down; 0 of integers where y is 0."""
        x, y = self._alike(x, y)
        if dtypes.is_float(x.dtype):
            return self._float_divmod(x, y)[0]
        quotient, rest = self._integer_division(x, y)
        return self.where(self._differ_in_sign(rest, y), self.subtract(quotient, 1), quotient)

    def _differ_in_sign(self, rest: Typed, y: Typed) -> Typed:
        """Return where a remainder of integers is not 0 and has not the sign of the divisor."""
        if dtypes.kind(y.dtype) != "i":
            return self.constant(False, _BOOL)
        return self.logical_and(self.not_equal(rest, 0), self.less(self.bitwise_xor(rest, y), 0))

    def _integer_division(self, x: Typed, y: Typed) -> tuple[Typed, Typed]:
        """Return quotient (towards 0) and remainder, both 0 where y is 0.

        Neither traps: a divisor that would is replaced by 1, which is also right for the quotient
        of the most negative integer by -1, as it wraps.
        """
        if x.dtype.itemsize < 8:
            return self._division_by_floats(x, y)
        b = self.builder
        by_zero = self.equal(y, 0)
        unsafe = by_zero
        signed = dtypes.kind(x.dtype) == "i"
        if signed:
            lowest = self.equal(x, int(np.iinfo(x.dtype).min))
            unsafe = self.logical_or(unsafe, self.logical_and(lowest, self.equal(y, -1)))
        safe = self.where(unsafe, 1, y)
        divide, rest = (b.sdiv, b.srem) if signed else (b.udiv, b.urem)
        quotient = Typed(divide(x.value, safe.value), x.dtype)
        return (
            self.where(by_zero, 0, quotient),
            Typed(rest(x.value, safe.value), x.dtype),  # by 1 it is 0
        )

    def _division_by_floats(self, x: Typed, y: Typed) -> tuple[Typed, Typed]:
        """Return the same of integers of n <= 32 bits by floats of p >= n + 2 bits, as vectors.

        Below a whole number the quotient is away from it by 1/x of itself or more, above 2**-p, so
        rounding does not reach it.
        """
        wide = _SINGLE if x.dtype.itemsize < 4 else _DOUBLE
        by_zero = self.equal(y, 0)
        quotient = self.cast(self.divide(self.cast(x, wide), self.cast(y, wide)), x.dtype)
        quotient = self.where(by_zero, 0, quotient)
        rest = self.subtract(x, self.multiply(quotient, y))
        return quotient, self.where(by_zero, 0, rest)

    def _float_fmod(self, x: Value, y: Value) -> Value:
        """Return x - y * trunc(x / y), exactly.

        With q = trunc(x / y) below 2**p, p bits of fraction, the rounded quotient is q or q + 1:
        for it x - q y is exact in a fused operation, and adding y mends it if it is negative.
        Larger quotients are the C library's.
        """
        b, kind = self.builder, x.type
        with self.exactly():
            size, divisor = b.fabs(x), b.fabs(y)
            quotient = b.trunc(b.fdiv(size, divisor))
            rest = b.fma(b.fneg(quotient), divisor, size)
            rest = b.select(b.fcmp("olt", rest, b.const(0.0, kind)), b.fadd(rest, divisor), rest)
            rest = b.select(b.fcmp("olt", size, divisor), size, rest)
        large = b.fcmp("oge", quotient, b.const(2.0**kind.mantissa_bits, kind))
        rest = b.rare(large, "fmodf" if kind is F32 else "fmod", rest, size, divisor)
        return b.copysign(rest, x)

    def _float_divmod(self, x: Typed, y: Typed) -> tuple[Typed, Typed]:
        """Return x / y rounded down, and the remainder with the sign of y.

        Step by step as NumPy's `npy_divmod` (numpy/_core/src/npymath/npy_math_internal.h.src), so
        that results have its bits.
        """
        b, dtype, kind = self.builder, x.dtype, x.value.type
        zero, one = b.const(0.0, kind), b.const(1.0, kind)
        with self.exactly():
            plain = b.fdiv(x.value, y.value)
            rest = self._float_fmod(x.value, y.value)
            quotient = b.fdiv(b.fsub(x.value, rest), y.value)
            is_left = b.fcmp("une", rest, zero)
            differs = b.xor(b.fcmp("olt", y.value, zero), b.fcmp("olt", rest, zero))
            turns = b.and_(is_left, differs)
            quotient = b.select(turns, b.fsub(quotient, one), quotient)
            turned = b.select(turns, b.fadd(rest, y.value), rest)
            remainder = b.select(is_left, turned, b.copysign(zero, y.value))
            whole = b.floor(quotient)
            above = b.fcmp("ogt", b.fsub(quotient, whole), b.const(0.5, kind))
            whole = b.select(above, b.fadd(whole, one), whole)
        is_zero = b.fcmp("oeq", quotient, zero)
        whole = b.select(is_zero, b.copysign(zero, plain), whole)
        by_zero = b.fcmp("oeq", y.value, zero)
        return (
            self._rounded(b.select(by_zero, plain, whole), dtype),
            self._rounded(b.select(by_zero, rest, remainder), dtype),
        )

    # ---- rounding

    def floor(self, x: Typed) -> Typed:
        """Return the largest integer not above x; integers stay."""
        return self._to_whole("floor", x)

    def ceil(self, x: Typed) -> Typed:
        """Return the smallest integer not below x; integers stay."""
        return self._to_whole("ceil", x)

    def trunc(self, x: Typed) -> Typed:
        """Return x without its fraction; integers stay."""
        return self._to_whole("trunc", x)

    def rint(self, x: Typed) -> Typed:
        """Return the nearest integer, halves to even; integers stay."""
        return self._to_whole("rint", x)

    def _to_whole(self, method: str, x: Typed) -> Typed:
        if not dtypes.is_float(x.dtype):
            return x
        return Typed(getattr(self.builder, method)(x.value), x.dtype)

    # ---- choices

    def where(self, condition: Typed, x: Operand, y: Operand) -> Typed:
        """Return x where the mask is set, else y."""
        x, y = self._alike(x, y)
        if condition.number is not None:
            return x if condition.number else y
        return Typed(self.builder.select(condition.value, x.value, y.value), x.dtype)

    def maximum(self, x: Operand, y: Operand) -> Typed:
        """Return the larger; NaN if one is. Of two zeros it is the one that NumPy returns."""
        return self._extreme("gt", "ge", x, y)

    def minimum(self, x: Operand, y: Operand) -> Typed:
        """Return the smaller; NaN if one is. Of two zeros it is the one that NumPy returns."""
        return self._extreme("lt", "le", x, y)

    def fmax(self, x: Operand, y: Operand) -> Typed:
        """Return the larger, ignoring a NaN beside a number."""
        return self._extreme_number("gt", "ge", x, y)

    def fmin(self, x: Operand, y: Operand) -> Typed:
        """Return the smaller, ignoring a NaN beside a number."""
        return self._extreme_number("lt", "le", x, y)

    def _extreme(self, wins: str, ties: str, x: Operand, y: Operand) -> Typed:
        x, y = self._alike(x, y)
        if dtypes.is_float(x.dtype) and y.is_ordered:
            predicate = ties if x.dtype == _HALF else wins
            mask = self.builder.fcmp(f"u{predicate}", x.value, y.value)  # or where x is NaN
            return self.where(Typed(mask, _BOOL), x, y)
        chosen = self._preferred(wins, ties, x, y)
        if not dtypes.is_float(x.dtype) or x.is_ordered:
            return chosen  # a NaN in y neither wins nor loses, and is chosen
        return self.where(self.isnan(x), x, chosen)

    def _extreme_number(self, wins: str, ties: str, x: Operand, y: Operand) -> Typed:
        x, y = self._alike(x, y)
        chosen = self._preferred(wins, ties, x, y)
        return self.where(self.isnan(y), x, chosen) if dtypes.is_float(x.dtype) else chosen

    def _preferred(self, wins: str, ties: str, x: Typed, y: Typed) -> Typed:
        """Return x where it wins, or in NumPy's loops for float16 ties, else y."""
        return self.where(self._compared(ties if x.dtype == _HALF else wins, x, y), x, y)

    # ---- comparisons and tests

    def less(self, x: Operand, y: Operand) -> Typed:
        """Return where x < y."""
        return self._compared("lt", x, y)

    def less_equal(self, x: Operand, y: Operand) -> Typed:
        """Return where x <= y."""
        return self._compared("le", x, y)

    def greater(self, x: Operand, y: Operand) -> Typed:
        """Return where x > y."""
        return self._compared("gt", x, y)

    def greater_equal(self, x: Operand, y: Operand) -> Typed:
        """Return where x >= y."""
        return self._compared("ge", x, y)

    def equal(self, x: Operand, y: Operand) -> Typed:
        """Return where x == y."""
        return self._compared("eq", x, y)

    def not_equal(self, x: Operand, y: Operand) -> Typed:
        """Return where x != y, which a NaN always is."""
        return self._compared("ne", x, y)

    def _compared(self, predicate: str, x: Operand, y: Operand) -> Typed:
        x, y = self._alike(x, y)
        kind = dtypes.kind(x.dtype)
        if dtypes.kind(y.dtype) != kind:
            return self._compared_by_value(predicate, x, y)
        if kind == "f":
            order = "u" if predicate == "ne" else "o"
            mask = self.builder.fcmp(order + predicate, x.value, y.value)
        else:
            order = "" if predicate in ("eq", "ne") else "s" if kind == "i" else "u"
            mask = self.builder.icmp(order + predicate, x.value, y.value)
        return Typed(mask, _BOOL)

    def _compared_by_value(self, predicate: str, x: Typed, y: Typed) -> Typed:
        """Compare integers of one size, one with a sign: a negative one is below all others."""
        b, is_first = self.builder, dtypes.kind(x.dtype) == "i"
        signed = x if is_first else y
        negative = b.icmp("slt", signed.value, b.const(0, signed.value.type))
        order = "" if predicate in ("eq", "ne") else "u"
        mask = b.icmp(order + predicate, x.value, y.value)
        if predicate == "ne" or predicate[0] == ("l" if is_first else "g"):
            return Typed(b.or_(negative, mask), _BOOL)
        return Typed(b.and_(b.not_(negative), mask), _BOOL)

    def isnan(self, x: Typed) -> Typed:
        """Return where x is not a number."""
        if not dtypes.is_float(x.dtype):
            return self.constant(False, _BOOL)
        return Typed(self.builder.fcmp("uno", x.value, x.value), _BOOL)

    def isinf(self, x: Typed) -> Typed:
        """Return where x is infinite."""
        if not dtypes.is_float(x.dtype):
            return self.constant(False, _BOOL)
        return self.equal(self.absolute(x), np.inf)

    def isfinite(self, x: Typed) -> Typed:
        """Return where x is neither infinite nor NaN."""
        if not dtypes.is_float(x.dtype):
            return self.constant(True, _BOOL)
        return self.less(self.absolute(x), np.inf)

    def signbit(self, x: Typed) -> Typed:
        """Return where the sign bit is set, of zeros and NaNs too."""
        b = self.builder
        if not dtypes.is_float(x.dtype):
            return self.less(x, 0)
        integer = x.value.type.integer
        return Typed(b.icmp("slt", b.bitcast(x.value, integer), b.const(0, integer)), _BOOL)

    def copysign(self, x: Operand, y: Operand) -> Typed:
        """Return |x| with the sign bit of y."""
        x, y = self._alike(x, y)
        return Typed(self.builder.copysign(x.value, y.value), x.dtype)

    # ---- truth values and bits

    def logical_and(self, x: Typed, y: Typed) -> Typed:
        """Return where both masks are set."""
        return self.bitwise_and(x, y)

    def logical_or(self, x: Typed, y: Typed) -> Typed:
        """Return where one of the masks is set."""
        return self.bitwise_or(x, y)

    def logical_xor(self, x: Typed, y: Typed) -> Typed:
        """Return where exactly one of the masks is set."""
        return self.bitwise_xor(x, y)

    def logical_not(self, x: Typed) -> Typed:
        """Return where the mask is not set."""
        return self.invert(x)

    def bitwise_and(self, x: Operand, y: Operand) -> Typed:
        """Return the bits set in both."""
        x, y = self._alike(x, y)
        return Typed(self.builder.and_(x.value, y.value), x.dtype)

    def bitwise_or(self, x: Operand, y: Operand) -> Typed:
        """Return the bits set in one."""
        x, y = self._alike(x, y)
        return Typed(self.builder.or_(x.value, y.value), x.dtype)

    def bitwise_xor(self, x: Operand, y: Operand) -> Typed:
        """Return the bits set in exactly one."""
        x, y = self._alike(x, y)
        return Typed(self.builder.xor(x.value, y.value), x.dtype)

    def invert(self, x: Typed) -> Typed:
        """Return every bit flipped."""
        return Typed(self.builder.not_(x.value), x.dtype)

    def left_shift(self, x: Operand, y: Operand) -> Typed:
        """Return x times 2**y, dropping bits that leave: 0 where y is not below the width."""
        x, y = self._alike(x, y)
        count, fits = self._shift_count(y)
        return self.where(fits, Typed(self.builder.shl(x.value, count), x.dtype), 0)

    def right_shift(self, x: Operand, y: Operand) -> Typed:
        """Return x over 2**y rounded down; where y is not below the width, 0 or -1."""
        x, y = self._alike(x, y)
        count, fits = self._shift_count(y)
        if dtypes.kind(x.dtype) == "u":
            return self.where(fits, Typed(self.builder.lshr(x.value, count), x.dtype), 0)
        emptied = self.where(self.less(x, 0), self.constant(-1, x.dtype), 0)
        return self.where(fits, Typed(self.builder.ashr(x.value, count), x.dtype), emptied)

    def _shift_count(self, y: Typed) -> tuple[Value, Typed]:
        """Return a count that is always allowed, and where it is the one asked for."""
        b, kind = self.builder, y.value.type
        if y.number is not None and 0 <= y.number < kind.bits:
            return y.value, self.constant(True, _BOOL)
        fits = b.icmp("ult", y.value, b.const(kind.bits, kind))
        return b.select(fits, y.value, b.const(0, kind)), Typed(fits, _BOOL)

    def bitwise_count(self, x: Typed) -> Typed:
        """Return the number of bits set in |x|, as uint8."""
        size = self.absolute(x).value
        counted = self.builder.intrinsic("llvm.ctpop", size.type, size)
        return self.cast(Typed(counted, x.dtype), np.dtype(np.uint8))

    def bitcast(self, x: Typed, dtype: np.dtype) -> Typed:
        """Return the bits of x as another element type of the same width."""
        value, wanted = self.stored(x), memory_type(dtype)
        return self.loaded(
            value if value.type is wanted else self.builder.bitcast(value, wanted), dtype
        )

    def nextafter(self, x: Operand, y: Operand) -> Typed:
        """Return the float next to x in the direction of y; NaN if one is.

        Neighbours of one sign are neighbours as integers too (IEEE 754-2019, section 3.4).
        """
        x, y = self._alike(x, y)
        bits = self.bitcast(x, np.dtype(f"i{x.dtype.itemsize}"))
        grows = self.logical_not(self.logical_xor(self.less(x, y), self.greater(x, 0)))
        moved = self.where(grows, self.add(bits, 1), self.subtract(bits, 1))
        first = self.copysign(float(ml_dtypes.finfo(x.dtype).smallest_subnormal), y)
        result = self.where(self.equal(x, 0), first, self.bitcast(moved, x.dtype))
        result = self.where(self.equal(x, y), x if x.dtype == _HALF else y, result)
        unordered = self.logical_or(self.isnan(x), self.isnan(y))
        return self.where(unordered, self.add(x, y), result)

    def spacing(self, x: Typed) -> Typed:
        """Return the distance to the next float away from 0, with the sign of x; NaN of infinity.

        As NumPy's: of zeros it is positive but for bfloat16, and float16's is that to the next
        float above.
        """
        if x.dtype == _HALF:
            above = self.subtract(self.nextafter(x, np.inf), x)
            return self.where(self.isinf(x), np.nan, above)
        bits = self.bitcast(x, np.dtype(f"i{x.dtype.itemsize}"))
        further = self.bitcast(self.add(bits, 1), x.dtype)
        with self.exactly():
            distance = self.subtract(further, x)
        least: Operand = float(ml_dtypes.finfo(x.dtype).smallest_subnormal)
        least = self.copysign(least, x) if x.dtype == _BFLOAT else least
        return self.where(self.equal(x, 0), least, distance)

    # ---- functions

    def widened(self, x: Typed) -> Typed:
        """Return a 16-bit float as float32, anything else as it is.

        For rules that compute in 32 bits and round once, by a cast at their end.
        """
        return Typed(x.value, _SINGLE) if _is_narrow(x.dtype) else x

    def math(self, name: str, *operands: Operand) -> Typed:
        """Return a function of the math library, of floats; its claims say how exact it is."""
        typed = self._alike(*operands)
        dtype = typed[0].dtype
        return self._rounded(self.builder.call(name, *[x.value for x in typed]), dtype)

    def complex_math(self, name: str, x: Typed, y: Typed) -> tuple[Typed, Typed]:
        """Return both parts of a function of x + i y, of those in `cpu_math/complex.py`."""
        real, imag = COMPLEX_FUNCTIONS[name](self.builder, x.value, y.value)
        return Typed(real, x.dtype), Typed(imag, x.dtype)

    def scale_by_power(self, x: Typed, n: Typed) -> Typed:
        """Return x * 2**n for integers n, rounded once.

        In two steps, as the builder's own scaling has a limit. What n exceeds it by goes first:
        that step is exact wherever the second does not make everything 0 or infinite.
        """
        b, held = self.builder, x.value.type
        limit = 2.0 * held.bias - 2
        power = self.cast(n, _DOUBLE if held is F64 else _SINGLE)
        power = self._clamped(power, 2 * limit)
        inner = self._clamped(power, limit)
        with self.exactly():
            outer = self.subtract(power, inner)
        scaled = b.scale_by_power(x.value, outer.value)
        return self._rounded(b.scale_by_power(scaled, inner.value), x.dtype)

    def _clamped(self, x: Typed, limit: float) -> Typed:
        x = self.where(self.greater(x, limit), limit, x)
        return self.where(self.less(x, -limit), -limit, x)

    def binary_exponent(self, x: Typed) -> Typed:
        """Return the int32 n with x = m * 2**n, 0.5 <= |m| < 1; 0 of 0, NaN and infinities."""
        wide = self.widened(x)
        exponent = Typed(self.builder.exponent_of(wide.value), wide.dtype)
        counted = self.where(self.isfinite(exponent), self.add(exponent, 1), 0)
        return self.cast(counted, np.dtype(np.int32))

    # ---- inside

    def _alike(self, *operands: Operand) -> tuple[Typed, ...]:
        """Return operands as values of one type, numbers among them as constants of it."""
        dtype = next((x.dtype for x in operands if isinstance(x, Typed)), None)
        assert dtype is not None, operands
        return tuple([x if isinstance(x, Typed) else self.constant(x, dtype) for x in operands])


def _is_narrow(dtype: np.dtype) -> bool:
    return dtype in (_HALF, _BFLOAT)
