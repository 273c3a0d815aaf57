"""Operands for the generic tests of gather, scatter and last_writes.

Indices repeat, and reach outside the array where the mode says what that means; `unique` and
"promise" are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.avals import Shape
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import Samples
from autodiff.primitives.indexing_layout import elements_shape


def _numbers(dtype: np.dtype, random: np.random.Generator, shape: Shape) -> Any:
    kind = dtypes.kind(dtype)
    if kind in "biu":
        return random.integers(0, 2 if kind == "b" else 7, size=shape).astype(dtype)
    numbers = random.uniform(0.5, 2.0, size=shape)
    return (numbers + 1j * random.normal(size=shape) if kind == "c" else numbers).astype(dtype)


def _indices(
    random: np.random.Generator, dtype: np.dtype, shape: Shape, size: int, params: dict[str, Any]
) -> Any:
    if params.get("unique"):
        picked = [random.permutation(size)[: shape[-1]] for _ in range(int(np.prod(shape[:-1])))]
        return np.reshape(picked, shape).astype(dtype)
    low = 0 if params["mode"] == "promise" or dtypes.kind(dtype) == "u" else -2
    high = size if params["mode"] == "promise" else size + 2
    return random.integers(low, high, size=shape).astype(dtype)


#: Per case: shape of the array, shape of each index array.
_LAYOUTS: dict[tuple[Shape, int], tuple[Shape, Shape]] = {
    ((0,), 0): ((5, 3), (4,)),
    ((1,), 0): ((3, 4), (2, 3)),
    ((0, 2), 0): ((4, 2, 3), (5,)),
    ((1,), 1): ((3, 4), (3, 2)),
    ((2,), 1): ((2, 3, 4), (2, 5)),
}


def _gather_operands(dtype: np.dtype, random: np.random.Generator, **params: Any) -> Any:
    shape, index_shape = _LAYOUTS[params["axes"], params["batch_axes"]]
    integer = np.dtype(np.int64)
    indices = [_indices(random, integer, index_shape, shape[i], params) for i in params["axes"]]
    return (_numbers(dtype, random, shape), *indices)


def _scatter_operands(dtype: np.dtype, random: np.random.Generator, **params: Any) -> Any:
    x, *indices = _gather_operands(dtype, random, **params)
    written = elements_shape(x.shape, indices[0].shape, params["axes"], params["batch_axes"])
    return (x, _numbers(dtype, random, written), *indices)


def _last_writes_operands(dtype: np.dtype, random: np.random.Generator, **params: Any) -> Any:
    return tuple(_indices(random, dtype, (3, 4), size, params) for size in params["sizes"])


def _places(axes: Shape, mode: str, batch_axes: int = 0, unique: bool = False) -> dict[str, Any]:
    return {"axes": axes, "mode": mode, "batch_axes": batch_axes, "unique": unique}


def _gather_params(*args: Any, fill: float | None = None, **kwargs: Any) -> dict[str, Any]:
    filled = None if fill is None else Literal(np.float64(fill))
    return {**_places(*args, **kwargs), "fill_value": filled}


GATHER = Samples(
    params=(
        _gather_params((0,), "clip"),
        _gather_params((1,), "wrap"),
        _gather_params((0, 2), "fill", fill=7.0),
        _gather_params((1,), "promise", 1, unique=True),
        _gather_params((2,), "fill", 1, fill=0.0),
    ),
    operands=_gather_operands,
)

SCATTER = Samples(
    params=(
        {**_places((0,), "clip"), "kind": "set"},
        {**_places((1,), "drop"), "kind": "add"},
        {**_places((0, 2), "drop"), "kind": "set"},
        {**_places((0, 2), "wrap"), "kind": "multiply"},
        {**_places((1,), "promise", 1, unique=True), "kind": "set"},
        {**_places((2,), "drop", 1), "kind": "max"},
        {**_places((1,), "wrap", 1), "kind": "min"},
        {**_places((2,), "clip", 1), "kind": "add"},
    ),
    operands=_scatter_operands,
)

LAST_WRITES = Samples(
    params=(
        {"sizes": (4,), "mode": "drop", "batch_axes": 0},
        {"sizes": (3, 2), "mode": "wrap", "batch_axes": 0},
        {"sizes": (4,), "mode": "clip", "batch_axes": 1},
    ),
    operands=_last_writes_operands,
)
