"""Functions that join arrays, split them and repeat their elements."""

from __future__ import annotations

from itertools import pairwise
from math import prod as product
from operator import index
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import Shape
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import array_functions, primitives
from autodiff.numpy.arguments import axis_of, refuse_out, renewed, sizes_of, view_of
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, reshaped, sliced
from autodiff.primitives.families import broadcast_to, convert

_CONCATENATE = primitives["concatenate"]

# ------------------------------------------------------------------------------------------ joining


def _arrays(function: str, values: Any, dtype: Any, casting: Any) -> list[Any]:
    """Return the entries of a sequence (or of an array's first axis) as arrays of one type."""
    arrays = [array_of(value) for value in values]
    if not arrays:
        raise ValueError(
            message(function, "there must be at least one array", "none", line=user_line())
        )
    found = [x.dtype for x in arrays]
    if dtype is None:
        first = found[0]
        dtype = first if all(d is first for d in found) else np.result_type(*found)
    else:
        dtype = np.dtype(dtype)
        for own in found:
            if not np.can_cast(own, dtype, casting):
                raise TypeError(
                    message(
                        function,
                        f"the arrays must be castable to dtype={dtype} by casting={casting!r}",
                        f"an array of {own}",
                        line=user_line(),
                    )
                )
    return [x if x.dtype is dtype else convert(x, dtype) for x in arrays]


def _joined(function: str, arrays: list[Any], axis: Any) -> Any:
    """Return arrays of one type laid end to end along an axis, their other axes checked."""
    first = arrays[0].shape
    axis = axis_of(function, axis, len(first))
    before, after = first[:axis], first[axis + 1 :]
    for x in arrays:
        shape = x.shape
        if shape[:axis] != before or shape[axis + 1 :] != after or len(shape) != len(first):
            raise ValueError(
                message(
                    function,
                    f"the arrays' shapes must be equal but for axis {axis}",
                    "shapes=" + ", ".join([str(x.shape) for x in arrays]),
                    line=user_line(),
                )
            )
    if len(arrays) == 1:
        return renewed(arrays[0])
    return bind_primitive(_CONCATENATE, arrays, {"axis": axis})


@array_function(np.concatenate)
def concatenate(
    arrays: Any,
    /,
    axis: Any = 0,
    out: Any = None,
    *,
    dtype: Any = None,
    casting: Any = "same_kind",
) -> Any:
    """Return arrays laid end to end along an existing axis, flattened first if it is None."""
    refuse_out("concatenate", out)
    parts = _arrays("concatenate", arrays, dtype, casting)
    if axis is None:
        parts, axis = [reshaped(x, (x.size,)) for x in parts], 0
    return _joined("concatenate", parts, axis)


array_function(np.concat, name="concat")(array_functions[np.concatenate])


@array_function(np.stack)
def stack(
    arrays: Any,
    axis: Any = 0,
    out: Any = None,
    *,
    dtype: Any = None,
    casting: Any = "same_kind",
) -> Any:
    """Return arrays of one shape laid side by side along a new axis."""
    refuse_out("stack", out)
    parts = _arrays("stack", arrays, dtype, casting)
    shape = parts[0].shape
    place = axis_of("stack", axis, len(shape) + 1)
    if any(x.shape != shape for x in parts):
        raise ValueError(
            message(
                "stack",
                "the arrays must have one shape",
                "shapes=" + ", ".join([str(x.shape) for x in parts]),
                line=user_line(),
            )
        )
    expanded = (*shape[:place], 1, *shape[place:])
    return _joined("stack", [reshaped(x, expanded) for x in parts], place)


def _raised(x: Any, shape_of: Any) -> Any:
    return reshaped(x, shape_of(x.shape))


