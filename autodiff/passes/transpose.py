"""The pass that runs a linear graph backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autodiff.base.dtypes import is_inexact
from autodiff.base.errors import MissingRuleError, message
from autodiff.ir.builder import Trace, bind_primitive
from autodiff.ir.evaluate import read
from autodiff.ir.graph import Eqn, Graph, Literal, Var
from autodiff.ir.primitive import LinearOperand
from autodiff.passes.memo import remembered
from autodiff.primitives.families import add_cotangents


@dataclass(frozen=True, slots=True)
class Transposed:
    """`graph` maps (values, output cotangents given) to the input cotangents that are not zero."""

    graph: Graph
    nonzero: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Mode:
    """What a rule of an operation that holds graphs is given while a graph is transposed."""

    @staticmethod
    def transpose(graph: Graph, linear: tuple[bool, ...], given: tuple[bool, ...]) -> Transposed:
        """Transpose a held graph as the one around it is."""
        return transpose(graph, linear, given)


@remembered(graphs_of=lambda result: (result.graph,))
def transpose(graph: Graph, linear: tuple[bool, ...], given: tuple[bool, ...]) -> Transposed:
    """Transpose a linear graph: `(res, a') -> b'` becomes `(res, ct b) -> ct a`.

    `linear` marks the inputs a', `given` the outputs that have a cotangent (others: zero). What
    depends on res alone is recorded first; then the linear equations in reverse, each handing its
    operands their cotangents, which add up where a value was used more than once. For
    `b' = a' * r` the result is `ct a = ct b * r`. `nonzero` has one flag per input.
    """
    trace = Trace("transpose", inline_arrays=True)
    values: dict[Var, Any] = {
        var: trace.input(var.aval)
        for var, flag in zip(graph.inputs, linear, strict=True)
        if not flag
    }
    depends = {var for var, flag in zip(graph.inputs, linear, strict=True) if flag}
    backward: list[Eqn] = []
    for eqn in graph.eqns:
        if any(atom in depends for atom in eqn.inputs):
            depends.update(eqn.outputs)
            backward.append(eqn)
            continue
        trace.source = eqn.source
        operands = [read(values, a) for a in eqn.inputs]
        result = bind_primitive(eqn.primitive, operands, eqn.params)
        outs = result if eqn.primitive.multiple_outputs else (result,)
        values.update(zip(eqn.outputs, outs, strict=True))

    cotangents: dict[Var, Any] = {}

    def accumulate(atom: Any, ct: Any) -> None:
        if ct is None or atom not in depends:
            return
        known = cotangents.get(atom)
        cotangents[atom] = ct if known is None else add_cotangents(known, ct)

    for atom, flag in zip(graph.outputs, given, strict=True):
        if flag:
            ct = trace.input(atom.aval.strong())
            if is_inexact(atom.aval.dtype):
                accumulate(atom, ct)
    for eqn in reversed(backward):
        cts = [cotangents.pop(var, None) for var in eqn.outputs]
        if all(ct is None for ct in cts):
            continue
        trace.source = eqn.source
        operands = [
            atom.value
            if type(atom) is Literal
            else LinearOperand(atom.aval)
            if atom in depends
            else values[atom]  # type: ignore[index]
            for atom in eqn.inputs
        ]
        results = _transposed_equation(eqn, cts, operands)
        for atom, ct in zip(eqn.inputs, results, strict=True):
            accumulate(atom, ct)
    results = [
        cotangents.get(var) if flag else None
        for var, flag in zip(graph.inputs, linear, strict=True)
    ]
    nonzero = tuple(ct is not None for ct in results)
    transposed, constants = trace.finish([ct for ct in results if ct is not None])
    assert not constants
    return Transposed(transposed, nonzero)


def _transposed_equation(eqn: Eqn, cts: list[Any], operands: list[Any]) -> Any:
    rule = eqn.primitive.transpose
    if rule is None:
        raise MissingRuleError(
            message(
                eqn.primitive.name,
                "it is not linear in an operand that must enter linearly",
                line=eqn.source,
                fix="use vjp, which linearizes first, in place of linear_transpose.",
            )
        )
    return rule(cts, operands, eqn.params, Mode())
