"""The reference evaluator: one equation after another, what all other ways must match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var
from autodiff.ir.primitive import bind


def read(env: dict[Var, Any], atom: Atom) -> Any:
    """Return the value of an atom."""
    return atom.value if type(atom) is Literal else env[atom]  # type: ignore[index]


def evaluate_equations(eqns: Iterable[Eqn], env: dict[Var, Any]) -> None:
    """Run equations in order, entering each output into `env`."""
    for eqn in eqns:
        primitive = eqn.primitive
        operands = [atom.value if type(atom) is Literal else env[atom] for atom in eqn.inputs]  # type: ignore[index]
        result = bind(primitive, operands, eqn.params)
        if primitive.multiple_outputs:
            for var, value in zip(eqn.outputs, result, strict=True):
                env[var] = value
        else:
            env[eqn.outputs[0]] = result


def last_uses(graph: Graph) -> list[tuple[Var, ...]]:
    """Return, for each equation, the values that nothing after it reads."""
    kept = set(graph.outputs)
    seen: set[Any] = set(kept)
    dying: list[tuple[Var, ...]] = []
    for eqn in reversed(graph.eqns):
        last = []
        for atom in (*eqn.inputs, *eqn.outputs):
            if type(atom) is Var and atom not in seen:
                seen.add(atom)
                last.append(atom)
        dying.append(tuple(last))
    dying.reverse()
    return dying


def evaluate(graph: Graph, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Run a graph on values (arrays or tracers) and return the list of its outputs.

    Values are dropped after their last use, so peak memory is that of the live ones.
    """
    env: dict[Var, Any] = dict(zip(graph.inputs, arguments, strict=True))
    env.update(zip(graph.constants, constants, strict=True))
    for eqn, dying in zip(graph.eqns, last_uses(graph), strict=True):
        evaluate_equations((eqn,), env)
        for var in dying:
            del env[var]
    return [read(env, atom) for atom in graph.outputs]
