"""`scan`: a loop whose number of iterations is known before it runs.

Operands are constants, initial carry and xs, arrays with one row per iteration; outputs are the
final carry and ys, arrays of the rows returned. With `length=None` the number of iterations is a
further operand, the first: so run the loops that derivatives of `while_loop` need. There xs and ys
are open (primitives/rows.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.evaluate import copy_of
from autodiff.ir.graph import Eqn, Params, make_graph
from autodiff.ir.primitive import primitives
from autodiff.primitives.derivative_terms import add_cotangents
from autodiff.primitives.families import batch_to, is_linear
from autodiff.primitives.higher_order import (
    build_graph,
    filled,
    higher_order,
    scattered,
    stacked_type,
    zeros,
)
from autodiff.primitives.loop_parts import (
    LaterPart,
    Sections,
    Stack,
    batched_carry,
    first_part,
    fixpoint,
    joint_body,
    lanes_first,
    later_part,
    live_parts,
    masked_body,
    rows_first,
    with_zeros,
)

COUNT = np.dtype(np.int64)


def sections_of(params: Params) -> Sections:
    """Return how a scan's body divides its inputs."""
    return Sections(params["consts"], params["carry"])


def count_and_rest(operands: Sequence[Any], params: Params) -> tuple[list[Any], Sequence[Any]]:
    """Return the operand that says how many iterations there are, if any, and the others."""
    if params["length"] is None:
        return [operands[0]], operands[1:]
    return [], operands


def _scan_type(
    *avals: ArrayType, body: Any, length: int | None, reverse: bool, consts: int, carry: int
) -> tuple[ArrayType, ...]:
    given = avals if length is not None else avals[1:]
    before, rows = given[: consts + carry], given[consts + carry :]
    wanted = body.input_types
    assert len(given) == len(wanted), (given, wanted)
    assert all(map(ArrayType.fits, wanted, before)), (before, wanted)
    for row, aval in zip(wanted[consts + carry :], rows, strict=True):
        assert stacked_type(row, length).fits(aval), (row, aval, length)
    carried = wanted[consts : consts + carry]
    assert all(map(ArrayType.fits, carried, body.output_types)), (carried, body.output_types)
    ys = [stacked_type(aval, length) for aval in body.output_types[carry:]]
    return (*[aval.strong() for aval in carried], *ys)


def _row(x: Any, i: int, aval: ArrayType) -> Any:
    """Return row i of an array that may be open: zeros beyond its end."""
    return x[i] if i < len(x) else zeros(aval)


def _scan_execute(operands: Any, params: Any, run: Any) -> list[Any]:
    body, count = params["body"], params["carry"]
    lead, rest = count_and_rest(operands, params)
    consts, carry, xs = sections_of(params).split(rest)
    length = int(lead[0]) if lead else params["length"]
    step = run(body)
    backwards = params["reverse"]
    stacks = [Stack(aval, length, backwards) for aval in body.output_types[count:]]
    row_types = sections_of(params).split(body.input_types)[2]
    is_short = any(len(x) < length for x in xs)
    for i in reversed(range(length)) if backwards else range(length):
        if is_short:
            rows = [_row(x, i, aval) for x, aval in zip(xs, row_types, strict=True)]
        else:
            rows = [x[i] for x in xs]
        outs = step(*consts, *carry, *rows)
        carry = outs[:count]
        for stack, y in zip(stacks, outs[count:], strict=True):
            stack.append(y)
    return [*map(copy_of, carry), *[stack.array(operands) for stack in stacks]]


# ---------------------------------------------------------------------------------- derivatives


