"""`while_loop`: a loop that goes on as long as a condition on its carry holds.

Operands are constants of the condition, constants of the body and the initial carry; outputs are
the final carry, the number of iterations, and the rows that the body returned, one per iteration:
open arrays (primitives/rows.py), since only the run tells how many. Users' loops return no rows;
those that the reverse sweep needs are added by the derivative, whose linear part is a `scan` of as
many iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.base.errors import MissingRuleError, message
from autodiff.ir.avals import ArrayType, array_type, type_of
from autodiff.ir.builder import bind_primitive
from autodiff.ir.evaluate import copy_of
from autodiff.ir.graph import Eqn, Graph, Params, Var, make_graph
from autodiff.ir.primitive import primitives
from autodiff.primitives.families import batch_to, convert, is_linear
from autodiff.primitives.higher_order import (
    build_graph,
    filled,
    higher_order,
    scattered,
    stacked_type,
)
from autodiff.primitives.loop_parts import (
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
)
from autodiff.primitives.scan import (
    COUNT,
    bind_later,
    divide_joint,
    divided,
    known_carry,
    scan,
    with_zero_carry,
)


def parts_of(operands: Sequence[Any], params: Params) -> tuple[list[Any], list[Any]]:
    """Return the operands that are constants of the condition, and those of the body."""
    count = params["condition_consts"]
    return list(operands[:count]), list(operands[count:])


def while_sections(params: Params) -> Sections:
    """Return how a loop's body divides its inputs."""
    count = len(params["condition"].inputs) - params["condition_consts"]
    return Sections(params["body_consts"], count)


def _while_type(
    *avals: ArrayType,
    condition: Graph,
    body: Graph,
    condition_consts: int,
    body_consts: int,
    max_steps: int | None,
) -> tuple[ArrayType, ...]:
    fixed, given = avals[:condition_consts], avals[condition_consts:]
    carried = body.input_types[body_consts:]
    wanted = (*fixed, *given[body_consts:])
    assert all(map(ArrayType.fits, condition.input_types, wanted)), (condition.input_types, wanted)
    assert len(condition.inputs) == len(wanted)
    assert all(map(ArrayType.fits, body.input_types, given)), (body.input_types, given)
    assert len(body.inputs) == len(given)
    assert all(map(ArrayType.fits, carried, body.output_types)), (carried, body.output_types)
    ys = [stacked_type(aval, None) for aval in body.output_types[len(carried) :]]
    return (*[aval.strong() for aval in carried], array_type((), COUNT), *ys)


def _while_execute(operands: Any, params: Any, run: Any) -> list[Any]:
    body, sections, limit = params["body"], while_sections(params), params["max_steps"]
    fixed, rest = parts_of(operands, params)
    consts, carry, _ = sections.split(rest)
    goes_on, step = run(params["condition"]), run(body)
    stacks = [Stack(aval, limit or 1) for aval in body.output_types[sections.carry :]]
    steps = 0
    while (limit is None or steps < limit) and goes_on(*fixed, *carry)[0]:
        outs = step(*consts, *carry)
        carry = outs[: sections.carry]
        for stack, y in zip(stacks, outs[sections.carry :], strict=True):
            stack.append(y)
        steps += 1
    rows = [stack.array(operands) for stack in stacks]
    return [*map(copy_of, carry), COUNT.type(steps), *rows]


# ---------------------------------------------------------------------------------- derivatives


