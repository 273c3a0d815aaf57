"""The evaluator that stops at the first NaN, and says where it comes from (setting `check`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autodiff.base.dtypes import is_inexact
from autodiff.base.errors import message
from autodiff.base.source_info import COTANGENTS, TANGENTS, VALUES, sweep_of
from autodiff.ir.avals import type_of
from autodiff.ir.evaluate import copy_of, evaluate_equations, last_uses, read
from autodiff.ir.graph import Eqn, Graph, Var
from autodiff.ir.tracer import Tracer

#: What the message says of where an equation belongs, and how such a NaN is mended.
_SWEEPS: dict[str | None, str] = {
    VALUES: ", in the forward sweep",
    TANGENTS: ", in a derivative, in the forward sweep",
    COTANGENTS: ", in the backward sweep",
    None: "",
}
_FIXES: dict[str | None, str] = {
    VALUES: "keep the operands where the operation is defined; a numpy.where must choose its "
    "operand, since one that chooses between results still computes both.",
    TANGENTS: "the function has no finite derivative there: choose the operand by numpy.where, or "
    "give the function a derivative of its own (custom_jvp).",
    COTANGENTS: "the function has no finite derivative there: choose the operand by numpy.where, "
    "or give the function a derivative of its own (custom_vjp).",
}
_FIXES[None] = _FIXES[VALUES]


def evaluate_checked(
    eqns: Iterable[Eqn],
    env: dict[Var, Any],
    dying: Sequence[tuple[Var, ...]] | None = None,
) -> dict[Var, FloatingPointError]:
    """Run equations as `evaluate_equations` does, up to the first that makes a NaN of numbers.

    Held graphs are run in the same way. `dying` are the values to drop after each equation.

    A NaN that a derivative makes is reported where it enters the graph's results only: rules
    compute both sides of what they then choose from. Returns those not reported, by the values that
    have them; who knows the results looks among these.

    Raises:
        FloatingPointError: the operation's result has a NaN where no operand has one. For
            elementwise operations that is said of each element, for others of whole arrays.
    """
    unreported: dict[Var, FloatingPointError] = {}
    for i, eqn in enumerate(eqns):
        operands = [read(env, atom) for atom in eqn.inputs]
        if any(type(x) is Tracer for x in operands):
            evaluate_equations((eqn,), env)
        elif eqn.primitive.execute is not None:
            results = eqn.primitive.execute(operands, eqn.params, _checked)
            env.update(zip(eqn.outputs, results, strict=True))
            _look(eqn, operands, env, unreported)
        else:
            evaluate_equations((eqn,), env)
            _look(eqn, operands, env, unreported)
        for var in dying[i] if dying is not None else ():
            del env[var]
    return unreported


def run_checked(graph: Graph, *arguments: Any) -> list[Any]:
    """Return the outputs of a graph without constants, checked as `evaluate_checked` does."""
    env: dict[Var, Any] = dict(zip(graph.inputs, arguments, strict=True))
    unreported = evaluate_checked(graph.eqns, env, last_uses(graph))
    results = set(graph.outputs)
    for var, error in unreported.items():
        if var in results:
            raise error
    return [read(env, atom) for atom in graph.outputs]


def _checked(graph: Graph, fresh: bool = False) -> Callable[..., list[Any]]:
    """Return a held graph as a function, for `execute` rules."""

    def run(*arguments: Any) -> list[Any]:
        outputs = run_checked(graph, *arguments)
        return [copy_of(x) for x in outputs] if fresh else outputs

    return run


def _look(
    eqn: Eqn,
    operands: Sequence[Any],
    env: dict[Var, Any],
    unreported: dict[Var, FloatingPointError],
) -> None:
    """Look for NaN in the results of an equation: raise, or enter those of a derivative."""
    handed_on = [unreported[a] for a in eqn.inputs if type(a) is Var and a in unreported]
    for var in eqn.outputs:
        if not is_inexact(var.aval.dtype):
            continue
        nan = env[var] != env[var]
        if not nan.any():
            continue
        if handed_on:
            unreported[var] = handed_on[0]
        elif eqn.primitive.execute is None:  # what held graphs make has been found in them
            error = _created(eqn, operands, nan)
            if error is not None and sweep_of(eqn.source) in (TANGENTS, COTANGENTS):
                unreported[var] = error
            elif error is not None:
                raise error


def _created(eqn: Eqn, operands: Sequence[Any], created: Any) -> FloatingPointError | None:
    """Return the error if a result has NaN, at `created`, where none of the operands has one."""
    before = [x != x for x in operands if is_inexact(x.dtype)]
    is_elementwise = eqn.primitive.kind == "elementwise"
    if is_elementwise:
        for mask in before:
            created = created & ~mask
        if not created.any():
            return None
    elif any(mask.any() for mask in before):
        return None
    place = tuple(int(axis[0]) for axis in created.nonzero()) if created.ndim else ()
    where = f" at index {place}" if place else ""
    sources = " and ".join(_described(x, place if is_elementwise else None) for x in operands)
    sweep = sweep_of(eqn.source)
    return FloatingPointError(
        message(
            eqn.primitive.public or eqn.primitive.name,
            "numbers must not give NaN (setting check=nans)",
            f"NaN{where} from {sources or 'no operands'}{_SWEEPS[sweep]}",
            line=eqn.source,
            fix=_FIXES[sweep],
        )
    )


def _described(operand: Any, place: tuple[int, ...] | None) -> str:
    """Return an operand's type after its value, if it is one number or only that at `place` counts.

    >>> import numpy as np
    >>> _described(np.array([1.0, -2.0]), (1,)), _described(np.zeros((2, 3)), None)
    ('-2.0 of float64[2]', 'float64[2,3]')
    """
    aval = str(type_of(operand))
    if operand.shape and place is None:
        return aval
    return f"{operand[place if operand.shape else ()].item()!r} of {aval}"
