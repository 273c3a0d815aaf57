"""The pass that computes what is known beforehand."""

from __future__ import annotations

import numpy as np

from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, make_graph


def fold(graph: Graph) -> Graph:
    """Evaluate scalar elementwise equations all of whose operands are literals.

    `b = sqrt 4.0; c = mul a b` becomes `c = mul a 2.0`. The reference implementation computes the
    value, so it is the one the equation would have had.
    """
    known: dict[Var, Literal] = {}
    kept: list[Eqn] = []
    changed = False
    for eqn in graph.eqns:
        inputs = tuple([known.get(a, a) if type(a) is Var else a for a in eqn.inputs])
        primitive = eqn.primitive
        if (
            primitive.kind == "elementwise"
            and not primitive.multiple_outputs
            and all(type(a) is Literal and a.is_scalar for a in inputs)
        ):
            with np.errstate(all="ignore"):
                value = primitive.reference(*[a.value for a in inputs], **eqn.params)  # type: ignore[union-attr]
            known[eqn.outputs[0]] = Literal(eqn.outputs[0].aval.dtype.type(value))
            changed = True
            continue
        if inputs != eqn.inputs:
            eqn = Eqn(primitive, inputs, eqn.params, eqn.outputs, eqn.source)
        kept.append(eqn)
    if not changed:
        return graph
    outputs: list[Atom] = [known.get(a, a) if type(a) is Var else a for a in graph.outputs]
    return make_graph(graph.inputs, graph.constants, kept, outputs)
