"""`preaccumulate`: a graph whose derivatives multiply local partials beforehand.

The equation stands for its graph until it is linearized; then the linear part is shortened by the
pass that mode offers. What else happens to it, happens to the graph.
"""

from __future__ import annotations

from typing import Any

from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Eqn, Graph
from autodiff.primitives.call import call
from autodiff.primitives.families import is_linear
from autodiff.primitives.higher_order import higher_order, scattered


def _type(*avals: ArrayType, graph: Graph, name: str) -> tuple[ArrayType, ...]:
    return call.type_rule(*avals, graph=graph, name=name)  # type: ignore[return-value]


def _execute(operands: Any, params: Any, run: Any) -> Any:
    return run(params["graph"], fresh=True)(*operands)


def _derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    """Run values and tangents side by side, or values with products first, sums of tangents later.

    Side by side the graph stays one of this kind, so that its own derivative is shortened.
    """
    graph, name = params["graph"], params["name"]
    count = len(graph.outputs)
    nonzero = tuple(t is not None for t in tangents)
    live = [t for t in tangents if t is not None]
    if not mode.keeps_residuals:
        pushed = mode.jvp(graph, nonzero)
        given = (*operands, *live)
        results = bind_primitive(preaccumulate, given, {"graph": pushed.graph, "name": name})
        return results[:count], scattered(results[count:], pushed.nonzero_outputs)
    parts = mode.preaccumulate(mode.linearize(graph, nonzero))
    results = bind_primitive(preaccumulate, operands, {"graph": parts.primal, "name": name})
    outs = results[:count]
    if not any(parts.nonzero_outputs):
        return outs, (None,) * count
    residuals = parts.gather_residuals(results[count:], operands)
    moved = bind_primitive(call, (*residuals, *live), {"graph": parts.linear, "name": name})
    return outs, scattered(moved, parts.nonzero_outputs)


def _transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    return call.transpose(cts, operands, params, mode)  # type: ignore[misc]


def _batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    graph, out_batched = mode.batch(params["graph"], size, tuple(batched))
    return bind_primitive(preaccumulate, operands, {**params, "graph": graph}), out_batched


def _separate(operands: Any, params: Any, mode: Any) -> Any:
    assert any(map(is_linear, operands))
    return call.separate(operands, params, mode)  # type: ignore[misc]


def _prune(eqn: Eqn, live: tuple[bool, ...], dead_code: Any) -> Eqn:
    pruned = call.prune(eqn, live, dead_code)  # type: ignore[misc]
    return Eqn(preaccumulate, pruned.inputs, pruned.params, pruned.outputs, eqn.source)


preaccumulate = higher_order(
    "preaccumulate",
    _execute,
    doc="Run a graph (without constants); its derivatives multiply local partials beforehand.",
    type_rule=_type,
    derivative=_derivative,
    transpose=_transpose,
    batch=_batch,
    inlined=lambda params: params["graph"],
    separate=_separate,
    prune=_prune,
)
