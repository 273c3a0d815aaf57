"""Differences of neighbouring elements: diff, ediff1d, gradient; and the trapezoidal rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import (
    array_of,
    axis_index,
    inexact,
    joined,
    reshaped,
    sliced,
    sum_axes,
)
from autodiff.primitives.arithmetic import divide, subtract
from autodiff.primitives.comparison import not_equal
from autodiff.primitives.families import broadcast_to, convert

_ABSENT = object()


def _but_first(x: Any, axis: int) -> Any:
    size = x.shape[axis]
    return sliced(x, axis, min(1, size), size)


def _but_last(x: Any, axis: int) -> Any:
    return sliced(x, axis, 0, max(x.shape[axis] - 1, 0))


def _along(value: Any, like: Any, axis: int) -> Any:
    """Return `value` as an array that can be joined to `like` along `axis`; 0-d is one element."""
    x = array_of(value)
    if x.ndim:
        return x
    return broadcast_to(x, tuple(1 if i == axis else n for i, n in enumerate(like.shape)))


@array_function(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = _ABSENT, append: Any = _ABSENT) -> Any:
    """Return the n-th differences of neighbouring elements along an axis."""
    if n == 0:
        return a
    if n < 0:
        raise ValueError(f"diff: n must not be negative, got n={n}.")
    x = array_of(a)
    if x.ndim == 0:
        raise ValueError("diff: the array must have at least one axis, got shape=().")
    place = axis_index(axis, x.ndim)
    parts = [_along(y, x, place) for y in (prepend,) if y is not _ABSENT]
    parts.append(x)
    parts += [_along(y, x, place) for y in (append,) if y is not _ABSENT]
    if len(parts) > 1:
        x = joined(parts, place)
    difference = not_equal if x.dtype == bool else subtract
    for _ in range(n):
        x = difference(_but_first(x, place), _but_last(x, place))
    return x


@array_function(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Return the differences of neighbours in the flattened array, between the given ends."""
    x = array_of(ary)
    x = reshaped(x, (x.size,))
    steps = subtract(_but_first(x, 0), _but_last(x, 0))
    parts = []
    for name, end in (("to_begin", to_begin), ("to_end", to_end)):
        if end is None:
            continue
        end = array_of(end)
        if not np.can_cast(end.dtype, x.dtype, "same_kind"):
            raise TypeError(
                f"ediff1d: {name} must be castable to the array's type {x.dtype}, got {end.dtype}."
            )
        parts.append((name, convert(reshaped(end, (end.size,)), x.dtype)))
    ends = dict(parts)
    chain = [ends.get("to_begin"), steps, ends.get("to_end")]
    return joined([part for part in chain if part is not None], 0) if parts else steps


# ---------------------------------------------------------------------------------------- gradient


def _spacing(distances: Any, size: int) -> Any:
    """Return a number, or the distances between the coordinates where they are not all equal."""
    x = array_of(distances)
    if x.ndim == 0:
        return distances
    if x.ndim != 1 or x.shape[0] != size:
        raise ValueError(
            "gradient: distances must be numbers or coordinates, one for each element of the axis "
            f"({size}), got shape={x.shape}."
        )
    x = convert(x, np.float64) if x.dtype.kind in "iu" else x
    steps = subtract(_but_first(x, 0), _but_last(x, 0))
    if isinstance(steps, np.ndarray) and (steps == steps[0]).all():
        return steps[0]
    return steps


def _spacings(distances: tuple[Any, ...], shape: tuple[int, ...], axes: list[int]) -> list[Any]:
    if not distances:
        return [1.0] * len(axes)
    if len(distances) == 1 and array_of(distances[0]).ndim == 0:
        return list(distances) * len(axes)
    if len(distances) != len(axes):
        raise TypeError(
            f"gradient: there must be one distance, or one for each of {len(axes)} axes, "
            f"got {len(distances)}."
        )
    return [_spacing(d, shape[i]) for d, i in zip(distances, axes, strict=True)]


