"""Operations that hold graphs: `call` runs a graph as one operation (what `jit` leaves in a trace).

Their rules are given the pass as `mode` and apply it to the graphs they hold, so that no pass needs
to know them.
"""

from __future__ import annotations

from typing import Any

from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive
from autodiff.ir.evaluate import evaluate
from autodiff.ir.graph import Graph
from autodiff.ir.primitive import Primitive, Samples, register
from autodiff.primitives.families import is_linear


def _call_type(*avals: ArrayType, graph: Graph, name: str) -> tuple[ArrayType, ...]:
    # A Python number's type is weak in the held graph; as an operand the number may be strong.
    found, wanted = (tuple(t.strong() for t in types) for types in (avals, graph.input_types))
    assert found == wanted, (avals, graph.input_types)
    return tuple(aval.strong() for aval in graph.output_types)


def _call_reference(*operands: Any, graph: Graph, name: str) -> tuple[Any, ...]:
    return tuple(evaluate(graph, (), operands))


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


call = register(
    Primitive(
        name="call",
        kind="higher_order",
        doc="Run a graph (without constants) on the operands.",
        type_rule=_call_type,
        reference=_call_reference,
        differentiate=None,
        transpose=_call_transpose,
        batch=_call_batch,
        multiple_outputs=True,
        derivative=_call_derivative,
        inlined=lambda params: params["graph"],
        samples=Samples(params=()),
    )
)
