"""Keys: from a seed, and from another key."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

import autodiff.numpy as anp
from autodiff.base import dtypes
from autodiff.random.arguments import checked_key, checked_shape, described, fault
from autodiff.random.layout import key_words


def key(seed: Any) -> Any:
    """Return the key of a seed: its high and its low 32 bits.

    >>> key(42)
    array([ 0, 42], dtype=uint32)
    >>> key(2**32 + 5)
    array([1, 5], dtype=uint32)

    Args:
        seed: an integer of at most 64 bits; negative ones by two's complement. A traced or NumPy
            integer of 32 bits or fewer has the high word 0, as in JAX, whatever its sign.

    Returns:
        The key, `uint32[2]`. It is JAX's with 64-bit types enabled; without them JAX ignores the
        high word.

    Raises:
        TypeError: the seed is not an integer.
        ValueError: it is an array, or needs more than 64 bits.
    """
    if type(seed) is int:
        if not -(2**63) <= seed < 2**64:
            raise fault(
                ValueError,
                "key",
                "seed must fit into 64 bits",
                f"seed={seed}",
                "take the seed modulo 2**64.",
            )
        return anp.array([(seed >> 32) & 0xFFFFFFFF, seed & 0xFFFFFFFF], dtype=np.uint32)
    if not hasattr(seed, "dtype") or not dtypes.is_integer(seed.dtype):
        raise fault(
            TypeError,
            "key",
            "seed must be an integer",
            f"seed={described(seed)}",
            "pass an int, for example key(0).",
        )
    if seed.shape != ():
        raise fault(
            ValueError,
            "key",
            "seed must be one integer",
            f"seed={described(seed)}",
            "map over the seeds with autodiff.vmap.",
        )
    wide = seed.dtype.itemsize == 8
    high = (seed >> 32 if wide else seed & 0).astype(np.uint32)
    return anp.stack([high, seed.astype(np.uint32)])


def split(key: Any, num: Any = 2) -> Any:
    """Return `num` new keys, statistically independent of each other and of `key`.

    A key that has been split should not be used again.

    >>> from autodiff.random import key
    >>> split(key(0))
    array([[1797259609, 2579123966],
           [ 928981903, 3453687069]], dtype=uint32)

    Args:
        key: a key, `uint32[2]`.
        num: how many keys, or a tuple: the shape of an array of keys.

    Returns:
        The keys, `uint32[num, 2]` or `uint32[*num, 2]`.

    Raises:
        TypeError: `key` is not a key, or `num` no integer.
        ValueError: several keys, or a negative `num`.
    """
    words = key_words(checked_key("split", key))
    shape = checked_shape("split", num if isinstance(num, tuple | list) else (num,), "num")
    return words.keys(shape)


def fold_in(key: Any, data: Any) -> Any:
    """Return a new key made of a key and a number, such as the number of a step or a layer.

    >>> from autodiff.random import key
    >>> fold_in(key(0), 7)
    array([2716826189,  292468403], dtype=uint32)

    Args:
        key: a key, `uint32[2]`.
        data: an integer from 0 to 2**32 - 1; of an array's element, the low 32 bits are used.

    Returns:
        The key, `uint32[2]`.

    Raises:
        TypeError: `key` is not a key, or `data` not an integer.
        ValueError: several keys, several numbers, or one out of range.
    """
    words = key_words(checked_key("fold_in", key))
    if hasattr(data, "dtype"):
        if not dtypes.is_integer(data.dtype):
            raise _not_an_integer(data)
        if data.shape != ():
            raise fault(
                ValueError,
                "fold_in",
                "data must be one integer",
                f"data={described(data)}",
                "map over the numbers with autodiff.vmap.",
            )
        return words.hashed(data.astype(np.uint32))
    try:
        number = index(data)
    except TypeError:
        raise _not_an_integer(data) from None
    if not 0 <= number < 2**32:
        raise fault(
            ValueError,
            "fold_in",
            "data must be from 0 to 2**32 - 1",
            f"data={number}",
            "take it modulo 2**32.",
        )
    return words.hashed(np.uint32(number))


def _not_an_integer(data: Any) -> Exception:
    return fault(
        TypeError,
        "fold_in",
        "data must be an integer",
        f"data={described(data)}",
        "pass an int, for example the number of the step.",
    )
