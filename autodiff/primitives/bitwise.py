"""Operations on the bits of integers and truth values."""

from __future__ import annotations

from functools import partial

import numpy as np

from autodiff.ir.primitive import Samples
from autodiff.primitives.families import elementwise
from autodiff.primitives.lowering import operation

_bits = partial(elementwise, dtypes="biu", samples=Samples(span=(0, 6), points=(0, 1, 3)))

bitwise_and = _bits(
    "bitwise_and",
    np.bitwise_and,
    doc="Bits set in both.",
    operator="and",
    commutative=True,
    lower=operation("bitwise_and"),
)
bitwise_or = _bits(
    "bitwise_or",
    np.bitwise_or,
    doc="Bits set in one.",
    operator="or",
    commutative=True,
    lower=operation("bitwise_or"),
)
bitwise_xor = _bits(
    "bitwise_xor",
    np.bitwise_xor,
    doc="Bits set in exactly one.",
    operator="xor",
    commutative=True,
    lower=operation("bitwise_xor"),
)
invert = _bits(
    "invert", np.invert, doc="Every bit flipped.", operator="invert", lower=operation("invert")
)
left_shift = _bits(
    "left_shift",
    np.left_shift,
    doc="x times 2**y, dropping bits that leave.",
    operator="lshift",
    lower=operation("left_shift"),
)
right_shift = _bits(
    "right_shift",
    np.right_shift,
    doc="x over 2**y, rounded down.",
    operator="rshift",
    lower=operation("right_shift"),
)
bitwise_count = elementwise(
    "bitwise_count",
    np.bitwise_count,
    doc="Number of bits set in |x|.",
    dtypes="iu",
    samples=Samples(span=(0, 60), points=(0, 7)),
    lower=operation("bitwise_count"),
)
gcd = elementwise(
    "gcd",
    np.gcd,
    doc="Greatest common divisor.",
    dtypes="iu",
    commutative=True,
    samples=Samples(span=(0, 60), points=(0, 12)),
)
lcm = elementwise(
    "lcm",
    np.lcm,
    doc="Least common multiple.",
    dtypes="iu",
    commutative=True,
    samples=Samples(span=(0, 9), points=(0, 4)),
)
