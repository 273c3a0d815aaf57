"""`call`: a graph run as one operation, as a jitted function leaves it in a trace."""

from __future__ import annotations

from typing import Any

from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Eqn, Graph, make_graph
from autodiff.primitives.families import is_linear
from autodiff.primitives.higher_order import higher_order, scattered


def _call_type(*avals: ArrayType, graph: Graph, name: str) -> tuple[ArrayType, ...]:
    # A Python number's type is weak in the held graph; as an operand the number may be strong.
    assert all(map(ArrayType.fits, graph.input_types, avals)), (avals, graph.input_types)
    assert len(avals) == len(graph.inputs)
    return tuple(aval.strong() for aval in graph.output_types)


def _call_execute(operands: Any, params: Any, run: Any) -> Any:
    return run(params["graph"], fresh=True)(*operands)


def _call_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    """Run the primal part and the linear part of the linearized graph as two calls.

    The primal part returns the outputs and the residuals; the linear part takes the residuals and
    the tangents that are not zero. In forward mode both land in one trace, in a linearization in
    two.
    """
    name = params["name"]
    nonzero = tuple(t is not None for t in tangents)
    split = mode.linearize(params["graph"], nonzero)
    results = bind_primitive(call, operands, {"graph": split.primal, "name": name})
    count = split.output_count
    outs, residuals = results[:count], split.gather_residuals(results[count:], operands)
    if not any(split.nonzero_outputs):
        return outs, (None,) * count
    live = [t for t in tangents if t is not None]
    out_tangents = iter(
        bind_primitive(call, (*residuals, *live), {"graph": split.linear, "name": name})
    )
    return outs, tuple(next(out_tangents) if flag else None for flag in split.nonzero_outputs)


def _call_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> tuple[Any, ...]:
    linear = tuple(is_linear(operand) for operand in operands)
    given = tuple(ct is not None for ct in cts)
    transposed = mode.transpose(params["graph"], linear, given)
    residuals = [operand for operand in operands if not is_linear(operand)]
    results = iter(
        bind_primitive(
            call,
            (*residuals, *[ct for ct in cts if ct is not None]),
            {"graph": transposed.graph, "name": params["name"]},
        )
    )
    return tuple(next(results) if flag else None for flag in transposed.nonzero)


def _call_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    graph, out_batched = mode.batch(params["graph"], size, tuple(batched))
    outs = bind_primitive(call, operands, {"graph": graph, "name": params["name"]})
    return outs, out_batched


def _call_separate(operands: Any, params: Any, mode: Any) -> Any:
    known = tuple(not is_linear(x) for x in operands)
    parts = mode.split(params["graph"], known)
    values = [x for x in operands if not is_linear(x)]
    results = bind_primitive(call, values, {**params, "graph": parts.known})
    count = sum(parts.known_outputs)
    residuals = parts.gather_residuals(results[count:], values)
    rest = [*residuals, *[x for x in operands if is_linear(x)]]
    outs = scattered(results[:count], parts.known_outputs)
    return outs, (call, rest, {**params, "graph": parts.rest})


def _call_prune(eqn: Eqn, live: tuple[bool, ...], dead_code: Any) -> Eqn:
    if all(live):
        return eqn
    graph = eqn.params["graph"]
    outputs = [atom for atom, flag in zip(graph.outputs, live, strict=True) if flag]
    pruned = dead_code(make_graph(graph.inputs, (), graph.eqns, outputs))
    results = tuple(var for var, flag in zip(eqn.outputs, live, strict=True) if flag)
    return Eqn(call, eqn.inputs, {**eqn.params, "graph": pruned}, results, eqn.source)


call = higher_order(
    "call",
    _call_execute,
    doc="Run a graph (without constants) on the operands.",
    type_rule=_call_type,
    derivative=_call_derivative,
    transpose=_call_transpose,
    batch=_call_batch,
    inlined=lambda params: params["graph"],
    separate=_call_separate,
    prune=_call_prune,
)
call.transparent = True