@array_function(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """Return arrays stacked as rows: joined along the first of at least two axes."""
    parts = _arrays("vstack", tup, dtype, casting)
    parts = [_raised(x, lambda shape: (1,) * (2 - len(shape)) + shape) for x in parts]
    return _joined("vstack", parts, 0)


@array_function(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """Return arrays joined along the second axis, those of one axis along it."""
    parts = [
        _raised(x, lambda shape: shape or (1,)) for x in _arrays("hstack", tup, dtype, casting)
    ]
    return _joined("hstack", parts, 0 if parts[0].ndim == 1 else 1)


def _three_axes(shape: Shape) -> Shape:
    return (*shape, 1) if len(shape) == 2 else shape if len(shape) > 2 else (1, *(shape or (1,)), 1)


@array_function(np.dstack)
def dstack(tup: Any) -> Any:
    """Return arrays joined along the third axis, those with fewer axes raised to three."""
    parts = [_raised(x, _three_axes) for x in _arrays("dstack", tup, None, "same_kind")]
    return _joined("dstack", parts, 2)


@array_function(np.column_stack)
def column_stack(tup: Any) -> Any:
    """Return vectors as the columns of a matrix; matrices among them are joined as they are."""
    parts = _arrays("column_stack", tup, None, "same_kind")
    parts = [x if x.ndim > 1 else reshaped(x, (x.size, 1)) for x in parts]
    return _joined("column_stack", parts, 1)


@array_function(np.block)
def block(arrays: Any) -> Any:
    """Return an array put together from nested lists of blocks, innermost along the last axis."""

    def depth_of(value: Any) -> int:
        return 1 + max([depth_of(v) for v in value], default=0) if type(value) is list else 0

    def dimensions(value: Any) -> int:
        if type(value) is list:
            return max([dimensions(v) for v in value], default=0)
        return array_of(value).ndim

    depth = depth_of(arrays)
    ndim = max(depth, dimensions(arrays))

    def build(value: Any, level: int) -> Any:
        if type(value) is not list:
            x = array_of(value)
            return reshaped(x, (1,) * (ndim - x.ndim) + x.shape)
        parts = _arrays("block", [build(v, level + 1) for v in value], None, "same_kind")
        return _joined("block", parts, ndim - depth + level)

    result = build(arrays, 0)
    return renewed(result) if result is arrays else result


@array_function(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    """Return `values` joined to the end of `arr` along an axis, both flattened if it is None."""
    return concatenate((arr, values), axis=axis)


# ---------------------------------------------------------------------------------------- splitting


def _cuts(function: str, size: int, sections: Any, equal: bool) -> list[int]:
    """Return the positions at which pieces begin and the last one ends."""
    if isinstance(sections, tuple | list) or getattr(sections, "ndim", 0):
        inner = [index(i) for i in sections]
        return [0, *[min(max(i + size if i < 0 else i, 0), size) for i in inner], size]
    count = index(sections)
    if count <= 0 or (equal and size % count):
        raise ValueError(
            message(
                function,
                "the number of pieces must be positive and divide the axis evenly"
                if equal
                else "the number of pieces must be positive",
                f"{count} pieces of an axis of size {size}",
                line=user_line(),
                fix="use array_split for pieces of unequal size." if equal else None,
            )
        )
    small, larger = divmod(size, count)
    return [0, *[small * (i + 1) + min(i + 1, larger) for i in range(count)]]


def _pieces(function: str, ary: Any, sections: Any, axis: Any, equal: bool) -> list[Any]:
    x = array_of(ary)
    axis = axis_of(function, axis, x.ndim)
    cuts = _cuts(function, x.shape[axis], sections, equal)
    return [view_of(x, sliced(x, axis, start, max(start, stop))) for start, stop in pairwise(cuts)]


@array_function(np.split)
def split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
    """Return a list of pieces along an axis: so many equal ones, or cut before given positions."""
    return _pieces("split", ary, indices_or_sections, axis, True)


@array_function(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
    """Return a list of pieces along an axis, the first ones larger by one where they must be."""
    return _pieces("array_split", ary, indices_or_sections, axis, False)


@array_function(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Return a list of pieces along the first axis."""
    return _pieces("vsplit", ary, indices_or_sections, 0, True)


@array_function(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Return a list of pieces along the second axis, of a vector along its only one."""
    x = array_of(ary)
    return _pieces("hsplit", x, indices_or_sections, 0 if x.ndim == 1 else 1, True)


@array_function(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Return a list of pieces along the third axis."""
    return _pieces("dsplit", ary, indices_or_sections, 2, True)


@array_function(np.unstack)
def unstack(x: Any, /, *, axis: Any = 0) -> tuple[Any, ...]:
    """Return the elements along an axis as a tuple of arrays without that axis."""
    x = array_of(x)
    axis = axis_of("unstack", axis, x.ndim)
    rest = x.shape[:axis] + x.shape[axis + 1 :]
    return tuple(
        [view_of(x, reshaped(sliced(x, axis, i, i + 1), rest)) for i in range(x.shape[axis])]
    )


# ---------------------------------------------------------------------------------------- repeating


@array_function(np.tile)
def tile(A: Any, reps: Any) -> Any:
    """Return copies of an array laid side by side, `reps` of them along each axis."""
    x = array_of(A)
    counts = sizes_of(reps)
    ndim = max(x.ndim, len(counts))
    shape = (1,) * (ndim - x.ndim) + x.shape
    counts = (1,) * (ndim - len(counts)) + counts
    result = tuple([n * count for n, count in zip(shape, counts, strict=True)])
    if all(count == 1 for count in counts):
        tiled = reshaped(x, shape)
        return renewed(tiled) if tiled is x else tiled
    pairs = list(zip(counts, shape, strict=True))
    apart = reshaped(x, tuple([n for size in shape for n in (1, size)]))
    return reshaped(broadcast_to(apart, tuple([n for pair in pairs for n in pair])), result)


@array_function(np.repeat, method="repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    """Return each element repeated, so many times all of them or each its own number of times."""
    x = array_of(a)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    axis = axis_of("repeat", axis, x.ndim)
    size = x.shape[axis]
    if type(repeats) is Tracer:
        repeats = repeats.tolist()
    if not isinstance(repeats, tuple | list) and not getattr(repeats, "ndim", 0):
        count = index(repeats)
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        apart = reshaped(x, (*before, size, 1, *after))
        spread = broadcast_to(apart, (*before, size, count, *after))
        result = reshaped(spread, (*before, size * count, *after))
        return renewed(result) if result is a else result
    places = np.repeat(np.arange(size), np.asarray(repeats))
    return elements_at(x, places, axis)


def elements_at(x: Any, places: Any, axis: int) -> Any:
    """Return the elements at fixed positions along an axis."""
    return x[(slice(None),) * axis + (places,)]


@array_function(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    """Return an array of another shape filled with the elements of `a`, as often as it takes."""
    x = array_of(a)
    shape = sizes_of(new_shape)
    size = product(shape)
    flat = reshaped(x, (x.size,))
    if size == 0 or x.size == 0:
        return renewed(broadcast_to(x.dtype.type(0) * np.zeros((), np.bool), shape))
    copies = tile(flat, -(-size // x.size))
    result = reshaped(sliced(copies, 0, 0, size), shape)
    return renewed(result) if result is x else result
