"""The walk that jvp and linearize share: every equation with the tangents of its operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.base.dtypes import is_inexact
from autodiff.base.errors import MissingRuleError, message
from autodiff.base.source_info import TANGENTS, in_sweep
from autodiff.ir.builder import Trace, bind_equation
from autodiff.ir.evaluate import read
from autodiff.ir.graph import Eqn, Graph, Var


def carry_tangents(
    graph: Graph,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    traces: Sequence[Trace],
    mode: Any,
) -> tuple[list[Any], list[Any]]:
    """Record a graph on `primals` beside its derivative on `tangents` (None: zero).

    Each goes to the trace its tracers belong to; `traces`, the first of which is that of `primals`,
    are told each equation's user line.
    Returns the outputs and the output tangents.
    """
    values: dict[Var, Any] = dict(zip(graph.inputs, primals, strict=True))
    moving: dict[Var, Any] = {
        var: t for var, t in zip(graph.inputs, tangents, strict=True) if t is not None
    }
    for eqn in graph.eqns:
        for trace in traces:
            trace.source = eqn.source
        operands = [read(values, a) for a in eqn.inputs]
        eqn_tangents = [moving.get(a) for a in eqn.inputs]  # type: ignore[arg-type]
        if all(t is None for t in eqn_tangents):
            result = bind_equation(eqn, operands, traces[0])
            outs = result if eqn.primitive.multiple_outputs else (result,)
            out_tangents: Sequence[Any] = (None,) * len(outs)
        else:
            outs, out_tangents = _derive(eqn, operands, eqn_tangents, traces, mode)
        for var, out, t in zip(eqn.outputs, outs, out_tangents, strict=True):
            values[var] = out
            if t is not None and is_inexact(var.aval.dtype):
                moving[var] = t
    outs = [read(values, a) for a in graph.outputs]
    return outs, [moving.get(a) for a in graph.outputs]  # type: ignore[arg-type]


def _derive(
    eqn: Eqn, operands: list[Any], tangents: list[Any], traces: Sequence[Trace], mode: Any
) -> tuple[Sequence[Any], Sequence[Any]]:
    primitive = eqn.primitive
    if primitive.derivative is not None:
        return primitive.derivative(operands, tangents, eqn.params, mode)
    result = bind_equation(eqn, operands, traces[0])
    outs = result if primitive.multiple_outputs else (result,)
    if not any(is_inexact(var.aval.dtype) for var in eqn.outputs):
        return outs, (None,) * len(outs)
    if primitive.differentiate is None:
        raise MissingRuleError(
            message(
                primitive.name,
                f"it has no derivative: {primitive.not_differentiable}",
                line=eqn.source,
                fix="keep it out of what is differentiated (stop_gradient on its operands), or "
                "give the function around it a derivative of its own (custom_jvp, custom_vjp).",
            )
        )
    for trace in traces:
        trace.source = in_sweep(eqn.source, TANGENTS)
    return outs, primitive.differentiate(outs, operands, tangents, eqn.params, mode)
