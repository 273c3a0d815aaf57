"""The types of one lane of a vector, numbers of them as text and as bits, and values."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True, slots=True)
class ScalarType:
    """The type of one lane: LLVM's name of it, its size, and for floats its format.

    Integers have no sign: signedness belongs to the operation.

    Args:
        name: LLVM's name, such as `float` or `i32`.
        suffix: its name within the names of intrinsics, such as `f32`.
        bits: size of one lane.
        mantissa_bits: stored bits of the fraction; 0 for integers.
    """

    name: str
    suffix: str
    bits: int
    mantissa_bits: int = 0

    @property
    def is_float(self) -> bool:
        """Whether the lanes are floating-point numbers."""
        return self.mantissa_bits > 0

    @property
    def bias(self) -> int:
        """Exponent bias of a floating-point type: 127 for F32."""
        return (1 << (self.bits - self.mantissa_bits - 2)) - 1

    @property
    def integer(self) -> ScalarType:
        """The integer type of the same size."""
        return _INTEGERS[self.bits]


F16 = ScalarType("half", "f16", 16, 10)
BF16 = ScalarType("bfloat", "bf16", 16, 7)
F32 = ScalarType("float", "f32", 32, 23)
F64 = ScalarType("double", "f64", 64, 52)
I1 = ScalarType("i1", "i1", 1)
I8 = ScalarType("i8", "i8", 8)
I16 = ScalarType("i16", "i16", 16)
I32 = ScalarType("i32", "i32", 32)
I64 = ScalarType("i64", "i64", 64)
_INTEGERS = {1: I1, 8: I8, 16: I16, 32: I32, 64: I64}


@dataclass(frozen=True, slots=True)
class Value:
    """One operand: a register or a constant, as LLVM writes it, and the type of each lane."""

    text: str
    type: ScalarType


def literal(number: float | int, type: ScalarType) -> str:
    """Return `number`, rounded to `type`, as LLVM writes it.

    >>> literal(0.1, F32), literal(1.5, F16), literal(True, I1)
    ('0x3FB99999A0000000', '0xH3E00', 'true')
    """
    if not type.is_float:
        return str(int(number)) if type is not I1 else str(bool(number)).lower()
    if type is F16:
        return f"0xH{np.float16(number).view(np.uint16):04X}"
    if type is BF16:
        return f"0xR{np.array(number, ml_dtypes.bfloat16).view(np.uint16):04X}"
    # LLVM writes a float as the double of the same value.
    rounded = float(np.float32(number)) if type is F32 else float(number)
    return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"


def bits_of(number: float, type: ScalarType) -> int:
    """Return the bits of a number of type F32 or F64 as a signed integer."""
    if type is F32:
        return int(np.float32(number).view(np.int32))
    return int(np.float64(number).view(np.int64))
