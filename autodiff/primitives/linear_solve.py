"""`linear_solve`: the solution of a linear system, differentiated by the system and not its solver.

The system is `A x = b` with A given as the graph `matvec: (constants, x) -> b`, and three graphs
share their operands: `matvec`, `solve: (constants, b) -> (x, aux)` and `transpose_solve`, which
solves `A^T x = b`. Only `matvec` says what is computed, so only it is differentiated:

    A x = b   =>   A dx = db - dA x             x = A^-1 b   =>   ct_b = A^-T ct_x

Both are linear solves again, which is why derivatives of any order never enter a solver. A^T is
the transpose, not the conjugate one, as everywhere in this library's reverse mode.

Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, section 15.1; Blondel et al.,
"Efficient and Modular Implicit Differentiation", NeurIPS 2022, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.base.errors import MissingRuleError, message
from autodiff.base.source_info import SourceLine
from autodiff.ir.avals import ArrayType, type_of
from autodiff.ir.builder import bind_primitive, trace_of
from autodiff.ir.graph import Graph, Literal, make_graph
from autodiff.primitives.call import call
from autodiff.primitives.families import batch_to, is_linear
from autodiff.primitives.higher_order import filled, higher_order, scattered, zeros
from autodiff.primitives.residuals import ResidualCheck

# ------------------------------------------------------------------------ graphs with shared inputs


def with_zeros(graph: Graph, present: Sequence[bool], avals: Sequence[ArrayType]) -> Graph:
    """Return a graph with an output for every flag: zeros of its type where it is not set."""
    if all(present):
        return graph
    outputs = [
        Literal(zeros(aval.strong())) if atom is None else atom
        for atom, aval in zip(scattered(graph.outputs, present), avals, strict=True)
    ]
    return make_graph(graph.inputs, (), graph.eqns, outputs)


def negated_sum(plus: Any, minus: Any) -> Any:
    """Return `plus - minus`, None standing for zero."""
    if minus is None:
        return plus
    return -minus if plus is None else plus - minus


def line_of(values: Sequence[Any]) -> SourceLine | None:
    """Return the user's line of the equation that a rule is applied to, given its operands."""
    trace = trace_of(values)
    return None if trace is None else trace.source


def along_curve(
    mode: Any,
    graph: Graph,
    constants: tuple[Sequence[Any], Sequence[Any]],
    moving: tuple[Sequence[Any], Sequence[Sequence[Any]]],
    order: int,
) -> list[Any]:
    """Return the derivatives of one order of a graph's outputs along a curve, None for zero.

    `constants` and `moving` are the graph's inputs, each with their series; those of `moving` end
    before that order, and what is wanted is to take them as zero from there.
    """
    values, series = constants
    leaves, known = moving
    nonzero = (*[column is not None for column in series], *[True] * len(leaves))
    terms = [term for column in series if column is not None for term in column[:order]]
    for leaf, column in zip(leaves, known, strict=True):
        terms += [*column, zeros(type_of(leaf).strong())]
    pushed = mode.jet(graph, order, nonzero)
    given = (*values, *leaves, *terms)
    results = bind_primitive(call, given, {"graph": pushed.graph, "name": "jet"})
    return scattered(results[len(graph.outputs) :][order - 1 :: order], pushed.nonzero_outputs)


# --------------------------------------------------------------------------------- the rules of it


def _side_count(params: Any) -> int:
    return len(params["matvec"].outputs)


