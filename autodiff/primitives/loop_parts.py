"""What the rules of the two loops, `scan` and `while_loop`, share.

A loop's body takes (consts, carry, xs) and returns (carry, ys): constants are the same in every
iteration, the carry goes from one to the next, xs and ys are a row each of arrays with one row per
iteration. Where a body is divided into a part to be run first and a part that needs what the first
has computed (its residuals), the residuals take the cheapest way that each allows: those that no
iteration changes are computed once before the loop, rows of xs are read again, and only the others
are stacked, one row per iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.base.array_modules import common_module, module_of
from autodiff.ir.avals import UNKNOWN, ArrayType
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Atom, Graph, Literal, make_graph
from autodiff.ir.primitive import primitives
from autodiff.primitives.families import batch_to, move_axis
from autodiff.primitives.higher_order import build_graph, reordered, zeros
from autodiff.primitives.rows import padded_alike, select_rows


@dataclass(frozen=True, slots=True)
class Sections:
    """How many of a body's inputs are constants and how many are carried; the others are rows."""

    consts: int
    carry: int

    def split(self, items: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return items, one for each input, as (those of constants, of the carry, of rows)."""
        stop = self.consts + self.carry
        return list(items[: self.consts]), list(items[self.consts : stop]), list(items[stop:])


def fixpoint(
    start: Sequence[bool], step: Callable[[tuple[bool, ...]], tuple[Any, Sequence[bool]]]
) -> tuple[Any, tuple[bool, ...]]:
    """Return a step's result and flags once flags no longer grow: carried flags of a loop.

    `step(flags)` returns (result, flags of the carry after one iteration).
    """
    flags = tuple(start)
    while True:
        result, after = step(flags)
        grown = tuple(a or b for a, b in zip(flags, after, strict=True))
        if grown == flags:
            return result, flags
        flags = grown


# -------------------------------------------------------------------- running first, running later


@dataclass(frozen=True, slots=True)
class FirstPart:
    """A body's part that runs first, and how its residuals reach the part that runs later.

    `body: (consts, carry, xs) -> (carry, ys, rows)`, with its constants' values in `consts`.
    `sources[i]` says where residual i comes from: ("const", value), ("xs", position among the rows
    read) or ("row", position among the rows returned).
    """

    body: Graph
    consts: list[Any]
    sources: list[tuple[str, Any]]


def first_part(
    mode: Any,
    graph: Graph,
    sections: Sections,
    consts: Sequence[Any],
    forwarded: Sequence[int | None],
) -> FirstPart:
    """Return a loop's first part, given its graph with computed residuals as last outputs.

    `forwarded` as in `passes.linearize.Linearized`: the input that serves as a residual, or None.
    """
    count = len(graph.outputs) - sum(i is None for i in forwarded)
    known = tuple(i < sections.consts for i in range(len(graph.inputs)))
    parts = mode.split(graph, known)
    fixed = [
        flag and type(atom) is not Literal
        for flag, atom in zip(parts.known_outputs, graph.outputs, strict=True)
    ]
    values: list[Any] = []
    if any(fixed[count:]):
        values = list(bind_primitive(primitives["call"], consts, _call_of(parts.known)))
    position = {i: k for k, i in enumerate(_marked(parts.known_outputs))}
    rows: list[Atom] = []
    sources: list[tuple[str, Any]] = []
    computed = iter(range(count, len(graph.outputs)))
    for place in forwarded:
        if place is None:
            i = next(computed)
            if fixed[i]:
                sources.append(("const", values[position[i]]))
            else:
                sources.append(("row", len(rows)))
                rows.append(graph.outputs[i])
        elif place < sections.consts:
            sources.append(("const", consts[place]))
        elif place < sections.consts + sections.carry:
            sources.append(("row", len(rows)))
            rows.append(graph.inputs[place])
        else:
            sources.append(("xs", place - sections.consts - sections.carry))
    outputs = [*graph.outputs[:count], *rows]
    if not values:
        body = make_graph(graph.inputs, (), graph.eqns, outputs)
        return FirstPart(body, list(consts), sources)
    # What constants determine has been computed: the body takes it as further constants.
    residuals = parts.gather_residuals(values[len(position) :], consts)
    taken = list(parts.rest.inputs[: len(residuals)])
    for i in range(count):
        if fixed[i] and outputs[i] not in taken:
            taken.append(outputs[i])  # type: ignore[arg-type]
            residuals.append(values[position[i]])
    later = parts.rest.inputs[len(parts.forwarded) :]
    return FirstPart(make_graph([*taken, *later], (), parts.rest.eqns, outputs), residuals, sources)


def _call_of(graph: Graph) -> dict[str, Any]:
    return {"graph": graph, "name": "loop invariants"}


def _marked(flags: Sequence[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if flag]


@dataclass(frozen=True, slots=True)
class LaterPart:
    """A loop's part that runs later: its body, with residuals and inputs as a loop takes them."""

    body: Graph
    consts: list[Any]
    carry: list[Any]
    xs: list[Any]

    @property
    def sections(self) -> dict[str, int]:
        """The parameters that say how the body's inputs are divided."""
        return {"consts": len(self.consts), "carry": len(self.carry)}


def later_part(
    graph: Graph,
    first: FirstPart,
    rows: Sequence[Any],
    xs: Sequence[Any],
    given: tuple[Sequence[Any], Sequence[Any], Sequence[Any]],
) -> LaterPart:
    """Return the part that runs later, from its graph `(residuals, inputs) -> outputs`.

    `rows`: the first part's stacked residuals; `xs`: the rows it read; `given`: values of the
    graph's further inputs, as constants, carry and rows.
    """
    count = len(first.sources)
    consts, carry, own_xs = given
    order: dict[str, list[int]] = {"const": [], "row": [], "xs": []}
    values: dict[str, list[Any]] = {"const": [], "row": [], "xs": []}
    for i, (kind, value) in enumerate(first.sources):
        order[kind].append(i)
        if kind != "const":
            value = (rows if kind == "row" else xs)[value]
        values[kind].append(value)
    start = count + len(consts)
    body = reordered(
        graph,
        [
            *order["const"],
            *range(count, start),
            *range(start, start + len(carry)),
            *order["row"],
            *order["xs"],
            *range(start + len(carry), len(graph.inputs)),
        ],
    )
    return LaterPart(
        body,
        [*values["const"], *consts],
        list(carry),
        [*values["row"], *values["xs"], *own_xs],
    )


def with_zeros(
    outputs: Sequence[Atom],
    flags: Sequence[bool],
    nonzero: Sequence[bool],
    types: Sequence[ArrayType],
) -> list[Atom]:
    """Return the atoms of the flagged outputs: those a graph has where `nonzero`, else zeros."""
    rest = iter(outputs)
    found: list[Atom] = []
    for flag, live, aval in zip(flags, nonzero, types, strict=True):
        atom = next(rest) if live else None
        if flag:
            found.append(Literal(zeros(aval.strong())) if atom is None else atom)
    return found


def joint_body(pushed: Any, body: Graph, moving: Sequence[bool], sections: Sections) -> Graph:
    """Return the body that carries values and tangents side by side.

    `pushed` is the body's jvp graph for the tangents marked by `moving`; the result takes and
    returns, in each section, the values and then the tangents.
    """
    graph = pushed.graph
    count = len(body.inputs)
    tangents = dict(zip(_marked(moving), range(count, len(graph.inputs)), strict=True))
    order: list[int] = []
    for places in sections.split(range(count)):
        order += [*places, *[tangents[i] for i in places if i in tangents]]
    outs, moved = graph.outputs[: len(body.outputs)], graph.outputs[len(body.outputs) :]
    carry = sections.carry
    flags = (*sections.split(moving)[1], *pushed.nonzero_outputs[carry:])
    out_tangents = with_zeros(moved, flags, pushed.nonzero_outputs, body.output_types)
    carried = sum(flags[:carry])
    inputs = [graph.inputs[i] for i in order]
    return make_graph(
        inputs,
        (),
        graph.eqns,
        [*outs[:carry], *out_tangents[:carried], *outs[carry:], *out_tangents[carried:]],
    )


# ------------------------------------------------------------------------------------------ lanes


def select_lanes(mask: Any, x: Any, y: Any) -> Any:
    """Return x in the lanes where `mask` (over the leading axis) is true, else y."""
    shape = x.shape
    if shape != y.shape or UNKNOWN in shape:
        return bind_primitive(select_rows, (mask, x, y), {})
    if mask.shape != shape:
        mask = bind_primitive(primitives["broadcast"], (mask,), {"shape": shape, "axes": (0,)})
    return bind_primitive(primitives["where"], (mask, x, y), {})


def rows_first(x: Any, batched: bool) -> Any:
    """Return an array of rows with its mapped axis, which is first, behind the axis of rows."""
    return move_axis(x, 0, 1) if batched else x


def lanes_first(x: Any, batched: bool) -> Any:
    """Return the inverse of `rows_first`."""
    return move_axis(x, 1, 0) if batched else x


def batched_carry(
    carry: Sequence[Any], has: Sequence[bool], wanted: Sequence[bool], size: int
) -> Any:
    """Return a loop's initial carry, given the mapped axis where it is wanted."""
    return [
        batch_to(x, flag, size) if want else x
        for x, flag, want in zip(carry, has, wanted, strict=True)
    ]


# --------------------------------------------------------------------------------------- removing


def live_parts(
    body: Graph,
    sections: Sections,
    live: Sequence[bool],
    needed: Sequence[bool],
    dead_code: Callable[[Graph], Graph],
) -> tuple[Graph, list[bool], list[bool]]:
    """Return a body without dead outputs, which inputs are left, and which outputs.

    `live` marks the loop's outputs that are used, `needed` the carry that must stay in any case. A
    carried value is alive if it is used afterwards or by something alive in the next iteration.
    """
    carry = sections.carry
    keep = [a or b for a, b in zip(live[:carry], needed, strict=True)] + list(live[carry:])
    while True:
        outputs = [atom for atom, flag in zip(body.outputs, keep, strict=True) if flag]
        pruned = dead_code(make_graph(body.inputs, (), body.eqns, outputs))
        used: set[Any] = {a for eqn in pruned.eqns for a in eqn.inputs} | set(outputs)
        carried = sections.split(body.inputs)[1]
        grown = [flag or (i < carry and carried[i] in used) for i, flag in enumerate(keep)]
        if grown == keep:
            break
        keep = grown
    left = [var in used for var in body.inputs]
    for i in range(carry):
        left[sections.consts + i] = keep[i]
    inputs = [var for var, flag in zip(body.inputs, left, strict=True) if flag]
    return make_graph(inputs, (), pruned.eqns, pruned.outputs), left, keep


# ---------------------------------------------------------------------------------------- running


class Stack:
    """The rows that a loop returns, one array for each output: its memory grows as rows come.

    `room` is for how many rows memory is taken at first; rows that come `backwards`, the last one
    first, must be as many. Rows of equal shapes are written in place; where shapes may differ from
    row to row they are kept apart and padded at the end.
    """

    __slots__ = ("_aval", "_backwards", "_buffer", "_filled", "_is_ragged", "_kept", "_room")

    def __init__(self, aval: ArrayType, room: int, backwards: bool = False) -> None:
        self._aval = aval
        self._is_ragged = aval.is_open
        self._room = room
        self._backwards = backwards
        self._filled = 0
        self._buffer: Any = None
        self._kept: list[Any] = []

    def append(self, row: Any) -> None:
        """Add the next row."""
        if self._is_ragged:
            self._kept.append(row)
            return
        buffer = self._buffer
        if buffer is None or self._filled == len(buffer):
            buffer = self._grown(module_of(row) or np)
        buffer[-1 - self._filled if self._backwards else self._filled] = row
        self._filled += 1

    def _grown(self, module: Any) -> Any:
        room = max(self._room, 2 * self._filled, 1)
        grown = module.empty((room, *self._aval.shape), self._aval.dtype)
        if self._buffer is not None:
            grown[: self._filled] = self._buffer
        self._buffer = grown
        return grown

    def array(self, operands: Sequence[Any]) -> Any:
        """Return all rows, the first one first; `operands` tell where an empty array belongs."""
        if self._kept:
            rows = padded_alike(self._kept[::-1] if self._backwards else self._kept)
            return (module_of(rows[0]) or np).stack(rows)
        if self._buffer is None:
            shape = [0 if n == UNKNOWN else n for n in self._aval.shape]
            return common_module(operands).zeros((0, *shape), self._aval.dtype)
        return self._buffer[: self._filled]


def masked_body(
    name: str,
    body: Graph,
    sections: Sections,
    active: Callable[[list[Any], list[Any]], Any],
    extra_consts: Sequence[ArrayType],
    extra_carry: Sequence[tuple[ArrayType, Callable[[Any, Any], Any]]],
) -> Graph:
    """Return a batched body that leaves the lanes as they are which are not active.

    `active(extra constants, whole carry)` gives the mask over the lanes. The extra carry follows
    the body's own; each comes with the function `(value, mask) -> next value`. Rows of lanes that
    are not active are zeros.
    """
    consts, carry, rows = sections.split(body.input_types)
    extra_types = [aval for aval, _ in extra_carry]
    avals = [*extra_consts, *consts, *carry, *extra_types, *rows]
    first = len(extra_consts)
    inner = Sections(first + len(consts), len(carry) + len(extra_types))

    def step(*operands: Any) -> list[Any]:
        all_consts, all_carry, xs = inner.split(operands)
        own, extra = all_carry[: len(carry)], all_carry[len(carry) :]
        mask = active(all_consts[:first], all_carry)
        params = {"graph": body, "name": name}
        outs = bind_primitive(primitives["call"], (*all_consts[first:], *own, *xs), params)
        after = [select_lanes(mask, x, y) for x, y in zip(outs, own, strict=False)]
        counted = [f(x, mask) for x, (_, f) in zip(extra, extra_carry, strict=True)]
        ys = [
            select_lanes(mask, y, zeros(aval.strong()))
            for y, aval in zip(outs[len(carry) :], body.output_types[len(carry) :], strict=True)
        ]
        return [*after, *counted, *ys]

    return build_graph(name, avals, step)
