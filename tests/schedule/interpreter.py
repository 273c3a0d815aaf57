"""Schedules carried out by NumPy from the kernels' specs, as a second reading of what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.ir.graph import Literal
from autodiff.schedule.fuse import Schedule, kernel
from autodiff.schedule.kernel_spec import KernelSpec, Reduce


def run_kernel(spec: KernelSpec, operands: Sequence[Any]) -> list[np.ndarray]:
    """Return a kernel's outputs: every value as an array over the whole index space."""
    known: list[Any] = []
    for load in spec.loads:
        flat = np.ascontiguousarray(operands[load.operand]).reshape(-1)
        places = np.full(spec.shape, load.offset)
        for axis, stride in enumerate(load.strides):
            line = np.arange(spec.shape[axis]) * stride
            places = places + line.reshape((-1,) + (1,) * (len(spec.shape) - 1 - axis))
        known.append(flat[places])
    points = tuple(range(spec.rows, len(spec.shape)))
    for value in spec.values:
        if isinstance(value, Reduce):
            total = value.primitive.reference(known[value.operand], axes=points)
            kept = np.reshape(total, (*spec.shape[: spec.rows], *[1] * len(points)))
            known.append(np.broadcast_to(kept, spec.shape))
            continue
        given = [
            np.broadcast_to(x.value, spec.shape) if isinstance(x, Literal) else known[x]
            for x in value.operands
        ]
        result = value.primitive.reference(*given, **dict(value.params))
        known.append(result[value.output] if value.primitive.multiple_outputs else result)
    results = []
    for store in spec.stores:
        flat = np.empty(int(np.prod(store.shape)), store.dtype)
        places = np.zeros(spec.shape, int)
        for axis, stride in enumerate(store.strides):
            line = np.arange(spec.shape[axis]) * stride
            places = places + line.reshape((-1,) + (1,) * (len(spec.shape) - 1 - axis))
        flat[places] = known[store.value]
        results.append(flat.reshape(store.shape))
    return results


def interpreted(spec: KernelSpec) -> Callable[..., list[np.ndarray]]:
    """Return a kernel as a function of its operands, carried out by NumPy."""
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