def _solve_type(*avals: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
    matvec, solve = params["matvec"], params["solve"]
    assert len(avals) == len(matvec.inputs) == len(solve.inputs), (avals, params)
    assert all(map(ArrayType.fits, solve.input_types, avals)), (avals, solve.input_types)
    return tuple(aval.strong() for aval in solve.output_types)


def _solve_execute(operands: Any, params: Any, run: Any) -> Any:
    outs = run(params["solve"], fresh=True)(*operands)
    check, count = params["check"], _side_count(params)
    if check is not None:
        applied = run(params["matvec"])(*operands[:-count], *outs[:count])
        check.of_system(applied, operands[-count:])
    return outs


def _without_guess(constants: Sequence[Any], params: Any) -> list[Any]:
    """Return the constants with zeros for the guess: another system starts from nothing."""
    known = len(constants) - params["guess_count"]
    return [*constants[:known], *[zeros(type_of(x).strong()) for x in constants[known:]]]


def _solve_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    """Solve `A dx = db - dA x`, where `dA x` is the derivative of matvec in its constants at x."""
    count = _side_count(params)
    constants = operands[:-count]
    outs = bind_primitive(linear_solve, operands, params)
    nothing = (None,) * (len(outs) - count)
    _, moved = call.derivative(  # type: ignore[misc]
        (*constants, *outs[:count]),
        (*tangents[:-count], *[None] * count),
        {"graph": params["matvec"], "name": params["name"]},
        mode,
    )
    sides = [negated_sum(db, dax) for db, dax in zip(tangents[-count:], moved, strict=True)]
    if all(side is None for side in sides):
        return outs, (None,) * len(outs)
    return outs, (*_solve_again(constants, sides, params), *nothing)


def _solve_again(constants: Sequence[Any], sides: Sequence[Any], params: Any) -> Any:
    """Return the solution for another right-hand side, None in which is zero."""
    solve, count = params["solve"], _side_count(params)
    alone = make_graph(solve.inputs, (), solve.eqns, solve.outputs[:count])
    sides = filled(sides, (True,) * count, params["matvec"].output_types)
    arguments = (*_without_guess(constants, params), *sides)
    return bind_primitive(linear_solve, arguments, {**params, "solve": alone, "guess_count": 0})


def _solve_taylor(operands: Any, series: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    """Solve `A x_k = b_k - (A x)_k` for one derivative after another, x_k zero on the right."""
    count = _side_count(params)
    outs = bind_primitive(linear_solve, operands, params)
    total = max(len(column) for column in series if column is not None)
    constants = operands[:-count], series[:-count]
    is_fixed = all(column is None for column in constants[1])
    found: list[list[Any]] = [[] for _ in range(count)]
    for order in range(1, total + 1):
        moved: Sequence[Any] = (None,) * count
        if not is_fixed:
            at = (outs[:count], found)
            moved = along_curve(mode, params["matvec"], constants, at, order)
        sides = [
            negated_sum(None if column is None else column[order - 1], term)
            for column, term in zip(series[-count:], moved, strict=True)
        ]
        solved = _solve_again(operands[:-count], sides, params)
        for column, term in zip(found, solved, strict=True):
            column.append(term)
    return outs, (*found, *[None] * (len(outs) - count))


def _solve_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> tuple[Any, ...]:
    count = _side_count(params)
    constants = operands[:-count]
    if any(map(is_linear, constants)):
        raise MissingRuleError(
            message(
                params["name"],
                "the solution is not linear in what the matrix is made of",
                line=line_of(cts),
                fix="use vjp, which linearizes first, in place of linear_transpose.",
            )
        )
    matvec, solve, other = params["matvec"], params["solve"], params["transpose_solve"]
    if params["symmetric"]:
        transposed, other = matvec, solve if other is None else other
    else:
        linear = (False,) * len(constants) + (True,) * count
        flipped = mode.transpose(matvec, linear, (True,) * count)
        nonzero = flipped.nonzero[len(constants) :]
        transposed = with_zeros(flipped.graph, nonzero, matvec.output_types)
    if other is None:
        raise MissingRuleError(
            message(
                params["name"],
                "reverse mode needs a solver of the transposed system",
                "transpose_solve=None",
                line=line_of(cts),
                fix="pass transpose_solve=, or symmetric=True if the matrix equals its transpose.",
            )
        )
    sides = filled(cts[:count], (True,) * count, matvec.output_types)
    arguments = (*_without_guess(constants, params), *sides)
    swapped = {"matvec": transposed, "solve": other, "transpose_solve": solve, "guess_count": 0}
    results = bind_primitive(linear_solve, arguments, {**params, **swapped})
    pulled = [
        ct if is_linear(x) else None
        for ct, x in zip(results[:count], operands[-count:], strict=True)
    ]
    return (*[None] * len(constants), *pulled)


def _solve_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    count = _side_count(params)
    flags = (*batched[:-count], *[True] * count)
    sides = [
        batch_to(x, flag, size) for x, flag in zip(operands[-count:], batched[-count:], strict=True)
    ]

    def mapped(graph: Graph) -> tuple[Graph, tuple[bool, ...]]:
        forced = tuple(i < count for i in range(len(graph.outputs)))
        return mode.batch(graph, size, flags, forced)

    other = params["transpose_solve"]
    solve, out_flags = mapped(params["solve"])
    changed = {
        "matvec": mapped(params["matvec"])[0],
        "solve": solve,
        "transpose_solve": None if other is None else mapped(other)[0],
        "check": ResidualCheck.mapped_once_more(params["check"]),
    }
    outs = bind_primitive(linear_solve, (*operands[:-count], *sides), {**params, **changed})
    return outs, out_flags


linear_solve = higher_order(
    "linear_solve",
    _solve_execute,
    doc="The solution of a linear system that is given by its matrix-vector product.",
    type_rule=_solve_type,
    derivative=_solve_derivative,
    transpose=_solve_transpose,
    batch=_solve_batch,
    taylor=_solve_taylor,
    inlined=lambda params: params["solve"] if params["check"] is None else None,
)
