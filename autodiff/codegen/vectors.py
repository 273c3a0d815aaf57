"""Text of LLVM's intermediate language, one vector instruction at a time.

`VectorBuilder` appends one line for each operation to `lines` and returns its result as a `Value`,
so that the formulas of `autodiff.codegen.cpu_math` and of the emitters read as formulas. Every
operation works lane by lane; with `lanes=1` the same calls give scalar code.

The types of lanes and `Value` are those of `autodiff.codegen.scalar_types`.

Reading order: `VectorBuilder` from its constructor down: constants, floats, integers, comparisons,
casts, parts of a float, sums and products without rounding, rare paths, tables.

Nothing is folded and nothing is reassociated: a line stands for a call, and a call for one IEEE 754
operation. No instruction has a fast-math flag but `contract`, and that only where a caller asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autodiff.base.errors import message
from autodiff.codegen import avx512, cpu_math
from autodiff.codegen.scalar_types import (
    BF16,
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
    bits_of,
    literal,
)
from autodiff.schedule.target import Target

__all__ = [
    "BF16",
    "F16",
    "F32",
    "F64",
    "I1",
    "I8",
    "I16",
    "I32",
    "I64",
    "ScalarType",
    "Value",
    "VectorBuilder",
]

#: Attached to branches that are nearly never taken, so that their blocks are laid out of the way.
_UNLIKELY = ("!900", '!900 = !{!"branch_weights", i32 1, i32 4000}')


class VectorBuilder:
    """The lines of one kernel's body, and the declarations they need.

    >>> from autodiff.schedule.target import AVX2
    >>> b = VectorBuilder(AVX2, 8)
    >>> x = Value("%x", F32)
    >>> y = b.fadd(b.fma(x, x, b.const(0.5, F32)), x)
    >>> print(*b.lines, sep="\\n")
      %v0 = call <8 x float> @llvm.fma.v8f32(<8 x float> %x, <8 x float> %x,
                                             <8 x float> splat (float 0x3FE0000000000000))
      %v1 = fadd <8 x float> %v0, %x
    >>> print(*b.declarations.values(), sep="\\n")
    declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)

    Args:
        target: what the code is made for. Decides which instructions stand for an operation,
            never what its result is, but for products that a target without fused
            multiplication rounds twice (`muladd`).
        lanes: elements of a vector. Any count is correct; those that fill registers are fast.
        block: the label of the basic block that the first line belongs to.

    Attributes:
        lines: the instructions, and the labels of the blocks they open, in order.
        declarations: text for the end of the module, by what it declares.
        has_fma: whether the target multiplies and adds with one rounding.
        block: the label of the basic block that the next line belongs to; `rare` and `where_any`
            open new ones. Set it after appending a label of your own.
        contract: whether `fadd`, `fsub` and `fmul` may be fused with each other. Functions reached
            by `call` ignore it.
    """

    def __init__(self, target: Target, lanes: int, *, block: str = "entry") -> None:
        if lanes < 1:
            raise ValueError(message("VectorBuilder", "lanes must be positive", f"lanes={lanes}"))
        self.target = target
        self.lanes = lanes
        self.block = block
        self.contract = False
        self.lines: list[str] = []
        self.declarations: dict[str, str] = {}
        self.has_fma = target.has("fma") or target.has("neon") or target.has("avx512f")
        self._has_avx512 = target.has("avx512f")
        self._registers = 0
        self._labels = 0

    # ---- text

    def text_of(self, type: ScalarType) -> str:
        """Return how LLVM writes a vector of `type`: `<8 x float>`, or `float` with one lane."""
        return self._vector(self.lanes, type)

    def comment(self, text: str) -> None:
        """Append a line that says what the next ones compute."""
        self.lines.append(f"  ; {text}")

    def label(self, name: str) -> None:
        """Open the basic block `name`; the block before it must have been ended by a branch."""
        self.lines.append(f"{name}:")
        self.block = name

    def fresh_label(self, stem: str) -> str:
        """Return a label that no block has yet."""
        self._labels += 1
        return f"{stem}.{self._labels - 1}"

    def fresh_name(self) -> str:
        """Return the name of a register that no line has set yet."""
        self._registers += 1
        return f"%v{self._registers - 1}"

    def assign(self, instruction: str, type: ScalarType) -> Value:
        """Append `instruction`, written out by the caller, and return its result."""
        name = self.fresh_name()
        self.lines.append(f"  {name} = {instruction}")
        return Value(name, type)

    def call(self, function: str, *values: Value) -> Value:
        """Return `function(*values)` of the math library, its lines written in place.

        Raises:
            KeyError: the library has no such function.
        """
        if function not in cpu_math.FUNCTIONS:
            known = ", ".join(sorted(cpu_math.FUNCTIONS))
            raise KeyError(message("VectorBuilder.call", f"one of {known}", f"{function=}"))
        self.comment(f"{function}({', '.join(value.text for value in values)})")
        contract, self.contract = self.contract, False
        try:
            return cpu_math.FUNCTIONS[function](self, *values)
        finally:
            self.contract = contract

    def external(self, function: str, type: ScalarType, count: int) -> None:
        """Declare the scalar function `function` of `count` operands and a result of `type`."""
        operands = ", ".join([type.name] * count)
        self.declarations[function] = f"declare {type.name} @{function}({operands})"

    def intrinsic(self, name: str, type: ScalarType, *values: Value, tail: str = "") -> Value:
        """Return LLVM's `name` on vectors, overloaded on the type of the first operand."""
        suffix = (
            values[0].type.suffix if self.lanes == 1 else f"v{self.lanes}{values[0].type.suffix}"
        )
        operands = [f"{self.text_of(value.type)} {value.text}" for value in values]
        declared = [self.text_of(value.type) for value in values]
        if tail:
            operands.append(tail)
            declared.append(tail.split()[0])
        full, result = f"{name}.{suffix}", self.text_of(type)
        self.declarations[full] = f"declare {result} @{full}({', '.join(declared)})"
        return self.assign(f"call {result} @{full}({', '.join(operands)})", type)

    # ---- constants

    def const(self, number: float | int, type: ScalarType) -> Value:
        """Return `number` in every lane, rounded to `type` where it is a float.

        >>> from autodiff.schedule.target import AVX2
        >>> VectorBuilder(AVX2, 4).const(0.1, F64).text, VectorBuilder(AVX2, 1).const(-1, I8).text
        ('splat (double 0x3FB999999999999A)', '-1')
        """
        text = literal(number, type)
        return Value(text if self.lanes == 1 else f"splat ({type.name} {text})", type)

    # ---- floats

    def fadd(self, x: Value, y: Value) -> Value:
        """Return x + y."""
        return self._binary(f"fadd{self._flags}", x, y)

    def fsub(self, x: Value, y: Value) -> Value:
        """Return x - y."""
        return self._binary(f"fsub{self._flags}", x, y)

    def fmul(self, x: Value, y: Value) -> Value:
        """Return x * y."""
        return self._binary(f"fmul{self._flags}", x, y)

    def fdiv(self, x: Value, y: Value) -> Value:
        """Return x / y."""
        return self._binary("fdiv", x, y)

    def fneg(self, x: Value) -> Value:
        """Return -x, of zeros and NaNs too."""
        return self.assign(f"fneg {self.text_of(x.type)} {x.text}", x.type)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """Return x*y + z, rounded once. A slow library call where the target cannot do it."""
        return self.intrinsic("llvm.fma", x.type, x, y, z)

    def muladd(self, x: Value, y: Value, z: Value) -> Value:
        """Return x*y + z, rounded once where that is fast and twice elsewhere."""
        if self.has_fma:
            return self.fma(x, y, z)
        return self._binary("fadd", self._binary("fmul", x, y), z)

    def sqrt(self, x: Value) -> Value:
        """Return the square root of x, NaN below zero."""
        return self.intrinsic("llvm.sqrt", x.type, x)

    def fabs(self, x: Value) -> Value:
        """Return |x|."""
        return self.intrinsic("llvm.fabs", x.type, x)

    def copysign(self, x: Value, y: Value) -> Value:
        """Return |x| with the sign of y."""
        return self.intrinsic("llvm.copysign", x.type, x, y)

    def rint(self, x: Value) -> Value:
        """Return x rounded to an integer, halves to the even one, zeros keeping their sign."""
        if self._rounds_in_hardware:
            return self.intrinsic("llvm.roundeven", x.type, x)
        # Above 2**mantissa_bits there is no fraction; below, adding that number shifts it out.
        big = self.const(2.0**x.type.mantissa_bits, x.type)
        magnitude = self.fabs(x)
        rounded = self._binary("fsub", self._binary("fadd", magnitude, big), big)
        return self.copysign(self.select(self.fcmp("olt", magnitude, big), rounded, x), x)

    def floor(self, x: Value) -> Value:
        """Return the largest integer not above x."""
        if self._rounds_in_hardware:
            return self.intrinsic("llvm.floor", x.type, x)
        nearest, one = self.rint(x), self.const(1.0, x.type)
        below = self._binary("fsub", nearest, one)
        return self.copysign(self.select(self.fcmp("ogt", nearest, x), below, nearest), x)

    def ceil(self, x: Value) -> Value:
        """Return the smallest integer not below x."""
        if self._rounds_in_hardware:
            return self.intrinsic("llvm.ceil", x.type, x)
        nearest, one = self.rint(x), self.const(1.0, x.type)
        above = self._binary("fadd", nearest, one)
        return self.copysign(self.select(self.fcmp("olt", nearest, x), above, nearest), x)

    def trunc(self, x: Value) -> Value:
        """Return x without its fraction."""
        if self._rounds_in_hardware:
            return self.intrinsic("llvm.trunc", x.type, x)
        return self.copysign(self.floor(self.fabs(x)), x)

    def fmin(self, x: Value, y: Value) -> Value:
        """Return y where y < x, else x: a NaN in x is kept, one in y is dropped."""
        return self.select(self.fcmp("olt", y, x), y, x)

    def fmax(self, x: Value, y: Value) -> Value:
        """Return y where y > x, else x: a NaN in x is kept, one in y is dropped."""
        return self.select(self.fcmp("ogt", y, x), y, x)

    # ---- integers

    def add(self, x: Value, y: Value) -> Value:
        """Return x + y, wrapping."""
        return self._binary("add", x, y)

    def sub(self, x: Value, y: Value) -> Value:
        """Return x - y, wrapping."""
        return self._binary("sub", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """Return x * y, wrapping."""
        return self._binary("mul", x, y)

    def sdiv(self, x: Value, y: Value) -> Value:
        """Return x / y towards zero, signed. A lane with y = 0, or that overflows, traps."""
        return self._binary("sdiv", x, y)

    def udiv(self, x: Value, y: Value) -> Value:
        """Return x / y towards zero, unsigned. A lane with y = 0 traps."""
        return self._binary("udiv", x, y)

    def srem(self, x: Value, y: Value) -> Value:
        """Return the remainder of `sdiv`, with the sign of x; traps where `sdiv` does."""
        return self._binary("srem", x, y)

    def urem(self, x: Value, y: Value) -> Value:
        """Return the remainder of `udiv`; traps where `udiv` does."""
        return self._binary("urem", x, y)

    def and_(self, x: Value, y: Value) -> Value:
        """Return x & y, of integers or masks."""
        return self._binary("and", x, y)

    def or_(self, x: Value, y: Value) -> Value:
        """Return x | y, of integers or masks."""
        return self._binary("or", x, y)

    def xor(self, x: Value, y: Value) -> Value:
        """Return x ^ y, of integers or masks."""
        return self._binary("xor", x, y)

    def not_(self, x: Value) -> Value:
        """Return ~x, of integers or masks."""
        return self._binary("xor", x, self.const(-1, x.type))

    def shl(self, x: Value, count: Value) -> Value:
        """Return x << count; `count` must be below the number of bits, else the lane is poison."""
        return self._binary("shl", x, count)

    def lshr(self, x: Value, count: Value) -> Value:
        """Return x >> count, filled with zeros; the same bound on `count` as for `shl`."""
        return self._binary("lshr", x, count)

    def ashr(self, x: Value, count: Value) -> Value:
        """Return x >> count, filled with the sign; the same bound on `count` as for `shl`."""
        return self._binary("ashr", x, count)

    def ctlz(self, x: Value) -> Value:
        """Return the number of leading zero bits; all of them for 0."""
        return self.intrinsic("llvm.ctlz", x.type, x, tail="i1 false")

    # ---- comparisons

    def fcmp(self, predicate: str, x: Value, y: Value) -> Value:
        """Return the mask of LLVM's float comparison `predicate`, such as `olt` or `uno`."""
        text = f"fcmp {predicate} {self.text_of(x.type)} {x.text}, {y.text}"
        return self.assign(text, I1)

    def icmp(self, predicate: str, x: Value, y: Value) -> Value:
        """Return the mask of LLVM's integer comparison `predicate`, such as `slt` or `ult`."""
        text = f"icmp {predicate} {self.text_of(x.type)} {x.text}, {y.text}"
        return self.assign(text, I1)

    def select(self, mask: Value, x: Value, y: Value) -> Value:
        """Return x where the mask is set, y elsewhere."""
        chosen = self.text_of(x.type)
        text = f"select {self.text_of(I1)} {mask.text}, {chosen} {x.text}, {chosen} {y.text}"
        return self.assign(text, x.type)

    # ---- casts

    def bitcast(self, x: Value, type: ScalarType) -> Value:
        """Return the bits of x as `type`, which has the same size."""
        return self._cast("bitcast", x, type)

    def sitofp(self, x: Value, type: ScalarType) -> Value:
        """Return the signed integer x, rounded to the float `type`."""
        return self._cast("sitofp", x, type)

    def uitofp(self, x: Value, type: ScalarType) -> Value:
        """Return the unsigned integer x, rounded to the float `type`."""
        return self._cast("uitofp", x, type)

    def fptosi(self, x: Value, type: ScalarType) -> Value:
        """Return x without its fraction as a signed integer, as NumPy casts on x86.

        What does not fit, NaN included, becomes the most negative integer of 32 or 64 bits; smaller
        types take the low bits of the 32-bit result.
        """
        if type.bits < 32:
            return self.itrunc(self.fptosi(x, I32), type)
        limit = 2.0 ** (type.bits - 1)
        low, high = self.const(-limit, x.type), self.const(limit, x.type)
        fits = self.and_(self.fcmp("oge", x, low), self.fcmp("olt", x, high))
        inside = self._cast("fptosi", self.select(fits, x, self.const(0.0, x.type)), type)
        return self.select(fits, inside, self.const(-(1 << (type.bits - 1)), type))

    def fptoui(self, x: Value, type: ScalarType) -> Value:
        """Return x without its fraction as an unsigned integer, as NumPy casts on x86.

        Negative numbers wrap. Types below 64 bits take the low bits of the next larger signed
        result (of 32 bits for 8 and 16, of 64 bits for 32).
        """
        if type.bits < 32:
            return self.itrunc(self.fptosi(x, I32), type)
        if type.bits == 32:
            return self.itrunc(self.fptosi(x, I64), type)
        half = self.const(2.0**63, x.type)
        above = self.fcmp("oge", x, half)
        signed = self.fptosi(self.select(above, self._binary("fsub", x, half), x), I64)
        shift = self.select(above, self.const(-(1 << 63), I64), self.const(0, I64))
        return self.xor(signed, shift)

    def fpext(self, x: Value, type: ScalarType) -> Value:
        """Return x as a wider float."""
        return self._cast("fpext", x, type)

    def fptrunc(self, x: Value, type: ScalarType) -> Value:
        """Return x rounded to a narrower float."""
        return self._cast("fptrunc", x, type)

    def sext(self, x: Value, type: ScalarType) -> Value:
        """Return the signed integer x as a wider one."""
        return self._cast("sext", x, type)

    def zext(self, x: Value, type: ScalarType) -> Value:
        """Return the unsigned integer or mask x as a wider integer."""
        return self._cast("zext", x, type)

    def itrunc(self, x: Value, type: ScalarType) -> Value:
        """Return the low bits of the integer x; of a mask, the lowest bit."""
        return self._cast("trunc", x, type)

    # ---- parts of a float (F32 and F64)

    def round_small(self, x: Value) -> tuple[Value, Value]:
        """Return x rounded to an integer, as a float and as an integer of the same size.

        For |x| < 2**(mantissa_bits - 1); beyond, and for NaN and infinities, both are meaningless
        but defined. Cheaper than `rint` with `fptosi`: adding 1.5 * 2**mantissa_bits leaves the
        integer in the low bits (Hart et al., Computer approximations, 1968; Muller, Elementary
        functions, 3rd edition 2016, section 11.2).
        """
        return self.round_product(x, self.const(1.0, x.type))

    def round_product(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Return x*y rounded to an integer, as `round_small` returns it, in two operations."""
        magic = 1.5 * 2.0**x.type.mantissa_bits
        shift = self.const(magic, x.type)
        shifted = self.muladd(x, y, shift)
        bits = self.bitcast(shifted, x.type.integer)
        base = self.const(bits_of(magic, x.type), x.type.integer)
        return self._binary("fsub", shifted, shift), self.sub(bits, base)

    def scale_by_power(self, x: Value, n: Value) -> Value:
        """Return x * 2**n, rounded once, for float integers n with |n| <= 2*bias - 2.

        One instruction on AVX-512, where any n is right. Elsewhere 2**n is the product of two
        normal powers: the first multiplication is exact, or overflows as the whole does.
        """
        if self._has_avx512:
            return avx512.scalef(self, x, n)
        _, whole = self.round_small(n)
        type = x.type.integer
        first = self.ashr(whole, self.const(1, type))
        second = self.sub(whole, first)
        partial = self._binary("fmul", x, self.power_of_two(first, x.type))
        return self._binary("fmul", partial, self.power_of_two(second, x.type))

    def exponent_of(self, x: Value) -> Value:
        """Return floor(log2|x|) as a float, subnormals included; 0 gives -inf, inf and NaN stay."""
        if self._has_avx512:
            return avx512.getexp(self, x)
        magnitude = self.fabs(x)
        exponent, _ = self._split_all(magnitude, 1.0, *self._split(magnitude, 1.0))
        zero, infinite = self.const(0.0, x.type), self.const(np.inf, x.type)
        exponent = self.select(self.fcmp("olt", magnitude, infinite), exponent, magnitude)
        return self.select(self.fcmp("oeq", magnitude, zero), self.const(-np.inf, x.type), exponent)

    def mantissa_and_exponent(self, x: Value) -> tuple[Value, Value]:
        """Return m in [0.75, 1.5) and an integral float e with x = m * 2**e, subnormals included.

        So that logarithms need no further case: 0 gives (1, -inf), inf gives (1, inf), negative
        numbers and NaN give a NaN for m.
        """
        if self._has_avx512:
            mantissa = avx512.getmant(self, x)
            exponent = avx512.getexp(self, x)
            # Mantissas below 1 were halved, which their own exponent (-1, else 0) shows.
            return mantissa, self._binary("fsub", exponent, avx512.getexp(self, mantissa))
        type = x.type
        exponent, mantissa = self._split(x, 0.75)
        low, high = self.const(2.0 ** (1 - type.bias), type), self.const(np.inf, type)
        normal = self.and_(self.fcmp("oge", x, low), self.fcmp("olt", x, high))
        mantissa, exponent = self._branch(
            self.not_(normal), lambda: self._edges(x, mantissa, exponent), (mantissa, exponent)
        )
        return mantissa, exponent

    def _edges(self, x: Value, mantissa: Value, exponent: Value) -> tuple[Value, ...]:
        """Return `mantissa_and_exponent(x)`, given them for normal positive numbers."""
        type = x.type
        zero, infinite = self.const(0.0, type), self.const(np.inf, type)
        one, nan = self.const(1.0, type), self.const(np.nan, type)
        exponent, mantissa = self._split_all(x, 0.75, exponent, mantissa)
        plain = self.and_(self.fcmp("ogt", x, zero), self.fcmp("olt", x, infinite))
        edge = self.select(self.fcmp("oge", x, zero), one, nan)
        limit = self.select(self.fcmp("oeq", x, zero), self.const(-np.inf, type), infinite)
        return self.select(plain, mantissa, edge), self.select(plain, exponent, limit)

    def _split(self, x: Value, base: float) -> tuple[Value, Value]:
        """Return e and m in [base, 2*base) with x = m * 2**e, for positive normal x."""
        type, integer = x.type, x.type.integer
        origin = self.const(bits_of(base, type), integer)
        distance = self.sub(self.bitcast(x, integer), origin)
        fraction = self.and_(distance, self.const((1 << type.mantissa_bits) - 1, integer))
        mantissa = self.bitcast(self.add(fraction, origin), type)
        # The exponent is small: placed in the low bits of a float it needs no conversion.
        magic = 1.5 * 2.0**type.mantissa_bits
        whole = self.ashr(distance, self.const(type.mantissa_bits, integer))
        placed = self.add(whole, self.const(bits_of(magic, type), integer))
        return self._binary("fsub", self.bitcast(placed, type), self.const(magic, type)), mantissa

    def _split_all(
        self, x: Value, base: float, exponent: Value, mantissa: Value
    ) -> tuple[Value, Value]:
        """Return `_split(x, base)` for positive x, given it for normal ones."""
        shift = x.type.mantissa_bits + 1
        small = self.fcmp("olt", x, self.const(2.0 ** (1 - x.type.bias), x.type))
        lifted = self._binary("fmul", x, self.const(2.0**shift, x.type))
        lifted_exponent, lifted_mantissa = self._split(lifted, base)
        lifted_exponent = self._binary("fsub", lifted_exponent, self.const(float(shift), x.type))
        exponent = self.select(small, lifted_exponent, exponent)
        return exponent, self.select(small, lifted_mantissa, mantissa)

    def power_of_two(self, n: Value, type: ScalarType) -> Value:
        """Return 2**n for integers n (of the size of `type`) with 1 - bias <= n <= bias."""
        biased = self.add(n, self.const(type.bias, n.type))
        return self.bitcast(self.shl(biased, self.const(type.mantissa_bits, n.type)), type)

    # ---- sums and products without rounding

    def two_sum(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Return x + y and the error of it: exact together (Knuth, TAOCP 2, 4.2.2, theorem B)."""
        total = self._binary("fadd", x, y)
        part = self._binary("fsub", total, x)
        lost = self._binary("fsub", x, self._binary("fsub", total, part))
        return total, self._binary("fadd", lost, self._binary("fsub", y, part))

    def fast_two_sum(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Return x + y and the error of it, for |x| >= |y| or x = 0 (Dekker 1971, theorem 4.7)."""
        total = self._binary("fadd", x, y)
        return total, self._binary("fsub", y, self._binary("fsub", total, x))

    def two_product(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Return x * y and the error of it: exact together unless it over- or underflows.

        By a fused multiplication, else by splitting both factors (Dekker, A floating-point
        technique for extending the available precision, 1971, section 5), which overflows for
        factors within 2**13 (F32) or 2**27 (F64) of the largest number.
        """
        product = self._binary("fmul", x, y)
        if self.has_fma:
            return product, self.fma(x, y, self.fneg(product))
        (a, a_low), (c, c_low) = self._halves(x), self._halves(y)
        error = self._binary("fsub", self._binary("fmul", a, c), product)
        error = self._binary("fadd", error, self._binary("fmul", a, c_low))
        error = self._binary("fadd", error, self._binary("fmul", a_low, c))
        return product, self._binary("fadd", error, self._binary("fmul", a_low, c_low))

    def _halves(self, x: Value) -> tuple[Value, Value]:
        factor = self.const(2.0 ** ((x.type.mantissa_bits + 2) // 2) + 1.0, x.type)
        scaled = self._binary("fmul", x, factor)
        high = self._binary("fsub", scaled, self._binary("fsub", scaled, x))
        return high, self._binary("fsub", x, high)

    # ---- rare paths

    def any(self, mask: Value) -> str:
        """Return the scalar `i1` that says whether any lane of the mask is set."""
        if self.lanes == 1:
            return mask.text
        bits = self.fresh_name()
        self.lines.append(f"  {bits} = bitcast {self.text_of(I1)} {mask.text} to i{self.lanes}")
        return self.assign(f"icmp ne i{self.lanes} {bits}, 0", I1).text

    def where_any(self, mask: Value, compute: Callable[[], Value], otherwise: Value) -> Value:
        """Return `compute()` if any lane of the mask is set, else `otherwise`, by a branch.

        `compute` emits code for whole vectors into a block of its own, and selects itself between
        its result and `otherwise` where lanes differ.
        """
        return self._branch(mask, lambda: (compute(),), (otherwise,))[0]

    def _branch(
        self,
        mask: Value,
        compute: Callable[[], tuple[Value, ...]],
        otherwise: tuple[Value, ...],
    ) -> tuple[Value, ...]:
        start, rare, after = self.block, self.fresh_label("rare"), self.fresh_label("after")
        self.declarations[_UNLIKELY[0]] = _UNLIKELY[1]
        test = f"br i1 {self.any(mask)}, label %{rare}, label %{after}"
        self.lines.append(f"  {test}, !prof {_UNLIKELY[0]}")
        self.label(rare)
        computed = compute()
        end = self.block
        self.lines.append(f"  br label %{after}")
        self.label(after)
        return tuple(
            self.assign(
                f"phi {self.text_of(x.type)} [ {x.text}, %{start} ], [ {y.text}, %{end} ]", x.type
            )
            for x, y in zip(otherwise, computed, strict=True)
        )

    def rare(self, mask: Value, function: str, otherwise: Value, *values: Value) -> Value:
        """Return the scalar `function(*values)` where the mask is set, else `otherwise`.

        Lanes that are set are computed one by one in a block that is skipped when there are none.
        `function` is an external function, such as `sinf`, of the type of `otherwise`.
        """
        self.external(function, otherwise.type, len(values))
        return self.where_any(
            mask, lambda: self._lane_by_lane(mask, function, otherwise, values), otherwise
        )

    def _lane_by_lane(
        self, mask: Value, function: str, otherwise: Value, values: Sequence[Value]
    ) -> Value:
        scalar, vector = otherwise.type.name, self.text_of(otherwise.type)
        if self.lanes == 1:
            operands = ", ".join(f"{scalar} {value.text}" for value in values)
            return self.assign(f"call {scalar} @{function}({operands}) cold", otherwise.type)
        start = self.block
        lane, called, step, done = (
            self.fresh_label(stem) for stem in ("lane", "called", "step", "done")
        )
        index, result, following = self.fresh_name(), self.fresh_name(), self.fresh_name()
        merged, is_set, is_last = self.fresh_name(), self.fresh_name(), self.fresh_name()
        self.lines.append(f"  br label %{lane}")
        self.label(lane)
        self.lines += [
            f"  {index} = phi i32 [ 0, %{start} ], [ {following}, %{step} ]",
            f"  {result} = phi {vector} [ {otherwise.text}, %{start} ], [ {merged}, %{step} ]",
            f"  {is_set} = extractelement {self.text_of(I1)} {mask.text}, i32 {index}",
            f"  br i1 {is_set}, label %{called}, label %{step}",
        ]
        self.label(called)
        elements = [
            self.assign(f"extractelement {vector} {value.text}, i32 {index}", value.type)
            for value in values
        ]
        operands = ", ".join(f"{scalar} {element.text}" for element in elements)
        element = self.assign(f"call {scalar} @{function}({operands}) cold", otherwise.type)
        replaced = self.assign(
            f"insertelement {vector} {result}, {scalar} {element.text}, i32 {index}",
            otherwise.type,
        )
        self.lines.append(f"  br label %{step}")
        self.label(step)
        self.lines += [
            f"  {merged} = phi {vector} [ {result}, %{lane} ], [ {replaced.text}, %{called} ]",
            f"  {following} = add i32 {index}, 1",
            f"  {is_last} = icmp eq i32 {following}, {self.lanes}",
            f"  br i1 {is_last}, label %{done}, label %{lane}",
        ]
        self.label(done)
        return Value(merged, otherwise.type)

    # ---- tables

    def lookup(self, table: Sequence[float], index: Value, type: ScalarType) -> Value:
        """Return `table[index]` for the floats `table`, of which there are a power of two.

        Only the low bits of the integer `index` (of the size of `type`) count, so no lane reads
        beyond the table. A table that fits into one register is one permutation on AVX-512;
        elsewhere, and beyond, it is a gather from a constant of the module.
        """
        count = len(table)
        if count & (count - 1):
            raise ValueError(
                message("VectorBuilder.lookup", "len(table) must be a power of two", f"{count}")
            )
        elements = ", ".join(f"{type.name} {literal(number, type)}" for number in table)
        size = 512 // type.bits
        if self._has_avx512 and count <= size:
            repeated = ", ".join([elements] * (size // count))
            return avx512.permute(self, repeated, index, type)
        name = f"@table.{type.suffix}.{_digest(elements)}"
        whole = f"[{count} x {type.name}]"
        self.declarations[name] = f"{name} = private unnamed_addr constant {whole} [{elements}]"
        inside = self.and_(index, self.const(count - 1, index.type))
        kind = self._vector(self.lanes, index.type)
        pointers = self.assign(f"getelementptr {type.name}, ptr {name}, {kind} {inside.text}", type)
        vector = self.text_of(type)
        if self.lanes == 1:
            return self.assign(f"load {type.name}, ptr {pointers.text}", type)
        gather = f"llvm.masked.gather.v{self.lanes}{type.suffix}.v{self.lanes}p0"
        addresses, mask = f"<{self.lanes} x ptr>", self.text_of(I1)
        declared = f"{addresses}, {mask}, {vector}"
        self.declarations[gather] = f"declare {vector} @{gather}({declared})"
        aligned = f"{addresses} align {type.bits // 8} {pointers.text}"
        rest = f"{mask} splat (i1 true), {vector} zeroinitializer"
        return self.assign(f"call {vector} @{gather}({aligned}, {rest})", type)

    # ---- inside

    @property
    def _flags(self) -> str:
        return " contract" if self.contract else ""

    @property
    def _rounds_in_hardware(self) -> bool:
        return self.target.has("sse4.1") or self.target.has("neon")

    def _binary(self, operation: str, x: Value, y: Value) -> Value:
        return self.assign(f"{operation} {self.text_of(x.type)} {x.text}, {y.text}", x.type)

    def _cast(self, operation: str, x: Value, type: ScalarType) -> Value:
        text = f"{operation} {self.text_of(x.type)} {x.text} to {self.text_of(type)}"
        return self.assign(text, type)

    @staticmethod
    def _vector(lanes: int, type: ScalarType, *, scalar: bool = True) -> str:
        return type.name if lanes == 1 and scalar else f"<{lanes} x {type.name}>"


def _digest(text: str) -> str:
    # Equal tables share a name, in whatever order kernels of one module ask for them.
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"
