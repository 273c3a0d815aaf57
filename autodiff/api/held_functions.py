"""Users' functions that an operation holds as graphs: tracing them, and applying the operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.api.trace import (
    Traced,
    array_leaf,
    flatten_arguments,
    function_name,
    run,
    trace_function,
)
from autodiff.base import dtypes, pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType, is_arraylike, type_of
from autodiff.ir.builder import bind_primitive, trace_of
from autodiff.ir.graph import Graph, Params
from autodiff.ir.primitive import Primitive, primitives
from autodiff.primitives.families import convert
from autodiff.primitives.higher_order import build_graph, reordered


def flatten_arrays(function: str, name: str, value: Any) -> tuple[list[Any], pytree.TreeDef]:
    """Return the leaves of an argument, all of which must be arrays, and its structure."""
    leaves, tree = flatten_arguments(function, value)
    for i, leaf in enumerate(leaves):
        if not is_arraylike(leaf):
            path = pytree.path_string(name, pytree.paths(tree)[i])
            raise TypeError(
                message(
                    function,
                    f"every leaf of {name} must be an array or a number",
                    f"{path}={leaf!r} of type {type(leaf).__name__}",
                    line=user_line(),
                    fix="close over what is not an array instead of passing it.",
                )
            )
    return leaves, tree


def trace_held(
    function: str,
    fun: Callable[..., Any],
    apply: Callable[..., Any],
    avals: Sequence[ArrayType],
    near: Sequence[Any],
    *,
    values: Sequence[Any] | None = None,
    has_aux: bool = False,
) -> Traced:
    """Trace `apply`, which calls the user's `fun`; `values` are those of its inputs, if it may ask.

    `near` are values of the enclosing trace, if any: numbers met while tracing are kept in the
    structure where that one keeps them.
    """
    if not callable(fun):
        raise TypeError(
            message(
                function,
                "functions are needed where it calls something",
                f"{fun!r} of type {type(fun).__name__}",
                line=user_line(),
                fix="pass the function itself, not its result.",
            )
        )
    outer = trace_of(near)
    return trace_function(
        apply,
        avals,
        function=function,
        name=function_name(fun),
        values=values,
        has_aux=has_aux,
        inline_literals=outer is not None and outer.inline_literals,
    )


def constants_first(traced: Traced) -> Graph:
    """Return a traced function's graph with its hoisted constants before its other inputs."""
    count, total = len(traced.constants), len(traced.graph.inputs)
    return reordered(traced.graph, [*range(total - count, total), *range(total - count)])


def with_output_types(graph: Graph, wanted: Sequence[ArrayType]) -> Graph:
    """Return a graph with its outputs converted to the types wanted, where they are others."""
    found = [aval.strong() for aval in graph.output_types]
    if found == [aval.strong() for aval in wanted]:
        return graph

    def converted(*inputs: Any) -> list[Any]:
        params = {"graph": graph, "name": "converted"}
        outs = bind_primitive(primitives["call"], inputs, params)
        return [convert(x, aval.dtype) for x, aval in zip(outs, wanted, strict=True)]

    return build_graph("converted", graph.input_types, converted)


def common_dtype(one: ArrayType, other: ArrayType) -> np.dtype | None:
    """Return the element type that two types agree on, None if they do not.

    A weak type gives way to a strong one that can hold its kind of number.
    """
    if one.dtype == other.dtype:
        return one.dtype
    if one.weak == other.weak:
        return None
    weak, strong = (one, other) if one.weak else (other, one)
    promoted = np.result_type(dtypes.python_type(weak.dtype)(0), strong.dtype)
    return strong.dtype if promoted == strong.dtype else None


def apply_held(primitive: Primitive, operands: Sequence[Any], params: Params) -> Sequence[Any]:
    """Apply an operation that holds graphs: recorded if an operand is traced, computed if none is.

    What is computed goes by a program like that of any function, remembered by its structure.
    """
    leaves = [array_leaf(x) for x in operands]
    if trace_of(leaves) is not None:
        return bind_primitive(primitive, leaves, params)
    if not leaves:
        return [np.asarray(x) for x in bind_primitive(primitive, (), params)]
    graph = build_graph(
        primitive.name,
        [type_of(x) for x in leaves],
        lambda *inputs: bind_primitive(primitive, inputs, params),
    )
    return run(graph, leaves)
