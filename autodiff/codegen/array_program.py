"""Graphs as straight-line Python over array functions: one statement an equation.

This is how a graph runs where no kernels are generated: NumPy (or CuPy) computes each equation, and
the interpreter's own work is one call. The text for `x * x + 1.0` is

    def program(a):
        b = a * a
        del a
        return (b + c0,)

with the literals and functions it names passed beside it. An operation that holds graphs is given
the function that makes a held graph callable; what each held graph becomes is a program of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from autodiff.ir.evaluate import evaluated, last_uses
from autodiff.ir.graph import Atom, Eqn, Graph, Params, Var
from autodiff.ir.printer import name_values
from autodiff.schedule.fuse import kernel

#: Python operators, by the name a declaration gives.
_BINARY = {"add": "+", "sub": "-", "mul": "*", "truediv": "/"}
_BINARY |= {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNARY = {"neg": "-"}


@dataclass(frozen=True, slots=True)
class ArrayProgram:
    """`source` defines `program(*inputs)`, which returns a tuple; `names` is what it refers to."""

    source: str
    names: dict[str, Any]


#: From a held graph (and `fresh`, as in ir/primitive.py), or a kernel, to a function on arrays.
Runner = Callable[..., Callable[..., Sequence[Any]]]


def emit_array_program(graph: Graph, run: Runner = evaluated) -> ArrayProgram:
    """Return the program of a graph without constants; held graphs run by `run`."""
    assert not graph.constants
    local = {var: f"v_{name}" for var, name in name_values(graph).items()}
    names: dict[str, Any] = {}
    functions: dict[Any, str] = {}

    def read(atom: Atom) -> str:
        if isinstance(atom, Var):
            return local[atom]
        if atom not in functions:
            functions[atom] = f"c{len(functions)}"
            names[functions[atom]] = atom.value
        return functions[atom]

    def function(eqn: Eqn) -> str:
        primitive = eqn.primitive
        key = (primitive, tuple(eqn.params.items()))
        avals = [atom.aval for atom in eqn.inputs]
        if primitive.prepared is not None:
            key = (*key, *avals)
        if key not in functions:
            functions[key] = f"{primitive.name}_{len(functions)}"
            reference = primitive.reference
            if primitive is kernel:
                names[functions[key]] = run(eqn.params["spec"])
            elif primitive.execute is not None:
                names[functions[key]] = partial(_execute, primitive.execute, eqn.params, run)
            elif primitive.prepared is not None:
                names[functions[key]] = primitive.prepared(*avals, **eqn.params)
            elif eqn.params:
                names[functions[key]] = partial(reference, **eqn.params)
            else:
                names[functions[key]] = reference
        return functions[key]

    lines = [f"def program({', '.join(local[var] for var in graph.inputs)}):"]
    for eqn, dying in zip(graph.eqns, last_uses(graph), strict=True):
        operands = [read(atom) for atom in eqn.inputs]
        operator = eqn.primitive.operator or ""
        outputs = ", ".join(local[var] for var in eqn.outputs)
        if eqn.primitive.multiple_outputs:
            outputs += ","
        if operator in _BINARY:
            lines.append(f"    {outputs} = {operands[0]} {_BINARY[operator]} {operands[1]}")
        elif operator in _UNARY:
            lines.append(f"    {outputs} = {_UNARY[operator]}{operands[0]}")
        elif not eqn.outputs:
            lines.append(f"    {function(eqn)}({', '.join(operands)})")
        else:
            lines.append(f"    {outputs} = {function(eqn)}({', '.join(operands)})")
        if dying:
            lines.append(f"    del {', '.join(local[var] for var in dying)}")
    results = "".join(f"{read(atom)}, " for atom in graph.outputs)
    lines.append(f"    return ({results.rstrip()})" if results else "    return ()")
    return ArrayProgram("\n".join(lines) + "\n", names)


def _execute(execute: Any, params: Params, run: Runner, *operands: Any) -> Sequence[Any]:
    return execute(operands, params, run)


def shared_outputs(graph: Graph, donated: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """Return the positions of outputs that could share memory with something the caller can reach.

    Such are inputs, literals, views of them, a second output of the same memory, and broadcast
    arrays (whose elements share memory among themselves). Inputs at the positions `donated` are
    out of the caller's reach: their memory may hold a result.
    """
    origin: dict[Any, Any] = {
        var: var if i in donated else None for i, var in enumerate(graph.inputs)
    }
    for eqn in graph.eqns:
        source = eqn.inputs[0] if eqn.primitive.view else None  # held graphs: fresh by contract
        for var in eqn.outputs:
            if not eqn.primitive.view:
                origin[var] = var
            elif not isinstance(source, Var) or var.aval.size != source.aval.size:
                origin[var] = None
            else:
                origin[var] = origin[source]
    seen: set[Any] = set()
    copied = []
    for i, atom in enumerate(graph.outputs):
        root = origin[atom] if isinstance(atom, Var) else None
        if root is None or root in seen:
            copied.append(i)
        seen.add(root)
    return tuple(copied)
