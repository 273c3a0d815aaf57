"""`checkpointed_scan`: a loop whose reverse sweep keeps few snapshots and repeats forward steps.

It runs as `scan` does, and keeps nothing but its operands when it is linearized. Its linear part is
an equation of `scan_tangents`: consts, carry, xs as values, and their tangents. Forward that is a
scan that carries values and tangents side by side; its transpose is `revolve` (reverse_sweep.py),
from consts, carry, xs and the cotangents of final carry and ys to the cotangents of consts, initial
carry and xs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive, replay
from autodiff.ir.graph import Graph, Params, make_graph
from autodiff.ir.held import without_effects
from autodiff.primitives.families import batch_to, is_linear
from autodiff.primitives.higher_order import (
    build_graph,
    filled,
    higher_order,
    scattered,
    stacked_type,
)
from autodiff.primitives.loop_parts import lanes_first, rows_first
from autodiff.primitives.reverse_sweep import (
    as_call,
    chosen,
    divided,
    moving_flags,
    present,
    revolve,
    side_by_side,
)
from autodiff.primitives.scan import scan, sections_of


def _scan_params(params: Params) -> dict[str, Any]:
    return {name: params[name] for name in ("body", "length", "reverse", "consts", "carry")}


# ------------------------------------------------------------------------------ running forward


def _scan_type(*avals: ArrayType, snapshots: int, **params: Any) -> Any:
    return scan.type_rule(*avals, **params)


def _scan_execute(operands: Any, params: Any, run: Any) -> Any:
    assert scan.execute is not None
    return scan.execute(operands, _scan_params(params), run)


def _scan_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    body, sections = params["body"], sections_of(params)
    carry_types = sections.split(body.input_types)[1]
    t_consts, t_carry, t_xs = sections.split(tangents)
    flags = (
        [t is not None for t in t_consts],
        moving_flags(carry_types),
        [t is not None for t in t_xs],
    )
    moving = tuple(flag for part in flags for flag in part)
    t_carry = filled(t_carry, flags[1], carry_types)
    moved = ([t for t in t_consts if t is not None], t_carry, [t for t in t_xs if t is not None])
    if not mode.keeps_residuals:
        return _pushed(operands, moved, flags, params, mode)
    outs = bind_primitive(checkpointed_scan, operands, params)
    split = mode.linearize(without_effects(body), moving)
    live = split.nonzero_outputs[sections.carry :]
    results = bind_primitive(
        scan_tangents,
        (*operands, *moved[0], *moved[1], *moved[2]),
        {
            **params,
            "moving": moving,
            "live": live,
            "push": _pushing(split, body, moving, params),
            "pull": _pulling(split, body, moving, params, mode),
        },
    )
    return outs, scattered(results, (*flags[1], *live))


def _pushed(operands: Any, moved: Any, flags: Any, params: Params, mode: Any) -> Any:
    """Return outputs and their tangents from one loop that carries both."""
    body, sections = params["body"], sections_of(params)
    moving = tuple(flag for part in flags for flag in part)
    pushed = mode.jvp(body, moving)
    count = sections.carry
    out_flags = (*flags[1], *pushed.nonzero_outputs[count:])
    sizes = [sections.consts, count, len(flags[2])]
    out_sizes = [count, len(body.outputs) - count]
    consts, carry, xs = sections.split(operands)
    outs = bind_primitive(
        checkpointed_scan,
        (*consts, *moved[0], *carry, *moved[1], *xs, *moved[2]),
        {
            **params,
            "body": side_by_side(pushed, body, moving, sizes, out_sizes, out_flags),
            "consts": sections.consts + len(moved[0]),
            "carry": count + len(moved[1]),
        },
    )
    numbers = [count, sum(out_flags[:count]), out_sizes[1], sum(out_flags[count:])]
    values, t_values, ys, t_ys = divided(outs, numbers)
    return (*values, *ys), scattered([*t_values, *t_ys], out_flags)


def _scan_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    body, sections = params["body"], sections_of(params)
    has = sections.split(batched)
    count = sections.carry
    forced = (True,) * count + (False,) * (len(body.outputs) - count)
    graph, flags = mode.batch(body, size, (*has[0], *[True] * count, *has[2]), forced)
    consts, carry, xs = sections.split(operands)
    carry = [batch_to(x, flag, size) for x, flag in zip(carry, has[1], strict=True)]
    xs = [rows_first(x, flag) for x, flag in zip(xs, has[2], strict=True)]
    outs = bind_primitive(checkpointed_scan, (*consts, *carry, *xs), {**params, "body": graph})
    ys = [lanes_first(y, flag) for y, flag in zip(outs[count:], flags[count:], strict=True)]
    return (*outs[:count], *ys), flags


def _scan_inlined(params: Any) -> Graph:
    body, sections = params["body"], sections_of(params)
    _, _, rows = sections.split(body.input_types)
    avals = [
        *body.input_types[: sections.consts + sections.carry],
        *[stacked_type(aval, params["length"]) for aval in rows],
    ]
    inner = _scan_params(params)
    return build_graph("scan", avals, lambda *inputs: bind_primitive(scan, inputs, inner))


def _scan_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    assert scan.transpose is not None
    return scan.transpose(cts, operands, _scan_params(params), mode)


def _scan_separate(operands: Any, params: Any, mode: Any) -> Any:
    assert scan.separate is not None
    return scan.separate(operands, _scan_params(params), mode)


checkpointed_scan = higher_order(
    "checkpointed_scan",
    _scan_execute,
    doc="Run a body as scan does; its reverse sweep keeps few snapshots of the carry.",
    type_rule=_scan_type,
    derivative=_scan_derivative,
    transpose=_scan_transpose,
    batch=_scan_batch,
    inlined=_scan_inlined,
    separate=_scan_separate,
)


# ------------------------------------------------------------------------------- the linear part


def _pushing(split: Any, body: Graph, moving: Sequence[bool], params: Params) -> Graph:
    """Return one step on values and tangents: those of the carry, and those of ys that move."""
    sections = sections_of(params)
    types = sections.split(body.input_types)
    tangents = sections.split([t.strong() for t in body.input_types])
    flags = sections.split(moving)
    avals: list[ArrayType] = []
    sizes: list[int] = []
    for values, own, marks in zip(types, tangents, flags, strict=True):
        moved = chosen(own, marks)
        avals += [*values, *moved]
        sizes += [len(values), len(moved)]

    def step(*inputs: Any) -> list[Any]:
        consts, t_consts, carry, t_carry, xs, t_xs = divided(inputs, sizes)
        operands = [*consts, *carry, *xs]
        results = replay(split.primal, (), operands)
        outs = results[: split.output_count]
        residuals = split.gather_residuals(results[len(outs) :], operands)
        moved = replay(split.linear, (), [*residuals, *t_consts, *t_carry, *t_xs])
        moved = scattered(moved, split.nonzero_outputs)
        after = filled(moved[: sections.carry], flags[1], types[1])
        return [*outs[: sections.carry], *after, *present(moved[sections.carry :])]

    return build_graph("scan_tangents", avals, step)


def _pulling(split: Any, body: Graph, moving: Sequence[bool], params: Params, mode: Any) -> Graph:
    """Return one step's pull: `(consts, carry, xs, ct carry, ct ys) -> ct consts, carry, xs`."""
    sections = sections_of(params)
    carry_types = sections.split(body.input_types)[1]
    flags = sections.split(moving)[1]
    count = len(split.forwarded)
    linear = tuple(i >= count for i in range(len(split.linear.inputs)))
    transposed = mode.transpose(split.linear, linear, (True,) * len(split.linear.outputs))
    cts_types = [t.strong() for t in chosen(carry_types, flags)]
    live = split.nonzero_outputs
    y_types = [t.strong() for t in chosen(body.output_types, live)[sum(live[: len(flags)]) :]]
    sizes = [len(body.inputs), len(cts_types), len(y_types)]

    def pull(*inputs: Any) -> list[Any]:
        operands, ct_carry, ct_ys = divided(inputs, sizes)
        results = replay(split.primal, (), operands)
        residuals = split.gather_residuals(results[split.output_count :], operands)
        given = scattered(ct_carry, flags)
        used = [ct for ct, flag in zip(given, live, strict=False) if flag]
        found = replay(transposed.graph, (), [*residuals, *used, *ct_ys])
        pulled = scattered(found, transposed.nonzero[count:])
        types = chosen(body.input_types, moving)
        return filled(pulled, [True] * len(types), types)

    return build_graph("pull", [*body.input_types, *cts_types, *y_types], pull)


