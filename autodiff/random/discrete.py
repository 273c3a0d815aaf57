"""Distributions of integers and truth values: Bernoulli, uniform integers, categorical."""

from __future__ import annotations

from math import prod
from operator import index
from typing import Any

import numpy as np

import autodiff.numpy as anp
from autodiff.base.dtypes import default_float
from autodiff.ir.avals import type_of
from autodiff.random.arguments import (
    checked_axis,
    checked_broadcast,
    checked_choice,
    checked_dtype,
    checked_key,
    checked_number,
    checked_shape,
    default_integer,
    described,
    fault,
)
from autodiff.random.continuous import SIGNIFICAND, gumbel, unit_interval
from autodiff.random.keys import split
from autodiff.random.layout import as_array, random_bits


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, mode: str = "low") -> Any:
    """Return truth values that are True with probability `p`.

    >>> from autodiff.random import key
    >>> bernoulli(key(0), 0.5, (4,))
    array([ True,  True, False, False])

    Args:
        key: a key, `uint32[2]`.
        p: the probability, a float or an array of floats. Its element type decides how many bits
            are drawn: that of a float is the default float's.
        shape: the shape of the result, to which `p` broadcasts; default that of `p`.
        mode: "low" draws as many bits as the significand of `p` has, so that float32 probabilities
            below 1e-7 come out wrong; "high" draws twice as many.

    Returns:
        A bool array of `shape`. No derivative flows through it.

    Raises:
        TypeError: `key` is not a key, or `p` not a float.
        ValueError: several keys, a negative size, `p` that does not broadcast, an unknown mode.
    """
    checked_key("bernoulli", key)
    checked_choice("bernoulli", "mode", mode, ("low", "high"))
    if type(p) is not float:
        p = checked_number("bernoulli", "p", p, "f")
    dtype = default_float() if type(p) is float else type_of(p).dtype
    p = dtype.type(p) if type(p) is float else p
    shape = checked_broadcast("bernoulli", shape, {"p": p})
    if mode == "low":
        return as_array(unit_interval(key, shape, dtype) < p)
    pair = unit_interval(key, (2, *shape), dtype)
    return as_array(pair[1] * dtype.type(2.0 ** -SIGNIFICAND[dtype.name]) < p - pair[0])


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None) -> Any:
    """Return integers distributed uniformly in [minval, maxval).

    >>> from autodiff.random import key
    >>> randint(key(0), (5,), 0, 10, "int32")
    array([9, 0, 2, 3, 1], dtype=int32)

    Args:
        key: a key, `uint32[2]`.
        shape: the shape of the result.
        minval, maxval: integers, or arrays of them that broadcast to `shape`; they are clipped to
            the range of `dtype`, except that `maxval` may be one above it.
        dtype: an integer type; default int64 (int32 if the default float is float32).

    Returns:
        An array of `shape` and `dtype`; `minval` wherever `maxval` is not above it. Numbers are
        taken modulo `maxval - minval` from twice as many bits as `dtype` has (at least 64), so the
        probabilities are unequal by that much.

    Raises:
        TypeError: `key` is not a key, `dtype` or a bound not an integer.
        ValueError: several keys, a negative size, or bounds that do not broadcast to `shape`.
    """
    checked_key("randint", key)
    dtype = checked_dtype("randint", dtype, "iu", default_integer())
    minval = checked_number("randint", "minval", minval, "iu")
    maxval = checked_number("randint", "maxval", maxval, "iu")
    shape = checked_broadcast("randint", shape, {"minval": minval, "maxval": maxval})
    wide = dtype if dtype.itemsize >= 4 else np.dtype(np.int32)
    info = np.iinfo(dtype)
    lower, _ = _clipped(minval, int(info.min), int(info.max), wide)
    if wide != dtype:
        upper, beyond = _clipped(maxval, int(info.min), int(info.max) + 1, wide)[0], False
    else:
        upper, beyond = _clipped(maxval, int(info.min), int(info.max), wide)
    return as_array(_between(key, shape, lower, upper, beyond, wide).astype(dtype))


def _clipped(bound: Any, lowest: int, highest: int, dtype: np.dtype) -> tuple[Any, Any]:
    """Return a bound as `dtype`, clipped, and whether it was above `highest`."""
    if isinstance(bound, int):
        return dtype.type(min(max(bound, lowest), highest)), bound > highest
    info = np.iinfo(bound.dtype)
    least = bound.dtype.type(max(lowest, int(info.min)))
    greatest = bound.dtype.type(min(highest, int(info.max)))
    clipped = anp.minimum(anp.maximum(bound, least), greatest)
    return clipped.astype(dtype), bound > greatest


