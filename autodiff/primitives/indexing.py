"""Reading and writing parts of arrays: slice and embed, gather and scatter.

`slice` and `embed` are each other's transposes, as are `gather` and the `scatter` that adds;
`overwrite` is the write that belongs to `slice`. All of NumPy's indexing is put together from these
(autodiff/numpy/indexing.py). How gather and scatter lay out their operands is in
indexing_layout.py, how NumPy computes them in indexing_references.py, the derivatives of the
scatters in scatter_derivatives.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.avals import ArrayType, Shape, array_type, type_of
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import Combination, Indexed, Samples
from autodiff.primitives import indexing_references as references
from autodiff.primitives.families import batch_to, is_linear, library_op, move_axis, shape_op
from autodiff.primitives.indexing_layout import elements_shape, gather_like, scatter_into
from autodiff.primitives.indexing_samples import GATHER, LAST_WRITES, SCATTER
from autodiff.primitives.scatter_derivatives import derivative_rules, keep_winners
from autodiff.primitives.shapes import zeros

# ---------------------------------------------------------------------------------- slice and embed


def _slice_type(x: ArrayType, *, starts: Shape, stops: Shape, steps: Shape) -> ArrayType:
    assert len(starts) == len(stops) == len(steps) == x.ndim, (x, starts, stops, steps)
    sizes = []
    for n, start, stop, step in zip(x.shape, starts, stops, steps, strict=True):
        chosen = range(start, stop, step)
        assert not chosen or (0 <= chosen[0] < n and 0 <= chosen[-1] < n), (x, starts, stops, steps)
        sizes.append(len(chosen))
    return array_type(tuple(sizes), x.dtype)


slice_axes = shape_op(
    "slice",
    lambda x, *, starts, stops, steps: x[references.as_slices(starts, stops, steps)],
    doc="Along axis i, the elements of range(starts[i], stops[i], steps[i]); any step.",
    type_rule=_slice_type,
    transpose=lambda ct, aval, *, starts, stops, steps: bind_primitive(
        embed, (ct,), {"shape": aval.shape, "starts": starts, "stops": stops, "steps": steps}
    ),
    batch=lambda size, shape_in, *, starts, stops, steps: {
        "starts": (0, *starts),
        "stops": (size, *stops),
        "steps": (1, *steps),
    },
    view=True,
    strides=lambda x, strides, offset, *, starts, stops, steps: (
        tuple(s * step for s, step in zip(strides, steps, strict=True)),
        offset + sum(s * start for s, start in zip(strides, starts, strict=True)),
    ),
    samples=Samples(
        shapes=(((5,),), ((5, 4),), ((3,),), ((0, 2),)),
        params=(
            {"starts": (1,), "stops": (4,), "steps": (2,)},
            {"starts": (4, 0), "stops": (-1, 3), "steps": (-1, 1)},
            {"starts": (0,), "stops": (0,), "steps": (1,)},
            {"starts": (0, 1), "stops": (0, 2), "steps": (1, 1)},
        ),
    ),
)


embed = shape_op(
    "embed",
    references.embed,
    doc="Zeros of `shape` with x written where slice would read it.",
    type_rule=lambda x, *, shape, starts, stops, steps: array_type(shape, x.dtype),
    transpose=lambda ct, aval, *, shape, starts, stops, steps: bind_primitive(
        slice_axes, (ct,), {"starts": starts, "stops": stops, "steps": steps}
    ),
    batch=lambda size, shape_in, *, shape, starts, stops, steps: {
        "shape": (size, *shape),
        "starts": (0, *starts),
        "stops": (size, *stops),
        "steps": (1, *steps),
    },
    samples=Samples(
        shapes=(((2,),), ((5, 3),)),
        params=(
            {"shape": (5,), "starts": (1,), "stops": (4,), "steps": (2,)},
            {"shape": (5, 4), "starts": (4, 0), "stops": (-1, 3), "steps": (-1, 1)},
        ),
    ),
)
embed.pieces = lambda x, *, shape, starts, stops, steps: ((0, starts, stops, steps),)


# --------------------------------------------------------------------------------------- overwrite


def _type_of_operand(updates: Any) -> ArrayType:
    """Return the type of an operand of a transpose rule, linear or not."""
    return updates.aval if is_linear(updates) else type_of(updates)


def _overwrite_type(
    x: ArrayType, updates: ArrayType, *, starts: Shape, stops: Shape, steps: Shape
) -> ArrayType:
    part = _slice_type(x, starts=starts, stops=stops, steps=steps)
    assert updates.strong() is part, (x, updates, starts, stops, steps)
    return x.strong()


def _overwrite_differentiate(
    outs: Any, operands: Any, tangents: Any, params: Any, mode: Any
) -> Any:
    if all(t is None for t in tangents):
        return (None,)
    filled = [
        zeros(type_of(x).strong()) if t is None else t
        for x, t in zip(operands, tangents, strict=True)
    ]
    return (bind_primitive(overwrite, filled, params),)


def _overwrite_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    # x' <- ct, 0 where overwritten          updates' <- the part of ct
    (ct,) = cts
    x, updates = operands
    x_ct = updates_ct = None
    if is_linear(x):
        x_ct = bind_primitive(overwrite, (ct, zeros(_type_of_operand(updates))), params)
    if is_linear(updates):
        updates_ct = bind_primitive(slice_axes, (ct,), params)
    return (x_ct, updates_ct)


def _overwrite_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    operands = [batch_to(x, m, size) for x, m in zip(operands, batched, strict=True)]
    shifted = {
        "starts": (0, *params["starts"]),
        "stops": (size, *params["stops"]),
        "steps": (1, *params["steps"]),
    }
    return (bind_primitive(overwrite, operands, shifted),), (True,)


overwrite = library_op(
    "overwrite",
    references.overwrite,
    doc="An array with other elements where slice would read it.",
    kind="indexing",
    type_rule=_overwrite_type,
    differentiate=_overwrite_differentiate,
    transpose=_overwrite_transpose,
    batch=_overwrite_batch,
    samples=Samples(
        shapes=(((5,), (2,)), ((5, 4), (5, 3)), ((3,), (0,))),
        params=(
            {"starts": (1,), "stops": (4,), "steps": (2,)},
            {"starts": (4, 0), "stops": (-1, 3), "steps": (-1, 1)},
            {"starts": (0,), "stops": (0,), "steps": (1,)},
        ),
    ),
)
overwrite.pieces = lambda x, updates, *, starts, stops, steps: (
    (1, starts, stops, steps),
    (0, (0,) * len(x), x, (1,) * len(x)),
)


# ------------------------------------------------------------------------------------------ gather


def _check_operands(
    name: str, x: ArrayType, indices: Sequence[ArrayType], axes: Shape, batch_axes: int, mode: str
) -> None:
    shape = indices[0].shape
    assert len(indices) == len(axes) == len(set(axes)) > 0, (name, x, indices, axes)
    assert all(batch_axes <= axis < x.ndim for axis in axes), (name, x, axes, batch_axes)
    assert shape[:batch_axes] == x.shape[:batch_axes], (name, x, indices, batch_axes)
    for index in indices:
        assert index.shape == shape, (name, indices)
        if not dtypes.is_integer(index.dtype):
            raise TypeError(f"{name}: indices must be integers, got type={index}.")
    if mode not in ("fill", "drop") and prod(shape):
        for axis in axes:
            if x.shape[axis] == 0:
                raise IndexError(
                    f"{name}: an axis that is indexed must have elements, got axis={axis} of size "
                    f"0 (mode={mode!r})."
                )


def _gather_type(
    x: ArrayType,
    *indices: ArrayType,
    axes: Shape,
    mode: str,
    fill_value: Literal | None,
    batch_axes: int,
    unique: bool,
) -> ArrayType:
    _check_operands("gather", x, indices, axes, batch_axes, mode)
    assert mode in ("clip", "wrap", "fill", "promise"), mode
    assert (fill_value is not None) == (mode == "fill"), (mode, fill_value)
    assert fill_value is None or fill_value.aval.dtype == x.dtype, (x, fill_value)
    return array_type(elements_shape(x.shape, indices[0].shape, axes, batch_axes), x.dtype)


def _without_fill(params: Any, dtype: np.dtype) -> dict[str, Any]:
    """Return a gather's parameters such that it is linear: reads outside give 0."""
    if params["mode"] != "fill":
        return dict(params)
    return {**params, "fill_value": Literal(dtype.type(0))}


