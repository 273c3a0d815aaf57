"""Operands of NumPy's functions as arrays, as `numpy.asarray` makes them, tracers kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.array_modules import module_of
from autodiff.base.dtypes import default_dtype
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import array_functions, primitives
from autodiff.numpy.dispatch import has_tracer
from autodiff.primitives.families import convert

_SUM = primitives["sum"]
_RESHAPE = primitives["reshape"]
_TRANSPOSE = primitives["transpose"]
_SLICE = primitives["slice"]


def array_of(value: Any) -> Any:
    """Return a traced value or array as it is, numbers and nested lists as arrays.

    A traced Python scalar loses its weakness, as `numpy.asarray` of the scalar would.
    """
    kind = type(value)
    if kind is Tracer:
        return convert(value, value.dtype) if value.variable.aval.weak else value
    if kind is np.ndarray:
        return value
    if kind in PYTHON_SCALARS:
        return np.asarray(value, default_dtype(kind))
    if module_of(value) is not None:
        return value
    if isinstance(value, list | tuple) and has_tracer(value):
        return array_functions["asarray"](value)
    return np.asarray(value)


def operand_of(value: Any) -> Any:
    """Return a list or tuple as an array; arrays, traced values and numbers as they are."""
    return array_of(value) if isinstance(value, list | tuple) else value


def common_type(x: Any, y: Any) -> tuple[Any, Any]:
    """Return two operands as arrays of one element type, NumPy's promotion of theirs."""
    x, y = array_of(x), array_of(y)
    if x.dtype != y.dtype:
        dtype = np.result_type(x.dtype, y.dtype)
        x, y = convert(x, dtype), convert(y, dtype)
    return x, y


def inexact(value: Any) -> Any:
    """Return an array of floating or complex type, integers and truth values as float64."""
    x = array_of(value)
    return x if x.dtype.kind not in "biu" else convert(x, default_dtype(float))


def sum_axes(x: Any, axes: tuple[int, ...]) -> Any:
    """Return the sum over `axes`, in the operand's own element type."""
    return bind_primitive(_SUM, (x,), {"axes": axes}) if axes else x


def reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """Return the elements of `x` in an array of `shape`."""
    return x if x.shape == shape else bind_primitive(_RESHAPE, (x,), {"shape": shape})


def permuted(x: Any, permutation: tuple[int, ...]) -> Any:
    """Return `x` with axis `permutation[i]` as axis i."""
    if permutation == tuple(range(x.ndim)):
        return x
    return bind_primitive(_TRANSPOSE, (x,), {"permutation": permutation})


def sliced(x: Any, axis: int, start: int, stop: int, step: int = 1) -> Any:
    """Return the elements at `range(start, stop, step)` along one axis."""
    ndim = x.ndim
    if start == 0 and stop == x.shape[axis] and step == 1:
        return x
    starts = tuple([start if i == axis else 0 for i in range(ndim)])
    stops = tuple([stop if i == axis else n for i, n in enumerate(x.shape)])
    steps = tuple([step if i == axis else 1 for i in range(ndim)])
    return bind_primitive(_SLICE, (x,), {"starts": starts, "stops": stops, "steps": steps})


def joined(parts: Any, axis: int) -> Any:
    """Return arrays laid end to end along `axis`, promoted to one element type."""
    arrays = [array_of(part) for part in parts]
    dtype = np.result_type(*[x.dtype for x in arrays])
    return bind_primitive(
        primitives["concatenate"], [convert(x, dtype) for x in arrays], {"axis": axis}
    )


def axis_index(axis: Any, ndim: int) -> int:
    """Return an axis counted from the front; one that does not exist is NumPy's AxisError."""
    position = axis.__index__()
    if not -ndim <= position < ndim:
        raise np.exceptions.AxisError(position, ndim)
    return position % ndim


def written_into(function: str, out: Any, result: Any) -> Any:
    """Make the traced array `out` stand for `result`, as NumPy writes into its `out` argument."""
    if type(out) is not Tracer or out.shape != result.shape:
        raise TypeError(
            message(
                function,
                "out must be a traced array of the result's shape",
                f"out={out!r}",
                line=user_line(),
                fix="leave out= away and use the returned array.",
            )
        )
    return out.replace_by(convert(result, out.dtype))
