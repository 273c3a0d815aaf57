"""Functions that make arrays, and those that turn other things into arrays.

New arrays are made on the default device, in the default float type where NumPy would take float64;
what depends on traced values is recorded. `zeros_like` and its kin, given a traced value, return a
traced value, so that traced numbers can be written into it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.array_modules import common_module, module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS, array_type
from autodiff.ir.builder import Tracer, record
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import array_functions, primitives
from autodiff.numpy.arguments import renewed, sizes_of
from autodiff.numpy.dispatch import array_function, has_tracer, plain_module
from autodiff.numpy.operands import array_of, joined, reshaped
from autodiff.primitives.families import broadcast_to, convert
from autodiff.runtime.devices import default_array_module


def new_array_module(device: Any = None) -> Any:
    """Return the module that makes new arrays: the default device's, or that of `device`."""
    if device is None:
        return default_array_module()
    if isinstance(device, str) and device == "cpu":
        return np
    if type(device).__module__.partition(".")[0] == "cupy":  # what an array there calls its device
        return sys.modules["cupy"]
    raise ValueError(
        message(
            "device",
            "the device must be None, 'cpu' or a CuPy device",
            f"device={device!r}",
            line=user_line(),
            fix="use autodiff.default_device('gpu') around the call.",
        )
    )


def _float_or(dtype: Any) -> Any:
    return dtypes.default_float() if dtype is None else dtype


# ------------------------------------------------------------------------------- things to arrays


def _leaf_dtypes(values: Any) -> set[np.dtype]:
    found: set[np.dtype] = set()
    for value in values:
        if isinstance(value, list | tuple):
            found |= _leaf_dtypes(value)
        else:
            kind = type(value)
            if kind in PYTHON_SCALARS:
                found.add(dtypes.default_dtype(kind))
            else:
                found.add(value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype)
    return found


def _stacked(values: Any, dtype: np.dtype) -> Any:
    """Return nested lists with traced values among them as one traced array."""
    if not isinstance(values, list | tuple):
        return convert(array_of(values), dtype)
    if not has_tracer(values):
        return convert(common_module(values).asarray(values), dtype)
    parts = [_stacked(value, dtype) for value in values]
    shapes = {part.shape for part in parts}
    if len(shapes) != 1:
        raise ValueError(
            message(
                "array",
                "the entries of a list must have one shape",
                "shapes=" + ", ".join(map(str, sorted(shapes))),
                line=user_line(),
            )
        )
    return joined([reshaped(part, (1, *part.shape)) for part in parts], 0)


def _as_array(value: Any, dtype: Any, device: Any) -> Any:
    """Return a value as an array or traced value; itself if it is one of the right type."""
    if type(value) is Tracer:
        wanted = value.dtype if dtype is None else np.dtype(dtype)
        return convert(value, wanted)
    if has_tracer((value,)):
        wanted = np.result_type(*_leaf_dtypes(value)) if dtype is None else np.dtype(dtype)
        return _stacked(value, wanted)
    module = module_of(value)
    if module is not None:
        return module.asarray(value, dtype)
    module = new_array_module(device)
    if isinstance(value, list | tuple):
        inner = plain_module(value)
        module = module if inner is np else inner
    result = module.asarray(value, dtype)
    default = dtypes.default_float()
    if dtype is None and default != np.float64 and only_python_scalars(value):
        if result.dtype == np.float64:
            return result.astype(default)
        if result.dtype == np.complex128:
            return result.astype(dtypes.complex_dtype(default))
    return result


def only_python_scalars(value: Any) -> bool:
    """Return whether a value, or nested lists, hold Python numbers and nothing else."""
    if isinstance(value, list | tuple):
        return all(map(only_python_scalars, value))
    return type(value) in PYTHON_SCALARS


@array_function()
def asarray(
    a: Any,
    dtype: Any = None,
    order: Any = None,
    *,
    device: Any = None,
    copy: bool | None = None,
    like: Any = None,
) -> Any:
    """Return `a` as an array; lists that hold traced values become a traced array.

    Arrays stay on their device; numbers and lists go to the default one.
    """
    result = _as_array(a, dtype, device)
    return renewed(result) if copy and result is a else result


@array_function()
def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    like: Any = None,
) -> Any:
    """Return a new array from an array, a number or nested lists, with at least `ndmin` axes."""
    result = asarray(object, dtype, copy=copy)
    if result.ndim < ndmin:
        result = reshaped(result, (1,) * (ndmin - result.ndim) + result.shape)
    return result


array_functions["asarray"] = asarray


@array_function(np.copy)
def copy_(a: Any, order: Any = "K", subok: bool = False) -> Any:
    """Return a copy: a traced value that can be written to without affecting `a`."""
    return renewed(array_of(a))


# --------------------------------------------------------------------------------- constant arrays


@array_function()
def zeros(
    shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None, like: Any = None
) -> Any:
    """Return an array of zeros."""
    return new_array_module(device).zeros(sizes_of(shape), _float_or(dtype), order)


@array_function()
def ones(
    shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None, like: Any = None
) -> Any:
    """Return an array of ones."""
    return new_array_module(device).ones(sizes_of(shape), _float_or(dtype), order)


@array_function()
def empty(
    shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None, like: Any = None
) -> Any:
    """Return an array whose elements are not set."""
    return new_array_module(device).empty(sizes_of(shape), _float_or(dtype), order)


@array_function()
def full(
    shape: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "C",
    *,
    device: Any = None,
    like: Any = None,
) -> Any:
    """Return an array filled with `fill_value`, which may be traced."""
    value = _as_array(fill_value, dtype, device)
    if type(value) is Tracer:
        return renewed(broadcast_to(value, sizes_of(shape)))
    result = common_module((value,)).empty(sizes_of(shape), value.dtype)
    result[...] = value
    return result


def _filled_like(a: Any, value: Any, dtype: Any, shape: Any) -> Any:
    """Return an array like `a` filled with `value`, traced if one of them is."""
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    shape = a.shape if shape is None else sizes_of(shape)
    value = convert(array_of(value), dtype)
    if type(a) is not Tracer or type(value) is Tracer:
        return renewed(broadcast_to(value, shape))
    atom = a.recording.capture(value)
    axes = tuple(range(len(shape) - value.ndim, len(shape)))
    params = {"shape": shape, "axes": axes}
    return record(
        a.recording, primitives["broadcast"], (atom,), params, (array_type(shape, dtype),)
    )


def _constant_like(a: Any, number: int, dtype: Any, shape: Any) -> Any:
    """Return an array like `a` filled with a number that belongs to the structure of a graph."""
    a = array_of(a)
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    shape = a.shape if shape is None else sizes_of(shape)
    if type(a) is not Tracer:
        return common_module((a,)).full(shape, number, dtype)
    params = {"shape": shape, "axes": ()}
    atoms = (Literal(dtype.type(number)),)
    return record(a.recording, primitives["broadcast"], atoms, params, (array_type(shape, dtype),))


@array_function(np.zeros_like)
def zeros_like(
    a: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """Return zeros of the shape and type of `a`."""
    return _constant_like(a, 0, dtype, shape)


@array_function(np.ones_like)
def ones_like(
    a: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """Return ones of the shape and type of `a`."""
    return _constant_like(a, 1, dtype, shape)


@array_function(np.empty_like)
def empty_like(
    prototype: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """Return an array of the shape and type of `prototype`; of a traced value it holds zeros."""
    return _constant_like(prototype, 0, dtype, shape)


@array_function(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """Return an array of the shape and type of `a` filled with `fill_value`."""
    return _filled_like(array_of(a), fill_value, dtype, shape)
