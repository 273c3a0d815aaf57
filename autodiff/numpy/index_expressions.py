"""From an index expression to what it selects: NumPy's rules, worked out on shapes.

`locate(shape, index)` reads the expression once and returns a `Location`: slices along each axis,
index arrays for the axes that have one, and how the axes of the result are arranged. Reads and
writes (indexing.py) both start from it.

    x --slice--> part --drop integer axes--> kept --gather--> elements --arrange--> result

Integers known while tracing become slices of length 1; boolean arrays whose values are known become
integer arrays. Sources for the rules: NumPy's user guide, "Indexing on ndarrays".
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.array_modules import module_of
from autodiff.base.errors import ConcretizationError, message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import Shape
from autodiff.ir.builder import Tracer
from autodiff.ir.primitive import CACHE_LIMIT
from autodiff.numpy.dispatch import has_tracer
from autodiff.numpy.operands import array_of
from autodiff.primitives.arithmetic import add, where
from autodiff.primitives.comparison import less
from autodiff.primitives.families import broadcast_to, convert


@dataclass(frozen=True, slots=True)
class Location:
    """What an index expression selects from an array.

    `ranges`: the elements kept along each axis. `kept_shape`: the shape after that, without axes
    that integers select from. `axes`, `indices`: the axes of the latter that index arrays select
    from, and those arrays, all of one shape. `permutation`: the order in which the result has the
    axes of what is gathered. `shape`: of the result, with the axes that None adds. `in_range`:
    whether every index is known to be. `unique`: whether no element is known to be selected twice.
    `is_view`: whether NumPy's result would share memory with x.
    """

    ranges: tuple[range, ...]
    kept_shape: Shape
    axes: Shape
    indices: tuple[Any, ...]
    permutation: Shape
    shape: Shape
    in_range: bool
    unique: bool
    is_view: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """One axis of what is sliced, or one part of the expression that is none.

    `kind` is "slice", "integer", "array", "mask" (one entry per axis of the mask), "new" (None) or
    "ellipsis" (which stands for nothing: the slices it is short for are entries of their own).
    `group` counts the parts of the expression. `axis` is the axis of x, None where it has none.
    """

    kind: str
    group: int
    axis: int | None = None
    chosen: range | None = None
    array: Any = None


def index_error(
    requirement: str, got: str | None = None, fix: str | None = None, function: str = "index"
) -> IndexError:
    """Return an IndexError in the common form, with the user's line."""
    return IndexError(message(function, requirement, got, line=user_line(), fix=fix))


def has_no_value(tracer: Tracer) -> bool:
    """Return whether a tracer's value cannot be asked for (inside `jit`, or mapped by `vmap`)."""
    return tracer.recording.values is None


# ------------------------------------------------------------------------------- parts of the index


def _array_of_sequence(sequence: Sequence[Any]) -> Any:
    """Return a list of indices as an array; traced ones among them are stacked."""
    if not has_tracer(sequence):
        try:
            array = np.asarray(sequence)
        except ValueError:
            raise index_error(
                "a list used as an index must be rectangular", f"index={sequence!r}"
            ) from None
        return array.astype(np.int64) if array.size == 0 else array
    return array_of(sequence)


def as_index(entry: Any) -> Any:
    """Return one part of an index expression in one of few forms.

    These are None, Ellipsis, slice, int, or an integer or boolean array (traced or not) that is not
    a known 0-d integer.
    """
    if entry is None or entry is Ellipsis or type(entry) is int or type(entry) is slice:
        return entry
    if isinstance(entry, bool | np.bool_):
        return np.asarray(entry)
    if isinstance(entry, list | tuple):
        entry = _array_of_sequence(entry)
    if type(entry) is not Tracer and module_of(entry) is None:
        try:
            return operator.index(entry)
        except TypeError:
            raise _not_an_index(f"index={entry!r} of type {type(entry).__name__}") from None
    if not isinstance(entry.dtype, np.dtype) or entry.dtype.kind not in "biu":
        raise _not_an_index(f"an index of type {entry.dtype}")
    if type(entry) is not Tracer and entry.ndim == 0 and entry.dtype.kind != "b":
        return int(entry)
    return entry


def _not_an_index(got: str) -> IndexError:
    return index_error(
        "an index must be an integer, a slice, ..., None, or an array of integers or booleans",
        got,
        fix="convert the index with .astype(int).",
    )


def known_mask(mask: Any, fix: str) -> Any:
    """Return a boolean array's value; a ConcretizationError where it has none."""
    if type(mask) is not Tracer:
        return mask
    if has_no_value(mask):
        raise ConcretizationError(
            message(
                "index",
                "the number of elements that a boolean array selects must be known",
                f"a traced {mask.aval} of {mask.recording.name}",
                line=user_line(),
                fix=fix,
            )
        )
    return known_mask(mask.recording.value_of(mask, "index"), fix)


