"""Running sums and products, and the methods of ufuncs: reduce, accumulate, outer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import array_functions, primitives
from autodiff.numpy.arguments import axis_of, refuse_out
from autodiff.numpy.creation import ones_like, zeros_like
from autodiff.numpy.dispatch import array_function, recorded_as
from autodiff.numpy.operands import array_of, inexact, joined, reshaped
from autodiff.numpy.reductions import accumulated_type, logsumexp
from autodiff.primitives.families import convert


def _running(name: str, a: Any, axis: Any, dtype: Any) -> Any:
    """Return the running sum or product along an axis, of the flat array if it is None."""
    x = accumulated_type(array_of(a), dtype)
    if axis is None or x.ndim == 0:
        if axis is not None:
            axis_of(name, axis, 1)
        x, axis = reshaped(x, (x.size,)), 0
    axis = axis_of(name, axis, x.ndim)
    return bind_primitive(primitives[name], (x,), {"axis": axis, "reverse": False})


@array_function(np.cumsum, method="cumsum")
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Return the running sum along an axis, integers in 64 bits; None means the flat array."""
    refuse_out("cumsum", out)
    return _running("cumsum", a, axis, dtype)


@array_function(np.cumprod, method="cumprod")
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Return the running product along an axis; its derivatives are exact beside zeros."""
    refuse_out("cumprod", out)
    return _running("cumprod", a, axis, dtype)


def _cumulative(
    function: str, name: str, x: Any, axis: Any, dtype: Any, include_initial: bool, start: Any
) -> Any:
    x = array_of(x)
    if x.ndim == 0 or (axis is None and x.ndim > 1):
        raise ValueError(
            message(
                function,
                "the array must have an axis, and axis= must be given where it has several",
                f"shape={x.shape}, axis={axis}",
                line=user_line(),
            )
        )
    axis = axis_of(function, 0 if axis is None else axis, x.ndim)
    result = _running(name, x, axis, dtype)
    if not include_initial:
        return result
    shape = tuple([1 if i == axis else n for i, n in enumerate(x.shape)])
    return joined([start(result, shape=shape), result], axis)


@array_function(np.cumulative_sum)
def cumulative_sum(
    x: Any,
    /,
    *,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    include_initial: bool = False,
) -> Any:
    """Return the running sum along an axis, with `include_initial` starting from 0."""
    refuse_out("cumulative_sum", out)
    return _cumulative("cumulative_sum", "cumsum", x, axis, dtype, include_initial, zeros_like)


@array_function(np.cumulative_prod)
def cumulative_prod(
    x: Any,
    /,
    *,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    include_initial: bool = False,
) -> Any:
    """Return the running product along an axis, with `include_initial` starting from 1."""
    refuse_out("cumulative_prod", out)
    return _cumulative("cumulative_prod", "cumprod", x, axis, dtype, include_initial, ones_like)


# ------------------------------------------------------------------------------ methods of ufuncs


def _accumulate(
    name: str, type_of: Callable[[Any], Any], array: Any, axis: Any = 0, dtype: Any = None
) -> Any:
    """Return what the running operation `name` makes of an array brought to a type it takes."""
    x = type_of(array) if dtype is None else convert(array_of(array), np.dtype(dtype))
    axis = axis_of("accumulate", axis, x.ndim)
    return bind_primitive(primitives[name], (x,), {"axis": axis, "reverse": False})


def _outer(operation: Any, x: Any, y: Any) -> Any:
    """Return the operation on every pair of an element of `x` and one of `y`."""
    x, y = array_of(x), array_of(y)
    return operation(reshaped(x, x.shape + (1,) * y.ndim), y)


def _truth(value: Any) -> Any:
    return convert(array_of(value), bool)


for _ufunc, _function in (
    (np.add, np.sum),
    (np.multiply, np.prod),
    (np.maximum, np.max),
    (np.minimum, np.min),
    (np.logical_and, np.all),
    (np.logical_or, np.any),
):
    recorded_as((_ufunc, "reduce"), array_functions[_function], axis=0)
recorded_as((np.logaddexp, "reduce"), logsumexp, axis=0)
recorded_as((np.add, "accumulate"), array_functions[np.cumsum], axis=0)
recorded_as((np.multiply, "accumulate"), array_functions[np.cumprod], axis=0)
for _ufunc, _name, _type_of in (
    (np.maximum, "cummax", array_of),
    (np.minimum, "cummin", array_of),
    (np.logical_or, "cummax", _truth),
    (np.logical_and, "cummin", _truth),
    (np.logaddexp, "cumlogsumexp", inexact),
):
    recorded_as((_ufunc, "accumulate"), partial(_accumulate, _name, _type_of))
for _primitive in primitives.values():
    for _ufunc in _primitive.numpy:
        if isinstance(_ufunc, np.ufunc) and _ufunc.nin == 2:
            recorded_as((_ufunc, "outer"), partial(_outer, _primitive))
