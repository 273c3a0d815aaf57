"""`cond`: one of several branches, chosen by an index when the program runs.

Operands are the index, an integer clamped to the branches there are, and what every branch takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autodiff.ir.avals import UNKNOWN, ArrayType, array_type, type_of
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, make_graph
from autodiff.ir.primitive import primitives
from autodiff.primitives.families import is_linear
from autodiff.primitives.higher_order import higher_order, scattered, zeros
from autodiff.primitives.loop_parts import select_lanes, with_zeros

Flags = tuple[bool, ...]


def _common_type(types: Sequence[ArrayType]) -> ArrayType:
    """Return the type of an output, given each branch's: open where they differ in size."""
    first = types[0].strong()
    if all(aval.strong() is first for aval in types):
        return first
    assert all(map(first.fits, types)), types
    shapes = zip(*[aval.shape for aval in types], strict=True)
    return array_type(tuple(n[0] if len(set(n)) == 1 else UNKNOWN for n in shapes), first.dtype)


def _cond_type(
    index: ArrayType, *avals: ArrayType, branches: tuple[Graph, ...]
) -> tuple[ArrayType, ...]:
    assert index.shape == () and index.dtype.kind in "iu", index
    for branch in branches:
        assert len(branch.inputs) == len(avals), (branch.input_types, avals)
        assert all(map(ArrayType.fits, branch.input_types, avals)), (branch.input_types, avals)
    columns = zip(*[branch.output_types for branch in branches], strict=True)
    return tuple(map(_common_type, columns))


def _cond_execute(operands: Any, params: Any, run: Any) -> Any:
    branches = params["branches"]
    chosen = min(max(int(operands[0]), 0), len(branches) - 1)
    return run(branches[chosen], fresh=True)(*operands[1:])


def _any_of(flags: Sequence[Sequence[bool]]) -> Flags:
    return tuple(map(any, zip(*flags, strict=True)))


# ---------------------------------------------------------------------------------- derivatives


@dataclass(frozen=True, slots=True)
class _Divided:
    """Branches divided into parts that run first and parts that run later.

    `first`: branches of (operands) -> (outputs, slots). `later`: branches of (operands used again,
    slots, further inputs) -> outputs; `used` are the positions of those operands.
    """

    first: tuple[Graph, ...]
    later: tuple[Graph, ...]
    used: tuple[int, ...]


def _divide(
    firsts: Sequence[Graph],
    laters: Sequence[Graph],
    forwarded: Sequence[Sequence[int | None]],
    count: int,
) -> _Divided:
    """Return branches that hand residuals over in common slots, one type each.

    A branch's computed residuals are its outputs after the first `count`; its later part takes all
    its residuals first. A slot that a branch has no use for is filled with zeros.
    """
    slots: list[ArrayType] = []
    places: list[list[int]] = []
    for graph in firsts:
        taken: set[int] = set()
        mine = []
        for aval in graph.output_types[count:]:
            fitting = (i for i, t in enumerate(slots) if t is aval.strong() and i not in taken)
            place = next(fitting, len(slots))
            if place == len(slots):
                slots.append(aval.strong())
            taken.add(place)
            mine.append(place)
        places.append(mine)
    used = tuple(sorted({i for sources in forwarded for i in sources if i is not None}))
    first, later = [], []
    for graph, rest, sources, mine in zip(firsts, laters, forwarded, places, strict=True):
        computed: list[Atom] = [Literal(zeros(aval)) for aval in slots]
        for place, atom in zip(mine, graph.outputs[count:], strict=True):
            computed[place] = atom
        first.append(make_graph(graph.inputs, (), graph.eqns, [*graph.outputs[:count], *computed]))
        position = iter(mine)
        at = {
            ("operand", i) if i is not None else ("slot", next(position)): var
            for i, var in zip(sources, rest.inputs, strict=False)
        }
        types = {i: graph.inputs[i].aval for i in used}
        inputs = [at.get(("operand", i)) or Var(types[i]) for i in used]
        inputs += [at.get(("slot", k)) or Var(aval) for k, aval in enumerate(slots)]
        further = rest.inputs[len(sources) :]
        later.append(make_graph([*inputs, *further], (), rest.eqns, rest.outputs))
    return _Divided(tuple(first), tuple(later), used)


def _cond_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    index, *rest = operands
    moving = tuple(t is not None for t in tangents[1:])
    moved = [t for t in tangents[1:] if t is not None]
    branches = params["branches"]
    push = mode.linearize if mode.keeps_residuals else mode.jvp
    pushed = [push(branch, moving) for branch in branches]
    nonzero = _any_of([p.nonzero_outputs for p in pushed])
    count = len(nonzero)
    if not mode.keeps_residuals:
        joint = []
        for p, branch in zip(pushed, branches, strict=True):
            outs, t_outs = p.graph.outputs[:count], p.graph.outputs[count:]
            t_outs = with_zeros(t_outs, nonzero, p.nonzero_outputs, branch.output_types)
            joint.append(make_graph(p.graph.inputs, (), p.graph.eqns, [*outs, *t_outs]))
        results = bind_primitive(cond, (index, *rest, *moved), {"branches": tuple(joint)})
        return results[:count], scattered(results[count:], nonzero)
    linear = [
        make_graph(
            p.linear.inputs,
            (),
            p.linear.eqns,
            with_zeros(p.linear.outputs, nonzero, p.nonzero_outputs, branch.output_types),
        )
        for p, branch in zip(pushed, branches, strict=True)
    ]
    parts = _divide([p.primal for p in pushed], linear, [p.forwarded for p in pushed], count)
    results = bind_primitive(cond, operands, {"branches": parts.first})
    if not any(nonzero):
        return results[:count], (None,) * count
    again = [rest[i] for i in parts.used]
    out_tangents = bind_primitive(
        cond, (index, *again, *results[count:], *moved), {"branches": parts.later}
    )
    return results[:count], scattered(out_tangents, nonzero)


