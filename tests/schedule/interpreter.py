"""Schedules carried out by NumPy from the kernels' specs, as a second reading of what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autodiff.ir.graph import Literal
from autodiff.schedule.fuse import Schedule, kernel
from autodiff.schedule.kernel_spec import (
    Bound,
    Choose,
    Gather,
    KernelSpec,
    Location,
    Placed,
    Position,
    Reduce,
    Scan,
    Update,
)
from autodiff.schedule.multi_kernel import MultiKernel


def run_kernel(spec: KernelSpec, operands: Sequence[Any]) -> list[np.ndarray]:
    """Return a kernel's outputs: every value as an array over the whole index space."""
    known: list[Any] = []
    for load in spec.loads:
        flat = np.ascontiguousarray(operands[load.operand]).reshape(-1)
        at, inside = points_of(spec, load.strides, load.offset), within(spec, load.bounds)
        assert np.all((at >= 0) & (at < flat.size) | ~inside), f"{load} reads outside"
        known.append(np.where(inside, flat[np.where(inside, at, 0)], np.zeros((), load.dtype)))
    points = tuple(range(spec.rows, len(spec.shape)))
    for value in spec.values:
        if isinstance(value, Gather):
            at, inside = places_of(spec, value, known)
            flat = np.ascontiguousarray(operands[value.operand]).reshape(-1)
            read = flat[np.where(inside, at, 0)]
            fill = read if value.fill is None else value.fill.value
            known.append(np.where(inside, read, fill).astype(value.dtype))
            continue
        if isinstance(value, Location):
            at, inside = places_of(spec, value, known)
            known.append(np.where(inside, at, value.missing).astype(value.dtype))
            continue
        if isinstance(value, Reduce):
            wide = known[value.operand].astype(value.accumulated)
            total = value.primitive.reference(wide, axes=points).astype(value.dtype)
            kept = np.reshape(total, (*spec.shape[: spec.rows], *[1] * len(points)))
            known.append(np.broadcast_to(kept, spec.shape))
            continue
        if isinstance(value, Position):
            known.append(points_of(spec, value.strides, value.offset).astype(value.dtype))
            continue
        given = [
            np.broadcast_to(x.value, spec.shape) if isinstance(x, Literal) else known[x]
            for x in value.operands
        ]
        if isinstance(value, Choose):
            known.append(np.where(within(spec, value.bounds), *given))
            continue
        if isinstance(value, Scan):
            flat = [np.reshape(x, (spec.row_count, spec.row_size)) for x in given]
            total = value.primitive.reference(*flat, axis=1, reverse=False)
            known.append(np.reshape(total, spec.shape))
            continue
        result = value.primitive.reference(*given, **dict(value.params))
        known.append(result[value.output] if value.primitive.multiple_outputs else result)
    results = []
    for store in spec.stores:
        if isinstance(store, Update):
            results.append(run_update(spec, store, known, operands))
            continue
        flat = np.empty(int(np.prod(store.shape)), store.dtype)
        flat[points_of(spec, store.strides, store.offset)] = known[store.value]
        results.append(flat.reshape(store.shape))
    return results


def points_of(spec: KernelSpec, strides: Sequence[int], offset: int) -> np.ndarray:
    """Return `offset + sum(index * strides)` at every point."""
    places = np.full(spec.shape, offset)
    for axis, stride in enumerate(strides):
        line = np.arange(spec.shape[axis]) * stride
        places = places + line.reshape((-1,) + (1,) * (len(spec.shape) - 1 - axis))
    return places


def within(spec: KernelSpec, bounds: Sequence[Bound]) -> np.ndarray:
    """Return where in the index space all bounds hold."""
    inside = np.ones(spec.shape, bool)
    for bound in bounds:
        at = points_of(spec, bound.strides, 0)
        inside &= (bound.start <= at) & (at < bound.stop)
    return inside


def places_of(spec: KernelSpec, x: Placed, known: Sequence[Any]) -> tuple[Any, Any]:
    """Return where what is placed is at every point, and whether that is in range."""
    at = points_of(spec, x.strides, 0 if isinstance(x, Location) else x.offset)
    inside = np.ones(spec.shape, bool)
    for place in x.places:
        index = place.index.value if isinstance(place.index, Literal) else known[place.index]
        exact = np.broadcast_to(index, spec.shape).astype(object)
        if x.mode == "wrap":
            exact = exact % place.size
        elif x.mode in ("clip", "promise"):
            exact = np.minimum(np.maximum(exact, 0), place.size - 1)
        inside &= ((exact >= 0) & (exact < place.size)).astype(bool)
        at = at + np.where(inside, exact, 0).astype(int) * place.stride
    return at, inside


class Numbers:
    """The operations of an update, on two numbers."""

    add, multiply, minimum, maximum = np.add, np.multiply, np.minimum, np.maximum


def run_update(
    spec: KernelSpec, x: Update, known: Sequence[Any], operands: Sequence[Any]
) -> np.ndarray:
    """Return the array of an update, point by point."""
    start = x.initial.value if isinstance(x.initial, Literal) else operands[x.initial]
    flat = np.array(np.broadcast_to(start, x.shape), x.dtype).reshape(-1)
    value = x.value.value if isinstance(x.value, Literal) else known[x.value]
    at, inside = places_of(spec, x, known)
    for point, update in zip(
        np.where(inside, at, -1).flat, np.broadcast_to(value, spec.shape).flat, strict=True
    ):
        if point >= 0:
            flat[point] = x.combination.combine(Numbers, flat[point], update)
    return flat.reshape(x.shape)


def kernels_of(multi: MultiKernel) -> list[KernelSpec]:
    """Return the kernels that a kernel over many arrays is."""
    body = multi.body
    specs = []
    for member in multi.members:
        loads = [
            replace(load, operand=operand, offset=offset)
            for load, (operand, offset) in zip(body.loads, member.reads, strict=True)
        ]
        stores = [
            replace(store, shape=shape)
            for store, shape in zip(body.stores, member.shapes, strict=True)
        ]
        specs.append(KernelSpec((member.size,), 0, tuple(loads), body.values, tuple(stores)))
    return specs


def interpreted(spec: KernelSpec | MultiKernel) -> Callable[..., list[np.ndarray]]:
    """Return a kernel as a function of its operands, carried out by NumPy."""
    if isinstance(spec, MultiKernel):
        each = kernels_of(spec)
        return lambda *operands: [y for x in each for y in run_kernel(x, operands)]
    return lambda *operands: run_kernel(spec, operands)


def run_schedule(
    schedule: Schedule, arguments: Sequence[Any], function_of: Callable[..., Any] = interpreted
) -> list[Any]:
    """Return a schedule's outputs, its kernels run by what `function_of(spec)` gives."""
    graph = schedule.graph
    env: dict[Any, Any] = dict(zip(graph.inputs, arguments, strict=True))
    for eqn in graph.eqns:
        operands = [a.value if isinstance(a, Literal) else env[a] for a in eqn.inputs]
        if eqn.primitive is kernel:
            outs: Any = function_of(eqn.params["spec"])(*operands)
        else:
            outs = eqn.primitive.reference(*operands, **eqn.params)
            outs = outs if eqn.primitive.multiple_outputs else (outs,)
        env.update(zip(eqn.outputs, outs, strict=True))
    return [a.value if isinstance(a, Literal) else env[a] for a in graph.outputs]
