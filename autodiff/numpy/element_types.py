"""Element types: their names and relations, casts, complex parts, rounding; constants."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from autodiff.base import dtypes
from autodiff.base.array_modules import common_module
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import array_functions, methods, primitives, properties
from autodiff.numpy.arguments import refuse_out, renewed, view_of
from autodiff.numpy.creation import zeros_like
from autodiff.numpy.dispatch import array_function, public
from autodiff.numpy.operands import array_of
from autodiff.primitives import arithmetic
from autodiff.primitives.families import convert
from autodiff.primitives.rounding import rint
from autodiff.runtime.devices import default_array_module

_NAMES = (
    *("bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("intp", "uintp", "int_", "uint", "float16", "float32", "float64", "half", "single", "double"),
    *("complex64", "complex128", "csingle", "cdouble", "generic", "number", "integer"),
    *("signedinteger", "unsignedinteger", "inexact", "floating", "complexfloating"),
    *("ndarray", "dtype", "iinfo", "promote_types", "isdtype", "issubdtype", "broadcast_shapes"),
    *("pi", "e", "euler_gamma", "inf", "nan", "newaxis", "errstate"),
)
_constants: dict[str, Any] = {name: getattr(np, name) for name in _NAMES}
_constants["bfloat16"] = ml_dtypes.bfloat16
public.update(_constants)


# -------------------------------------------------------------------------------------- properties


@array_function(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    """Return the shape of an array."""
    return array_of(a).shape


@array_function(np.ndim)
def ndim(a: Any) -> int:
    """Return the number of axes of an array."""
    return array_of(a).ndim


@array_function(np.size)
def size(a: Any, axis: Any = None) -> int:
    """Return the number of elements of an array, or along an axis or several."""
    x = array_of(a)
    if axis is None:
        return x.size
    axes = axis if isinstance(axis, tuple) else (axis,)
    return int(np.prod([x.shape[i] for i in axes], dtype=np.int64))


def _device(x: Tracer) -> Any:
    """Return the device of the arrays a trace has met, the default one if it has met none."""
    known = list((x.recording.values or x.recording.constants).values())
    module = common_module(known) if known else default_array_module()
    return "cpu" if module is np else module.cuda.Device()


def _to_device(x: Tracer, device: Any, /, *, stream: Any = None) -> Tracer:
    """Return the traced value itself, which is where it is asked to be; it cannot be moved."""
    if device != x.device:
        raise ValueError(
            message(
                "to_device",
                "a traced value stays on its device",
                f"device={device!r} for one on {x.device!r}",
                line=user_line(),
                fix="move the arguments before the traced function is called.",
            )
        )
    return x


properties["device"] = _device
methods["to_device"] = _to_device


def _type_like(value: Any) -> Any:
    """Return what stands for a value in NumPy's type promotion: traced values by their type."""
    if type(value) is not Tracer:
        return value
    aval = value.aval
    return dtypes.python_type(aval.dtype)(0) if aval.weak else aval.dtype


@array_function(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """Return the type that arrays, numbers and types combine to."""
    return np.result_type(*map(_type_like, arrays_and_dtypes))


@array_function(np.can_cast)
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """Return whether a type, or the type of an array, may be cast to `to` by a casting rule."""
    return np.can_cast(from_.dtype if type(from_) is Tracer else from_, to, casting)


@array_function()
def finfo(dtype: Any) -> Any:
    """Return the limits of a floating type (or of an array's type), bfloat16 included."""
    dtype = np.dtype(dtype if isinstance(dtype, type) else getattr(dtype, "dtype", dtype))
    return ml_dtypes.finfo(dtype) if dtype == dtypes.bfloat16 else np.finfo(dtype)


# ------------------------------------------------------------------------------------------- casts


def _astype(
    x: Any,
    dtype: Any,
    order: Any = "K",
    casting: Any = "unsafe",
    subok: bool = True,
    copy: bool = True,
) -> Any:
    """Return a copy in another element type; with `copy=False` itself if it has that type."""
    x = array_of(x)
    dtype = np.dtype(dtype)
    if casting != "unsafe" and not np.can_cast(x.dtype, dtype, casting):
        raise TypeError(
            message(
                "astype",
                f"casting={casting!r} must allow the cast",
                f"{x.dtype} to {dtype}",
                line=user_line(),
            )
        )
    if x.dtype == dtype:
        return renewed(x) if copy else x
    return convert(x, dtype)


methods["astype"] = _astype


@array_function(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """Return a copy in another element type; with `copy=False` itself if it has that type."""
    return _astype(x, dtype, copy=copy)


def _view(x: Any, dtype: Any = None, type: Any = None) -> Any:
    """Return the same memory as another type of the same width; no derivative passes a change."""
    if dtype is None or np.dtype(dtype) == x.dtype:
        return view_of(x, array_of(x))
    dtype = np.dtype(dtype)
    if dtype.itemsize != x.dtype.itemsize:
        raise ValueError(
            message(
                "view",
                "a traced value can be viewed only as a type of the same width",
                f"{x.dtype} as {dtype}",
                line=user_line(),
                fix="use .astype to convert the numbers.",
            )
        )
    return view_of(x, bind_primitive(primitives["bitcast"], (array_of(x),), {"dtype": dtype}))


methods["view"] = _view
methods["copy"] = lambda x, order="C": renewed(array_of(x))
Tracer.__copy__ = lambda self: renewed(self)  # type: ignore[attr-defined]
Tracer.__deepcopy__ = lambda self, memo: renewed(self)  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------ complex parts


@array_function(np.real)
def real(val: Any) -> Any:
    """Return the real part."""
    x = array_of(val)
    return view_of(x, arithmetic.real(x) if dtypes.is_complex(x.dtype) else x)


@array_function(np.imag)
def imag(val: Any) -> Any:
    """Return the imaginary part, zeros of real numbers."""
    x = array_of(val)
    if not dtypes.is_complex(x.dtype):
        return zeros_like(x)
    return view_of(x, arithmetic.imag(x))


properties["real"] = array_functions[np.real]
properties["imag"] = array_functions[np.imag]


# ----------------------------------------------------------------------------------------- rounding


@array_function(np.round, np.around, method="round")
def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """Return numbers rounded to `decimals` places, halves to even; the derivative is 0."""
    refuse_out("round", out)
    x = array_of(a)
    if dtypes.is_complex(x.dtype):
        parts = (round_(arithmetic.real(x), decimals), round_(arithmetic.imag(x), decimals))
        return arithmetic.make_complex(*parts)
    if decimals >= 0 and dtypes.is_integer(x.dtype):
        return renewed(x)
    if decimals == 0:
        return rint(x)
    scale = 10.0 ** abs(decimals)
    result = rint(x * scale) / scale if decimals > 0 else rint(x / scale) * scale
    return convert(result, x.dtype) if dtypes.is_integer(x.dtype) else result


array_function(np.around, name="around")(array_functions[np.round])
