"""The pass that runs a linear graph backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autodiff.base.dtypes import is_inexact
from autodiff.base.errors import MissingRuleError, message
from autodiff.base.source_info import COTANGENTS, SourceLine, in_sweep
from autodiff.ir.builder import Trace, bind_equation
from autodiff.ir.evaluate import read
from autodiff.ir.graph import Eqn, Graph, Params, Var
from autodiff.ir.primitive import LinearOperand, Primitive
from autodiff.passes.memo import remembered
from autodiff.passes.split import Split, split
from autodiff.primitives.derivative_terms import add_cotangents


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

    @staticmethod
    def split(graph: Graph, known: tuple[bool, ...]) -> Split:
        """Separate what some inputs of a held graph determine."""
        return split(graph, known)


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
    backward: list[_LinearEquation] = []
    for eqn in graph.eqns:
        trace.source = eqn.source
        if any(atom in depends for atom in eqn.inputs):
            backward.append(_linear_equation(eqn, values, depends))
            continue
        operands = [read(values, a) for a in eqn.inputs]
        result = bind_equation(eqn, operands, trace)
        outs = result if eqn.primitive.multiple_outputs else (result,)
        values.update(zip(eqn.outputs, outs, strict=True))

    cotangents: dict[Var, Any] = {}

    def accumulate(var: Any, ct: Any) -> None:
        if ct is not None:
            known = cotangents.get(var)
            cotangents[var] = ct if known is None else add_cotangents(known, ct)

    for atom, flag in zip(graph.outputs, given, strict=True):
        if flag:
            ct = trace.input(atom.aval.strong())
            if is_inexact(atom.aval.dtype) and atom in depends:
                accumulate(atom, ct)
    for eqn in reversed(backward):
        cts = [cotangents.pop(var, None) for var in eqn.outputs]
        if all(ct is None for ct in cts):
            continue
        trace.source = in_sweep(eqn.source, COTANGENTS)
        results = _transposed_equation(eqn, cts)
        for operand, ct in zip(eqn.operands, results, strict=True):
            if type(operand) is _LinearVar:
                accumulate(operand.var, ct)
    results = [
        cotangents.get(var) if flag else None
        for var, flag in zip(graph.inputs, linear, strict=True)
    ]
    nonzero = tuple(ct is not None for ct in results)
    transposed, constants = trace.finish([ct for ct in results if ct is not None])
    assert not constants
    return Transposed(transposed, nonzero)


@dataclass(frozen=True, slots=True)
class _LinearVar:
    """An operand whose cotangent is wanted, as it stands in a linear equation."""

    var: Var


@dataclass(frozen=True, slots=True)
class _LinearEquation:
    """An equation to be run backwards: its operands are values or linear."""

    primitive: Primitive
    operands: tuple[Any, ...]
    params: Params
    outputs: tuple[Var, ...]
    source: SourceLine | None


def _linear_equation(eqn: Eqn, values: dict[Var, Any], depends: set[Var]) -> _LinearEquation:
    """Return what of an equation is linear; what of it is not, is recorded into `values`."""
    operands: list[Any] = [
        _LinearVar(atom) if atom in depends else read(values, atom)  # type: ignore[arg-type]
        for atom in eqn.inputs
    ]
    primitive, params, outputs = eqn.primitive, eqn.params, eqn.outputs
    if primitive.separate is not None and len(outputs) > 0:
        stand_ins = {
            LinearOperand(x.var.aval, mark=i): x
            for i, x in enumerate(operands)
            if type(x) is _LinearVar
        }
        marks = iter(stand_ins)
        given = [next(marks) if type(x) is _LinearVar else x for x in operands]
        known, (primitive, rest, params) = primitive.separate(given, params, Mode())
        for var, value in zip(outputs, known, strict=True):
            if value is not None:
                values[var] = value
        outputs = tuple(v for v, value in zip(outputs, known, strict=True) if value is None)
        operands = [stand_ins[x] if type(x) is LinearOperand else x for x in rest]
    depends.update(outputs)
    return _LinearEquation(primitive, tuple(operands), params, outputs, eqn.source)


def _transposed_equation(eqn: _LinearEquation, cts: list[Any]) -> Any:
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
    operands = [LinearOperand(x.var.aval) if type(x) is _LinearVar else x for x in eqn.operands]
    return rule(cts, operands, eqn.params, Mode())
