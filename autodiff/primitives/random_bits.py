"""The hash that random numbers come from: threefry2x32."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.ir.primitive import Samples
from autodiff.primitives.blocks import in_blocks
from autodiff.primitives.families import elementwise

_WORD = np.dtype(np.uint32)

#: Left rotations of the four rounds between two additions of the key, which alternate (Salmon et
#: al. 2011, table 2, Threefry-2x32).
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))

#: Parity word of the key schedule for 32-bit words (the constant of Random123's threefry.h).
_PARITY = np.uint32(0x1BD11BDA)


def _hash(key0: Any, key1: Any, count0: Any, count1: Any) -> tuple[Any, Any]:
    """Return the hash of one block: 20 rounds, the key added first and after every four."""
    schedule = (key0, key1, key0 ^ key1 ^ _PARITY)
    x0 = count0 + key0
    x1 = count1 + key1
    x0, x1 = x0 + np.zeros_like(x1), x1 + np.zeros_like(x0)
    high = np.empty_like(x1)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 += x1
            np.right_shift(x1, np.uint32(32 - rotation), out=high)
            np.left_shift(x1, np.uint32(rotation), out=x1)
            x1 |= high
            x1 ^= x0
        x0 += schedule[(group + 1) % 3]
        x1 += schedule[(group + 2) % 3]
        x1 += np.uint32(group + 1)
    return x0, x1


def _threefry2x32(key0: Any, key1: Any, count0: Any, count1: Any) -> tuple[Any, ...]:
    return in_blocks(_hash, (key0, key1, count0, count1), (_WORD, _WORD))


def _lower_threefry2x32(o: Any, key0: Any, key1: Any, count0: Any, count1: Any) -> tuple[Any, Any]:
    """Return the hash of one block, step by step as `_hash`."""
    parity = o.bitwise_xor(o.bitwise_xor(key0, key1), int(_PARITY))
    schedule = (key0, key1, parity)
    x0, x1 = o.add(count0, key0), o.add(count1, key1)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = o.add(x0, x1)
            turned = o.bitwise_or(o.left_shift(x1, rotation), o.right_shift(x1, 32 - rotation))
            x1 = o.bitwise_xor(turned, x0)
        x0 = o.add(x0, schedule[(group + 1) % 3])
        x1 = o.add(o.add(x1, schedule[(group + 2) % 3]), group + 1)
    return x0, x1


def _words(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    if any(operand != _WORD for operand in operands):
        raise TypeError("threefry2x32 is defined for uint32.")
    return (_WORD,) * 4, (_WORD,) * 2


threefry2x32 = elementwise(
    "threefry2x32",
    _threefry2x32,
    doc="Two pseudo-random words for each key (two words) and counter (two words): the block "
    "cipher Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, Parallel random numbers: "
    "as easy as 1, 2, 3, SC 2011, section 3.3).",
    promote=_words,
    dtypes="u",
    outputs=2,
    public=False,
    not_differentiable="its values are integers",
    samples=Samples(span=(0, 2**32 - 1), points=(0, 1, 2**32 - 1)),
    lower=_lower_threefry2x32,
)