def _value_count(params: Params) -> int:
    return len(params["body"].inputs)


def _tangents_type(
    *avals: ArrayType, body: Graph, moving: Any, live: Any, push: Any, pull: Any, **params: Any
) -> Any:
    carry_types = sections_of(params).split(body.input_types)[1]
    flags = sections_of(params).split(moving)[1]
    ys = chosen(body.output_types[len(carry_types) :], live)
    moved = chosen(carry_types, flags)
    return (
        *[aval.strong() for aval in moved],
        *[stacked_type(aval, params["length"]) for aval in ys],
    )


def _tangents_program(params: Params) -> Graph:
    """Return the graph of the same operands with a scan of values and tangents side by side."""
    body, sections = params["body"], sections_of(params)
    flags = sections.split(params["moving"])
    types = sections.split(body.input_types)
    rows = [stacked_type(aval, params["length"]) for aval in types[2]]
    values = [*types[0], *types[1], *rows]
    moved = [t.strong() for t in chosen(values, params["moving"])]
    numbers = [sum(part) for part in flags]

    def program(*operands: Any) -> Any:
        consts, carry, xs = sections.split(operands[: len(values)])
        t_consts, t_carry, t_xs = divided(operands[len(values) :], numbers)
        outs = bind_primitive(
            scan,
            (*consts, *t_consts, *carry, *t_carry, *xs, *t_xs),
            {
                **_scan_params(params),
                "body": params["push"],
                "consts": len(consts) + len(t_consts),
                "carry": len(carry) + len(t_carry),
            },
        )
        return outs[len(carry) :]

    return build_graph("scan_tangents", [*values, *moved], program)


