"""The verifier: the invariants every graph keeps, checked after each pass in tests."""

from __future__ import annotations

from autodiff.base.errors import GraphError, message
from autodiff.ir.graph import Eqn, Graph, Literal, Var
from autodiff.ir.printer import format_equation, name_values


def verify(graph: Graph, origin: str) -> None:
    """Check a graph that the pass `origin` made; a broken invariant is a `GraphError`.

    Every value is defined once, before its use; every equation has the output types its operation's
    type rule gives; no input or constant is a literal.
    """
    defined: set[Var] = set()
    for var in (*graph.inputs, *graph.constants):
        if var in defined:
            raise _broken(graph, None, origin, "an input or constant is listed twice")
        defined.add(var)
    for eqn in graph.eqns:
        for atom in eqn.inputs:
            if not isinstance(atom, Literal) and atom not in defined:
                raise _broken(graph, eqn, origin, "an operand is used before it is defined")
        types = eqn.primitive.output_types(tuple(a.aval for a in eqn.inputs), eqn.params)
        found = tuple(var.aval for var in eqn.outputs)
        if tuple(t.strong() for t in types) != tuple(t.strong() for t in found):
            raise _broken(
                graph, eqn, origin, f"its output types must be {types}, but they are {found}"
            )
        for var in eqn.outputs:
            if var in defined:
                raise _broken(graph, eqn, origin, "a value is defined twice")
            defined.add(var)
    for atom in graph.outputs:
        if not isinstance(atom, Literal) and atom not in defined:
            raise _broken(graph, None, origin, "an output is not defined")


def _broken(graph: Graph, eqn: Eqn | None, origin: str, what: str) -> GraphError:
    if eqn is None:
        return GraphError(message(origin, what))
    names = name_values(graph)
    position = graph.eqns.index(eqn)
    around = range(max(0, position - 5), min(len(graph.eqns), position + 6))
    lines = [
        ("> " if i == position else "  ") + format_equation(graph.eqns[i], names) for i in around
    ]
    return GraphError(message(origin, what, line=eqn.source) + "\n" + "\n".join(lines))
