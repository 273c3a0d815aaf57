"""Derivatives along a curve through loops, branches and checkpoints.

A loop's carry becomes the carry with its derivatives, its rows the rows with theirs: one loop over
everything, whose body is the body's jet. Which carried values move is found as for tangents, until
it no longer grows. Conditions and indices see values alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Atom, Graph, Literal, make_graph
from autodiff.primitives.checkpoint import checkpoint
from autodiff.primitives.cond import cond
from autodiff.primitives.higher_order import zeros
from autodiff.primitives.loop_parts import Sections, fixpoint
from autodiff.primitives.scan import count_and_rest, scan, sections_of
from autodiff.primitives.while_loop import parts_of, while_loop, while_sections, with_more_carry

Series = list[Any]


def _order(series: Sequence[Series | None]) -> int:
    return next(len(terms) for terms in series if terms is not None)


def _flat(columns: Sequence[Series | None]) -> list[Any]:
    return [term for terms in columns if terms is not None for term in terms]


def _gathered(terms: Sequence[Any], flags: Sequence[bool], order: int) -> list[Series | None]:
    """Return one series for each flag that is set, None for the others."""
    rest = iter(terms)
    return [[next(rest) for _ in range(order)] if flag else None for flag in flags]


def _filled(
    series: Sequence[Series | None], flags: Sequence[bool], types: Sequence[ArrayType], order: int
) -> list[Any]:
    """Return the terms of the flagged series, one after another, zeros for one that is None."""
    columns = zip(series, flags, types, strict=True)
    return _flat(
        [
            ([zeros(aval.strong())] * order if terms is None else terms) if flag else None
            for terms, flag, aval in columns
        ]
    )


def _terms_of(
    pushed: Any, flags: Sequence[bool], types: Sequence[ArrayType], order: int
) -> list[Atom]:
    """Return the derivatives among a jet's outputs, for the outputs flagged; zeros if need be."""
    found = _gathered(pushed.graph.outputs[len(types) :], pushed.nonzero_outputs, order)
    atoms = _filled(found, flags, types, order)
    return [atom if hasattr(atom, "aval") else Literal(atom) for atom in atoms]


def _joint_body(
    pushed: Any, body: Graph, moving: Sequence[bool], sections: Sections, order: int
) -> Graph:
    """Return the body that carries values and derivatives side by side.

    `pushed` is the body's jet for the derivatives of the inputs marked by `moving`; the result
    takes and returns, in each section, the values and then the derivatives.
    """
    graph = pushed.graph
    count, carry = len(body.inputs), sections.carry
    terms = _gathered(graph.inputs[count:], moving, order)
    parts = zip(sections.split(graph.inputs[:count]), sections.split(terms), strict=True)
    inputs = [*chain.from_iterable([*values, *_flat(columns)] for values, columns in parts)]
    flags = (*sections.split(moving)[1], *pushed.nonzero_outputs[carry:])
    outs = graph.outputs[: len(body.outputs)]
    out_terms = _terms_of(pushed, flags, body.output_types, order)
    carried = order * sum(flags[:carry])
    outputs = [*outs[:carry], *out_terms[:carried], *outs[carry:], *out_terms[carried:]]
    return make_graph(inputs, (), graph.eqns, outputs)


def _divided(
    outs: Sequence[Any], carry: int, count: int, flags: Sequence[bool], order: int
) -> tuple[list[Any], list[Series | None]]:
    """Return values and series among the outputs of a loop with a joint body."""
    start = carry + order * sum(flags[:carry])
    stop = start + count - carry
    values = [*outs[:carry], *outs[start:stop]]
    return values, _gathered([*outs[carry:start], *outs[stop:]], flags, order)


