"""Diagonals and triangles of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.primitive import array_functions
from autodiff.numpy.arguments import axis_of, refuse_out
from autodiff.numpy.dispatch import array_function, recorded_as
from autodiff.numpy.operands import array_of, permuted, reshaped
from autodiff.primitives.arithmetic import where
from autodiff.primitives.families import broadcast_to
from autodiff.primitives.indexing_layout import embed_by, slice_by
from autodiff.primitives.shapes import positions


def _places(rows: int, columns: int, offset: int) -> range:
    """Return the places of a diagonal in the flattened matrix."""
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    start = offset if offset >= 0 else -offset * columns
    return range(start, start + count * (columns + 1), columns + 1) if count else range(0)


@array_function(np.diagonal, method="diagonal")
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Return the diagonal of the matrices that two axes make, as the result's last axis.

    `offset` counts diagonals upwards from the main one.
    """
    x = array_of(a)
    if x.ndim < 2:
        raise ValueError(
            message(
                "diagonal", "the array must have two axes", f"shape={x.shape}", line=user_line()
            )
        )
    axis1, axis2 = (axis_of("diagonal", axis, x.ndim) for axis in (axis1, axis2))
    if axis1 == axis2:
        raise ValueError(
            message(
                "diagonal", "the axes must be distinct", f"axis={axis1} twice", line=user_line()
            )
        )
    others = tuple(i for i in range(x.ndim) if i not in (axis1, axis2))
    x = permuted(x, (*others, axis1, axis2))
    *lead, rows, columns = x.shape
    flat = reshaped(x, (*lead, rows * columns))
    return slice_by(flat, [*map(range, lead), _places(rows, columns, offset)])


@array_function(np.trace, method="trace")
def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    """Return the sum of the diagonal that two axes make."""
    refuse_out("trace", out)
    return array_functions[np.sum](diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


# The array API's forms, of the last two axes.
recorded_as(np.linalg.diagonal, diagonal, axis1=-2, axis2=-1)
recorded_as(np.linalg.trace, trace, axis1=-2, axis2=-1)


@array_function(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """Return the k-th diagonal of a matrix, or the square matrix with 1-d `v` as that diagonal."""
    x = array_of(v)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(
            message("diag", "the array must be 1-d or 2-d", f"shape={x.shape}", line=user_line())
        )
    size = x.shape[0] + abs(k)
    flat = embed_by(x, (size * size,), [_places(size, size, k)])
    return reshaped(flat, (size, size))


@array_function(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    """Return the square matrix with the elements of `v`, flattened, as its k-th diagonal."""
    x = array_of(v)
    return diag(reshaped(x, (x.size,)), k)


def _triangle(name: str, m: Any, k: int, lower: bool) -> Any:
    x = array_of(m)
    if x.ndim == 0:
        raise ValueError(message(name, "the array must have an axis", "shape=()", line=user_line()))
    if x.ndim == 1:  # NumPy repeats it as the rows of a square matrix
        x = broadcast_to(x, (x.shape[0], x.shape[0]))
    above = positions(x, -1, np.int64) - positions(x, -2, np.int64)
    return where(above <= k if lower else above >= k, x, x.dtype.type(0))


@array_function(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    """Return the matrices of the last two axes with 0 above the k-th diagonal."""
    return _triangle("tril", m, k, lower=True)


@array_function(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    """Return the matrices of the last two axes with 0 below the k-th diagonal."""
    return _triangle("triu", m, k, lower=False)
