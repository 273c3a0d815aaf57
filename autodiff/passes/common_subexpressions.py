"""The pass that computes nothing twice."""

from __future__ import annotations

from typing import Any

from autodiff.base.dtypes import is_complex
from autodiff.ir.graph import Atom, Eqn, Graph, Var, make_graph, params_key
from autodiff.ir.held import has_effect


def _order(atom: Atom) -> tuple[bool, int]:
    """Return a key that equal atoms share: literals by content, values by identity."""
    is_var = type(atom) is Var
    return is_var, id(atom) if is_var else hash(atom)


def common_subexpressions(graph: Graph) -> Graph:
    """Compute equal expressions once: the same `a -> b`, with later copies replaced by the first.

    Equations with an effect stay as often as they are written.

    `b = sin a; c = sin a; d = mul b c` becomes `b = sin a; d = mul b b`. Operands of commutative
    operations are compared in either order, complex ones excepted: NumPy computes parts of complex
    products by fused multiply-adds, which round differently in the two orders.
    """
    first: dict[Any, tuple[Var, ...]] = {}
    same: dict[Var, Var] = {}
    kept: list[Eqn] = []
    for eqn in graph.eqns:
        inputs = tuple([same.get(a, a) if type(a) is Var else a for a in eqn.inputs])
        ordered = inputs
        if eqn.primitive.commutative and not is_complex(eqn.outputs[0].aval.dtype):
            ordered = tuple(sorted(inputs, key=_order))
        if has_effect(eqn):
            kept.append(Eqn(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.source))
            continue
        key = (eqn.primitive, params_key(eqn.params), ordered)
        known = first.get(key)
        if known is not None:
            same.update(zip(eqn.outputs, known, strict=True))
            continue
        first[key] = eqn.outputs
        kept.append(
            eqn
            if inputs == eqn.inputs
            else Eqn(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.source)
        )
    if len(kept) == len(graph.eqns):
        return graph
    outputs: list[Atom] = [same.get(a, a) if type(a) is Var else a for a in graph.outputs]
    return make_graph(graph.inputs, graph.constants, kept, outputs)
