"""Element types: their names, families and relations. Bit widths and promotion are NumPy 2's."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from autodiff.base.settings import settings

bfloat16 = np.dtype(ml_dtypes.bfloat16)

#: The element types a graph may hold.
SUPPORTED: tuple[np.dtype, ...] = (
    np.dtype(bool),
    *(np.dtype(f"{sign}{bits}") for sign in ("int", "uint") for bits in (8, 16, 32, 64)),
    np.dtype(np.float16),
    bfloat16,
    np.dtype(np.float32),
    np.dtype(np.float64),
    np.dtype(np.complex64),
    np.dtype(np.complex128),
)

_KINDS = {dtype: "f" if dtype == bfloat16 else dtype.kind for dtype in SUPPORTED}


def kind(dtype: np.dtype) -> str:
    """Return one of "b", "i", "u", "f", "c"; anything unsupported is a TypeError."""
    found = _KINDS.get(dtype)
    if found is None:
        raise TypeError(
            f"array: the element type must be one of {', '.join(map(str, SUPPORTED))}, "
            f"got dtype={dtype}.\nTo fix: convert it with .astype before the traced function."
        )
    return found


def is_complex(dtype: np.dtype) -> bool:
    """Return whether `dtype` is complex64 or complex128."""
    return kind(dtype) == "c"


def is_float(dtype: np.dtype) -> bool:
    """Return whether `dtype` is a real floating type."""
    return kind(dtype) == "f"


def is_inexact(dtype: np.dtype) -> bool:
    """Return whether `dtype` is real floating or complex: whether it can carry a derivative."""
    return kind(dtype) in "fc"


def is_integer(dtype: np.dtype) -> bool:
    """Return whether `dtype` is a signed or unsigned integer type (bool is not)."""
    return kind(dtype) in "iu"


def is_bool(dtype: np.dtype) -> bool:
    """Return whether `dtype` is bool."""
    return kind(dtype) == "b"


def bound(dtype: np.dtype, sign: int) -> Any:
    """Return the smallest (-1) or largest (1) number of a type, infinite if one is: in both parts.

    >>> bound(np.dtype("int8"), -1), bound(np.dtype("float32"), 1)
    (np.int8(-128), np.float32(inf))
    """
    if is_bool(dtype):
        return dtype.type(sign > 0)
    if is_integer(dtype):
        limits = np.iinfo(dtype)
        return dtype.type(limits.max if sign > 0 else limits.min)
    infinite = sign * np.inf
    return dtype.type(complex(infinite, infinite) if is_complex(dtype) else infinite)


@cache
def real_dtype(dtype: np.dtype) -> np.dtype:
    """Return the type of the real part of `dtype`.

    >>> real_dtype(np.dtype("complex64"))
    dtype('float32')
    """
    if dtype == np.dtype(np.complex64):
        return np.dtype(np.float32)
    if dtype == np.dtype(np.complex128):
        return np.dtype(np.float64)
    return dtype


@cache
def complex_dtype(dtype: np.dtype) -> np.dtype:
    """Return the complex type whose parts can hold `dtype`: complex64 up to float32."""
    if is_complex(dtype):
        return dtype
    return np.dtype(np.complex128 if dtype.itemsize > 4 or is_integer(dtype) else np.complex64)


def default_float() -> np.dtype:
    """Return the type of a float literal that meets no array: float64 unless set otherwise."""
    return np.dtype(settings().default_float)


def default_dtype(scalar_type: type) -> np.dtype:
    """Return the array type of a lone Python scalar of `scalar_type`."""
    if scalar_type is bool:
        return np.dtype(bool)
    if scalar_type is int:
        return np.dtype(np.int64)
    return default_float() if scalar_type is float else complex_dtype(default_float())


def python_type(dtype: np.dtype) -> type:
    """Return the Python scalar type of the same kind as `dtype`."""
    return {"b": bool, "i": int, "u": int, "f": float, "c": complex}[kind(dtype)]
