"""The derivatives of the scatters: out = x with updates u written at `indices`.

Notation of the comments: k is a place of x, i a write, k(i) the place it goes to, t a tangent.
Every rule is made of operations that are linear in the tangents and can be transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from autodiff.ir.avals import Shape, type_of
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import primitives
from autodiff.primitives.arithmetic import add, maximum, minimum, multiply, remainder, where
from autodiff.primitives.comparison import equal, greater_equal, less, not_equal
from autodiff.primitives.families import broadcast_to, convert
from autodiff.primitives.indexing_layout import (
    embed_by,
    gather_from,
    gather_like,
    last_writes,
    scatter_into,
    slice_by,
)
from autodiff.primitives.shapes import reshape, zeros

Rule = Callable[[Any, Sequence[Any], Any, Any, Any], Any]


def _scatter_like(params: Any, x: Any, updates: Any, indices: Sequence[Any], kind: str) -> Any:
    return bind_primitive(primitives["scatter"], (x, updates, *indices), {**params, "kind": kind})


def _or_zeros(tangent: Any, operand: Any) -> Any:
    return zeros(type_of(operand).strong()) if tangent is None else tangent


def _of_set(out: Any, operands: Sequence[Any], x_t: Any, updates_t: Any, params: Any) -> Any:
    # Linear in (x, u): the same writes, won by the same write.
    x, updates, *indices = operands
    return _scatter_like(params, _or_zeros(x_t, x), _or_zeros(updates_t, updates), indices, "set")


def _of_add(out: Any, operands: Sequence[Any], x_t: Any, updates_t: Any, params: Any) -> Any:
    x, _, *indices = operands
    if updates_t is None:
        return x_t
    return _scatter_like(params, _or_zeros(x_t, x), updates_t, indices, "add")


def _of_multiply(out: Any, operands: Sequence[Any], x_t: Any, updates_t: Any, params: Any) -> Any:
    # out[k] = x[k] * prod_{k(i) = k} u_i
    # t[k] = x_t[k] * prod u_i  +  sum_i u_t_i * (x[k] * prod_{j != i} u_j): no division, so exact
    # where factors are 0, to every order.
    x, updates, *indices = operands
    if x_t is None:
        total = zeros(type_of(x).strong())
    else:
        total = _scatter_like(params, x_t, updates, indices, "multiply")
    if updates_t is None:
        return total
    factor = gather_like(params, x, indices)
    if not params["unique"]:
        factor = multiply(factor, products_of_others(updates, x.shape, indices, params))
    return _scatter_like(params, total, updates_t * factor, indices, "add")


def _of_extremum(out: Any, operands: Sequence[Any], x_t: Any, updates_t: Any, params: Any) -> Any:
    # Whatever equals out[k] (x[k] too) shares the derivative equally. A NaN wins over numbers.
    x, updates, *indices = operands
    x_wins = equal(x, out) | not_equal(x, x)
    updates_win = equal(updates, gather_like(params, out, indices)) | not_equal(updates, updates)
    count = _scatter_like(
        params, convert(x_wins, np.int32), convert(updates_win, np.int32), indices, "add"
    )
    zero = type_of(x).dtype.type(0)
    total = zeros(type_of(x).strong()) if x_t is None else where(x_wins, x_t, zero)
    if updates_t is not None:
        total = _scatter_like(params, total, where(updates_win, updates_t, zero), indices, "add")
    return total / convert(count, x.dtype)


#: Kind of scatter to the rule (out, operands, tangents of x and of the updates or None, params).
derivative_rules: dict[str, Rule] = {
    "set": _of_set,
    "add": _of_add,
    "multiply": _of_multiply,
    "min": _of_extremum,
    "max": _of_extremum,
}


def keep_winners(updates: Any, x_shape: Shape, indices: Sequence[Any], params: Any) -> Any:
    """Return updates with 0 in place of those that a later write of a `set` replaces."""
    kept = last_writes(params, indices, x_shape)
    kept = reshape(kept, shape=(*kept.shape, *(1,) * (updates.ndim - kept.ndim)))
    return where(broadcast_to(kept, updates.shape), updates, updates.dtype.type(0))


def products_of_others(updates: Any, x_shape: Shape, indices: Sequence[Any], params: Any) -> Any:
    """Return for every update the product of the others that are written to its place.

    The writes are sorted by place; then the products of those before and of those after each write
    are taken by doubling, ceil(log2 n) steps each (Hillis and Steele, "Data Parallel Algorithms",
    1986, section 3), restarted wherever the place changes. Writes that mode "drop" drops are
    multiplied among themselves, which is of no consequence.
    """
    index_shape = indices[0].shape
    count = prod(index_shape)
    if count == 0:
        return updates
    rest = updates.shape[len(index_shape) :]
    place = reshape(_flat_places(x_shape, indices, params), shape=(count,))
    order = primitives["argsort"](place, axis=0)
    place = gather_from(place, (order,), (0,), unique=True)
    factors = gather_from(reshape(updates, shape=(count, *rest)), (order,), (0,), unique=True)
    before = _exclusive_products(factors, place, forward=True)
    after = _exclusive_products(factors, place, forward=False)
    target = zeros(type_of(factors).strong())
    others = scatter_into(target, before * after, (order,), (0,), kind="set", unique=True)
    return reshape(others, shape=updates.shape)


def _flat_places(x_shape: Shape, indices: Sequence[Any], params: Any) -> Any:
    """Return one number per write: equal for writes to one place, negative for those dropped."""
    batch_axes = params["batch_axes"]
    index_shape = indices[0].shape
    place: Any = np.zeros((1,) * len(index_shape), np.int64)
    for axis in range(batch_axes):
        line = np.arange(index_shape[axis]).reshape(
            [-1 if i == axis else 1 for i in range(len(index_shape))]
        )
        place = place * index_shape[axis] + line
    dropped: Any = None
    for index, axis in zip(indices, params["axes"], strict=True):
        size = x_shape[axis]
        index = convert(index, np.int64)
        if params["mode"] == "wrap":
            index = remainder(index, np.int64(max(size, 1)))
        elif params["mode"] == "clip":
            index = minimum(maximum(index, np.int64(0)), np.int64(max(size - 1, 0)))
        elif params["mode"] == "drop":
            outside = less(index, np.int64(0)) | greater_equal(index, np.int64(size))
            dropped = outside if dropped is None else dropped | outside
        place = add(index, place * np.int64(size))
    return place if dropped is None else where(dropped, np.int64(-1), place)


def _exclusive_products(factors: Any, place: Any, *, forward: bool) -> Any:
    """Return for each factor the product of those before (or after) it in its run of places."""
    products = _shifted_run(factors, place, 1, forward)
    step = 1
    while step < factors.shape[0]:
        products = products * _shifted_run(products, place, step, forward)
        step *= 2
    return products


def _shifted_run(values: Any, place: Any, step: int, forward: bool) -> Any:
    """Return values moved by `step` along the first axis, 1 where that leaves the run."""
    count = values.shape[0]
    kept, moved = range(count - step), range(step, count)
    source, target = (kept, moved) if forward else (moved, kept)

    def shifted(x: Any) -> Any:
        whole = [range(n) for n in x.shape[1:]]
        return embed_by(slice_by(x, [source, *whole]), x.shape, [target, *whole])

    there = (place == shifted(place)) & shifted(np.ones(count, bool))
    there = reshape(there, shape=(count, *(1,) * (values.ndim - 1)))
    return where(broadcast_to(there, values.shape), shifted(values), values.dtype.type(1))
