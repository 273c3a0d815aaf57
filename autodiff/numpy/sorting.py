"""Sorting: sort, argsort, partitions and lexsort over the two sorting operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.ir.primitive import methods, primitives
from autodiff.numpy.arguments import axis_of
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, reshaped
from autodiff.primitives.sorting import take_permuted

_SORT, _ARGSORT = primitives["sort"], primitives["argsort"]


def _line(function: str, a: Any, axis: int | None, order: Any) -> tuple[Any, int]:
    """Return the array with the axis to sort along; None flattens it."""
    if order is not None:
        raise TypeError(
            message(function, "traced arrays have no fields to sort by", f"order={order!r}")
        )
    x = array_of(a)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    return x, axis_of(function, axis, x.ndim)


@array_function(np.sort)
def sort(
    a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """Return the array sorted along `axis`, NaN last. Always stable, so equal elements keep order.

    The cotangent of each place goes to the element that came there.
    """
    x, axis = _line("sort", a, axis, order)
    return _SORT(x, axis=axis)


@array_function(np.argsort, method="argsort")
def argsort(
    a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """Return the positions, int64, that sort the array along `axis`; always stable."""
    x, axis = _line("argsort", a, axis, order)
    return _ARGSORT(x, axis=axis)


@array_function(np.partition)
def partition(
    a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None
) -> Any:
    """Return the array partitioned at `kth` along `axis`: here, sorted, which is one partition."""
    return sort(a, axis, order=order)


@array_function(np.argpartition, method="argpartition")
def argpartition(
    a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None
) -> Any:
    """Return positions that partition the array at `kth` along `axis`: here, those that sort it."""
    return argsort(a, axis, order=order)


@array_function(np.lexsort)
def lexsort(keys: Any, axis: int = -1) -> Any:
    """Return the positions that sort by the last key, ties by the one before it, and so on."""
    rows = [array_of(key) for key in keys]
    if not rows:
        raise TypeError(message("lexsort", "there must be at least one key", "keys=()"))
    axis = axis_of("lexsort", axis, rows[0].ndim)
    order = _ARGSORT(rows[0], axis=axis)
    for row in rows[1:]:
        order = take_permuted(
            order, _ARGSORT(take_permuted(row, order, axis=axis), axis=axis), axis=axis
        )
    return order


def _sort_in_place(
    self: Any, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> None:
    self.replace_by(sort(self, axis, kind, order, stable=stable))


methods["sort"] = _sort_in_place
