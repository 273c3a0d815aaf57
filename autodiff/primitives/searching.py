"""Finding where values belong in sorted arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import Samples
from autodiff.primitives.families import batch_to, library_op


def _reference(ordered: Any, values: Any, *, side: Any, batch_axes: int) -> Any:
    if batch_axes == 0:
        return np.searchsorted(ordered, values, side)
    found = np.empty_like(values, dtype=np.int64)
    for place in np.ndindex(*ordered.shape[:batch_axes]):
        found[place] = np.searchsorted(ordered[place], values[place], side)
    return found


def _type(ordered: ArrayType, values: ArrayType, *, side: str, batch_axes: int) -> ArrayType:
    assert ordered.ndim == batch_axes + 1, (ordered, batch_axes)
    assert ordered.shape[:batch_axes] == values.shape[:batch_axes], (ordered, values, batch_axes)
    assert ordered.dtype == values.dtype, (ordered, values)
    assert side in ("left", "right"), side
    return array_type(values.shape, np.dtype(np.int64))


def _batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    operands = [batch_to(x, m, size) for x, m in zip(operands, batched, strict=True)]
    shifted = {"side": params["side"], "batch_axes": params["batch_axes"] + 1}
    return (bind_primitive(searchsorted, operands, shifted),), (True,)


searchsorted = library_op(
    "searchsorted",
    _reference,
    doc="How many elements of a sorted row are below each value (side='right': not above it).",
    kind="library",
    type_rule=_type,
    batch=_batch,
    not_differentiable="it counts",
    dtypes="biuf",
    samples=Samples(
        shapes=(((5,), (4,)), ((2, 3), (2, 2, 2))),
        params=({"side": "left", "batch_axes": 0}, {"side": "right", "batch_axes": 1}),
    ),
)
