"""Reading and writing by index: x[index], x[index] = y and x.at[index], for traced values.

Also `at(x)` for any array. An index expression becomes a `Location` (index_expressions.py), a read
becomes slice and gather, a write overwrite and scatter.

A plain array indexed by a traced integer, `table[i]`, asks for the integer's value, which there may
not be; `autodiff.numpy.take(table, i)` and `at(table)[i].get()` record the read and need none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.array_modules import module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS, Shape
from autodiff.ir.builder import Tracer
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import methods, properties
from autodiff.numpy.arguments import renewed, view_of
from autodiff.numpy.index_expressions import Location, as_index, check_mask, index_error, locate
from autodiff.numpy.operands import permuted, reshaped
from autodiff.primitives.arithmetic import (
    add,
    divide,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    where,
)
from autodiff.primitives.families import broadcast_to, convert
from autodiff.primitives.indexing_layout import (
    elements_shape,
    gather_from,
    overwrite_by,
    scatter_into,
    slice_by,
)

#: What users call the modes for indices out of range, and what reads and writes call them.
_READ_MODES = {
    "fill": "fill",
    "drop": "fill",
    "clip": "clip",
    "wrap": "wrap",
    "promise_in_bounds": "promise",
}
_WRITE_MODES = {**_READ_MODES, "fill": "drop", "drop": "drop"}


def _checked_mode(mode: str | None, modes: dict[str, str]) -> str | None:
    if mode is None:
        return None
    if mode not in modes:
        names = ", ".join(map(repr, modes))
        raise ValueError(
            message(
                "at", f"mode must be one of {names} or None", f"mode={mode!r}", line=user_line()
            )
        )
    return modes[mode]


def _check_has_elements(location: Location, mode: str) -> None:
    if mode in ("fill", "drop") or 0 in location.indices[0].shape:
        return
    for axis in location.axes:
        if location.kept_shape[axis] == 0:
            raise index_error(
                'an index array can select from an axis of size 0 only with mode "fill" or "drop"',
                f"mode={mode!r}",
            )


# -------------------------------------------------------------------------------------------- reads


def read(x: Any, location: Location, mode: str | None, fill_value: Literal | None = None) -> Any:
    """Return the elements of `x` at a location; `mode` (None: "fill") for indices out of range."""
    part = reshaped(slice_by(x, location.ranges), location.kept_shape)
    if location.axes:
        mode = "promise" if location.in_range else mode or "fill"
        _check_has_elements(location, mode)
        part = gather_from(
            part,
            location.indices,
            location.axes,
            mode=mode,
            fill_value=fill_value if mode == "fill" else None,
            unique=location.unique,
        )
        part = permuted(part, location.permutation)
    return reshaped(part, location.shape)


def getitem(x: Tracer, index: Any) -> Any:
    """Return x[index] of a traced value, by NumPy's rules.

    An index out of range whose value is known while tracing is an IndexError; one that is traced
    counts from the end if negative, and if it is still out of range reads NaN (integers: the
    smallest number, unsigned the largest; True). Integers, slices, None and ... give a view, as of
    arrays: it may not be written to while x is in use.

    Raises:
        IndexError: the index does not fit the array; the message names axis and size.
        ConcretizationError: a traced boolean array, or bound of a slice, without a value.
    """
    location = locate(x.shape, index)
    result = read(x, location, None)
    if location.is_view:
        return view_of(x, result)
    return renewed(x) if result is x else result


# ------------------------------------------------------------------------------------------- writes


def _assigned(value: Any, dtype: np.dtype) -> Any:
    """Return a value as NumPy's assignment converts it to the array's element type."""
    if type(value) is not Tracer and module_of(value) is None and type(value) not in PYTHON_SCALARS:
        value = np.asarray(value)
    is_complex = (
        type(value) is complex if type(value) in PYTHON_SCALARS else dtypes.is_complex(value.dtype)
    )
    if is_complex and dtypes.kind(dtype) not in "cb":
        raise TypeError(
            message(
                "assignment",
                f"a complex value cannot be written into an array of type {dtype}",
                line=user_line(),
                fix="write its real part (y.real), or make the array complex with .astype.",
            )
        )
    if type(value) in PYTHON_SCALARS:
        return np.asarray(value, dtype)
    return convert(value, dtype)


_RANK = {"b": 0, "u": 1, "i": 2, "f": 3, "c": 4}


def _combined(value: Any, dtype: np.dtype, function: str) -> Any:
    """Return a value as the array's element type, if NumPy's in-place operators would take it."""
    if type(value) is not Tracer and module_of(value) is None and type(value) not in PYTHON_SCALARS:
        value = np.asarray(value)
    if type(value) in PYTHON_SCALARS:
        rank = {bool: 0, int: 1, float: 3, complex: 4}[type(value)]
        name = type(value).__name__
    else:
        rank, name = _RANK[dtypes.kind(value.dtype)], str(value.dtype)
    if rank > _RANK[dtypes.kind(dtype)]:
        raise TypeError(
            message(
                function,
                f"the value must be of a type that fits into the array's {dtype}",
                f"type={name}",
                line=user_line(),
                fix="convert the array with .astype first.",
            )
        )
    return np.asarray(value, dtype) if type(value) in PYTHON_SCALARS else convert(value, dtype)


def _combine(kind: str, x: Any, value: Any) -> Any:
    if kind == "set":
        return value
    operation = {"add": add, "multiply": multiply, "min": minimum, "max": maximum}[kind]
    return operation(x, value)


def _fitted(value: Any, shape: Shape) -> Any:
    """Return a value broadcast to `shape`, without leading axes of size 1 that are too many."""
    extra = value.ndim - len(shape)
    if extra > 0 and value.shape[:extra] == (1,) * extra:
        value = reshaped(value, value.shape[extra:])
    try:
        fits = np.broadcast_shapes(value.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            message(
                "assignment",
                f"the value must broadcast to the selected elements' shape {shape}",
                f"shape={value.shape}",
                line=user_line(),
            )
        )
    return broadcast_to(value, shape)


def write(x: Any, location: Location, value: Any, kind: str, mode: str | None) -> Any:
    """Return `x` with `value` (of x's type) written at a location by `kind`.

    `kind` is "set", "add", "multiply", "min" or "max"; of several values for one element the last
    is set, the others are combined. `mode` (None: "drop") is for indices out of range.
    """
    value = _fitted(value, location.shape)
    if not location.axes:
        value = reshaped(value, location.kept_shape)
        if kind != "set":
            part = reshaped(slice_by(x, location.ranges), location.kept_shape)
            value = _combine(kind, part, value)
        return overwrite_by(x, reshaped(value, _lengths(location)), location.ranges)
    mode = "promise" if location.in_range else mode or "drop"
    _check_has_elements(location, mode)
    part = reshaped(slice_by(x, location.ranges), location.kept_shape)
    index_shape = location.indices[0].shape
    elements = elements_shape(location.kept_shape, index_shape, location.axes, 0)
    value = reshaped(value, tuple(elements[i] for i in location.permutation))
    value = permuted(value, tuple(map(location.permutation.index, range(len(elements)))))
    part = scatter_into(
        part,
        value,
        location.indices,
        location.axes,
        kind=kind,
        mode=mode,
        unique=location.unique,
    )
    if location.kept_shape == x.shape and _lengths(location) == x.shape and _in_order(location):
        return part
    return overwrite_by(x, reshaped(part, _lengths(location)), location.ranges)


def _lengths(location: Location) -> Shape:
    return tuple(map(len, location.ranges))


def _in_order(location: Location) -> bool:
    return all(chosen.step == 1 for chosen in location.ranges)


def _selection_mask(x: Any, index: Any) -> Any:
    """Return the boolean array that is the whole of `index`, None if it is something else."""
    if isinstance(index, tuple):
        if len(index) != 1:
            return None
        (index,) = index
    mask = as_index(index)
    if not hasattr(mask, "dtype") or mask.dtype.kind != "b" or mask.ndim > x.ndim:
        return None
    check_mask(mask, x.shape, 0)
    return mask if mask.shape == x.shape[: mask.ndim] else None


def write_by_mask(x: Any, mask: Any, value: Any, operation: Callable[[Any, Any], Any]) -> Any:
    """Return operation(x, value) where `mask` holds and `x` elsewhere; the value is one for all.

    Where the mask does not hold the operation sees 1, so that it cannot make NaN of what is unused.
    """
    rest = x.shape[mask.ndim :]
    mask = _over(mask, x.shape)
    value = where(mask, broadcast_to(_fitted(value, rest), x.shape), x.dtype.type(1))
    return where(mask, operation(x, value), x)


def _over(mask: Any, shape: Shape) -> Any:
    """Return a mask of leading axes as one of all axes."""
    return broadcast_to(reshaped(mask, (*mask.shape, *(1,) * (len(shape) - mask.ndim))), shape)


def setitem(x: Tracer, index: Any, value: Any) -> Tracer:
    """Return `x` with x[index] = value done, as NumPy's assignment would.

    The value is broadcast, and converted to x's element type. A traced index that is out of range
    writes nothing.

    Raises:
        IndexError: the index does not fit the array.
        TypeError: a complex value for a real array.
        ValueError: the value does not broadcast, or belongs to a transformation inside of x's.
    """
    result = at(x)[index].set(value)
    if result.recording is not x.recording:
        raise ValueError(
            message(
                "assignment",
                f"a value traced by {result.recording.name} cannot be written into an array from "
                f"outside of it",
                line=user_line(),
                fix="use the new value: y = x.at[index].set(value).",
            )
        )
    return result


# ---------------------------------------------------------------------------------------------- at


class IndexedElements:
    """The elements of an array at an index, to be read or replaced: `x.at[index]`.

    Every method returns a new array; `x` stays as it is. `mode` says what an index out of range
    does: "fill" (or "drop") reads `fill_value` and writes nothing, "clip" takes the nearest place,
    "wrap" counts modulo the axis's size, "promise_in_bounds" says that there is none. The default
    is "fill", but an index whose value is known while tracing raises an IndexError. Derivatives
    follow the mode. Negative indices count from the end in every mode.
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Any, index: Any) -> None:
        self.array = array
        self.index = index

    def __repr__(self) -> str:
        return f"at({self.array!r})[{self.index!r}]"

    def get(self, *, mode: str | None = None, fill_value: Any = None) -> Any:
        """Return the elements, a new array.

        `fill_value`: the number read in mode "fill" outside the array, by default NaN (integers:
        the smallest number, unsigned the largest; True).

        >>> import numpy as np
        >>> at(np.arange(3.0))[np.array([0, 5])].get(mode="fill", fill_value=-1)
        array([ 0., -1.])
        """
        x = self.array
        fill = None if fill_value is None else Literal(x.dtype.type(fill_value))
        checked = _checked_mode(mode, _READ_MODES)
        result = read(x, locate(x.shape, self.index, checked), checked, fill)
        return result if type(result) is Tracer else np.copy(result)

    def set(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array with the elements replaced: of several values for one the last stays.

        The value is broadcast, and converted to the array's type as NumPy's assignment does it.

        >>> import numpy as np
        >>> at(np.zeros(3))[[0, 2, 0]].set([1, 2, 3])
        array([3., 0., 2.])
        """
        value = _assigned(value, self.array.dtype)
        return self._written(value, "set", mode)

    def add(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array with `value` added; repeated elements receive every value.

        >>> import numpy as np
        >>> at(np.zeros(3))[[0, 2, 0]].add(1.0)
        array([2., 0., 1.])
        """
        return self._written(_combined(value, self.array.dtype, "at.add"), "add", mode)

    def subtract(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array with `value` subtracted; repeated elements receive every value."""
        value = _combined(value, self.array.dtype, "at.subtract")
        return self._written(negative(value), "add", mode)

    def multiply(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array multiplied by `value`; repeated elements by every value."""
        return self._written(_combined(value, self.array.dtype, "at.multiply"), "multiply", mode)

    def min(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array with the minimum of the elements and `value`; NaN if one is NaN."""
        return self._written(_combined(value, self.array.dtype, "at.min"), "min", mode)

    def max(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array with the maximum of the elements and `value`; NaN if one is NaN."""
        return self._written(_combined(value, self.array.dtype, "at.max"), "max", mode)

    def divide(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array divided by `value`; repeated elements by the product of the values."""
        dtype = self.array.dtype
        if not dtypes.is_inexact(dtype):
            raise TypeError(
                message(
                    "at.divide",
                    "the array must be of a floating or complex type",
                    f"type={dtype}",
                    line=user_line(),
                    fix="convert the array with .astype(float) first.",
                )
            )
        return self._powered(_combined(value, dtype, "at.divide"), divide, mode)

    def power(self, value: Any, *, mode: str | None = None) -> Any:
        """Return the array to the power `value`; repeated elements to the product of the values."""
        return self._powered(_combined(value, self.array.dtype, "at.power"), power, mode)

    def apply(self, function: Callable[[Any], Any], *, mode: str | None = None) -> Any:
        """Return the array with function(elements) in place of the elements.

        The function is called once, on the array of the selected elements.

        >>> import numpy as np
        >>> at(np.array([1.0, 4.0]))[1:].apply(np.sqrt)
        array([1., 2.])
        """
        x = self.array
        mask = _selection_mask(x, self.index)
        if mask is not None:
            mask = _over(mask, x.shape)
            return where(mask, _assigned(function(x), x.dtype), x)
        return self._replaced(function, mode)

    def _replaced(self, function: Callable[[Any], Any], mode: str | None) -> Any:
        """Read, apply and write back: right where no element is selected twice."""
        x = self.array
        location = locate(x.shape, self.index, _checked_mode(mode, _READ_MODES))
        elements = read(x, location, _checked_mode(mode, _READ_MODES))
        value = _assigned(function(elements), x.dtype)
        return write(x, location, value, "set", _checked_mode(mode, _WRITE_MODES))

    def _powered(self, value: Any, operation: Callable[[Any, Any], Any], mode: str | None) -> Any:
        """Apply an operation for which doing it by a, then b, is doing it by a * b."""
        x = self.array
        mask = _selection_mask(x, self.index)
        if mask is not None and value.ndim <= x.ndim - mask.ndim:
            return write_by_mask(x, mask, value, operation)
        checked = _checked_mode(mode, _WRITE_MODES)
        location = locate(x.shape, self.index, checked)
        if location.unique:
            fitted = _fitted(value, location.shape)
            return self._replaced(lambda elements: operation(elements, fitted), mode)
        ones = np.broadcast_to(x.dtype.type(1), x.shape)
        return operation(x, write(ones, location, value, "multiply", checked))

    def _written(self, value: Any, kind: str, mode: str | None) -> Any:
        x = self.array
        mask = _selection_mask(x, self.index)
        if mask is not None and value.ndim <= x.ndim - mask.ndim:
            return write_by_mask(x, mask, value, partial(_combine, kind))
        checked = _checked_mode(mode, _WRITE_MODES)
        return write(x, locate(x.shape, self.index, checked), value, kind, checked)


class At:
    """What `x.at` is: index it to say which elements are meant."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    def __getitem__(self, index: Any) -> IndexedElements:
        return IndexedElements(self.array, index)


def at(x: Any) -> At:
    """Return the functional form of x[index] = ...: `at(x)[index].set(y)` is a new array.

    Args:
        x: an array, traced or not, or what numpy.asarray makes one of.

    Returns:
        An object to be indexed; the result has methods set, add, subtract, multiply, divide, min,
        max, power, apply and get (see `IndexedElements`).

    >>> import numpy as np
    >>> at(np.arange(4.0))[1:3].multiply(10)
    array([ 0., 10., 20.,  3.])
    """
    return At(x if type(x) is Tracer or module_of(x) is not None else np.asarray(x))


methods["__getitem__"] = getitem
methods["__setitem__"] = setitem
properties["at"] = at