def _gather_differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    t = tangents[0]
    if t is None:
        return (None,)
    return (bind_primitive(gather, (t, *operands[1:]), _without_fill(params, t.dtype)),)


def _gather_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    x, *indices = operands
    ct = scatter_into(
        zeros(x.aval),
        cts[0],
        indices,
        params["axes"],
        kind="add",
        mode="drop" if params["mode"] == "fill" else params["mode"],
        batch_axes=params["batch_axes"],
        unique=params["unique"],
    )
    return (ct, *[None] * len(indices))


def _gather_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    x, *indices = operands
    b = params["batch_axes"]
    shifted = {**params, "axes": tuple(axis + 1 for axis in params["axes"])}
    if batched[0] and any(batched[1:]):
        indices = [batch_to(i, m, size) for i, m in zip(indices, batched[1:], strict=True)]
        shifted["batch_axes"] = b + 1
        return (bind_primitive(gather, (x, *indices), shifted),), (True,)
    if batched[0]:  # the mapped axis of x becomes the first of its other axes
        out = bind_primitive(gather, (move_axis(x, 0, b), *indices), shifted)
        return (move_axis(out, indices[0].ndim, 0),), (True,)
    # the mapped axis of the indices becomes the first of S
    indices = [
        move_axis(batch_to(i, m, size), 0, b) for i, m in zip(indices, batched[1:], strict=True)
    ]
    return (move_axis(bind_primitive(gather, (x, *indices), params), b, 0),), (True,)


