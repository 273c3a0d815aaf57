"""The pass that splits a derivative into what depends on values and what is linear in tangents."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

from autodiff.ir.builder import Trace
from autodiff.ir.graph import Graph, Var, make_graph
from autodiff.passes.derivative import carry_tangents
from autodiff.passes.memo import remembered
from autodiff.passes.preaccumulate import preaccumulate
from autodiff.passes.rematerialize import Rematerialized, rematerialize
from autodiff.passes.split import Split, split
from autodiff.passes.transpose import Transposed, transpose


@dataclass(frozen=True, slots=True)
class Linearized:
    """`primal: a -> (b, computed residuals)` and `linear: (residuals, a') -> b'`.

    `forwarded[i]` is the input that serves as residual i, or None where the residual is computed.
    """

    primal: Graph
    linear: Graph
    output_count: int
    forwarded: tuple[int | None, ...]
    nonzero_outputs: tuple[bool, ...]

    @property
    def graphs(self) -> tuple[Graph, Graph]:
        """The two graphs."""
        return self.primal, self.linear

    def gather_residuals(self, computed: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """Return the residuals in the linear graph's order."""
        rest = iter(computed)
        return [next(rest) if i is None else inputs[i] for i in self.forwarded]


@dataclass(frozen=True, slots=True)
class Mode:
    """What a rule of an operation that holds graphs is given while a graph is linearized.

    `keeps_residuals`: the rule is to return tangents by operations that are linear in the tangents
    alone, with what depends on values computed beforehand and kept.
    """

    keeps_residuals = True

    @staticmethod
    def linearize(graph: Graph, nonzero: tuple[bool, ...]) -> Linearized:
        """Split a held graph as the pass splits the one around it."""
        return linearize(graph, nonzero)

    @staticmethod
    def rematerialize(
        parts: Linearized, saveable: Callable[[Graph], Container[Var]]
    ) -> Rematerialized:
        """Make a held graph's linear part compute again what may not be saved."""
        return rematerialize(parts, saveable)

    @staticmethod
    def preaccumulate(parts: Linearized) -> Linearized:
        """Multiply local partials of a held graph's linear part beforehand."""
        return preaccumulate(parts).parts

    @staticmethod
    def transpose(graph: Graph, linear: tuple[bool, ...], given: tuple[bool, ...]) -> Transposed:
        """Transpose a held graph."""
        return transpose(graph, linear, given)

    @staticmethod
    def split(graph: Graph, known: tuple[bool, ...]) -> Split:
        """Separate what some inputs of a held graph determine."""
        return split(graph, known)


@remembered(graphs_of=lambda result: result.graphs)
def linearize(graph: Graph, nonzero: tuple[bool, ...]) -> Linearized:
    """Split the derivative: `a -> b` becomes `a -> (b, res)` and `(res, a') -> b'`, linear in a'.

    Two traces are open: values are recorded in the outer, tangents in the inner one. An operation
    goes to the innermost trace among its operands, so whatever is made of values alone is recorded
    with the values, and what the inner trace captures from the outer are the residuals. For
    `b = sin a` the primal graph is `b = sin a; r = cos a; return b r` and the linear one
    `b' = a' * r`.

    Source: Radul et al., "You Only Linearize Once", POPL 2023 (the split; the two traces are ours).
    """
    outer = Trace("linearize", inline_arrays=True)
    inner = Trace("linearize (linear part)", inline_arrays=True)
    primals = [outer.input(aval) for aval in graph.input_types]
    tangents = [
        inner.input(aval.strong()) if flag else None
        for aval, flag in zip(graph.input_types, nonzero, strict=True)
    ]
    outs, out_tangents = carry_tangents(graph, primals, tangents, (outer, inner), Mode())
    live = tuple(t is not None for t in out_tangents)
    linear, residuals = inner.finish([t for t in out_tangents if t is not None])
    position = {tracer.variable: i for i, tracer in enumerate(primals)}
    forwarded = tuple(position.get(tracer.variable) for tracer in residuals)
    computed = [r for r, i in zip(residuals, forwarded, strict=True) if i is None]
    primal, constants = outer.finish([*outs, *computed])
    assert not constants
    linear = make_graph((*linear.constants, *linear.inputs), (), linear.eqns, linear.outputs)
    return Linearized(primal, linear, len(outs), forwarded, live)
