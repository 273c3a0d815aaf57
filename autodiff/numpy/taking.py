"""NumPy's functions that read by index: take, take_along_axis, compress, nonzero, searchsorted."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.errors import ConcretizationError, message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import methods
from autodiff.numpy.arguments import axis_of, refuse_out
from autodiff.numpy.dispatch import array_function, has_tracer, plain_module, recorded_as
from autodiff.numpy.index_expressions import from_the_front, has_no_value, index_error, locate
from autodiff.numpy.indexing import read
from autodiff.numpy.operands import array_of, common_type, reshaped
from autodiff.primitives.arithmetic import maximum, minimum, remainder, where
from autodiff.primitives.comparison import greater_equal
from autodiff.primitives.families import broadcast_to, convert, move_axis
from autodiff.primitives.indexing_layout import gather_from
from autodiff.primitives.searching import searchsorted as searchsorted_operation

_TAKE_MODES = {None: None, "raise": None, "clip": "clip", "wrap": "wrap", "fill": "fill"}


def _flat(x: Any) -> Any:
    return reshaped(x, (x.size,))


def _integers(function: str, indices: Any) -> Any:
    """Return indices as an array of integers."""
    found = array_of(indices)
    if type(found) is not Tracer and found.size == 0 and not hasattr(indices, "dtype"):
        found = found.astype(np.int64)
    if found.dtype.kind not in "iu":
        raise TypeError(
            message(
                function,
                "the indices must be integers",
                f"type={found.dtype}",
                line=user_line(),
                fix="convert them with .astype(int).",
            )
        )
    return found


@array_function(method="take")
def take(
    a: Any,
    indices: Any,
    axis: Any = None,
    out: Any = None,
    mode: str | None = None,
    *,
    fill_value: Any = None,
) -> Any:
    """Return the elements of `a` at `indices` along `axis` (None: of the flattened array).

    Args:
        a: the array.
        indices: integers, any shape; it takes the place of the axis in the result's shape.
        axis: the axis to select along.
        out: not for traced values.
        mode: "raise" (or None) is an IndexError where indices known while tracing are out of range;
            traced ones read `fill_value` there. "clip" takes the nearest element, also for negative
            indices; "wrap" counts modulo the axis's size; "fill" reads `fill_value`.
        fill_value: default NaN; of integers the smallest number, unsigned the largest; True.

    >>> import numpy as np
    >>> take(np.array([10, 20, 30]), [2, 0, -1])
    array([30, 10, 30])
    """
    if mode not in _TAKE_MODES:
        names = ", ".join(repr(name) for name in _TAKE_MODES if name)
        raise ValueError(
            message("take", f"mode must be one of {names}", f"mode={mode!r}", line=user_line())
        )
    if mode != "fill" and not has_tracer((a, indices)):
        return plain_module((a,)).take(a, indices, axis, out, mode or "raise")
    refuse_out("take", out)
    x = array_of(a)
    if axis is None:
        x, axis = _flat(x), 0
    axis = axis_of("take", axis, x.ndim)
    found = _integers("take", indices)
    if mode == "clip":  # NumPy's does not count negative indices from the end
        limit = found.dtype.type(min(max(x.shape[axis] - 1, 0), np.iinfo(found.dtype).max))
        found = minimum(maximum(found, found.dtype.type(0)), limit)
    checked = _TAKE_MODES[mode]
    fill = None if fill_value is None else Literal(x.dtype.type(fill_value))
    return read(x, locate(x.shape, (*[slice(None)] * axis, found), checked), checked, fill)


recorded_as(np.take, take)


@array_function(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    """Return the elements of `arr` at `indices` along `axis`, row by row.

    The other axes of both are matched, broadcast where one has size 1. Traced indices that are out
    of range read NaN (integers: the smallest number, unsigned the largest; True).
    """
    x = array_of(arr)
    found = _integers("take_along_axis", indices)
    if axis is None:
        x, axis = _flat(x), 0
    axis = axis_of("take_along_axis", axis, x.ndim)
    if found.ndim != x.ndim:
        raise ValueError(
            message(
                "take_along_axis",
                "indices and array must have the same number of axes",
                f"shapes={found.shape}, {x.shape}",
                line=user_line(),
            )
        )
    size, count = x.shape[axis], found.shape[axis]
    try:
        others = np.broadcast_shapes(
            *(tuple(n for i, n in enumerate(v.shape) if i != axis) for v in (x, found))
        )
    except ValueError:
        raise index_error(
            f"the axes other than axis {axis} must match",
            f"shapes={x.shape}, {found.shape}",
            function="take_along_axis",
        ) from None
    x = broadcast_to(x, (*others[:axis], size, *others[axis:]))
    found = broadcast_to(found, (*others[:axis], count, *others[axis:]))
    found, in_range = from_the_front(found, axis, size, None)
    last = x.ndim - 1
    taken = gather_from(
        move_axis(x, axis, last),
        (move_axis(found, axis, last),),
        (last,),
        mode="promise" if in_range else "fill",
        batch_axes=last,
        unique=count <= 1,
    )
    return move_axis(taken, last, axis)


# --------------------------------------------------------------------------- by a known condition


def value_of(function: str, x: Any) -> Any:
    """Return an array's value; a ConcretizationError that says why it is needed if it has none."""
    while type(x) is Tracer:
        if has_no_value(x):
            raise ConcretizationError(
                message(
                    function,
                    "the shape of the result depends on the value, which must be known",
                    f"a traced {x.aval} of {x.recording.name}",
                    line=user_line(),
                    fix="use autodiff.numpy.where(condition, x, 0), which keeps the shape.",
                )
            )
        x = x.recording.value_of(x, function)
    return array_of(x)