def _between(key: Any, shape: Any, lower: Any, upper: Any, beyond: Any, dtype: np.dtype) -> Any:
    """Return `lower` plus random bits modulo the span; `beyond` adds one to `upper`.

    The bits are those of two words, high * 2**bits + low. With m = 2**bits mod span their remainder
    is ((high mod span) m + low mod span) mod span, computed modulo 2**bits. A span of 2**bits,
    which is 0 here, takes the low word as it is.
    """
    width = 8 * dtype.itemsize
    word = np.dtype(f"uint{width}")
    high_key, low_key = split(key)
    high, low = random_bits(high_key, shape, width), random_bits(low_key, shape, width)
    one = word.type(1)
    with np.errstate(over="ignore"):
        difference = (upper - lower).astype(word)
        span = _selected(upper <= lower, one, _selected(beyond, difference + one, difference))
        whole = span == 0
        divisor = _selected(whole, one, span)
        half = word.type(2 ** (width // 2)) % divisor
        multiplier = (half * half) % divisor
        offset = ((high % divisor) * multiplier + low % divisor) % divisor
        return lower + _selected(whole, low, offset).astype(dtype)


def _selected(condition: Any, x: Any, y: Any) -> Any:
    """Return `where(condition, x, y)`; a plain truth value selects one of them as it is."""
    if isinstance(condition, bool | np.bool):
        return x if condition else y
    return anp.where(condition, x, y)


def categorical(
    key: Any,
    logits: Any,
    axis: int = -1,
    shape: Any = None,
    replace: bool = True,
    mode: str | None = None,
) -> Any:
    """Return indices drawn with probabilities softmax(logits) along `axis`.

    >>> from autodiff.random import key
    >>> import numpy as np
    >>> categorical(key(0), np.log([0.1, 0.1, 0.8]), shape=(5,))
    array([2, 2, 2, 1, 1])

    Args:
        key: a key, `uint32[2]`.
        logits: an array of floats, logarithms of probabilities, not necessarily normalised.
        axis: the axis of the categories.
        shape: the shape of the result; it ends in the shape of `logits` without `axis` (default).
        replace: whether an index may come up again among the draws along the leading axes of
            `shape`.
        mode: as in `gumbel`; "high" is right down to probabilities of 1e-14.

    Returns:
        An array of `shape`, int64 (int32 if the default float is float32). No derivative flows
        through it.

    Raises:
        TypeError: `key` is not a key, or `logits` not floats.
        ValueError: several keys, a shape that does not fit, a bad axis, or with `replace=False`
            more draws than categories.

    The index drawn is that of the largest logit plus Gumbel number, without replacement of the k
    largest (Kool, van Hoof and Welling, Stochastic beams and where to find them, ICML 2019).
    """
    checked_key("categorical", key)
    logits = checked_number("categorical", "logits", logits, "f")
    axis = checked_axis("categorical", index(axis), logits.ndim)
    batch = logits.shape[:axis] + logits.shape[axis + 1 :]
    result = batch if shape is None else checked_shape("categorical", shape)
    lead = result[: max(len(result) - len(batch), 0)]
    if np.broadcast_shapes(batch, batch) != batch or not _fits(result, batch):
        raise fault(
            ValueError,
            "categorical",
            "shape must end in the shape of logits without axis",
            f"shape={result}, logits={described(logits)}, axis={axis}",
            f"give a shape that ends in {batch}, or leave shape out.",
        )
    if not replace:
        return _distinct(key, logits, axis, lead, result, mode)
    tail = list(result[len(lead) :])
    tail.insert(axis, logits.shape[axis])
    noise = gumbel(key, (*lead, *tail), type_of(logits).dtype, mode)
    largest = anp.argmax(noise + logits, axis=axis - logits.ndim)
    return as_array(largest.astype(default_integer()))


def _fits(result: tuple[int, ...], batch: tuple[int, ...]) -> bool:
    """Return whether an array of shape `batch` broadcasts to `result`."""
    try:
        return np.broadcast_shapes(result, batch) == result
    except ValueError:
        return False


def _distinct(key: Any, logits: Any, axis: int, lead: Any, result: Any, mode: str | None) -> Any:
    """Return the indices of the largest noisy logits, as many as `lead` has places."""
    count = prod(lead)
    if count > logits.shape[axis]:
        raise fault(
            ValueError,
            "categorical",
            "without replacement there must be at least as many categories as draws",
            f"draws={count}, categories={logits.shape[axis]}",
            "draw fewer, or pass replace=True.",
        )
    noisy = logits + gumbel(key, logits.shape, type_of(logits).dtype, mode)
    order = largest_first(anp.moveaxis(noisy, axis, -1))[..., :count]
    return anp.moveaxis(order, -1, 0).reshape(result)


def largest_first(x: Any) -> Any:
    """Return the indices that sort the last axis in descending order, equal numbers in place."""
    return anp.argsort(-x, axis=-1, stable=True).astype(default_integer())
