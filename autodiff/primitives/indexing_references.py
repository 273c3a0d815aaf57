"""How NumPy computes the indexing operations (layout and modes: indexing_layout.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.base.array_modules import module_of
from autodiff.ir.avals import Shape
from autodiff.ir.graph import Literal
from autodiff.primitives.indexing_layout import elements_shape, other_axes


def as_slices(starts: Shape, stops: Shape, steps: Shape) -> tuple[slice, ...]:
    """Return the slices that read range(start, stop, step) along each axis."""
    return tuple(
        slice(start, stop if stop >= 0 else None, step)
        for start, stop, step in zip(starts, stops, steps, strict=True)
    )


def embed(x: Any, *, shape: Shape, starts: Shape, stops: Shape, steps: Shape) -> Any:
    """Return zeros of `shape` with x written at the slice."""
    out = np.zeros_like(x, shape=shape)
    out[as_slices(starts, stops, steps)] = x
    return out


def overwrite(x: Any, updates: Any, *, starts: Shape, stops: Shape, steps: Shape) -> Any:
    """Return x with updates written at the slice."""
    out = np.copy(x)
    out[as_slices(starts, stops, steps)] = updates
    return out


def _beside(x: Any, values: Sequence[Any]) -> Sequence[Any]:
    """Return `values` on x's device: NumPy's scalars are on the host still."""
    module: Any = module_of(x) or np
    return values if module is np else [module.asarray(value) for value in values]


def _in_range(indices: Sequence[Any], sizes: Shape, mode: str) -> tuple[list[Any], Any]:
    """Return indices that are in range and, for modes that skip, where all of them were."""
    if mode == "promise":
        return list(indices), None
    prepared = []
    inside: Any = None
    for index, size in zip(indices, sizes, strict=True):
        if index.dtype == np.uint64:
            index = np.minimum(index, np.uint64(2**63 - 1))
        index = index.astype(np.int64)
        if mode == "wrap":
            prepared.append(np.remainder(index, max(size, 1)))
            continue
        nearest = np.clip(index, 0, max(size - 1, 0))
        prepared.append(nearest)
        if mode != "clip":
            ok = (index >= 0) & (index < size)
            inside = ok if inside is None else inside & ok
    return prepared, inside


def _positions(x: Any, indices: Sequence[Any], batch_axes: int) -> tuple[Any, ...]:
    """Return index arrays for the leading axes of an array whose indexed axes follow its batch."""
    shape = np.shape(indices[0])
    grid = []
    for axis in range(batch_axes):
        counted = [1] * len(shape)
        counted[axis] = -1
        line = np.arange(shape[axis], like=x)
        grid.append(np.broadcast_to(np.reshape(line, counted), shape))
    return (*grid, *indices)


def _indexed_first(x: Any, axes: Shape, batch_axes: int) -> Any:
    order = (*range(batch_axes), *axes, *other_axes(x.ndim, axes, batch_axes))
    return np.transpose(x, order)


def gather(
    x: Any,
    *indices: Any,
    axes: Shape,
    mode: str,
    fill_value: Literal | None,
    batch_axes: int,
    unique: bool,
) -> Any:
    """Return elements of x; reads outside of it give the fill value in mode "fill"."""
    prepared, inside = _in_range(_beside(x, indices), tuple(x.shape[i] for i in axes), mode)
    moved = _indexed_first(x, axes, batch_axes)
    if inside is None:
        return moved[(*_positions(x, prepared, batch_axes), ...)]
    assert fill_value is not None
    shape = elements_shape(x.shape, np.shape(prepared[0]), axes, batch_axes)
    if any(x.shape[i] == 0 for i in axes):
        return np.full_like(x, fill_value.value, shape=shape)
    read = moved[(*_positions(x, prepared, batch_axes), ...)]
    inside = np.reshape(inside, (*inside.shape, *(1,) * (len(shape) - inside.ndim)))
    filled = np.where(inside, read, np.full_like(read, fill_value.value))
    return filled.astype(x.dtype, copy=False)  # CuPy's is float32 for bfloat16


def _combine_at(ufunc: str, target: Any, positions: tuple[Any, ...], updates: Any) -> None:
    """Combine updates into `target` in place by a ufunc, once for each of several to one place.

    The arrays' own module is asked, since CuPy takes no part in NumPy's `ufunc.at`. It has no
    `multiply.at`, and the others for some element types: what it has not is computed on the host.
    """
    module: Any = module_of(target) or np
    try:
        getattr(module, ufunc).at(target, positions, updates)
    except (NotImplementedError, TypeError):
        if module is np:
            raise
        combined = module.asnumpy(target)
        host = tuple(module.asnumpy(position) for position in positions)
        getattr(np, ufunc).at(combined, host, module.asnumpy(updates))
        target[...] = module.asarray(combined)


def _write(target: Any, positions: tuple[Any, ...], updates: Any, kind: str) -> None:
    """Write into `target` in place; of `set`s to one place the last one stays."""
    if kind == "set":
        target[positions] = updates
    elif kind == "add":
        _combine_at("add", target, positions, updates)
    elif kind == "multiply":
        _combine_at("multiply", target, positions, updates)
    elif kind == "min":
        _combine_at("minimum", target, positions, updates)
    else:
        assert kind == "max", kind
        _combine_at("maximum", target, positions, updates)


def _writes(
    x: Any, indices: Sequence[Any], axes: Shape, mode: str, batch_axes: int
) -> tuple[tuple[Any, ...], Any]:
    """Return the positions written, one axis of them in order, and which are not dropped (or None).

    Positions count in an array whose axes are the batch axes, then the indexed ones.
    """
    prepared, inside = _in_range(_beside(x, indices), tuple(x.shape[i] for i in axes), mode)
    count = np.size(prepared[0])
    positions = tuple(
        np.reshape(position, (count,)) for position in _positions(x, prepared, batch_axes)
    )
    if inside is None:
        return positions, None
    inside = np.reshape(inside, (count,))
    return tuple(position[inside] for position in positions), inside


def _not_overwritten(positions: tuple[Any, ...], shape: Shape) -> Any:
    """Return which of the writes to an array of `shape` no later one overwrites."""
    order = np.arange(positions[0].size, like=positions[0])
    newest = np.full_like(order, -1, shape=shape)
    _combine_at("maximum", newest, positions, order)
    return newest[positions] == order


def scatter(
    x: Any,
    updates: Any,
    *indices: Any,
    axes: Shape,
    mode: str,
    kind: str,
    batch_axes: int,
    unique: bool,
) -> Any:
    """Return x with the updates written by `kind`."""
    out = np.copy(x)
    target = _indexed_first(out, axes, batch_axes)
    positions, inside = _writes(x, indices, axes, mode, batch_axes)
    (updates,) = _beside(x, (updates,))
    updates = np.reshape(updates, (np.size(indices[0]), *target.shape[len(positions) :]))
    if inside is not None:
        updates = updates[inside]
    if kind == "set" and not unique and module_of(x) is not np:
        kept = _not_overwritten(positions, target.shape[: len(positions)])
        positions = tuple(position[kept] for position in positions)
        updates = updates[kept]
    _write(target, positions, updates, kind)
    return out


def last_writes(*indices: Any, sizes: Shape, mode: str, batch_axes: int) -> Any:
    """Return which writes of a scatter are in range and not overwritten by a later one."""
    shape = np.shape(indices[0])
    target = np.broadcast_to(np.zeros_like(indices[0], shape=(1,)), (*shape[:batch_axes], *sizes))
    axes = tuple(range(batch_axes, target.ndim))
    positions, inside = _writes(target, indices, axes, mode, batch_axes)
    kept = _not_overwritten(positions, target.shape)
    if inside is None:
        return np.reshape(kept, shape)
    inside[inside] = kept
    return np.reshape(inside, shape)