def _scan_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    """Carry tangents through the loop.

    Values and tangents go round together where nothing needs to be kept. Otherwise one loop
    computes values and residuals, and a second one, linear, takes the residuals and the tangents.
    """
    body, sections = params["body"], sections_of(params)
    lead, rest = count_and_rest(operands, params)
    moved = tangents[len(lead) :]
    flags = sections.split([t is not None for t in moved])

    def moving(carry: Sequence[bool]) -> tuple[bool, ...]:
        return (*flags[0], *carry, *flags[2])

    push = mode.linearize if mode.keeps_residuals else mode.jvp

    def step(carry: tuple[bool, ...]) -> Any:
        result = push(body, moving(carry))
        return result, result.nonzero_outputs[: sections.carry]

    pushed, carried = fixpoint(flags[1], step)
    types = sections.split(body.input_types)[1]
    consts, carry, xs = sections.split(rest)
    t_consts, t_carry, t_xs = sections.split(moved)
    t_consts, t_xs = ([t for t in ts if t is not None] for ts in (t_consts, t_xs))
    t_carry = filled(t_carry, carried, types)
    out_flags = (*carried, *pushed.nonzero_outputs[sections.carry :])
    if not mode.keeps_residuals:
        joint = {
            **params,
            "body": joint_body(pushed, body, moving(carried), sections),
            "consts": sections.consts + len(t_consts),
            "carry": sections.carry + len(t_carry),
        }
        given = (*lead, *consts, *t_consts, *carry, *t_carry, *xs, *t_xs)
        outs = bind_primitive(scan, given, joint)
        return divide_joint(outs, sections.carry, len(t_carry), len(body.outputs), out_flags)
    first = first_part(mode, pushed.primal, sections, consts, pushed.forwarded)
    results = bind_primitive(
        scan,
        (*lead, *first.consts, *carry, *xs),
        {**params, "body": first.body, "consts": len(first.consts)},
    )
    outs, rows = results[: len(body.outputs)], results[len(body.outputs) :]
    linear = with_zero_carry(pushed, carried, body.output_types)
    later = later_part(linear, first, rows, xs, (t_consts, t_carry, t_xs))
    return outs, scattered(bind_later(lead, later, params), out_flags)


def divide_joint(
    outs: Sequence[Any], carry: int, t_carry: int, count: int, flags: Sequence[bool]
) -> tuple[Any, Any]:
    """Return the values and the tangents among the outputs of a loop with a joint body."""
    start, stop = carry + t_carry, t_carry + count
    values = (*outs[:carry], *outs[start:stop])
    return values, scattered([*outs[carry:start], *outs[stop:]], flags)


def with_zero_carry(pushed: Any, carried: Sequence[bool], types: Sequence[ArrayType]) -> Any:
    """Return a linearized body's linear graph with every carried tangent among its outputs."""
    graph, count = pushed.linear, len(carried)
    flags = (*carried, *pushed.nonzero_outputs[count:])
    outputs = with_zeros(graph.outputs, flags, pushed.nonzero_outputs, types)
    return make_graph(graph.inputs, (), graph.eqns, outputs)


def bind_later(lead: Sequence[Any], later: LaterPart, params: Params) -> Any:
    """Apply the part of a loop that runs later, as a scan."""
    operands = (*lead, *later.consts, *later.carry, *later.xs)
    length = None if lead else params["length"]
    reverse = params.get("reverse", False)
    return bind_primitive(
        scan, operands, {"body": later.body, "length": length, "reverse": reverse, **later.sections}
    )


def known_carry(
    mode: Any, body: Any, sections: Sections, known: Sequence[bool]
) -> tuple[Any, tuple[bool, ...]]:
    """Return a body split by what is known, and which carried values are known in every iteration.

    `known` marks the inputs known in the first one.
    """
    consts, carry, xs = sections.split(known)

    def step(unknown: tuple[bool, ...]) -> Any:
        parts = mode.split(body, (*consts, *[not flag for flag in unknown], *xs))
        return parts, [not flag for flag in parts.known_outputs[: sections.carry]]

    parts, unknown = fixpoint([not flag for flag in carry], step)
    return parts, tuple(not flag for flag in unknown)