def _range_of(entry: slice, size: int) -> range:
    for bound in (entry.start, entry.stop, entry.step):
        if type(bound) is Tracer and has_no_value(bound):
            raise ConcretizationError(
                message(
                    "index",
                    "the bounds of a slice must be known",
                    f"a traced {bound.aval} of {bound.recording.name}",
                    line=user_line(),
                    fix="read x[start + numpy.arange(length)], or make the bound static "
                    "(static_argnums).",
                )
            )
    return range(*entry.indices(size))


def _without_ellipsis(entries: list[Any], ndim: int) -> list[tuple[int, Any]]:
    """Return the parts numbered, with the slices that the Ellipsis or the end is short for."""
    used = sum(
        (x.ndim if x.dtype.kind == "b" else 1) if hasattr(x, "dtype") else 1
        for x in entries
        if x is not None and x is not Ellipsis
    )
    if used > ndim:
        raise index_error(
            f"the index must select from at most {ndim} {'axis' if ndim == 1 else 'axes'}",
            f"an index for {used}",
        )
    places = [i for i, x in enumerate(entries) if x is Ellipsis]
    if len(places) > 1:
        raise index_error("an index must have at most one ellipsis (...)", f"{len(places)}")
    fill = [slice(None)] * (ndim - used)
    if not places:
        return list(enumerate([*entries, *fill]))
    (place,) = places
    numbered = list(enumerate(entries))
    return [*numbered[: place + 1], *((place, x) for x in fill), *numbered[place + 1 :]]


def check_mask(mask: Any, shape: Shape, axis: int) -> Any:
    """Return a boolean array; an IndexError if it does not fit the axes of `shape` from `axis`."""
    for i, (n, size) in enumerate(zip(mask.shape, shape[axis:], strict=False)):
        if n not in (0, size):  # NumPy takes a mask without elements for any axis
            raise index_error(
                "a boolean array must have the size of the axis it selects from",
                f"size {n} for axis {axis + i} of size {size}",
            )
    return mask


def _entries(shape: Shape, index: Any, mode: str | None) -> list[_Entry]:
    """Return the parts of an index expression, with the axes of `shape` they consume."""
    parts = [as_index(x) for x in (index if isinstance(index, tuple) else (index,))]
    found: list[_Entry] = []
    axis = 0
    for group, part in _without_ellipsis(parts, len(shape)):
        if part is None:
            found.append(_Entry("new", group))
        elif part is Ellipsis:
            found.append(_Entry("ellipsis", group))
        elif type(part) is slice:
            found.append(_Entry("slice", group, axis, _range_of(part, shape[axis])))
            axis += 1
        elif isinstance(part, int):
            found.append(_integer_entry(part, group, axis, shape[axis], mode))
            axis += 1
        elif part.dtype.kind == "b":
            mask = check_mask(part, shape, axis)
            mask = known_mask(
                mask,
                "select with autodiff.numpy.where(mask, x, 0), or write with "
                "x.at[mask].set(value).",
            )
            if mask.ndim == 0:
                found.append(_Entry("mask", group, array=np.zeros(int(bool(mask)), np.int64)))
            for offset, array in enumerate(mask.nonzero() if mask.ndim else ()):
                found.append(
                    _Entry("mask", group, axis + offset, range(shape[axis + offset]), array)
                )
            axis += part.ndim
        else:
            found.append(_Entry("array", group, axis, range(shape[axis]), part))
            axis += 1
    return found


def _integer_entry(value: int, group: int, axis: int, size: int, mode: str | None) -> _Entry:
    place = value + size if value < 0 else value
    if 0 <= place < size:
        return _Entry("integer", group, axis, range(place, place + 1))
    if mode is None:
        raise _out_of_bounds(value, axis, size)
    return _Entry("array", group, axis, range(size), np.asarray(value))


def _out_of_bounds(value: int, axis: int, size: int) -> IndexError:
    return index_error(
        f"an index into axis {axis} of size {size} must be in [{-size}, {size})",
        f"index={value}",
        fix='correct the index, or say what it does with x.at[index].get(mode="fill" | "clip" | '
        '"wrap").',
    )


# ------------------------------------------------------------------------------------- index arrays


def from_the_front(index: Any, axis: int, size: int, mode: str | None) -> tuple[Any, bool]:
    """Return an index array with negative indices counted from 0, and whether all are in range.

    Indices whose values are known are checked; without a `mode` one that is out of range is an
    IndexError.
    """
    if type(index) is Tracer:
        if dtypes.kind(index.dtype) == "u":
            return index, False
        wide = index.dtype.itemsize >= 4 and size < 2**31
        index = convert(index, index.dtype if wide else np.int64)
        number = index.dtype.type
        return where(less(index, number(0)), add(index, number(size)), index), False
    if index.size == 0:
        return index.astype(np.int64), True
    low, high = int(index.min()), int(index.max())
    if -size <= low and high < size:
        index = index.astype(np.int64)
        return (index + size * (index < 0) if low < 0 else index), True
    if mode is None:
        raise _out_of_bounds(low if low < -size else high, axis, size)
    index = np.minimum(index, np.uint64(2**63 - 1)) if index.dtype == np.uint64 else index
    index = index.astype(np.int64)
    return index + size * (index < 0), False