def _edges(h: Any, edge_order: int) -> tuple[list[Any], list[Any]]:
    """Return the weights of the first elements in the first, of the last in the last derivative."""
    is_uniform = not getattr(h, "ndim", 0)
    if edge_order == 1:
        first, last = (h, h) if is_uniform else (h[0], h[-1])
        return [-1.0 / first, 1.0 / first], [-1.0 / last, 1.0 / last]
    if is_uniform:
        return [-1.5 / h, 2.0 / h, -0.5 / h], [0.5 / h, -2.0 / h, 1.5 / h]
    p, q = h[0], h[1]
    first = [-(2.0 * p + q) / (p * (p + q)), (p + q) / (p * q), -p / (q * (p + q))]
    p, q = h[-2], h[-1]
    last = [q / (p * (p + q)), -(q + p) / (p * q), (2.0 * q + p) / (q * (p + q))]
    return first, last


def _gradient_along(f: Any, axis: int, h: Any, edge_order: int) -> Any:
    size = f.shape[axis]
    if size < edge_order + 1:
        raise ValueError(
            f"gradient: axis {axis} must have at least {edge_order + 1} elements for "
            f"edge_order={edge_order}, got {size}."
        )
    before, after = sliced(f, axis, 0, size - 2), sliced(f, axis, 2, size)
    if not getattr(h, "ndim", 0):
        interior = divide(subtract(after, before), 2.0 * h)
    else:
        column = tuple(-1 if i == axis else 1 for i in range(f.ndim))
        column = tuple(size - 2 if n == -1 else 1 for n in column)
        p, q = _but_last(h, 0), _but_first(h, 0)
        a = reshaped(-q / (p * (p + q)), column)
        b = reshaped((q - p) / (p * q), column)
        c = reshaped(p / (q * (p + q)), column)
        interior = a * before + b * sliced(f, axis, 1, size - 1) + c * after
    if edge_order == 1:
        first, last = (h, h) if not getattr(h, "ndim", 0) else (h[0], h[-1])
        start = divide(subtract(sliced(f, axis, 1, 2), sliced(f, axis, 0, 1)), first)
        stop = divide(
            subtract(sliced(f, axis, size - 1, size), sliced(f, axis, size - 2, size - 1)), last
        )
    else:
        first, last = _edges(h, edge_order)
        start = _weighted(f, axis, range(3), first)
        stop = _weighted(f, axis, range(size - 3, size), last)
    return joined([convert(part, f.dtype) for part in (start, interior, stop)], axis)


def _weighted(f: Any, axis: int, places: range, weights: list[Any]) -> Any:
    total = None
    for place, weight in zip(places, weights, strict=True):
        term = weight * sliced(f, axis, place, place + 1)
        total = term if total is None else total + term
    return total


@array_function(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Return the derivative of sampled values along each axis, by central differences.

    `varargs`: one distance, or for each axis a distance or the coordinates. At the two ends
    one-sided differences of order `edge_order` (1 or 2) are used. One axis gives an array, several
    a tuple.
    """
    values = inexact(f)
    if axis is None:
        axes = list(range(values.ndim))
    else:
        given = axis if isinstance(axis, tuple | list) else (axis,)
        axes = [axis_index(i, values.ndim) for i in given]
    if edge_order > 2:
        raise ValueError(f"gradient: edge_order must be 1 or 2, got edge_order={edge_order}.")
    spacings = _spacings(varargs, values.shape, axes)
    results = tuple(
        _gradient_along(values, i, h, edge_order) for i, h in zip(axes, spacings, strict=True)
    )
    return results[0] if len(axes) == 1 else results


@array_function(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """Return the integral along an axis by the trapezoidal rule, for coordinates or steps."""
    y = array_of(y)
    place = axis_index(axis, y.ndim)
    steps = dx
    if x is not None:
        x = array_of(x)
        if x.ndim == 1:
            steps = subtract(_but_first(x, 0), _but_last(x, 0))
            shape = [1] * y.ndim
            shape[place] = steps.shape[0]
            steps = reshaped(steps, tuple(shape))
        else:
            along = axis_index(axis, x.ndim)
            steps = subtract(_but_first(x, along), _but_last(x, along))
    pairs = steps * (_but_first(y, place) + _but_last(y, place)) / 2.0
    return sum_axes(pairs, (axis_index(axis, pairs.ndim),))