def _scan_taylor(operands: Any, series: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    body, sections, order = params["body"], sections_of(params), _order(series)
    lead, rest = count_and_rest(operands, params)
    columns = sections.split(series[len(lead) :])
    flags = [[terms is not None for terms in part] for part in columns]

    def step(carry: tuple[bool, ...]) -> Any:
        result = mode.jet(body, order, (*flags[0], *carry, *flags[2]))
        return result, result.nonzero_outputs[: sections.carry]

    pushed, carried = fixpoint(flags[1], step)
    consts, carry, xs = sections.split(rest)
    all_consts = [*consts, *_flat(columns[0])]
    types = sections.split(body.input_types)[1]
    all_carry = [*carry, *_filled(columns[1], carried, types, order)]
    joint = {
        **params,
        "body": _joint_body(pushed, body, (*flags[0], *carried, *flags[2]), sections, order),
        "consts": len(all_consts),
        "carry": len(all_carry),
    }
    given = (*lead, *all_consts, *all_carry, *xs, *_flat(columns[2]))
    outs = bind_primitive(scan, given, joint)
    moving = (*carried, *pushed.nonzero_outputs[sections.carry :])
    return _divided(outs, sections.carry, len(body.outputs), moving, order)


def _while_taylor(operands: Any, series: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    body, sections, order = params["body"], while_sections(params), _order(series)
    fixed, rest = parts_of(operands, params)
    columns = sections.split(series[len(fixed) :])
    flags = [[terms is not None for terms in part] for part in columns]

    def step(carry: tuple[bool, ...]) -> Any:
        result = mode.jet(body, order, (*flags[0], *carry))
        return result, result.nonzero_outputs[: sections.carry]

    if not any(chain(*flags)):  # the condition alone depends on what moves
        outs = bind_primitive(while_loop, operands, params)
        return outs, [None] * len(outs)
    pushed, carried = fixpoint(flags[1], step)
    consts, carry, _ = sections.split(rest)
    all_consts = [*consts, *_flat(columns[0])]
    more = _filled(columns[1], carried, sections.split(body.input_types)[1], order)
    outs = bind_primitive(
        while_loop,
        (*fixed, *all_consts, *carry, *more),
        {
            **params,
            "condition": with_more_carry(params["condition"], more),
            "body": _joint_body(pushed, body, (*flags[0], *carried), sections, order),
            "body_consts": len(all_consts),
        },
    )
    count, end = len(carry), len(carry) + len(more)
    steps, outs = outs[end], (*outs[:end], *outs[end + 1 :])
    moving = (*carried, *pushed.nonzero_outputs[count:])
    values, terms = _divided(outs, count, len(body.outputs), moving, order)
    return (*values[:count], steps, *values[count:]), (*terms[:count], None, *terms[count:])


def _cond_taylor(operands: Any, series: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    branches, order = params["branches"], _order(series)
    moving = tuple(terms is not None for terms in series[1:])
    pushed = [mode.jet(branch, order, moving) for branch in branches]
    nonzero = tuple(map(any, zip(*[p.nonzero_outputs for p in pushed], strict=True)))
    count = len(nonzero)
    joint = []
    for p, branch in zip(pushed, branches, strict=True):
        terms = _terms_of(p, nonzero, branch.output_types, order)
        joint.append(
            make_graph(p.graph.inputs, (), p.graph.eqns, [*p.graph.outputs[:count], *terms])
        )
    outs = bind_primitive(cond, (*operands, *_flat(series[1:])), {"branches": tuple(joint)})
    return outs[:count], _gathered(outs[count:], nonzero, order)


def _checkpoint_taylor(operands: Any, series: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    """Stay one equation, so that a reverse sweep over the derivatives computes again too."""
    order = _order(series)
    pushed = mode.jet(params["graph"], order, tuple(terms is not None for terms in series))
    given = (*operands, *_flat(series))
    outs = bind_primitive(checkpoint, given, {**params, "graph": pushed.graph})
    count = len(pushed.nonzero_outputs)
    return outs[:count], _gathered(outs[count:], pushed.nonzero_outputs, order)


scan.taylor = _scan_taylor
while_loop.taylor = _while_taylor
cond.taylor = _cond_taylor
checkpoint.taylor = _checkpoint_taylor
