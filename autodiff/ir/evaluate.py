"""The reference evaluator: one equation after another, what all other ways must match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Params, Var
from autodiff.ir.primitive import Primitive, bind


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


def execute_held(primitive: Primitive, operands: Sequence[Any], params: Params) -> tuple[Any, ...]:
    """Compute an operation that holds graphs, its graphs run by this evaluator."""
    assert primitive.execute is not None
    return tuple(primitive.execute(operands, params, evaluated))


def evaluated(graph: Graph, fresh: bool = False) -> Callable[..., list[Any]]:
    """Return a function from arrays to the list of a graph's outputs, for `execute` rules."""
    dying = last_uses(graph)

    def run(*arguments: Any) -> list[Any]:
        outputs = _evaluate(graph, dict(zip(graph.inputs, arguments, strict=True)), dying)
        return [copy_of(x) for x in outputs] if fresh else outputs

    return run


def copy_of(value: Any) -> Any:
    """Return a value that shares no memory with this one."""
    return value.copy() if getattr(value, "shape", ()) else value


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
    return _evaluate(graph, env, last_uses(graph))


def _evaluate(graph: Graph, env: dict[Var, Any], dying: Sequence[tuple[Var, ...]]) -> list[Any]:
    for eqn, last in zip(graph.eqns, dying, strict=True):
        evaluate_equations((eqn,), env)
        for var in last:
            del env[var]
    return [read(env, atom) for atom in graph.outputs]
