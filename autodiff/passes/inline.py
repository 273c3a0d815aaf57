"""The pass that replaces calls by the bodies they call."""

from __future__ import annotations

from collections.abc import Callable

from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, make_graph


def inline(graph: Graph, transparent_only: bool = False) -> Graph:
    """Replace every equation that offers a body, at any depth: `b = call[g] a` becomes g's own.

    Graphs that stay held are left to the pass that simplifies them. `transparent_only`: what has
    rules of its own stays, since the result is to be transformed further.

    For `g = {c = sin x; return c}`, `b = call[g] a; d = exp b` becomes `c = sin a; d = exp c`.
    """
    if all(eqn.primitive.inlined is None for eqn in graph.eqns):
        return graph
    eqns: list[Eqn] = []

    def copy(body: Graph, rename: Callable[[Atom], Atom]) -> list[Atom]:
        names: dict[Var, Atom] = {}

        def local(atom: Atom) -> Atom:
            if type(atom) is Literal:
                return atom
            found = names.get(atom)  # type: ignore[arg-type]
            return rename(atom) if found is None else found

        for eqn in body.eqns:
            inputs = tuple(map(local, eqn.inputs))
            rule = eqn.primitive.inlined
            if transparent_only and not eqn.primitive.transparent:
                rule = None
            held = rule(eqn.params) if rule is not None else None
            if held is not None:
                bound = dict(zip(held.inputs, inputs, strict=True))
                outs = copy(held, lambda atom, bound=bound: bound.get(atom, atom))
                names.update(zip(eqn.outputs, outs, strict=True))
                continue
            outputs = tuple(Var(var.aval) for var in eqn.outputs)
            names.update(zip(eqn.outputs, outputs, strict=True))
            eqns.append(Eqn(eqn.primitive, inputs, eqn.params, outputs, eqn.source))
        return [local(atom) for atom in body.outputs]

    outputs = copy(graph, lambda atom: atom)
    return make_graph(graph.inputs, graph.constants, eqns, outputs)
