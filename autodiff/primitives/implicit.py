"""`root`: a root of a function, differentiated by the function and not by what found it.

Of `f(x, c) = 0` with constants c, the implicit function theorem gives

    f_x dx + f_c dc = 0   =>   f_x dx = -f_c dc,

a `linear_solve` at the root. Its matrix f_x is the graph `linear: (residuals, v) -> f_x v`, fed by
`residuals: (c, x) -> residuals`; `tangent_solve: (residuals, b) -> v` and `transpose_tangent_solve`
solve with it and with its transpose. All graphs take every constant of the equation first. The
starting point of the search enters `solve: (c, guess) -> (x, aux)` alone: its derivative is zero.

Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, section 15.1; Blondel et al.,
"Efficient and Modular Implicit Differentiation", NeurIPS 2022, equation 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.base.errors import MissingRuleError, message
from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Graph
from autodiff.primitives.call import call
from autodiff.primitives.families import batch_to
from autodiff.primitives.higher_order import filled, higher_order
from autodiff.primitives.linear_solve import along_curve, line_of, linear_solve
from autodiff.primitives.residuals import ResidualCheck


def _root_type(*avals: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
    solve = params["solve"]
    assert len(avals) == len(solve.inputs), (avals, params)
    assert all(map(ArrayType.fits, solve.input_types, avals)), (avals, solve.input_types)
    return tuple(aval.strong() for aval in solve.output_types)


def _leaf_count(params: Any) -> int:
    return len(params["function"].outputs)


def _root_execute(operands: Any, params: Any, run: Any) -> Any:
    outs = run(params["solve"], fresh=True)(*operands)
    check, count = params["check"], _leaf_count(params)
    if check is not None:
        function = run(params["function"])
        check.of_root(function(*operands[:-count], *outs[:count]), function(*operands))
    return outs


def _root_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    """Solve `f_x dx = -f_c dc` at the root."""
    count = _leaf_count(params)
    name = params["name"]
    constants = operands[:-count]
    outs = bind_primitive(root, operands, params)
    nothing = (None,) * len(outs)
    at_root = (*constants, *outs[:count])
    _, moved = call.derivative(  # type: ignore[misc]
        at_root,
        (*tangents[:-count], *[None] * count),
        {"graph": params["function"], "name": name},
        mode,
    )
    if all(t is None for t in moved):
        return outs, nothing
    residuals = bind_primitive(call, at_root, {"graph": params["residuals"], "name": name})
    return outs, (*_tangents((*constants, *residuals), moved, params), *nothing[count:])


def _tangents(constants: Sequence[Any], moved: Sequence[Any], params: Any) -> Any:
    """Return the solution of `f_x dx = -moved`, None in which is zero."""
    sides = [None if t is None else -t for t in moved]
    sides = filled(sides, (True,) * len(moved), params["function"].output_types)
    return bind_primitive(
        linear_solve,
        (*constants, *sides),
        {
            "matvec": params["linear"],
            "solve": params["tangent_solve"],
            "transpose_solve": params["transpose_tangent_solve"],
            "symmetric": False,
            "guess_count": 0,
            "check": ResidualCheck.as_system(params["check"]),
            "name": params["name"],
        },
    )


def _root_taylor(operands: Any, series: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    """Solve `f_x x_k = -f_k` for one derivative after another, x_k zero on the right."""
    count = _leaf_count(params)
    outs = bind_primitive(root, operands, params)
    constants = operands[:-count], series[:-count]
    nothing = (None,) * len(outs)
    if all(column is None for column in constants[1]):
        return outs, nothing
    total = max(len(column) for column in constants[1] if column is not None)
    at_root = (*constants[0], *outs[:count])
    called = {"graph": params["residuals"], "name": params["name"]}
    matrix = (*constants[0], *bind_primitive(call, at_root, called))
    found: list[list[Any]] = [[] for _ in range(count)]
    for order in range(1, total + 1):
        at = (outs[:count], found)
        moved = along_curve(mode, params["function"], constants, at, order)
        for column, term in zip(found, _tangents(matrix, moved, params), strict=True):
            column.append(term)
    return outs, (*found, *nothing[count:])


def _root_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> tuple[Any, ...]:
    raise MissingRuleError(
        message(
            params["name"],
            "a root is not a linear function of anything",
            line=line_of(cts),
            fix="use vjp, which linearizes first, in place of linear_transpose.",
        )
    )


def _root_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    count = _leaf_count(params)
    known = tuple(batched[:-count])
    every = (True,) * count
    guess = [
        batch_to(x, flag, size) for x, flag in zip(operands[-count:], batched[-count:], strict=True)
    ]

    def mapped(graph: Graph, flags: tuple[bool, ...]) -> tuple[Graph, tuple[bool, ...]]:
        forced = tuple(i < count for i in range(len(graph.outputs)))
        return mode.batch(graph, size, flags, forced)

    solve, out_flags = mapped(params["solve"], (*known, *every))
    residuals, kept = mode.batch(params["residuals"], size, (*known, *every))
    other = params["transpose_tangent_solve"]
    at_root = (*known, *kept, *every)
    changed = {
        "function": mapped(params["function"], (*known, *every))[0],
        "solve": solve,
        "residuals": residuals,
        "linear": mapped(params["linear"], at_root)[0],
        "tangent_solve": mapped(params["tangent_solve"], at_root)[0],
        "transpose_tangent_solve": None if other is None else mapped(other, at_root)[0],
        "check": ResidualCheck.mapped_once_more(params["check"]),
    }
    outs = bind_primitive(root, (*operands[:-count], *guess), {**params, **changed})
    return outs, out_flags


root = higher_order(
    "root",
    _root_execute,
    doc="A root of a function, found by a solver from a guess.",
    type_rule=_root_type,
    derivative=_root_derivative,
    transpose=_root_transpose,
    batch=_root_batch,
    taylor=_root_taylor,
    inlined=lambda params: params["solve"] if params["check"] is None else None,
)
