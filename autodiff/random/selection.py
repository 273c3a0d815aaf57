"""Random orders and random elements: permutation and choice."""

from __future__ import annotations

from math import ceil, log, prod
from operator import index
from typing import Any

import numpy as np

import autodiff.numpy as anp
from autodiff.base import dtypes
from autodiff.base.array_modules import common_module
from autodiff.base.dtypes import default_float
from autodiff.ir.avals import type_of
from autodiff.primitives.reproducible import reproducible_log
from autodiff.random.arguments import (
    Shape,
    checked_axis,
    checked_key,
    checked_number,
    checked_shape,
    default_integer,
    described,
    fault,
)
from autodiff.random.continuous import gumbel, uniform
from autodiff.random.discrete import largest_first, randint
from autodiff.random.keys import split
from autodiff.random.layout import as_array, random_bits


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Any:
    """Return `x` with the entries along an axis in random order.

    >>> from autodiff.random import key
    >>> permutation(key(0), 6)
    array([0, 1, 5, 4, 3, 2])

    Args:
        key: a key, `uint32[2]`.
        x: an array, or an integer n, which stands for 0, ..., n - 1.
        axis: the axis whose entries change places.
        independent: whether every vector along `axis` gets an order of its own.

    Returns:
        An array of the shape and element type of `x`; derivatives flow to `x`. For an integer the
        type is int64 (int32 if the default float is float32).

    Raises:
        TypeError: `key` is not a key, or `x` is neither an integer nor an array.
        ValueError: several keys, a negative integer, or a bad axis.

    Elements are sorted by random words, repeatedly, so often that all orders are equally likely up
    to a negligible error: ceil(3 log(n) / log(2**32 - 1)) times for n elements.
    """
    checked_key("permutation", key)
    x = _population("permutation", "x", x, key)
    axis = checked_axis("permutation", index(axis), x.ndim)
    if independent or x.ndim == 1:
        return _shuffled(key, x, axis)
    order = _shuffled(key, _integers(key, x.shape[axis]), 0)
    return anp.take(x, order, axis=axis)


def _integers(key: Any, count: int) -> Any:
    return common_module((key,)).arange(count, dtype=default_integer())


def _population(function: str, name: str, value: Any, key: Any) -> Any:
    """Return an array to select from; an integer n stands for 0, ..., n - 1."""
    if hasattr(value, "shape") and value.shape != ():
        return value
    try:
        count = index(value)
    except TypeError:
        raise fault(
            TypeError,
            function,
            f"{name} must be an integer or an array with an axis",
            f"{name}={described(value)}",
            "pass an int, or convert the value with numpy.asarray.",
        ) from None
    if count < 0:
        raise fault(
            ValueError,
            function,
            f"{name} must not be negative",
            f"{name}={count}",
            "give the number of elements.",
        )
    return _integers(key, count)


def _shuffled(key: Any, x: Any, axis: int) -> Any:
    """Return `x` sorted along `axis` by random words, as many times as the size asks for."""
    size = prod(x.shape)
    rounds = ceil(3 * log(max(1, size)) / log(2**32 - 1))
    for _ in range(rounds):
        key, sort_key = split(key)
        words = random_bits(sort_key, x.shape, 32)
        order = anp.argsort(words, axis=axis, stable=True)
        x = anp.take_along_axis(x, order, axis=axis)
    return x


def choice(
    key: Any,
    a: Any,
    shape: Any = (),
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
    mode: str | None = None,
) -> Any:
    """Return random entries of an array.

    >>> from autodiff.random import key
    >>> choice(key(0), 10, (4,))
    array([5, 1, 5, 7])

    Args:
        key: a key, `uint32[2]`.
        a: an array, or an integer n, which stands for 0, ..., n - 1.
        shape: how many entries to draw.
        replace: whether an entry may come up again.
        p: the probability of each entry, floats that need not sum to 1; default equal ones.
        axis: the axis of `a` along which its entries lie.
        mode: as in `gumbel`, which is used if `p` is given and `replace=False`.

    Returns:
        An array of the type of `a`, whose `axis` is replaced by `shape`; derivatives flow to `a`.

    Raises:
        TypeError: `key` is not a key, `a` neither integer nor array, or `p` not numbers.
        ValueError: several keys, a negative size, a bad axis, a `p` of the wrong length, nothing to
            choose from, or with `replace=False` more draws than entries.

    If `p` is given and `replace=True`, entries are found in the cumulative sums of `p`, which JAX
    adds in another order: a draw differs from JAX's only if it falls between two such sums, with a
    probability of about the length of `p` times the type's epsilon.
    """
    checked_key("choice", key)
    shape = checked_shape("choice", shape)
    a = _population("choice", "a", a, key)
    axis = checked_axis("choice", index(axis), a.ndim)
    count, draws = a.shape[axis], prod(shape)
    if p is not None:
        p = _checked_probabilities(p, count)
    if draws == 0:
        return common_module((a,)).zeros(
            a.shape[:axis] + shape + a.shape[axis + 1 :], dtype=a.dtype
        )
    if count == 0 or (not replace and draws > count):
        raise fault(
            ValueError,
            "choice",
            "there must be at least as many entries as draws without replacement, and at least one",
            f"entries={count}, draws={draws}",
            "draw fewer, or pass replace=True.",
        )
    if p is None and not replace:
        order = permutation(key, a, axis)
        chosen = order[(slice(None),) * axis + (slice(draws),)]
    else:
        chosen = anp.take(a, _indices(key, shape, replace, p, count, mode).reshape(-1), axis=axis)
    return as_array(chosen.reshape(a.shape[:axis] + shape + a.shape[axis + 1 :]))


def _checked_probabilities(p: Any, count: int) -> Any:
    p = checked_number("choice", "p", p, "biuf")
    if type_of(p).shape != (count,):
        raise fault(
            ValueError,
            "choice",
            "p must have one probability for each entry",
            f"p={described(p)}, entries={count}",
            f"give {count} numbers, of shape ({count},).",
        )
    return p if dtypes.is_float(p.dtype) else p.astype(default_float())


def _indices(key: Any, shape: Shape, replace: bool, p: Any, count: int, mode: str | None) -> Any:
    """Return the positions of the entries drawn."""
    if p is None:
        return randint(key, shape, 0, count)
    dtype = np.dtype(p.dtype)
    if not replace:
        noisy = gumbel(key, (count,), dtype, mode) + reproducible_log(p)
        return largest_first(noisy)[: prod(shape)]
    sums = anp.cumsum(p)
    point = sums[-1] * (dtype.type(1) - uniform(key, shape, dtype))
    return anp.searchsorted(sums, point)
