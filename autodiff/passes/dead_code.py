"""The pass that drops what no output needs."""

from __future__ import annotations

from autodiff.ir.graph import Eqn, Graph, Var, make_graph
from autodiff.ir.held import has_effect


def dead_code(graph: Graph) -> Graph:
    """Drop equations none of whose results is used: `(a -> b)` to the same `a -> b`, shorter.

    `b = sin a; c = cos a; return b` becomes `b = sin a; return b`. Inputs stay, and so do equations
    with an effect. An equation that holds graphs is told which of its results are used.
    """
    live = {atom for atom in graph.outputs if isinstance(atom, Var)}
    kept: list[Eqn] = []
    changed = False
    for eqn in reversed(graph.eqns):
        used = [var in live for var in eqn.outputs]
        if not any(used) and not has_effect(eqn):
            changed = True
            continue
        prune = eqn.primitive.prune
        if prune is not None:
            before = eqn
            eqn = prune(eqn, tuple(used), dead_code)
            changed = changed or eqn is not before
        kept.append(eqn)
        live.update(atom for atom in eqn.inputs if isinstance(atom, Var))
    if not changed:
        return graph
    kept.reverse()
    return make_graph(graph.inputs, graph.constants, kept, graph.outputs)
