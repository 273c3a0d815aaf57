"""The pass that computes nothing twice."""

from __future__ import annotations

from typing import Any

from autodiff.base.dtypes import is_complex, is_float
from autodiff.ir.graph import Atom, Eqn, Graph, Var, make_graph, params_key
from autodiff.ir.held import has_effect
from autodiff.primitives.derivative_terms import is_negation, negation


def _order(atom: Atom) -> tuple[bool, int]:
    """Return a key that equal atoms share: literals by content, values by identity."""
    is_var = type(atom) is Var
    return is_var, id(atom) if is_var else hash(atom)


def common_subexpressions(graph: Graph) -> Graph:
    """Compute equal expressions once: the same `a -> b`, with later copies replaced by the first.

    Equations with an effect stay as often as they are written. What is equal but for its sign is
    the negative of the first: operations say whether the sign of an operand is the result's.

    `b = sin a; c = sin a; d = mul b c` becomes `b = sin a; d = mul b b`. Operands of commutative
    operations are compared in either order, complex ones excepted: NumPy computes parts of complex
    products by fused multiply-adds, which round differently in the two orders.

    `b = neg a; c = sin a; d = sin b` becomes `c = sin a; d = neg c`: the same value, a NaN's sign
    excepted, which means nothing (IEEE 754-2019, 6.3).
    """
    first: dict[Any, tuple[tuple[Var, ...], bool]] = {}
    same: dict[Var, Var] = {}
    negated: dict[Atom, Atom] = {}
    kept: list[Eqn] = []
    is_changed = False
    for eqn in graph.eqns:
        inputs = tuple([same.get(a, a) if type(a) is Var else a for a in eqn.inputs])
        ordered, is_flipped = _without_signs(eqn, inputs, negated)
        if eqn.primitive.commutative and not is_complex(eqn.outputs[0].aval.dtype):
            ordered = tuple(sorted(ordered, key=_order))
        if has_effect(eqn):
            kept.append(Eqn(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.source))
            continue
        key = (eqn.primitive, params_key(eqn.params), ordered)
        known, was_flipped = first.setdefault(key, (eqn.outputs, is_flipped))
        if known is not eqn.outputs:
            is_changed = True
            if is_flipped == was_flipped:
                same.update(zip(eqn.outputs, known, strict=True))
                continue
            inputs = known
            eqn = negation(known[0], eqn.outputs[0], eqn.source)
        if is_negation(eqn) and _has_sign(eqn):
            negated[eqn.outputs[0]] = inputs[0]
        kept.append(
            eqn
            if inputs == eqn.inputs
            else Eqn(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.source)
        )
    if not is_changed:
        return graph
    outputs: list[Atom] = [same.get(a, a) if type(a) is Var else a for a in graph.outputs]
    return make_graph(graph.inputs, graph.constants, kept, outputs)


def _has_sign(eqn: Eqn) -> bool:
    """Return whether an equation gives floats, which differ from their negatives in the sign."""
    return is_float(eqn.outputs[0].aval.dtype)


def _without_signs(
    eqn: Eqn, inputs: tuple[Atom, ...], negated: dict[Atom, Atom]
) -> tuple[tuple[Atom, ...], bool]:
    """Return operands of which none is a negative, and whether the result changes its sign."""
    if not (eqn.primitive.odd or eqn.primitive.even) or not _has_sign(eqn):
        return inputs, False
    count = sum(atom in negated for atom in inputs)
    return tuple([negated.get(atom, atom) for atom in inputs]), eqn.primitive.odd and count % 2 == 1