def divided(
    mode: Any,
    parts: Any,
    body: Any,
    sections: Sections,
    operands: Sequence[Any],
    known: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """Return the known part of a loop's body as one that runs first, and what binds the rest.

    The results are the first part, its operands' sections (constants, carry, xs) and a function
    from its stacked residuals to the later part.
    """
    pairs = list(zip(operands, known, strict=True))
    given = sections.split([x if flag else None for x, flag in pairs])
    left = sections.split([None if flag else x for x, flag in pairs])
    consts, carry, xs = ([x for x in part if x is not None] for part in given)
    inner = Sections(len(consts), len(carry))
    first = first_part(mode, parts.known, inner, consts, parts.forwarded)
    rest = tuple([x for x in part if x is not None] for part in left)

    def later(rows: Sequence[Any]) -> LaterPart:
        return later_part(parts.rest, first, rows, xs, rest)  # type: ignore[arg-type]

    return first, (carry, xs), later


def _scan_separate(operands: Any, params: Any, mode: Any) -> Any:
    body, sections = params["body"], sections_of(params)
    lead, rest = count_and_rest(operands, params)
    before = [not is_linear(x) for x in rest]
    parts, carried = known_carry(mode, body, sections, before)
    known_outputs = (*carried, *parts.known_outputs[sections.carry :])
    if not any(known_outputs):
        return (None,) * len(body.outputs), (scan, operands, params)
    consts, _, xs = sections.split(before)
    first, (carry, rows_read), later = divided(
        mode, parts, body, sections, rest, (*consts, *carried, *xs)
    )
    results = bind_primitive(
        scan,
        (*lead, *first.consts, *carry, *rows_read),
        {**params, "body": first.body, "consts": len(first.consts), "carry": len(carry)},
    )
    count = sum(parts.known_outputs)
    after = later(results[count:])
    left = (*lead, *after.consts, *after.carry, *after.xs)
    return scattered(results[:count], parts.known_outputs), (
        scan,
        left,
        {**params, "body": after.body, **after.sections},
    )


def _scan_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    """Run the loop backwards.

    Its carry is the cotangents of the carry and the sums of those of constants, its ys are the rows
    of those of xs.
    """
    body, sections = params["body"], sections_of(params)
    lead, rest = count_and_rest(operands, params)
    consts, carry, xs = sections.split(rest)
    is_moving = ([is_linear(x) for x in consts], [True] * len(carry), [is_linear(x) for x in xs])
    linear = tuple(flag for part in is_moving for flag in part)
    out_cts = cts[: sections.carry], cts[sections.carry :]
    given_ys = tuple(ct is not None for ct in out_cts[1])

    def step(given: tuple[bool, ...]) -> Any:
        flipped = mode.transpose(body, linear, (*given, *given_ys))
        return flipped, sections.split(flipped.nonzero)[1]

    flipped, given = fixpoint([ct is not None for ct in out_cts[0]], step)
    types = sections.split(body.input_types)
    summed, _, returned = sections.split(flipped.nonzero)
    res_consts = [x for x in consts if not is_linear(x)]
    res_xs = [x for x in xs if not is_linear(x)]
    inner = Sections(len(res_consts), sum(summed) + sum(given))
    avals = [
        *[t for t, flag in zip(types[0], is_moving[0], strict=True) if not flag],
        *[t.strong() for t, flag in zip(types[0], summed, strict=True) if flag],
        *[t.strong() for t, flag in zip(types[1], given, strict=True) if flag],
        *[t for t, flag in zip(types[2], is_moving[2], strict=True) if not flag],
        *[
            aval.strong()
            for aval, flag in zip(body.output_types[sections.carry :], given_ys, strict=True)
            if flag
        ],
    ]

    def pull(*inputs: Any) -> list[Any]:
        known, carried, rows = inner.split(inputs)
        sums, ct_carry = carried[: sum(summed)], carried[sum(summed) :]
        values = [*known, *rows[: len(res_xs)], *ct_carry, *rows[len(res_xs) :]]
        call = {"graph": flipped.graph, "name": "scan"}
        results = bind_primitive(primitives["call"], values, call)
        ct_consts, ct_before, ct_xs = sections.split(scattered(results, flipped.nonzero))
        totals = map(add_cotangents, sums, [ct for ct in ct_consts if ct is not None])
        return [
            *totals,
            *filled(ct_before, given, types[1]),
            *[ct for ct in ct_xs if ct is not None],
        ]

    backwards = build_graph("transpose of scan", avals, pull)
    start = filled([None] * len(consts), summed, types[0])
    results = bind_primitive(
        scan,
        (
            *lead,
            *res_consts,
            *start,
            *filled(out_cts[0], given, types[1]),
            *res_xs,
            *[ct for ct in out_cts[1] if ct is not None],
        ),
        {
            "body": backwards,
            "length": params["length"],
            "reverse": not params["reverse"],
            "consts": inner.consts,
            "carry": inner.carry,
        },
    )
    nonzero = (*summed, *given, *returned)
    found = scattered(results, nonzero)
    return (*[None] * len(lead), *found)


# ------------------------------------------------------------------------------------- batching


def _scan_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    body, sections = params["body"], sections_of(params)
    lead, rest = count_and_rest(operands, params)
    has = sections.split(batched[len(lead) :])
    own_count = bool(lead) and batched[0]

    def step(carry: tuple[bool, ...]) -> Any:
        forced = (*carry, *[own_count] * len(body.outputs[sections.carry :]))
        result = mode.batch(body, size, (*has[0], *carry, *has[2]), forced)
        return result, result[1][: sections.carry]

    start = [True] * sections.carry if own_count else has[1]
    (graph, out_flags), carried = fixpoint(start, step)
    consts, carry, xs = sections.split(rest)
    carry = batched_carry(carry, has[1], carried, size)
    xs = [rows_first(x, flag) for x, flag in zip(xs, has[2], strict=True)]
    inner = {**params, "body": graph}
    if own_count:
        inner["body"], lead, position = _counted_body(graph, sections, lead[0], params, size)
        counts = operands[0]
        outs = bind_primitive(
            scan,
            (*lead, counts, *consts, *carry, position, *xs),
            {**inner, "consts": sections.consts + 1, "carry": sections.carry + 1},
        )
        outs = (*outs[: sections.carry], *outs[sections.carry + 1 :])
    else:
        outs = bind_primitive(scan, (*lead, *consts, *carry, *xs), inner)
    flags = (*carried, *out_flags[sections.carry :])
    rows = [
        lanes_first(y, flag)
        for y, flag in zip(outs[sections.carry :], flags[sections.carry :], strict=True)
    ]
    return (*outs[: sections.carry], *rows), flags


def _counted_body(
    graph: Any, sections: Sections, counts: Any, params: Params, size: int
) -> tuple[Any, list[Any], Any]:
    """Return a body for lanes of different numbers of iterations, the largest, the first position.

    A lane takes part in the iterations whose position is below its number.
    """
    if size:
        total = bind_primitive(primitives["max"], (counts,), {"axes": (0,)})
    else:
        total = COUNT.type(0)
    change = COUNT.type(-1 if params["reverse"] else 1)
    position = total - COUNT.type(1) if params["reverse"] else COUNT.type(0)
    scalar, lanes = array_type((), COUNT), array_type((size,), COUNT)

    def active(extra: list[Any], carry: list[Any]) -> Any:
        where = batch_to(carry[-1], False, size)
        return bind_primitive(primitives["less"], (where, extra[0]), {})

    def advanced(where: Any, mask: Any) -> Any:
        return bind_primitive(primitives["add"], (where, change), {})

    body = masked_body("scan", graph, sections, active, [lanes], [(scalar, advanced)])
    return body, [total], position


# -------------------------------------------------------------------------------------- removing


def _scan_prune(eqn: Eqn, live: tuple[bool, ...], dead_code: Any) -> Eqn:
    params, sections = eqn.params, sections_of(eqn.params)
    lead, rest = count_and_rest(eqn.inputs, params)
    body, left, keep = live_parts(
        params["body"], sections, live, [False] * sections.carry, dead_code
    )
    if all(left) and all(keep):
        return eqn
    parts = sections.split(left)
    inputs = tuple(x for x, flag in zip(rest, left, strict=True) if flag)
    outputs = tuple(var for var, flag in zip(eqn.outputs, keep, strict=True) if flag)
    changed = {**params, "body": body, "consts": sum(parts[0]), "carry": sum(parts[1])}
    return Eqn(scan, (*lead, *inputs), changed, outputs, eqn.source)


scan = higher_order(
    "scan",
    _scan_execute,
    doc="Run a body once per row of xs, handing a carry from one iteration to the next.",
    type_rule=_scan_type,
    derivative=_scan_derivative,
    transpose=_scan_transpose,
    batch=_scan_batch,
    separate=_scan_separate,
    prune=_scan_prune,
)