def _while_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    """Carry tangents through the loop; the condition sees values alone.

    In one loop where nothing needs to be kept, otherwise in two: the second is a scan over the
    residuals that the first has stacked.
    """
    body, sections = params["body"], while_sections(params)
    fixed, rest = parts_of(operands, params)
    moved = tangents[len(fixed) :]
    flags = sections.split([t is not None for t in moved])
    push = mode.linearize if mode.keeps_residuals else mode.jvp

    def step(carry: tuple[bool, ...]) -> Any:
        result = push(body, (*flags[0], *carry))
        return result, result.nonzero_outputs[: sections.carry]

    pushed, carried = fixpoint(flags[1], step)
    consts, carry, _ = sections.split(rest)
    t_consts, t_carry, _ = sections.split(moved)
    t_consts = [t for t in t_consts if t is not None]
    t_carry = filled(t_carry, carried, sections.split(body.input_types)[1])
    out_flags = (*carried, *pushed.nonzero_outputs[sections.carry :])
    if not mode.keeps_residuals:
        outs = bind_primitive(
            while_loop,
            (*fixed, *consts, *t_consts, *carry, *t_carry),
            {
                **params,
                "condition": with_more_carry(params["condition"], t_carry),
                "body": joint_body(pushed, body, (*flags[0], *carried), sections),
                "body_consts": len(consts) + len(t_consts),
            },
        )
        end = len(carry) + len(t_carry)
        values, out_tangents = divide_joint(
            (*outs[:end], *outs[end + 1 :]), len(carry), len(t_carry), len(body.outputs), out_flags
        )
        return _with_steps(values, outs[end], out_tangents, len(carry))
    first = first_part(mode, pushed.primal, sections, consts, pushed.forwarded)
    results = bind_primitive(
        while_loop,
        (*fixed, *first.consts, *carry),
        {**params, "body": first.body, "body_consts": len(first.consts)},
    )
    count = len(body.outputs) + 1
    steps = results[len(carry)]
    linear = with_zero_carry(pushed, carried, body.output_types)
    later = later_part(linear, first, results[count:], (), (t_consts, t_carry, ()))
    moved_outs = scattered(bind_later([steps], later, params), out_flags)
    values = (*results[: len(carry)], *results[len(carry) + 1 : count])
    return _with_steps(values, steps, moved_outs, len(carry))


def with_more_carry(condition: Graph, more: Sequence[Any]) -> Graph:
    """Return a condition that is handed further carried values, and leaves them alone."""
    unused = [Var(type_of(x).strong()) for x in more]
    return make_graph((*condition.inputs, *unused), (), condition.eqns, condition.outputs)


def _with_steps(values: Any, steps: Any, tangents: Any, carry: int) -> tuple[Any, Any]:
    """Return outputs and tangents with the number of iterations in its place."""
    return (
        (*values[:carry], steps, *values[carry:]),
        (*tangents[:carry], None, *tangents[carry:]),
    )


def _while_separate(operands: Any, params: Any, mode: Any) -> Any:
    """Run the loop on what is known; what is linear in the rest becomes a scan."""
    body, sections = params["body"], while_sections(params)
    fixed, rest = parts_of(operands, params)
    before = [not is_linear(x) for x in rest]
    parts, carried = known_carry(mode, body, sections, before)
    condition = params["condition"]
    unknown = (*[is_linear(x) for x in fixed], *[not flag for flag in carried])
    asked = {atom for eqn in condition.eqns for atom in eqn.inputs} | set(condition.outputs)
    if any(v in asked for v, flag in zip(condition.inputs, unknown, strict=True) if flag):
        raise MissingRuleError(
            message(
                "while_loop",
                "to be transposed its condition must not depend on what is transposed",
                fix="use vjp, which linearizes first, in place of linear_transpose.",
            )
        )
    first, (carry, _), later = divided(
        mode, parts, body, sections, rest, (*before[: sections.consts], *carried)
    )
    kept = [v for v, flag in zip(condition.inputs, unknown, strict=True) if not flag]
    results = bind_primitive(
        while_loop,
        (*fixed, *first.consts, *carry),
        {
            **params,
            "condition": make_graph(kept, (), condition.eqns, condition.outputs),
            "body": first.body,
            "body_consts": len(first.consts),
        },
    )
    steps = results[len(carry)]
    values = (*results[: len(carry)], *results[len(carry) + 1 :])
    count = sum(parts.known_outputs)
    after = later(values[count:])
    known = scattered(values[:count], parts.known_outputs)
    outs = (*known[: sections.carry], steps, *known[sections.carry :])
    scanned = {"body": after.body, "length": None, "reverse": False, **after.sections}
    return outs, (scan, (steps, *after.consts, *after.carry, *after.xs), scanned)


def _while_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    raise AssertionError("what is linear in a while loop is transposed as a scan")


# -------------------------------------------------------------------------------------- batching


