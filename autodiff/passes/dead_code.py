"""The pass that drops what no output needs."""

from __future__ import annotations

from autodiff.ir.graph import Eqn, Graph, Var, make_graph


def dead_code(graph: Graph) -> Graph:
    """Drop equations none of whose results is used: `(a -> b)` to the same `a -> b`, shorter.

    `b = sin a; c = cos a; return b` becomes `b = sin a; return b`. Inputs stay.
    """
    live = {atom for atom in graph.outputs if isinstance(atom, Var)}
    kept: list[Eqn] = []
    for eqn in reversed(graph.eqns):
        if any(var in live for var in eqn.outputs):
            kept.append(eqn)
            live.update(atom for atom in eqn.inputs if isinstance(atom, Var))
    if len(kept) == len(graph.eqns):
        return graph
    kept.reverse()
    return make_graph(graph.inputs, graph.constants, kept, graph.outputs)
