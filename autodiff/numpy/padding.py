"""Functions that add elements to arrays or take some out: pad, insert, delete.

All of them act on one axis after another by positions that are known while tracing.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import primitives
from autodiff.numpy.arguments import axis_of, renewed
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.element_types import round_
from autodiff.numpy.joining import elements_at
from autodiff.numpy.operands import array_of, joined, permuted, reshaped, sliced
from autodiff.numpy.reductions import max_, mean_, min_
from autodiff.numpy.sequences import linspace
from autodiff.primitives.contraction import dot_general
from autodiff.primitives.families import broadcast_to, convert

_BY_POSITION = ("edge", "reflect", "symmetric", "wrap")
_BY_STATISTIC = {"maximum": max_, "minimum": min_, "mean": mean_}
_KEYWORDS = {
    "constant": {"constant_values"},
    "empty": set(),
    "linear_ramp": {"end_values"},
    "edge": set(),
    "wrap": set(),
    "reflect": {"reflect_type"},
    "symmetric": {"reflect_type"},
    "maximum": {"stat_length"},
    "minimum": {"stat_length"},
    "mean": {"stat_length"},
}


def _pairs(values: Any, ndim: int) -> list[tuple[Any, Any]]:
    """Return (before, after) for every axis from a number, a pair or a sequence of pairs."""
    if isinstance(values, dict):
        pairs = [(0, 0)] * ndim
        for axis, value in values.items():
            before, after = value if isinstance(value, tuple | list) else (value, value)
            pairs[axis_of("pad", axis, ndim)] = (before, after)
        return pairs
    if type(values) is Tracer and values.ndim == 0:
        return [(values, values)] * ndim
    spread = np.broadcast_to(np.asarray(values, dtype=object), (ndim, 2))
    return [(before, after) for before, after in spread]


def _along(x: Any, axis: int, size: int) -> tuple[int, ...]:
    return tuple([size if i == axis else n for i, n in enumerate(x.shape)])


def _runs(places: np.ndarray) -> list[tuple[int, int, int]]:
    """Return positions as runs (first, step, count) of steps 1, 0 or -1."""
    runs: list[tuple[int, int, int]] = []
    for place in places.tolist():
        if runs:
            first, step, count = runs[-1]
            if count == 1 and abs(place - first) <= 1:
                runs[-1] = (first, place - first, 2)
                continue
            if count > 1 and place == first + step * count:
                runs[-1] = (first, step, count + 1)
                continue
        runs.append((place, 1, 1))
    return runs


def _by_position(x: Any, axis: int, places: np.ndarray) -> Any:
    """Return the elements at fixed positions along an axis, as slices laid end to end."""
    parts = []
    for first, step, count in _runs(places):
        if step == 0:
            part = sliced(x, axis, first, first + 1)
            parts.append(broadcast_to(part, _along(x, axis, count)))
        else:
            parts.append(sliced(x, axis, first, first + step * count, step))
    return joined(parts, axis) if len(parts) > 1 else parts[0]


def _by_matrix(x: Any, axis: int, matrix: np.ndarray) -> Any:
    """Return the matrix applied along an axis."""
    dimensions = (((1,), (axis,)), ((), ()))
    product = bind_primitive(dot_general, (matrix, x), {"dimensions": dimensions})
    order = [*range(1, x.ndim)]
    order.insert(axis, 0)
    return permuted(product, tuple(order))


def _padded_axis(x: Any, axis: int, width: tuple[int, int], mode: str, options: Any) -> Any:
    before, after = width
    size = x.shape[axis]
    if mode in _BY_POSITION:
        if options == "odd":
            eye = np.eye(size, dtype=x.dtype)
            return _by_matrix(x, axis, np.pad(eye, (width, (0, 0)), mode=mode, reflect_type="odd"))
        places = np.pad(np.arange(size), width, mode=mode)
        return _by_position(x, axis, places)
    left, right = options
    if mode == "constant":
        edges = [
            broadcast_to(convert(array_of(value), x.dtype), _along(x, axis, count))
            for value, count in ((left, before), (right, after))
        ]
    elif mode == "linear_ramp":
        edges = [
            _ramp(left, sliced(x, axis, 0, 1), axis, before),
            _ramp(right, sliced(x, axis, size - 1, size), axis, after)[
                (slice(None),) * axis + (slice(None, None, -1),)
            ],
        ]
    else:
        edges = [
            broadcast_to(_statistic(mode, part, axis), _along(x, axis, count))
            for part, count in (
                (sliced(x, axis, 0, _stat_size(left, size)), before),
                (sliced(x, axis, size - _stat_size(right, size), size), after),
            )
        ]
    parts = [part for part, wanted in ((edges[0], before), (x, 1), (edges[1], after)) if wanted]
    return joined(parts, axis)


def _stat_size(value: Any, size: int) -> int:
    return size if value is None else min(index(value), size)


def _statistic(mode: str, part: Any, axis: int) -> Any:
    result = _BY_STATISTIC[mode](part, axis, keepdims=True)
    if part.dtype.kind in "iu":
        result = convert(round_(result), part.dtype)
    return result


def _ramp(end: Any, edge: Any, axis: int, count: int) -> Any:
    ramp = linspace(
        array_of(end),
        reshaped(edge, edge.shape[:axis] + edge.shape[axis + 1 :]),
        count,
        endpoint=False,
        axis=axis,
        dtype=edge.dtype,
    )
    return ramp


@array_function(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    """Return an array with elements added before and after each axis.

    Modes: constant, empty (zeros), edge, reflect, symmetric, wrap, linear_ramp, maximum, minimum,
    mean.
    """
    x = array_of(array)
    allowed = _KEYWORDS.get(mode) if isinstance(mode, str) else None
    if allowed is None or not set(kwargs) <= allowed:
        raise ValueError(
            message(
                "pad",
                f"on traced values mode must be one of {', '.join(_KEYWORDS)}, with its keywords",
                f"mode={mode!r}" + "".join(f", {name}" for name in sorted(kwargs)),
                line=user_line(),
            )
        )
    widths = [(index(before), index(after)) for before, after in _pairs(pad_width, x.ndim)]
    if any(count < 0 for width in widths for count in width):
        raise ValueError(
            message(
                "pad",
                "pad_width must not be negative",
                f"pad_width={pad_width}",
                line=user_line(),
            )
        )
    options: list[Any]
    if mode in _BY_POSITION:
        options = [kwargs.get("reflect_type", "even")] * x.ndim
    else:
        default = None if mode in _BY_STATISTIC else 0
        given = next(iter(kwargs.values()), default)
        options = _pairs(given, x.ndim)
    if mode in ("constant", "empty") and all(_is_zero(v) for pair in options for v in pair):
        return _embedded(x, widths)
    result = x
    for axis, (width, option) in enumerate(zip(widths, options, strict=True)):
        if any(width):
            result = _padded_axis(result, axis, width, mode, option)
    return renewed(result) if result is x else result


def _is_zero(value: Any) -> bool:
    return (
        type(value) is not Tracer and not np.any(value) and not np.any(np.signbit(np.real(value)))
    )


def _embedded(x: Any, widths: list[tuple[int, int]]) -> Any:
    """Return `x` with zeros around it."""
    if not any(map(any, widths)):
        return renewed(x)
    sizes = [(n, *width) for n, width in zip(x.shape, widths, strict=True)]
    params = {
        "shape": tuple([before + n + after for n, before, after in sizes]),
        "starts": tuple([before for n, before, after in sizes]),
        "stops": tuple([before + n for n, before, after in sizes]),
        "steps": (1,) * x.ndim,
    }
    return bind_primitive(primitives["embed"], (x,), params)


# ------------------------------------------------------------------------------- insert and delete


def _static(function: str, obj: Any) -> Any:
    """Return positions as NumPy takes them; traced ones must have values."""
    if type(obj) is Tracer:
        return np.asarray(obj.tolist())
    return obj


@array_function(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    """Return an array without the elements at positions along an axis, flattened if it is None."""
    x = array_of(arr)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    axis = axis_of("delete", axis, x.ndim)
    kept = np.delete(np.arange(x.shape[axis]), _static("delete", obj))
    return elements_at(x, kept, axis)


@array_function(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """Return an array with values inserted before positions along an axis, flattened if None."""
    x = array_of(arr)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    axis = axis_of("insert", axis, x.ndim)
    size = x.shape[axis]
    obj = _static("insert", obj)
    added = convert(array_of(values), x.dtype)
    places = np.arange(*obj.indices(size)) if isinstance(obj, slice) else np.asarray(obj)
    if places.dtype == np.bool:
        places = np.flatnonzero(places)
    elif places.size == 0:
        places = places.astype(np.intp)
    if places.size == 1:
        added = reshaped(added, (1,) * (x.ndim - added.ndim) + added.shape)
        if places.ndim == 0:
            order = [*range(1, added.ndim)]
            order.insert(axis, 0)
            added = permuted(added, tuple(order))
        count = added.shape[axis]
        places = np.repeat(places.reshape(1), count)
    else:
        count = places.size
    added = broadcast_to(added, _along(x, axis, count))
    order = np.insert(np.arange(size), places, np.arange(size, size + count))
    return elements_at(joined([x, added], axis), order, axis)