def _while_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    """Run all lanes together; where the condition differs among them, until the last is done.

    Lanes that are done keep their carry, and each has its own number of iterations.
    """
    body, condition, sections = params["body"], params["condition"], while_sections(params)
    fixed, rest = parts_of(operands, params)
    has_fixed, has_rest = list(batched[: len(fixed)]), list(batched[len(fixed) :])
    has = sections.split(has_rest)
    rows = len(body.outputs) - sections.carry

    def step(carry: tuple[bool, ...]) -> Any:
        asked, (differs,) = mode.batch(condition, size, (*has_fixed, *carry))
        forced = (*carry, *[differs] * rows)
        graph, out_flags = mode.batch(body, size, (*has[0], *carry), forced)
        after = [differs or flag for flag in out_flags[: sections.carry]]
        return (asked, differs, graph, out_flags), after

    (asked, differs, graph, out_flags), carried = fixpoint(has[1], step)
    consts, carry, _ = sections.split(rest)
    carry = batched_carry(carry, has[1], carried, size)
    if not differs:
        inner = {**params, "condition": asked, "body": graph}
        outs = bind_primitive(while_loop, (*fixed, *consts, *carry), inner)
        steps, ys = outs[sections.carry], outs[sections.carry + 1 :]
    else:
        lanes = array_type((size,), COUNT)
        start = batch_to(COUNT.type(0), False, size)
        outs = bind_primitive(
            while_loop,
            (*fixed, *fixed, *consts, *carry, start),
            {
                **params,
                "condition": _any_lane(asked, lanes),
                "body": _lanes_body(asked, graph, sections, len(fixed), lanes),
                "body_consts": len(fixed) + sections.consts,
            },
        )
        steps, ys = outs[sections.carry], outs[sections.carry + 2 :]
    flags = (*carried, differs, *out_flags[sections.carry :])
    ys = [lanes_first(y, flag) for y, flag in zip(ys, out_flags[sections.carry :], strict=True)]
    return (*outs[: sections.carry], steps, *ys), flags


def _any_lane(asked: Graph, lanes: ArrayType) -> Graph:
    """Return the condition that one lane goes on, given the lanes' counts as last carry."""

    def goes_on(*inputs: Any) -> list[Any]:
        call = {"graph": asked, "name": "while_loop"}
        (mask,) = bind_primitive(primitives["call"], inputs[:-1], call)
        return [bind_primitive(primitives["any"], (mask,), {"axes": (0,)})]

    return build_graph("while_loop", [*asked.input_types, lanes], goes_on)


def _lanes_body(
    asked: Graph, graph: Graph, sections: Sections, fixed: int, lanes: ArrayType
) -> Graph:
    """Return the body that leaves finished lanes alone and counts the others' iterations."""

    def active(consts: list[Any], carry: list[Any]) -> Any:
        call = {"graph": asked, "name": "while_loop"}
        return bind_primitive(primitives["call"], (*consts, *carry[:-1]), call)[0]

    def counted(steps: Any, mask: Any) -> Any:
        return bind_primitive(primitives["add"], (steps, convert(mask, COUNT)), {})

    extra = asked.input_types[:fixed]
    return masked_body("while_loop", graph, sections, active, extra, [(lanes, counted)])


# -------------------------------------------------------------------------------------- removing


def _while_prune(eqn: Eqn, live: tuple[bool, ...], dead_code: Any) -> Eqn:
    params, sections = eqn.params, while_sections(eqn.params)
    fixed, rest = parts_of(eqn.inputs, params)
    condition = dead_code(params["condition"])
    asked = {atom for e in condition.eqns for atom in e.inputs} | set(condition.outputs)
    needed = [var in asked for var in condition.inputs[len(fixed) :]]
    used = (*live[: sections.carry], *live[sections.carry + 1 :])
    body, left, keep = live_parts(params["body"], sections, used, needed, dead_code)
    if all(left) and all(keep):
        return eqn
    kept_carry = keep[: sections.carry]
    flags = (*[True] * len(fixed), *kept_carry)
    inputs = [var for var, flag in zip(condition.inputs, flags, strict=True) if flag]
    given = tuple(x for x, flag in zip(rest, left, strict=True) if flag)
    stays = (*kept_carry, True, *keep[sections.carry :])
    changed = {
        **params,
        "condition": make_graph(inputs, (), condition.eqns, condition.outputs),
        "body": body,
        "body_consts": sum(left[: sections.consts]),
    }
    outputs = tuple(var for var, flag in zip(eqn.outputs, stays, strict=True) if flag)
    return Eqn(while_loop, (*fixed, *given), changed, outputs, eqn.source)


while_loop = higher_order(
    "while_loop",
    _while_execute,
    doc="Run a body as long as a condition on its carry holds.",
    type_rule=_while_type,
    derivative=_while_derivative,
    transpose=_while_transpose,
    batch=_while_batch,
    separate=_while_separate,
    prune=_while_prune,
)
