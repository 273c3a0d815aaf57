"""The pass that removes operations which change nothing."""

from __future__ import annotations

from autodiff.ir.graph import Atom, Eqn, Graph, Var, make_graph


def algebra(graph: Graph) -> Graph:
    """Apply each operation's own `simplify` rule: only rewrites that keep every bit of every value.

    `b = mul a 1.0` becomes a, `c = neg (neg a)` becomes a; `add a 0.0` stays, since it turns -0.0
    into 0.0. A rule's answer counts only if it has the type of what it replaces, so that a rule
    need not compare types (a cast to the type a value has already is the value).
    """
    same: dict[Var, Atom] = {}
    made_by: dict[Var, Eqn] = {}
    kept: list[Eqn] = []
    for eqn in graph.eqns:
        inputs = tuple([same.get(a, a) if type(a) is Var else a for a in eqn.inputs])
        if inputs != eqn.inputs:
            eqn = Eqn(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.source)
        rule = eqn.primitive.simplify
        if rule is not None:
            replacement = rule(eqn, made_by.get)
            if (
                replacement is not None
                and replacement.aval.strong() is eqn.outputs[0].aval.strong()
            ):
                same[eqn.outputs[0]] = replacement
                continue
        for var in eqn.outputs:
            made_by[var] = eqn
        kept.append(eqn)
    if not same:
        return graph
    outputs: list[Atom] = [same.get(a, a) if type(a) is Var else a for a in graph.outputs]
    return make_graph(graph.inputs, graph.constants, kept, outputs)