def _broadcast_shape(arrays: Sequence[Any]) -> Shape:
    try:
        return np.broadcast_shapes(*(x.shape for x in arrays))
    except ValueError:
        raise index_error(
            "index arrays must broadcast together",
            "shapes=" + ", ".join(str(x.shape) for x in arrays),
        ) from None


# ------------------------------------------------------------------------------------------- layout

_basic_locations: dict[Any, Location] = {}


def _basic_key(shape: Shape, index: Any) -> Any:
    """Return what a location of integers, slices, None and ... depends on; None for others."""
    parts: list[Any] = [shape]
    for part in index if type(index) is tuple else (index,):
        if type(part) is slice:
            bounds = (part.start, part.stop, part.step)
            if any(bound is not None and type(bound) is not int for bound in bounds):
                return None
            parts.append(bounds)
        elif type(part) is int or part is None or part is Ellipsis:
            parts.append(part)
        else:
            return None
    return tuple(parts)


def locate(shape: Shape, index: Any, mode: str | None = None) -> Location:
    """Return what `index` selects from an array of `shape`.

    Args:
        shape: the array's shape.
        index: anything NumPy takes in x[index]; arrays in it may be traced.
        mode: what indices out of range do ("fill", "drop", "clip", "wrap", "promise"). None: one
            whose value is known is an IndexError.

    Raises:
        IndexError: as NumPy does; the message names axis and size.
        ConcretizationError: a boolean array's or a slice bound's value is needed and there is none.
    """
    key = _basic_key(shape, index) if mode is None else None
    found = _basic_locations.get(key) if key is not None else None
    if found is None:
        found = _arranged(_entries(shape, index, mode), mode)
        if key is not None:
            if len(_basic_locations) > CACHE_LIMIT:
                _basic_locations.clear()
            _basic_locations[key] = found
    return found


def _arranged(entries: list[_Entry], mode: str | None) -> Location:
    """Return the location that entries describe."""
    index_shape = _broadcast_shape([e.array for e in entries if e.array is not None])
    indices, axes, kept_shape = [], [], []
    in_range = True
    for entry in entries:
        if entry.kind in ("integer", "new", "ellipsis"):
            continue
        size = 1 if entry.chosen is None else len(entry.chosen)
        if entry.array is not None:
            array = entry.array
            if 0 in index_shape:  # NumPy does not look at indices that select nothing together
                array = np.zeros(index_shape, np.int64)
            elif entry.kind == "array":
                assert entry.axis is not None
                array, known = from_the_front(array, entry.axis, size, mode)
                in_range = in_range and known
            indices.append(broadcast_to(array, index_shape))
            axes.append(len(kept_shape))
        kept_shape.append(size)
    permutation, shape = _result_axes(entries, index_shape)
    kinds = {e.kind for e in entries}
    masks_of_result = (
        e
        for e in entries
        if e.kind == "mask" and e.axis is not None and e.array.shape == index_shape
    )
    return Location(
        ranges=tuple(e.chosen for e in entries if e.chosen is not None),
        kept_shape=tuple(kept_shape),
        axes=tuple(axes),
        indices=tuple(indices),
        permutation=permutation,
        shape=shape,
        in_range=in_range,
        unique=prod(index_shape) <= 1
        or any(masks_of_result)
        or (in_range and any(map(_is_ascending, indices))),
        is_view=bool(kinds & {"slice", "new", "ellipsis"})
        and not any(e.kind == "mask" or (e.array is not None and e.array.ndim) for e in entries),
    )


def _is_ascending(index: Any) -> bool:
    """Return whether an index array is known to have one axis and ever larger numbers."""
    return type(index) is np.ndarray and index.ndim == 1 and bool(np.all(index[1:] > index[:-1]))


def _result_axes(entries: list[_Entry], index_shape: Shape) -> tuple[Shape, Shape]:
    """Return the order in which the result has the axes of what is gathered, and its shape.

    The index arrays' axes stand where the arrays stood if those were neighbours, first if not;
    integers beside arrays count as arrays.
    """
    groups = {e.group for e in entries if e.kind in ("integer", "array", "mask")}
    together = bool(groups) and max(groups) - min(groups) + 1 == len(groups)
    place = min(groups) if together else -1
    sizes: list[int] = []
    sizes_before: list[int] = []
    slices = slices_before = 0
    for entry in entries:
        if entry.kind not in ("slice", "new"):
            continue
        before = entry.group < place
        size = 1 if entry.chosen is None else len(entry.chosen)
        (sizes_before if before else sizes).append(size)
        if entry.kind == "slice":
            slices += 1
            slices_before += before
    count = len(index_shape)
    permutation = (
        *range(count, count + slices_before),
        *range(count),
        *range(count + slices_before, count + slices),
    )
    return permutation, (*sizes_before, *index_shape, *sizes)
