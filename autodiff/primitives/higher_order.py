"""The family of operations that hold graphs, and what their rules are written with.

Such an operation's rules are given the pass as `mode` and apply it to the graphs they hold, so that
no pass needs to know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from autodiff.ir.avals import UNKNOWN, ArrayType, array_type
from autodiff.ir.builder import Trace
from autodiff.ir.evaluate import execute_held
from autodiff.ir.graph import Graph, Var, make_graph
from autodiff.ir.primitive import Primitive, Samples, register


def build_graph(
    name: str, avals: Sequence[ArrayType], function: Callable[..., Sequence[Any]]
) -> Graph:
    """Return the graph of a function of tracers, for rules of operations that hold graphs.

    `function` is given one tracer for each type and returns the list of outputs; all it uses of
    what is traced must be among its arguments.
    """
    trace = Trace(name, inline_arrays=True)
    inputs = [trace.input(aval) for aval in avals]
    graph, constants = trace.finish(function(*inputs))
    assert not constants, name
    return graph


def higher_order(
    name: str,
    execute: Callable[..., Sequence[Any]],
    *,
    doc: str,
    type_rule: Callable[..., Any],
    derivative: Callable[..., Any],
    transpose: Callable[..., Any],
    batch: Callable[..., Any],
    inlined: Callable[..., Any] | None = None,
    prune: Callable[..., Any] | None = None,
    separate: Callable[..., Any] | None = None,
    taylor: Callable[..., Any] | None = None,
) -> Primitive:
    """Declare an operation that holds graphs (the rules' signatures are in ir/primitive.py)."""
    primitive = register(
        Primitive(
            name=name,
            kind="higher_order",
            doc=doc,
            type_rule=type_rule,
            reference=lambda *operands, **params: execute_held(primitive, operands, params),
            differentiate=None,
            transpose=transpose,
            batch=batch,
            multiple_outputs=True,
            derivative=derivative,
            execute=execute,
            inlined=inlined,
            prune=prune,
            separate=separate,
            taylor=taylor,
            samples=Samples(params=()),
        )
    )
    return primitive


def zeros(aval: ArrayType) -> Any:
    """Return zeros of a type, as a value that takes no memory (of an open type: no rows)."""
    if aval.is_open:
        return np.zeros([0 if size == UNKNOWN else size for size in aval.shape], aval.dtype)
    return np.broadcast_to(aval.dtype.type(0), aval.shape)


def filled(values: Iterable[Any], flags: Iterable[bool], avals: Iterable[ArrayType]) -> list[Any]:
    """Return one value per flag that is set: those given, zeros in place of None."""
    return [
        zeros(aval.strong()) if value is None else value
        for value, flag, aval in zip(values, flags, avals, strict=True)
        if flag
    ]


def scattered(values: Iterable[Any], flags: Iterable[bool]) -> list[Any]:
    """Return one entry per flag: the next value where it is set, else None."""
    rest = iter(values)
    return [next(rest) if flag else None for flag in flags]


def reordered(graph: Graph, order: Sequence[int]) -> Graph:
    """Return a graph that takes its inputs in another order: `order[i]` is the old place of i."""
    if list(order) == list(range(len(graph.inputs))):
        return graph
    inputs = [graph.inputs[i] for i in order]
    return make_graph(inputs, graph.constants, graph.eqns, graph.outputs)


def placed(graph: Graph, places: Sequence[int], avals: Sequence[ArrayType]) -> Graph:
    """Return a graph with inputs of types `avals`, of which it reads those at `places`."""
    inputs = [Var(aval) for aval in avals]
    for var, place in zip(graph.inputs, places, strict=True):
        inputs[place] = var
    return make_graph(inputs, (), graph.eqns, graph.outputs)


def stacked_type(aval: ArrayType, length: int | None) -> ArrayType:
    """Return the type of `length` values of a type along a new first axis (None: open)."""
    return array_type((UNKNOWN if length is None else length, *aval.shape), aval.dtype)
