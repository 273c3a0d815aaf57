"""Sorting along an axis: stable, NaN last, complex numbers by real and then imaginary part."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.dtypes import bfloat16
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import Samples, primitives
from autodiff.primitives.families import library_op, move_axis
from autodiff.primitives.indexing_layout import gather_from

_SHAPES = (((7,),), ((3, 5),), ((4, 3),), ((2, 5, 3),), ((0, 2),), ((1,),))
_SAMPLES = Samples(shapes=_SHAPES, params=tuple({"axis": axis} for axis in (0, 1, 0, 1, 0, 0)))


def _comparable(x: Any) -> Any:
    """Return `x` in a type whose order NumPy knows: bfloat16's sorts and NaNs need float32."""
    return x.astype(np.float32) if x.dtype == bfloat16 else x


def _sort_reference(x: Any, *, axis: int) -> Any:
    return np.sort(_comparable(x), axis=axis, kind="stable").astype(x.dtype, copy=False)


def _argsort_reference(x: Any, *, axis: int) -> Any:
    order = np.argsort(_comparable(x), axis=axis, kind="stable")
    return order.astype(np.int64, copy=False)


def _sort_type(x: ArrayType, *, axis: int) -> ArrayType:
    assert 0 <= axis < x.ndim, (x, axis)
    return array_type(x.shape, x.dtype)


def _argsort_type(x: ArrayType, *, axis: int) -> ArrayType:
    assert 0 <= axis < x.ndim, (x, axis)
    return array_type(x.shape, np.int64)


def _batch(name: str) -> Any:
    def rule(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        return (bind_primitive(primitives[name], operands, {"axis": params["axis"] + 1}),), (True,)

    return rule


def take_permuted(x: Any, order: Any, *, axis: int) -> Any:
    """Return `x` with each line along `axis` in the order that `order`, of its shape, gives.

    The numbers of each line of `order` must be a permutation: its transpose writes without adding.
    """
    last = x.ndim - 1
    if x.size == 0:
        return x
    taken = gather_from(
        move_axis(x, axis, last),
        (move_axis(order, axis, last),),
        (last,),
        batch_axes=last,
        unique=True,
    )
    return move_axis(taken, last, axis)


def _sort_differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    # The permutation is constant wherever no two elements are equal; where some are, it is the
    # stable one, so that equal elements keep their tangents in their order.
    return (take_permuted(tangents[0], argsort(operands[0], **params), **params),)


argsort = library_op(
    "argsort",
    _argsort_reference,
    doc="Positions, int64, that sort an array along `axis`: stable, NaN last.",
    kind="sort",
    type_rule=_argsort_type,
    not_differentiable="its result is an integer",
    batch=_batch("argsort"),
    samples=_SAMPLES,
)

sort = library_op(
    "sort",
    _sort_reference,
    doc="The elements in ascending order along `axis`, NaN last.",
    kind="sort",
    type_rule=_sort_type,
    differentiate=_sort_differentiate,
    batch=_batch("sort"),
    samples=_SAMPLES,
)
