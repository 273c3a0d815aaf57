"""The pass by which a derivative computes again what it would otherwise keep."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autodiff.ir.builder import Trace, replay
from autodiff.ir.graph import Atom, Eqn, Graph, Var, make_graph
from autodiff.ir.held import equation_without_effects
from autodiff.passes.algebra import algebra
from autodiff.passes.dead_code import dead_code
from autodiff.passes.inline import inline

if TYPE_CHECKING:
    from autodiff.passes.linearize import Linearized


@dataclass(frozen=True, slots=True)
class Rematerialized:
    """`primal: a -> (b, saved)` and `linear: (used a, saved, a') -> b'`.

    `used` are the positions of the inputs a that the linear part takes; `repeats` tells whether it
    computes anything again.
    """

    primal: Graph
    linear: Graph
    used: tuple[int, ...]
    repeats: bool


def rematerialize(parts: Linearized, saveable: Callable[[Graph], Container[Var]]) -> Rematerialized:
    """Keep only values that may be saved: `(res, a') -> b'` becomes `(a, saved, a') -> b'`.

    `saveable(primal)` says which values of the primal graph, its calls inlined, may be kept. From
    the residuals backwards, a value that may be is kept, any other is computed again from its
    operands. For `b = sin a; c = exp b` with nothing to be saved the linear graph, which took
    `cos a` and c, takes a and begins with `b = sin a; c = exp b; r = cos a`. Effects are not
    repeated.

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, section 12.1 (recomputing
    in place of recording).
    """
    inlined = inline(parts.primal, transparent_only=True)
    allowed = saveable(inlined)
    primal = dead_code(algebra(inlined))
    count = parts.output_count
    residuals: list[Any] = parts.gather_residuals(primal.outputs[count:], primal.inputs)
    kept, repeated = _cut(primal.eqns, residuals, allowed)
    again = dead_code(make_graph([*primal.inputs, *kept], (), repeated, residuals))
    read: set[Atom] = {atom for eqn in again.eqns for atom in eqn.inputs} | set(again.outputs)
    used = tuple(i for i, var in enumerate(primal.inputs) if var in read)
    saved = [var for var in kept if var in read]
    taken = [*[primal.inputs[i] for i in used], *saved]

    trace = Trace("rematerialize", inline_arrays=True)
    values = [trace.input(var.aval) for var in taken]
    tangents = [trace.input(var.aval) for var in parts.linear.inputs[len(residuals) :]]
    computed = replay(make_graph(taken, (), again.eqns, again.outputs), (), values)
    moved = replay(parts.linear, (), [*computed, *tangents])
    linear, constants = trace.finish(moved)
    assert not constants
    outputs = [*primal.outputs[:count], *saved]
    first = dead_code(make_graph(primal.inputs, (), primal.eqns, outputs))
    return Rematerialized(first, linear, used, bool(again.eqns))


def _cut(
    eqns: Sequence[Eqn], residuals: Sequence[Atom], allowed: Container[Var]
) -> tuple[list[Var], list[Eqn]]:
    """Return the values to keep and the equations to repeat, so that residuals can be had."""
    wanted: set[Atom] = {atom for atom in residuals if type(atom) is Var}
    kept: list[Var] = []
    repeated: list[Eqn] = []
    for eqn in reversed(eqns):
        results = [var for var in eqn.outputs if var in wanted]
        if not results:
            continue
        if all(var in allowed for var in results):
            kept += results
        else:
            repeated.append(equation_without_effects(eqn))
            wanted.update(atom for atom in eqn.inputs if type(atom) is Var)
    return kept[::-1], repeated[::-1]