def _gather_indexed(
    *, axes: Shape, mode: str, fill_value: Literal | None, batch_axes: int, unique: bool
) -> Indexed:
    return Indexed(axes, batch_axes, mode, fill_value, unique=unique)


gather = library_op(
    "gather",
    references.gather,
    doc="Elements of an array at places given by integer arrays.",
    kind="indexing",
    type_rule=_gather_type,
    differentiate=_gather_differentiate,
    transpose=_gather_transpose,
    batch=_gather_batch,
    indexed=_gather_indexed,
    samples=GATHER,
)


# ----------------------------------------------------------------------------------------- scatter


def _scatter_type(
    x: ArrayType,
    updates: ArrayType,
    *indices: ArrayType,
    axes: Shape,
    mode: str,
    kind: str,
    batch_axes: int,
    unique: bool,
) -> ArrayType:
    _check_operands("scatter", x, indices, axes, batch_axes, mode)
    assert mode in ("clip", "wrap", "drop", "promise"), mode
    assert kind in ("set", "add", "multiply", "min", "max"), kind
    expected = elements_shape(x.shape, indices[0].shape, axes, batch_axes)
    assert updates.shape == expected, (x, updates, indices, axes)
    assert updates.dtype == x.dtype, (x, updates)
    return x.strong()


def _scatter_differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    x_tangent, updates_tangent = tangents[:2]
    if x_tangent is None and updates_tangent is None:
        return (None,)
    rule = derivative_rules[params["kind"]]
    return (rule(outs[0], operands, x_tangent, updates_tangent, params),)


