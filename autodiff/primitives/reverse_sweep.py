"""`revolve`: a loop run forward and back, from snapshots taken by the binomial schedule.

Its `step: (consts, carry, xs) -> carry` runs forward, its `pull: (consts, carry, xs, cts, ct ys) ->
(terms, cts, ct xs)` backward, last step first, and the terms are added up. Such is the reverse
sweep of a checkpointed scan (checkpointed_scan.py). With a derivative beside each value it is its
own derivative in forward mode, and with a mapped axis in front its own batch. Where a derivative
must keep values once more (reverse mode of a reverse sweep) it stands for the same computation by
two scans, the first of which stacks every carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from autodiff.base.array_modules import common_module
from autodiff.base.dtypes import is_inexact
from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive, replay
from autodiff.ir.evaluate import copy_of
from autodiff.ir.graph import Atom, Graph, Literal, Params, make_graph
from autodiff.primitives.call import call
from autodiff.primitives.derivative_terms import add_cotangents
from autodiff.primitives.families import batch_to
from autodiff.primitives.higher_order import (
    build_graph,
    filled,
    higher_order,
    scattered,
    stacked_type,
    zeros,
)
from autodiff.primitives.loop_parts import Stack, lanes_first, rows_first
from autodiff.primitives.revolve import schedule
from autodiff.primitives.scan import scan


def divided(items: Sequence[Any], sizes: Sequence[int]) -> list[list[Any]]:
    """Return consecutive groups of these sizes."""
    stops = list(accumulate(sizes))
    assert stops[-1] == len(items), (sizes, len(items))
    return [list(items[stop - size : stop]) for stop, size in zip(stops, sizes, strict=True)]


def chosen(items: Sequence[Any], flags: Sequence[Any]) -> list[Any]:
    """Return the items whose flag is set."""
    return [item for item, flag in zip(items, flags, strict=True) if flag]


def present(items: Sequence[Any]) -> list[Any]:
    """Return the items that are not None."""
    return [item for item in items if item is not None]


def moving_flags(types: Sequence[ArrayType]) -> list[bool]:
    """Return which types can have tangents."""
    return [is_inexact(aval.dtype) for aval in types]


def side_by_side(
    pushed: Any, graph: Graph, moving: Sequence[bool], groups: Any, out_groups: Any, out_flags: Any
) -> Graph:
    """Return a graph's jvp graph with inputs and outputs in groups, each followed by its tangents.

    `moving` marks inputs with a tangent, `out_flags` outputs that get one, zeros if need be.
    """
    count = len(graph.inputs)
    tangents = scattered(pushed.graph.inputs[count:], moving)
    inputs: list[Any] = []
    pairs = divided(pushed.graph.inputs[:count], groups), divided(tangents, groups)
    for values, moved in zip(*pairs, strict=True):
        inputs += [*values, *present(moved)]
    outs = pushed.graph.outputs[: len(graph.outputs)]
    rest = scattered(pushed.graph.outputs[len(outs) :], pushed.nonzero_outputs)
    out_tangents: list[Atom | None] = [
        (Literal(zeros(aval.strong())) if t is None else t) if flag else None
        for t, flag, aval in zip(rest, out_flags, graph.output_types, strict=True)
    ]
    outputs: list[Any] = []
    pairs = divided(outs, out_groups), divided(out_tangents, out_groups)
    for values, moved in zip(*pairs, strict=True):
        outputs += [*values, *present(moved)]
    return make_graph(inputs, (), pushed.graph.eqns, outputs)


def as_call(program: Any, name: str) -> dict[str, Any]:
    """Return the rules of an operation that is, to them, a call of `program(params)`."""

    def parameters(params: Params) -> dict[str, Any]:
        return {"graph": program(params), "name": name}

    def derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
        assert call.derivative is not None
        return call.derivative(operands, tangents, parameters(params), mode)

    def transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
        assert call.transpose is not None
        return call.transpose(cts, operands, parameters(params), mode)

    def batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        assert call.batch is not None
        return call.batch(size, operands, batched, parameters(params), mode)

    def separate(operands: Any, params: Any, mode: Any) -> Any:
        assert call.separate is not None
        return call.separate(operands, parameters(params), mode)

    return {
        "derivative": derivative,
        "transpose": transpose,
        "batch": batch,
        "separate": separate,
    }


def _in_sizes(params: Params) -> list[int]:
    """Return how many operands are consts, carry, xs, cotangents of the carry and of ys."""
    consts, carry, cts = params["consts"], params["carry"], params["cts"]
    xs = len(params["step"].inputs) - consts - carry
    return [consts, carry, xs, cts, len(params["pull"].inputs) - consts - carry - xs - cts]


def _out_sizes(params: Params) -> list[int]:
    """Return how many results are terms added up, cotangents of the carry and of xs."""
    terms, cts = params["terms"], params["cts"]
    return [terms, cts, len(params["pull"].outputs) - terms - cts]


def _revolve_type(*avals: ArrayType, **params: Any) -> Any:
    assert len(avals) == len(params["pull"].inputs)
    terms, cts, rows = divided(params["pull"].output_types, _out_sizes(params))
    return (
        *[aval.strong() for aval in (*terms, *cts)],
        *[stacked_type(aval, params["length"]) for aval in rows],
    )


def _revolve_execute(operands: Any, params: Any, run: Any) -> list[Any]:
    length, backwards = params["length"], params["reverse"]
    step, pull = run(params["step"]), run(params["pull"])
    consts, state, xs, cts, ct_ys = divided(operands, _in_sizes(params))
    terms, _, rows = _out_sizes(params)
    types = params["pull"].output_types
    module = common_module(operands)
    sums = [module.zeros(aval.shape, aval.dtype) for aval in types[:terms]]
    stacks = [Stack(aval, length, not backwards) for aval in types[len(types) - rows :]]

    def row(of: Sequence[Any], i: int) -> list[Any]:
        return [x[length - 1 - i if backwards else i] for x in of]

    kept = [state]
    for move in schedule(length, params["snapshots"]):
        state = kept[-1]
        for i in range(move.start, move.stop):
            state = step(*consts, *state, *row(xs, i))
        if move.keep:
            kept.append(state)
            continue
        if move.stop == move.start:
            kept.pop()
        rest = (*row(xs, move.stop), *cts, *row(ct_ys, move.stop))
        results = pull(*consts, *state, *rest)
        for total, term in zip(sums, results, strict=False):
            total += term
        cts = list(results[terms : terms + len(cts)])
        for stack, ct in zip(stacks, results[terms + len(cts) :], strict=True):
            stack.append(ct)
    return [*sums, *map(copy_of, cts), *[stack.array(operands) for stack in stacks]]


def _revolve_program(params: Params) -> Graph:
    """Return the graph of the same operands and results by a scan there and a scan back."""
    step, pull = params["step"], params["pull"]
    sizes, length = _in_sizes(params), params["length"]
    terms, cts, _ = _out_sizes(params)
    groups = divided(pull.input_types, sizes)
    sum_types = [aval.strong() for aval in pull.output_types[:terms]]
    before = make_graph(
        step.inputs, (), step.eqns, [*step.outputs, *divided(step.inputs, sizes[:3])[1]]
    )
    counts = [len(groups[0]), terms, cts, sizes[1], sizes[2], sizes[4]]

    def back(*inputs: Any) -> list[Any]:
        consts, sums, ct_carry, carry, xs, ct_ys = divided(inputs, counts)
        results = replay(pull, (), [*consts, *carry, *xs, *ct_carry, *ct_ys])
        return [*map(add_cotangents, sums, results[:terms]), *results[terms:]]

    back_types = [
        *groups[0],
        *sum_types,
        *[aval.strong() for aval in groups[3]],
        *[aval.strong() for aval in groups[1]],
        *groups[2],
        *groups[4],
    ]
    body = build_graph("pull", back_types, back)
    rows = [[stacked_type(aval, length) for aval in groups[i]] for i in (2, 4)]

    def program(*operands: Any) -> Any:
        consts, carry, xs, ct_carry, ct_ys = divided(operands, sizes)
        there = {
            "body": before,
            "length": length,
            "reverse": params["reverse"],
            "consts": len(consts),
            "carry": len(carry),
        }
        stacked = bind_primitive(scan, (*consts, *carry, *xs), there)[len(carry) :]
        return bind_primitive(
            scan,
            (*consts, *map(zeros, sum_types), *ct_carry, *stacked, *xs, *ct_ys),
            {
                **there,
                "body": body,
                "reverse": not params["reverse"],
                "carry": terms + cts,
            },
        )

    return build_graph("revolve", [*groups[0], *groups[1], *rows[0], *groups[3], *rows[1]], program)


_REVOLVE_AS_CALL = as_call(_revolve_program, "revolve")


def _revolve_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    """Run forward and back with a tangent beside each value, where nothing needs to be kept."""
    if mode.keeps_residuals:
        return _REVOLVE_AS_CALL["derivative"](operands, tangents, params, mode)
    step, pull = params["step"], params["pull"]
    sizes, out_sizes = _in_sizes(params), _out_sizes(params)
    types = divided(pull.input_types, sizes)
    moved = divided(tangents, sizes)
    flags = [[t is not None for t in part] for part in moved]
    for i in (1, 3):
        flags[i] = moving_flags(types[i])
        moved[i] = scattered(filled(moved[i], flags[i], types[i]), flags[i])
    moving = tuple(flag for part in flags for flag in part)
    moving_step = moving[: len(step.inputs)]
    everything = (True,) * len(pull.outputs)
    given: list[Any] = []
    for values, part in zip(divided(operands, sizes), moved, strict=True):
        given += [*values, *present(part)]
    results = bind_primitive(
        revolve,
        given,
        {
            **params,
            "step": side_by_side(
                mode.jvp(step, moving_step),
                step,
                moving_step,
                sizes[:3],
                [len(step.outputs)],
                flags[1],
            ),
            "pull": side_by_side(
                mode.jvp(pull, moving), pull, moving, sizes, out_sizes, everything
            ),
            "consts": sizes[0] + sum(flags[0]),
            "carry": sizes[1] + sum(flags[1]),
            "terms": 2 * params["terms"],
            "cts": 2 * params["cts"],
        },
    )
    parts = divided(results, [size for size in out_sizes for _ in range(2)])
    outs = [x for part in parts[::2] for x in part]
    return outs, [t for part in parts[1::2] for t in part]


def _revolve_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    """Map the loop with everything it carries mapped."""
    sizes, out_sizes = _in_sizes(params), _out_sizes(params)
    step, pull = params["step"], params["pull"]
    groups, has = divided(operands, sizes), divided(batched, sizes)
    given: list[Any] = []
    flags: list[bool] = []
    for i, (values, part) in enumerate(zip(groups, has, strict=True)):
        if i in (1, 3):  # the carry, its cotangents
            given += [batch_to(x, flag, size) for x, flag in zip(values, part, strict=True)]
            part = [True] * len(part)
        elif i:
            given += [rows_first(x, flag) for x, flag in zip(values, part, strict=True)]
        else:
            given += values
        flags += part
    step_flags = tuple(flags[: len(step.inputs)])
    stepped, _ = mode.batch(step, size, step_flags, (True,) * len(step.outputs))
    pulled, out_flags = mode.batch(pull, size, tuple(flags), (True,) * len(pull.outputs))
    outs = bind_primitive(revolve, given, {**params, "step": stepped, "pull": pulled})
    terms, cts, rows = divided(outs, out_sizes)
    return (*terms, *cts, *[lanes_first(x, True) for x in rows]), out_flags


revolve = higher_order(
    "revolve",
    _revolve_execute,
    doc="Pull cotangents back through a loop, from snapshots taken by the binomial schedule.",
    type_rule=_revolve_type,
    derivative=_revolve_derivative,
    transpose=_REVOLVE_AS_CALL["transpose"],
    batch=_revolve_batch,
    separate=_REVOLVE_AS_CALL["separate"],
)
