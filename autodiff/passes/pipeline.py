"""The passes that simplify a graph before it runs, in order."""

from __future__ import annotations

import sys
from collections.abc import Callable

from autodiff.base.garbage import seldom_collected
from autodiff.base.settings import settings
from autodiff.ir.graph import Eqn, Graph, make_graph
from autodiff.ir.held import map_held_graphs
from autodiff.ir.verify import verify
from autodiff.passes.algebra import algebra
from autodiff.passes.common_subexpressions import common_subexpressions
from autodiff.passes.dead_code import dead_code
from autodiff.passes.fold import fold
from autodiff.passes.inline import inline


def held(graph: Graph) -> Graph:
    """Simplify the graphs that equations hold: `b = scan[body] a` becomes `b = scan[body'] a`."""
    if not any(eqn.primitive.holds_graphs for eqn in graph.eqns):
        return graph
    eqns = [
        Eqn(e.primitive, e.inputs, map_held_graphs(e.params, simplify), e.outputs, e.source)
        if e.primitive.holds_graphs
        else e
        for e in graph.eqns
    ]
    return make_graph(graph.inputs, graph.constants, eqns, graph.outputs)


SIMPLIFY: tuple[tuple[str, Callable[[Graph], Graph]], ...] = (
    ("inline", inline),
    ("dead_code", dead_code),
    ("held", held),
    ("fold", fold),
    ("algebra", algebra),
    ("common_subexpressions", common_subexpressions),
    ("dead_code", dead_code),
)


def simplify(graph: Graph) -> Graph:
    """Return the graph after every simplifying pass; its outputs keep every bit."""
    for _, after in simplification_steps(graph):
        graph = after
    return graph


def simplification_steps(graph: Graph) -> list[tuple[str, Graph]]:
    """Return (pass name, graph after it) for each simplifying pass."""
    steps = []
    values = settings()
    for name, run in SIMPLIFY:
        before = graph
        with seldom_collected():
            graph = run(graph)
        if values.verify:
            verify(graph, name)
        if "passes" in values.debug and graph is not before:
            print(f"after {name}: {len(graph.eqns)} equations\n{graph}", file=sys.stderr)
        steps.append((name, graph))
    return steps
