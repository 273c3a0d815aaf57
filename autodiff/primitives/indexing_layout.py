"""How the indexing operations lay out their operands, and the calls that apply them.

With `b` short for `batch_axes`:

    x        batch axes (the first b) + indexed axes (`axes`, b or later) + the others, in order
    indices  one integer array per indexed axis, all of one shape: batch axes + S
    elements batch axes + S + the others         (what gather returns and scatter takes)

    gather:   elements[i, s, o] = x[i, index_0[i, s], index_1[i, s], ..., o]

`mode` says what an index outside 0 ... n-1 does: "clip" takes the nearest, "wrap" counts modulo n,
"promise" means there is none, "fill" (gather) reads `fill_value`, "drop" (scatter) writes nothing.
`unique` promises that no two index tuples of a batch entry that are in range name the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.avals import Shape
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import primitives


def other_axes(ndim: int, axes: Shape, batch_axes: int) -> Shape:
    """Return the axes that are neither batch axes nor indexed, in order."""
    return tuple(i for i in range(batch_axes, ndim) if i not in axes)


def elements_shape(x_shape: Shape, index_shape: Shape, axes: Shape, batch_axes: int) -> Shape:
    """Return the shape of what gather reads and scatter writes."""
    return (*index_shape, *(x_shape[i] for i in other_axes(len(x_shape), axes, batch_axes)))


def _range_params(ranges: Sequence[range]) -> dict[str, Shape]:
    """Return ranges as parameters, in the one form that each choice of elements has."""
    starts, stops, steps = [], [], []
    for chosen in ranges:
        start, stop, step = chosen.start, chosen.stop, chosen.step
        if not chosen:
            start, stop, step = 0, 0, 1
        elif len(chosen) == 1:
            stop, step = start + 1, 1
        else:
            last = chosen[-1]
            stop = last + 1 if step > 0 else last - 1
        starts.append(start)
        stops.append(stop)
        steps.append(step)
    return {"starts": tuple(starts), "stops": tuple(stops), "steps": tuple(steps)}


def slice_by(x: Any, ranges: Sequence[range]) -> Any:
    """Return the elements of `x` that `ranges` name, one range per axis; `x` itself if all do."""
    if all(chosen == range(n) for chosen, n in zip(ranges, x.shape, strict=True)):
        return x
    return bind_primitive(primitives["slice"], (x,), _range_params(ranges))


def embed_by(x: Any, shape: Shape, ranges: Sequence[range]) -> Any:
    """Return zeros of `shape` with `x` where `slice_by` would read."""
    if all(chosen == range(n) for chosen, n in zip(ranges, shape, strict=True)):
        return x
    return bind_primitive(primitives["embed"], (x,), {"shape": shape, **_range_params(ranges)})


def overwrite_by(x: Any, updates: Any, ranges: Sequence[range]) -> Any:
    """Return `x` with `updates` where `slice_by` would read; a new array even if that is all."""
    return bind_primitive(primitives["overwrite"], (x, updates), _range_params(ranges))


def default_fill(dtype: np.dtype) -> Literal:
    """Return what a read outside an array gives, as a literal.

    That is NaN; of integers the smallest number, or the largest where there is no sign; and True.

    >>> default_fill(np.dtype("int8"))
    -128:int8
    """
    if dtypes.is_inexact(dtype):
        return Literal(dtype.type(np.nan))
    if dtypes.is_bool(dtype):
        return Literal(np.bool_(True))
    limits = np.iinfo(dtype)
    return Literal(dtype.type(limits.max if dtypes.kind(dtype) == "u" else limits.min))


def gather_from(
    x: Any,
    indices: Sequence[Any],
    axes: Shape,
    *,
    mode: str = "promise",
    fill_value: Literal | None = None,
    batch_axes: int = 0,
    unique: bool = False,
) -> Any:
    """Return elements of `x` (layout and modes: head of this file).

    `fill_value` is for mode "fill": a literal of x's type, by default `default_fill`'s.
    """
    if mode == "fill" and fill_value is None:
        fill_value = default_fill(x.dtype)
    params = {
        "axes": axes,
        "mode": mode,
        "fill_value": fill_value,
        "batch_axes": batch_axes,
        "unique": unique,
    }
    return bind_primitive(primitives["gather"], (x, *indices), params)


def scatter_into(
    x: Any,
    updates: Any,
    indices: Sequence[Any],
    axes: Shape,
    *,
    kind: str,
    mode: str = "promise",
    batch_axes: int = 0,
    unique: bool = False,
) -> Any:
    """Return `x` with `updates` written by `kind` (layout and modes: head of this file).

    `kind` is "set" (of several the last), "add", "multiply", "min" or "max".
    """
    params = {
        "axes": axes,
        "mode": mode,
        "kind": kind,
        "batch_axes": batch_axes,
        "unique": unique,
    }
    return bind_primitive(primitives["scatter"], (x, updates, *indices), params)


def gather_like(params: Any, x: Any, indices: Sequence[Any]) -> Any:
    """Return what is in `x` where a scatter of `params` writes: 0 for the writes it drops."""
    drops = params["mode"] == "drop"
    return gather_from(
        x,
        indices,
        params["axes"],
        mode="fill" if drops else params["mode"],
        fill_value=Literal(x.dtype.type(0)) if drops else None,
        batch_axes=params["batch_axes"],
        unique=params["unique"],
    )


def last_writes(params: Any, indices: Sequence[Any], x_shape: Shape) -> Any:
    """Return which writes into `x_shape` are in range and stay: bool, of the indices' shape."""
    sizes = tuple(x_shape[axis] for axis in params["axes"])
    given = {"sizes": sizes, "mode": params["mode"], "batch_axes": params["batch_axes"]}
    return bind_primitive(primitives["last_writes"], tuple(indices), given)