def _cond_separate(operands: Any, params: Any, mode: Any) -> Any:
    index, *rest = operands
    known = tuple(not is_linear(x) for x in rest)
    branches = params["branches"]
    parts = [mode.split(branch, known) for branch in branches]
    common = tuple(map(all, zip(*[p.known_outputs for p in parts], strict=True)))
    if not any(common):
        return (None,) * len(common), (cond, operands, params)
    # An output known in one branch alone is computed by that branch's later part.
    late = tuple(
        tuple(a and not b for a, b in zip(p.known_outputs, common, strict=True)) for p in parts
    )
    firsts, laters, sources = [], [], []
    for p, branch, again in zip(parts, branches, late, strict=True):
        outs = iter(p.known.outputs[: sum(p.known_outputs)])
        mine = [next(outs) if flag else None for flag in p.known_outputs]
        shown: list[Any] = [atom for atom, flag in zip(mine, common, strict=True) if flag]
        handed = [Var(branch.output_types[i].strong()) for i, flag in enumerate(again) if flag]
        extra: list[Any] = [atom for atom, flag in zip(mine, again, strict=True) if flag]
        computed = p.known.outputs[sum(p.known_outputs) :]
        firsts.append(make_graph(p.known.inputs, (), p.known.eqns, [*shown, *computed, *extra]))
        own, taken = iter(p.rest.outputs), iter(handed)
        outputs = [
            next(taken) if flag else next(own)
            for flag, is_common in zip(again, common, strict=True)
            if not is_common
        ]
        count = len(p.forwarded)
        inputs = [*p.rest.inputs[:count], *handed, *p.rest.inputs[count:]]
        laters.append(make_graph(inputs, (), p.rest.eqns, outputs))
        sources.append((*p.forwarded, *[None] * len(handed)))
    divided = _divide(firsts, laters, sources, sum(common))
    values = [x for x in rest if not is_linear(x)]
    results = bind_primitive(cond, (index, *values), {"branches": divided.first})
    shown = scattered(results[: sum(common)], common)
    linear = [x for x in rest if is_linear(x)]
    again = [values[i] for i in divided.used]
    left = (index, *again, *results[sum(common) :], *linear)
    return shown, (cond, left, {"branches": divided.later})


def _cond_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    index, *rest = operands
    linear = tuple(map(is_linear, rest))
    given = tuple(ct is not None for ct in cts)
    flipped = [mode.transpose(branch, linear, given) for branch in params["branches"]]
    nonzero = _any_of([t.nonzero for t in flipped])
    types = [type_of(x) for x in rest]
    branches = tuple(
        make_graph(
            t.graph.inputs,
            (),
            t.graph.eqns,
            with_zeros(t.graph.outputs, nonzero, t.nonzero, types),
        )
        for t in flipped
    )
    values = [x for x in rest if not is_linear(x)]
    handed = [ct for ct in cts if ct is not None]
    results = bind_primitive(cond, (index, *values, *handed), {"branches": branches})
    return (None, *scattered(results, nonzero))


# -------------------------------------------------------------------------------------- batching


def _cond_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    """Run one branch for all examples, or, where they choose for themselves, all and select."""
    branches = params["branches"]
    differs, flags = batched[0], tuple(batched[1:])
    if not differs:
        found = [mode.batch(branch, size, flags) for branch in branches]
        forced = _any_of([out for _, out in found])
        graphs = tuple(mode.batch(branch, size, flags, forced)[0] for branch in branches)
        return bind_primitive(cond, operands, {"branches": graphs}), forced
    index, *rest = operands
    forced = (True,) * len(branches[0].outputs)
    found = []
    for branch in branches:
        graph, _ = mode.batch(branch, size, flags, forced)
        params = {"graph": graph, "name": "cond"}
        found.append(bind_primitive(primitives["call"], rest, params))
    results = found[-1]
    for k in reversed(range(len(branches) - 1)):
        limit = index.dtype.type(k)
        mask = bind_primitive(primitives["less_equal"], (index, limit), {})
        results = [select_lanes(mask, x, y) for x, y in zip(found[k], results, strict=True)]
    return results, forced


# -------------------------------------------------------------------------------------- removing


def _cond_prune(eqn: Eqn, live: Flags, dead_code: Any) -> Eqn:
    index, *rest = eqn.inputs
    pruned = []
    used = [False] * len(rest)
    for branch in eqn.params["branches"]:
        outputs = [atom for atom, flag in zip(branch.outputs, live, strict=True) if flag]
        graph = dead_code(make_graph(branch.inputs, (), branch.eqns, outputs))
        asked = {atom for e in graph.eqns for atom in e.inputs} | set(graph.outputs)
        used = [flag or var in asked for flag, var in zip(used, graph.inputs, strict=True)]
        pruned.append(graph)
    if all(live) and all(used):
        return eqn

    def chosen(items: Sequence[Any], flags: Sequence[bool]) -> tuple[Any, ...]:
        return tuple(item for item, flag in zip(items, flags, strict=True) if flag)

    branches = tuple(make_graph(chosen(g.inputs, used), (), g.eqns, g.outputs) for g in pruned)
    inputs = (index, *chosen(rest, used))
    return Eqn(cond, inputs, {"branches": branches}, chosen(eqn.outputs, live), eqn.source)


cond = higher_order(
    "cond",
    _cond_execute,
    doc="Run the branch that an integer chooses.",
    type_rule=_cond_type,
    derivative=_cond_derivative,
    transpose=_cond_transpose,
    batch=_cond_batch,
    separate=_cond_separate,
    prune=_cond_prune,
)
