"""Which counters are hashed for which element: the two layouts of JAX's threefry numbers.

The hash makes two words `(x0, x1)` from a key and a counter of two words. For the element number i
of n, in C order:

    partitionable: the counter is i itself, as a 64-bit number. 64 random bits are x0 and x1 (high,
        low), fewer are x0 ^ x1, truncated. Any part of an array can be drawn without the rest.
    older: the words 0, 1, ..., n-1 are cut into two halves, which are the counters' first and
        second words (if n is odd, the last second word is 0); the hash's words are joined again in
        that order. 64 bits take two words, i and i + n; of 16 or 8 bits, one word serves two or
        four successive elements, low bits first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import autodiff.numpy as anp
from autodiff.base.array_modules import common_module
from autodiff.base.settings import settings
from autodiff.ir.builder import Tracer
from autodiff.primitives.random_bits import threefry2x32
from autodiff.primitives.shapes import counting
from autodiff.random.arguments import (
    Shape,
    checked_dtype,
    checked_key,
    checked_shape,
    default_integer,
    fault,
)

_WORD = np.dtype(np.uint32)


@dataclass(frozen=True, slots=True)
class KeyWords:
    """The two words of one key, and the array module that its numbers are computed with."""

    first: Any
    second: Any
    module: Any

    def hash(self, count0: Any, count1: Any) -> tuple[Any, Any]:
        """Return the hash of counters: two arrays of words."""
        return threefry2x32(self.first, self.second, count0, count1)

    def hashed(self, number: Any) -> Any:
        """Return the key that the hash makes of the counter `(0, number)`."""
        return anp.stack(list(self.hash(_WORD.type(0), number)))

    def keys(self, shape: Shape) -> Any:
        """Return an array of keys, `uint32[*shape, 2]`."""
        if settings().threefry_partitionable:
            return anp.stack(list(self._hash_of_positions(shape)), axis=-1)
        first, second = self._hash_of_halves(2 * prod(shape))
        return anp.concatenate([first, second]).reshape((*shape, 2))

    def bits(self, shape: Shape, width: int) -> Any:
        """Return random bits as unsigned integers of `width` bits."""
        dtype = np.dtype(f"uint{width}")
        if settings().threefry_partitionable:
            first, second = self._hash_of_positions(shape)
            return _joined(first, second) if width == 64 else (first ^ second).astype(dtype)
        size = prod(shape)
        if width == 64:
            return _joined(*self._hash_of_halves(2 * size)).reshape(shape)
        count = -(-size * width // 32)
        words = anp.concatenate(list(self._hash_of_halves(count)))[:count]
        if width < 32:
            shifts = self.module.arange(0, 32, width, dtype=_WORD)
            words = (words[:, None] >> shifts).reshape(-1)[:size]
        return words.astype(dtype).reshape(shape)

    def _hash_of_positions(self, shape: Shape) -> tuple[Any, Any]:
        """Return the hash of each element's position (partitionable layout)."""
        size = prod(shape)
        if size <= 2**32:
            positions = self._counting(size, _WORD).reshape(shape)
            return self.hash(_WORD.type(0), positions)
        positions = self._counting(size, np.uint64).reshape(shape)
        return self.hash((positions >> np.uint64(32)).astype(_WORD), positions.astype(_WORD))

    def _hash_of_halves(self, count: int) -> tuple[Any, Any]:
        """Return the hash of the words 0, ..., count - 1 in two halves (older layout)."""
        if count >= 2**32:
            raise fault(
                ValueError,
                "bits",
                "in the older layout a draw must take fewer than 2**32 words",
                f"words={count}",
                "split the key and draw in parts, or use the setting threefry_partitionable=True.",
            )
        half = (count + 1) // 2
        first = self._counting(half, _WORD)
        second = first + _WORD.type(half)
        if count % 2:
            second = anp.where(first == half - 1, _WORD.type(0), second)
        return self.hash(first, second)

    def _counting(self, size: int, dtype: Any) -> Any:
        """Return 0, 1, ..., size - 1: an equation beside a traced key, so no constant to carry."""
        if type(self.first) is Tracer:
            return counting(self.first, size, dtype)
        return self.module.arange(size, dtype=dtype)


def key_words(key: Any) -> KeyWords:
    """Return the words of a key that has been checked."""
    return KeyWords(key[0], key[1], common_module((key,)))


def _joined(high: Any, low: Any) -> Any:
    """Return 64-bit words from their halves."""
    return (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)


def as_array(x: Any) -> Any:
    """Return NumPy's array scalars as arrays of shape (); what is an array already, as it is."""
    return np.asarray(x) if isinstance(x, np.generic) else x


def random_bits(key: Any, shape: Shape, width: int) -> Any:
    """Return `width` random bits for each element of `shape`, arguments already checked."""
    return as_array(key_words(key).bits(shape, width))


def bits(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Return uniformly distributed unsigned integers.

    >>> from autodiff.random import key
    >>> bits(key(0), (3,), "uint32")
    array([4070199207, 4202968722, 1427181096], dtype=uint32)

    Args:
        key: a key, `uint32[2]`.
        shape: the shape of the result.
        dtype: an unsigned integer type; default uint64 (uint32 if the default float is float32).

    Returns:
        An array of `shape` and `dtype`: every bit is 0 or 1 with equal probability.

    Raises:
        TypeError: `key` is not a key, or `dtype` not an unsigned integer type.
        ValueError: several keys, or a negative size.

    The bits are JAX's. Source: Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as
    1, 2, 3, SC 2011.
    """
    checked_key("bits", key)
    dtype = checked_dtype("bits", dtype, "u", default_integer(unsigned=True))
    return random_bits(key, checked_shape("bits", shape), 8 * dtype.itemsize)
