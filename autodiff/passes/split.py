"""The pass that separates what some of a graph's inputs determine from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autodiff.ir.graph import Eqn, Graph, Literal, Var, make_graph
from autodiff.ir.held import has_effect


@dataclass(frozen=True, slots=True)
class Split:
    """`known: a -> (known b, computed residuals)` and `rest: (residuals, c) -> other b`.

    `known_outputs` marks the graph's outputs that `known` computes. `forwarded[i]` is the known
    input (counted among the known ones) that serves as residual i, or None where the residual is
    computed.
    """

    known: Graph
    rest: Graph
    known_outputs: tuple[bool, ...]
    forwarded: tuple[int | None, ...]

    def gather_residuals(self, computed: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """Return the residuals in the rest's order, given the known inputs."""
        remaining = iter(computed)
        return [next(remaining) if i is None else inputs[i] for i in self.forwarded]


def split(graph: Graph, known: tuple[bool, ...]) -> Split:
    """Separate a graph: `(a, c) -> b` becomes `a -> (known b, res)` and `(res, c) -> other b`.

    `known` marks the inputs a. An equation all of whose operands are known is known, one with an
    effect never is. For `d = sin a; e = mul d c; return d e` the known graph is
    `d = sin a; return d d` and the rest `e = mul d c; return e` with residual d.

    Both parts are made of the graph's own variables: rules may put these together anew. (So the
    result is not remembered by structure, as other passes' are.)

    Source: Jones, Gomard and Sestoft, "Partial Evaluation and Automatic Program Generation", 1993,
    section 4.4 (offline partial evaluation of a straight-line program).
    """
    determined: set[Var] = {v for v, flag in zip(graph.inputs, known, strict=True) if flag}
    early: list[Eqn] = []
    late: list[Eqn] = []
    for eqn in graph.eqns:
        is_known = all(type(a) is Literal or a in determined for a in eqn.inputs)
        if is_known and not has_effect(eqn):
            determined.update(eqn.outputs)
            early.append(eqn)
        else:
            late.append(eqn)
    known_outputs = tuple(type(a) is Literal or a in determined for a in graph.outputs)
    residuals: dict[Var, None] = {}
    for eqn in late:
        residuals.update((a, None) for a in eqn.inputs if type(a) is Var and a in determined)
    known_inputs = [v for v, flag in zip(graph.inputs, known, strict=True) if flag]
    position = {var: i for i, var in enumerate(known_inputs)}
    forwarded = tuple(position.get(var) for var in residuals)
    computed = [var for var in residuals if var not in position]
    pairs = list(zip(graph.outputs, known_outputs, strict=True))
    unknown_inputs = [v for v, flag in zip(graph.inputs, known, strict=True) if not flag]
    return Split(
        make_graph(known_inputs, (), early, [*[a for a, flag in pairs if flag], *computed]),
        make_graph([*residuals, *unknown_inputs], (), late, [a for a, flag in pairs if not flag]),
        known_outputs,
        forwarded,
    )