_TANGENTS_AS_CALL = as_call(_tangents_program, "scan_tangents")


def _tangents_execute(operands: Any, params: Any, run: Any) -> Any:
    return run(_tangents_program(params), fresh=True)(*operands)


def _tangents_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    count = _value_count(params)
    body, sections = params["body"], sections_of(params)
    carry_types = sections.split(body.input_types)[1]
    marks = sections.split(params["moving"])
    own = _tangents_type(**params)
    step = make_graph(body.inputs, (), body.eqns, body.outputs[: len(carry_types)])
    results = bind_primitive(
        revolve,
        (*operands[:count], *filled(cts, [True] * len(own), own)),
        {
            "step": without_effects(step),
            "pull": params["pull"],
            "length": params["length"],
            "reverse": params["reverse"],
            "consts": sections.consts,
            "carry": sections.carry,
            "terms": sum(marks[0]),
            "cts": sum(marks[1]),
            "snapshots": params["snapshots"],
        },
    )
    return (*[None] * count, *results)


def _tangents_separate(operands: Any, params: Any, mode: Any) -> Any:
    if any(map(is_linear, operands[: _value_count(params)])):
        return _TANGENTS_AS_CALL["separate"](operands, params, mode)
    return (None,) * len(_tangents_type(**params)), (scan_tangents, operands, params)


scan_tangents = higher_order(
    "scan_tangents",
    _tangents_execute,
    doc="The tangents of a checkpointed scan, whose values are computed beside them.",
    type_rule=_tangents_type,
    derivative=_TANGENTS_AS_CALL["derivative"],
    transpose=_tangents_transpose,
    batch=_TANGENTS_AS_CALL["batch"],
    inlined=_tangents_program,
    separate=_tangents_separate,
)
