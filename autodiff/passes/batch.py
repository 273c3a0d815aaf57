"""The pass that adds a mapped axis."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from autodiff.base.errors import MissingRuleError, message
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import Trace, bind_equation
from autodiff.ir.graph import Graph, Literal, Var
from autodiff.passes.memo import remembered
from autodiff.primitives.families import batch_to


@dataclass(frozen=True, slots=True)
class Mode:
    """What a rule of an operation that holds graphs is given while a graph is batched.

    `axis_name` is the name of the mapped axis, for operations that work across it.
    """

    axis_name: Hashable

    def batch(
        self,
        graph: Graph,
        size: int,
        batched: tuple[bool, ...],
        forced: tuple[bool, ...] | None = None,
    ) -> tuple[Graph, tuple[bool, ...]]:
        """Batch a held graph as the one around it is."""
        return batch(graph, size, batched, forced, self.axis_name)


def batched_type(aval: ArrayType, size: int) -> ArrayType:
    """Return the type with a leading axis of `size`."""
    return array_type((size, *aval.shape), aval.dtype)


@remembered(graphs_of=lambda result: (result[0],))
def batch(
    graph: Graph,
    size: int,
    batched: tuple[bool, ...],
    forced: tuple[bool, ...] | None = None,
    axis_name: Hashable = None,
) -> tuple[Graph, tuple[bool, ...]]:
    """Map a graph over a leading axis: `a -> b` becomes `[n, a] -> [n, b]`.

    `batched` marks the inputs that have the axis (always their first); the others are shared by all
    examples. Returns the graph, and which outputs have the axis: an equation none of whose operands
    has it stays as it is. The outputs marked by `forced` are given the axis in any case.
    `axis_name` is what operations that work across the axis call it. For `b = sum[axes=(0,)] a` the
    result is `b = sum[axes=(1,)] a`.
    """
    mode = Mode(axis_name)
    trace = Trace("vmap", inline_arrays=True)
    env: dict[Var, tuple[Any, bool]] = {}
    for var, flag in zip(graph.inputs, batched, strict=True):
        aval = batched_type(var.aval, size) if flag else var.aval
        env[var] = (trace.input(aval), flag)
    for eqn in graph.eqns:
        trace.source = eqn.source
        pairs = [(a.value, False) if type(a) is Literal else env[a] for a in eqn.inputs]  # type: ignore[index]
        operands = [value for value, _ in pairs]
        flags = [flag for _, flag in pairs]
        primitive = eqn.primitive
        if not any(flags):
            result = bind_equation(eqn, operands, trace)
            outs = result if primitive.multiple_outputs else (result,)
            out_flags: Any = (False,) * len(outs)
        elif primitive.batch is None:
            raise MissingRuleError(
                message(primitive.name, "it has no batching rule", line=eqn.source)
            )
        else:
            outs, out_flags = primitive.batch(size, operands, flags, eqn.params, mode)
        env.update(
            (var, (out, flag)) for var, out, flag in zip(eqn.outputs, outs, out_flags, strict=True)
        )
    results = [(a.value, False) if type(a) is Literal else env[a] for a in graph.outputs]  # type: ignore[index]
    if forced is not None:
        results = [
            (batch_to(value, False, size), True) if wanted and not flag else (value, flag)
            for (value, flag), wanted in zip(results, forced, strict=True)
        ]
    mapped, constants = trace.finish([value for value, _ in results])
    assert not constants
    return mapped, tuple(flag for _, flag in results)
