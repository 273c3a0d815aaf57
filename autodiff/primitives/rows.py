"""Arrays with an open axis: as many rows as a loop made, which only its run tells.

What a `while` loop leaves behind for its reverse sweep has one row per iteration, and inside
another loop a ragged stack of such. An axis of unknown size (`UNKNOWN` in its type) stands for
unboundedly many rows, all zero beyond those that are stored. With that reading arrays of different
lengths add up, no rows at all are zeros, and rows may be padded where a stack needs them equal.
Such arrays are never seen by users: loops make them, loops read them, and the operations of this
file combine them on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.base.array_modules import module_of
from autodiff.ir.avals import UNKNOWN, ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import Samples, primitives
from autodiff.primitives.families import is_linear, library_op
from autodiff.primitives.higher_order import zeros


def padded_alike(arrays: Sequence[Any]) -> list[Any]:
    """Return arrays of one shape: shorter axes filled up with zeros at their ends.

    >>> [x.tolist() for x in padded_alike([np.ones(1), np.ones(3)])]
    [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    shapes = [np.shape(x) for x in arrays]
    if len(set(shapes)) <= 1:
        return list(arrays)
    full = tuple(map(max, zip(*shapes, strict=True)))
    return [padded_to(x, full) for x in arrays]


def padded_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Return `x` with zeros at the ends of axes that are shorter than `shape` has them."""
    if x.shape == shape:
        return x
    result = (module_of(x) or np).zeros(shape, x.dtype)
    result[tuple(map(slice, x.shape))] = x
    return result


def _joint_type(x: ArrayType, y: ArrayType) -> ArrayType:
    assert x.dtype == y.dtype and x.ndim == y.ndim, (x, y)
    shape = [m if m == n else UNKNOWN for m, n in zip(x.shape, y.shape, strict=True)]
    return array_type(tuple(shape), x.dtype)


def _linear_in_both(name: str) -> Any:
    """Return the derivative of an operation whose last two operands enter linearly."""

    def differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
        pairs = zip(tangents[-2:], operands[-2:], strict=True)
        moved = [zeros(x.aval) if t is None else t for t, x in pairs]
        return (bind_primitive(primitives[name], [*operands[:-2], *moved], {}),)

    return differentiate


def _in_front(x: Any, flag: bool, size: int) -> Any:
    """Return rows with the mapped axis first; shared ones are repeated."""
    if flag:
        return x
    params = {"shape": (size, *x.shape), "axes": tuple(range(1, x.ndim + 1))}
    return bind_primitive(primitives["broadcast"], (x,), params)


def _batch_of(name: str) -> Any:
    def batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        moved = [_in_front(x, flag, size) for x, flag in zip(operands, batched, strict=True)]
        return (bind_primitive(primitives[name], moved, {}),), (True,)

    return batch


def _add_rows_reference(x: Any, y: Any) -> Any:
    one, other = padded_alike([x, y])
    return one + other


add_rows = library_op(
    "add_rows",
    _add_rows_reference,
    doc="The sum of two arrays, one of which may have more rows than the other.",
    type_rule=_joint_type,
    differentiate=_linear_in_both("add_rows"),
    transpose=lambda cts, operands, params, mode: tuple(
        cts[0] if is_linear(x) else None for x in operands
    ),
    batch=_batch_of("add_rows"),
    samples=Samples(shapes=(((3, 2), (3, 2)),)),
)


def _select_rows_reference(mask: Any, x: Any, y: Any) -> Any:
    one, other = padded_alike([x, y])
    module = module_of(one) or np
    return module.where(
        module.reshape(mask, mask.shape + (1,) * (one.ndim - mask.ndim)), one, other
    )


def _select_rows_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    mask, x, y = operands
    (ct,) = cts
    nothing = zeros(ct.aval)
    return (
        None,
        bind_primitive(select_rows, (mask, ct, nothing), {}) if is_linear(x) else None,
        bind_primitive(select_rows, (mask, nothing, ct), {}) if is_linear(y) else None,
    )


select_rows = library_op(
    "select_rows",
    _select_rows_reference,
    doc="x where a mask over the leading axes is true, else y; either may have more rows.",
    type_rule=lambda mask, x, y: _joint_type(x, y),
    differentiate=_linear_in_both("select_rows"),
    transpose=_select_rows_transpose,
    batch=_batch_of("select_rows"),
    samples=Samples(
        operands=lambda dtype, random: (
            np.array([True, False, True]),
            random.uniform(-2, 2, (3, 2)).astype(dtype),
            random.uniform(-2, 2, (3, 2)).astype(dtype),
        )
    ),
)