def _scatter_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    """Transpose a scatter, linear in x, in the updates, or (add and set) in both together.

    add:      x' <- ct                        updates' <- gather(ct)
    set:      x' <- ct, 0 where written       updates' <- gather(ct), 0 where overwritten later
    multiply: x' <- ct times the updates
    """
    (ct,) = cts
    x, updates, *indices = operands
    kind = params["kind"]
    assert kind in ("add", "set") or (kind == "multiply" and not is_linear(updates)), kind
    x_ct = updates_ct = None
    if is_linear(x):
        if kind == "add":
            x_ct = ct
        else:
            written = updates if kind == "multiply" else zeros(_type_of_operand(updates))
            x_ct = bind_primitive(scatter, (ct, written, *indices), params)
    if is_linear(updates):
        updates_ct = gather_like(params, ct, indices)
        if kind == "set" and not params["unique"]:
            updates_ct = keep_winners(updates_ct, ct.shape, indices, params)
    return (x_ct, updates_ct, *[None] * len(indices))


def _scatter_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    x, updates, *indices = operands
    b = params["batch_axes"]
    x = batch_to(x, batched[0], size)
    updates = batch_to(updates, batched[1], size)
    shifted = {**params, "axes": tuple(axis + 1 for axis in params["axes"])}
    if any(batched[2:]):
        indices = [batch_to(i, m, size) for i, m in zip(indices, batched[2:], strict=True)]
        shifted["batch_axes"] = b + 1
        return (bind_primitive(scatter, (x, updates, *indices), shifted),), (True,)
    # the mapped axis becomes the first of the axes that are not indexed
    x = move_axis(x, 0, b)
    updates = move_axis(updates, 0, indices[0].ndim)
    out = bind_primitive(scatter, (x, updates, *indices), shifted)
    return (move_axis(out, b, 0),), (True,)


def _replaced(o: Any, x: Any, update: Any) -> Any:
    return update


def _added(o: Any, x: Any, update: Any) -> Any:
    return o.add(x, update)


def _multiplied(o: Any, x: Any, update: Any) -> Any:
    return o.multiply(x, update)


def _smaller(o: Any, x: Any, update: Any) -> Any:
    return o.minimum(x, update)


def _larger(o: Any, x: Any, update: Any) -> Any:
    return o.maximum(x, update)


#: How an element and an update are combined, by the kind of a scatter.
COMBINATIONS = {
    "set": Combination(_replaced, replaces=True),
    "add": Combination(
        _added, commutes=True, atomic="atomic_add", identity=lambda dtype: dtype.type(0)
    ),
    "multiply": Combination(_multiplied, commutes=True, identity=lambda dtype: dtype.type(1)),
    "min": Combination(
        _smaller,
        commutes=True,
        atomic="atomic_min",
        identity=lambda dtype: dtypes.bound(dtype, 1),
    ),
    "max": Combination(
        _larger,
        commutes=True,
        atomic="atomic_max",
        identity=lambda dtype: dtypes.bound(dtype, -1),
    ),
}


def _scatter_indexed(
    *, axes: Shape, mode: str, kind: str, batch_axes: int, unique: bool
) -> Indexed:
    return Indexed(axes, batch_axes, mode, combination=COMBINATIONS[kind], unique=unique)


scatter = library_op(
    "scatter",
    references.scatter,
    doc="An array with elements written, added, multiplied or compared in at given places.",
    kind="indexing",
    type_rule=_scatter_type,
    differentiate=_scatter_differentiate,
    transpose=_scatter_transpose,
    batch=_scatter_batch,
    indexed=_scatter_indexed,
    samples=SCATTER,
)


# ------------------------------------------------------------------------------------- last writes


def _last_writes_type(*indices: ArrayType, sizes: Shape, mode: str, batch_axes: int) -> ArrayType:
    assert len(indices) == len(sizes), (indices, sizes)
    return array_type(indices[0].shape, np.dtype(bool))


def _last_writes_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    indices = [batch_to(i, m, size) for i, m in zip(operands, batched, strict=True)]
    shifted = {**params, "batch_axes": params["batch_axes"] + 1}
    return (bind_primitive(last_writes, indices, shifted),), (True,)


last_writes = library_op(
    "last_writes",
    references.last_writes,
    doc="Which writes of a scatter into an array of `sizes` are in range and not overwritten.",
    kind="indexing",
    type_rule=_last_writes_type,
    batch=_last_writes_batch,
    not_differentiable="it answers yes or no",
    dtypes="iu",
    samples=LAST_WRITES,
)
