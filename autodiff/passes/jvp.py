"""The pass that carries tangents along with values."""

from __future__ import annotations

from dataclasses import dataclass

from autodiff.ir.builder import Trace
from autodiff.ir.graph import Graph
from autodiff.passes.derivative import carry_tangents
from autodiff.passes.linearize import Mode as LinearizeMode
from autodiff.passes.memo import remembered


@dataclass(frozen=True, slots=True)
class JvpGraph:
    """`graph` maps (inputs, tangents not zero) to (outputs, tangents not zero)."""

    graph: Graph
    nonzero_outputs: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Mode(LinearizeMode):
    """What a rule of an operation that holds graphs is given while tangents go with values.

    Nothing needs to be kept: values and tangents may be computed side by side.
    """

    keeps_residuals = False

    @staticmethod
    def jvp(graph: Graph, nonzero: tuple[bool, ...]) -> JvpGraph:
        """Push tangents through a held graph as through the one around it."""
        return jvp(graph, nonzero)


@remembered(graphs_of=lambda result: (result.graph,))
def jvp(graph: Graph, nonzero: tuple[bool, ...]) -> JvpGraph:
    """Push tangents forward: `a -> b` becomes `(a, T a) -> (b, T b)`.

    `nonzero` tells which inputs have a tangent; the others' are zero and take no part. For
    `b = sin a` the result computes `b = sin a; t = cos a; tb = ta * t`.

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, section 3.1.
    """
    trace = Trace("jvp", inline_arrays=True)
    primals = [trace.input(aval) for aval in graph.input_types]
    tangents = [
        trace.input(aval.strong()) if flag else None
        for aval, flag in zip(graph.input_types, nonzero, strict=True)
    ]
    outs, out_tangents = carry_tangents(graph, primals, tangents, (trace,), Mode())
    live = tuple(t is not None for t in out_tangents)
    result, constants = trace.finish([*outs, *[t for t in out_tangents if t is not None]])
    assert not constants
    return JvpGraph(result, live)