@array_function(np.nonzero, method="nonzero")
def nonzero(a: Any) -> tuple[Any, ...]:
    """Return the positions of elements that are not 0, one array of integers per axis.

    Their number depends on the value, so it must be known: not inside `jit` or `vmap`.
    """
    return value_of("nonzero", a).nonzero()


@array_function(np.argwhere)
def argwhere(a: Any) -> Any:
    """Return the positions of elements that are not 0, one row each; their value must be known."""
    value = value_of("argwhere", a)
    return plain_module((value,)).argwhere(value)


@array_function(np.flatnonzero)
def flatnonzero(a: Any) -> Any:
    """Return the positions of elements that are not 0 in the flattened array, a known one."""
    return _flat(value_of("flatnonzero", a)).nonzero()[0]


@array_function(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    """Return the elements of `a` along `axis` (None: flattened) where the 1-d `condition` holds.

    The condition's value must be known; it may be shorter than the axis.
    """
    held = value_of("compress", condition)
    if held.ndim != 1:
        raise ValueError(
            message("compress", "condition must be 1-d", f"shape={held.shape}", line=user_line())
        )
    return take(a, held.nonzero()[0], axis, out)


methods["compress"] = lambda self, condition, axis=None, out=None: compress(
    condition, self, axis, out
)


@array_function(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    """Return the elements of the flattened `arr` where the condition, a known one, holds."""
    return take(arr, _flat(value_of("extract", condition)).nonzero()[0])


# ------------------------------------------------------------------------------- search and choice


@array_function(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    """Return where the values `v` belong in the sorted 1-d array `a`: int64 of v's shape.

    The place is before equal elements, or after them with side="right"; its derivative is 0.
    """
    if side not in ("left", "right"):
        raise ValueError(
            message(
                "searchsorted", "side must be 'left' or 'right'", f"side={side!r}", line=user_line()
            )
        )
    ordered, values = common_type(a, v)
    if ordered.ndim != 1:
        raise ValueError(
            message("searchsorted", "a must be 1-d", f"shape={ordered.shape}", line=user_line())
        )
    if sorter is not None:
        ordered = take(ordered, sorter)
    return bind_primitive(
        searchsorted_operation, (ordered, values), {"side": side, "batch_axes": 0}
    )


methods["searchsorted"] = searchsorted


@array_function(np.choose, method="choose")
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """Return choices[a] element by element: `a` says which of the arrays each element is from.

    All are broadcast together. Out of range, "clip" takes the first or last choice, "wrap" counts
    modulo their number; "raise" is an IndexError for a known `a`, and clips a traced one.
    """
    refuse_out("choose", out)
    which = _integers("choose", a)
    arrays = [array_of(choice) for choice in choices]
    count = len(arrays)
    if mode == "wrap":
        which = remainder(which, np.int64(count))
    elif mode == "raise" and type(which) is not Tracer and which.size:
        low, high = int(which.min()), int(which.max())
        if low < 0 or high >= count:
            raise index_error(
                f"the choices must be in [0, {count})",
                f"{low if low < 0 else high}",
                function="choose",
            )
    dtype = np.result_type(*(x.dtype for x in arrays))
    result = convert(arrays[0], dtype)
    for number, array in enumerate(arrays[1:], start=1):
        result = where(greater_equal(which, np.int64(number)), convert(array, dtype), result)
    return broadcast_to(result, np.broadcast_shapes(which.shape, *(x.shape for x in arrays)))
