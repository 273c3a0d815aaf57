"""`checkpoint`: a graph whose reverse sweep computes again what it would otherwise keep.

The equation stands for its graph until it is differentiated. Its linear part is then an equation of
the same kind that takes operands and what the policy saves, computes the residuals again and
applies the linear graph to the tangents (`recompute` marks it). The linear graph around it thus
keeps operands and saved values only. Such an equation is never inlined: common subexpressions with
the first computation would undo it.

A policy answers, for each equation of the first computation, whether its results may be saved:
`policy(primitive, avals, params)`. `checkpoint_name` equations are transparent: the answer for one
counts for the value that it names. An attribute `excluded_names` of a policy lists names of values
that are not to be saved whatever the answer for the equation that made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, make_graph
from autodiff.ir.primitive import Samples
from autodiff.primitives.families import elementwise, is_linear
from autodiff.primitives.higher_order import higher_order, scattered

checkpoint_name = elementwise(
    "checkpoint_name",
    lambda x, *, label: x,
    doc="The number itself, under a name that policies of checkpoint know it by.",
    promote=lambda operands: (operands, operands),
    jvp=lambda t, out, x, label: t,
    transpose=lambda ct, x, label: ct,
    public=False,
    simplify=lambda eqn, made_by: eqn.inputs[0],
    samples=Samples(points=(-1.0, 0.0), params=({"label": "x"},)),
    lower=lambda o, x, *, label: x,
)
checkpoint_name.view = True


def saveable(policy: Any, graph: Graph) -> set[Var]:
    """Return the values of a graph that a policy allows to be saved.

    A value with a name may be saved if the policy says so of the equation that made it or of the
    name, unless the policy excludes the name.
    """
    excluded_names = getattr(policy, "excluded_names", ())
    named: dict[Atom, Atom] = {}
    found: set[Any] = set()
    excluded: set[Any] = set()
    for eqn in graph.eqns:
        if not eqn.outputs:
            continue
        allowed = _answer(policy, eqn)
        if eqn.primitive is not checkpoint_name:
            found.update(eqn.outputs if allowed else ())
            continue
        value = named.get(eqn.inputs[0], eqn.inputs[0])
        named[eqn.outputs[0]] = value
        if type(value) is Literal:
            continue
        if allowed:
            found.add(value)
        elif eqn.params["label"] in excluded_names:
            excluded.add(value)
    return found - excluded


def _answer(policy: Any, eqn: Eqn) -> bool:
    answer = policy(eqn.primitive, tuple(atom.aval for atom in eqn.inputs), eqn.params)
    if not isinstance(answer, bool | np.bool_):
        raise TypeError(
            message(
                "checkpoint",
                "a policy must return True or False",
                f"policy({eqn.primitive}, ...)={answer!r} of type {type(answer).__name__}",
                line=eqn.source,
                fix="return whether results of such an operation may be saved.",
            )
        )
    return bool(answer)


def _bind(graph: Graph, operands: Sequence[Any], params: Any, recompute: bool) -> Any:
    """Apply a graph to those of the operands that it reads, as an equation of this kind."""
    read: set[Atom] = {atom for eqn in graph.eqns for atom in eqn.inputs} | set(graph.outputs)
    places = [i for i, var in enumerate(graph.inputs) if var in read]
    inputs = [graph.inputs[i] for i in places]
    needed = make_graph(inputs, (), graph.eqns, graph.outputs)
    return bind_primitive(
        checkpoint,
        [operands[i] for i in places],
        {**params, "graph": needed, "recompute": recompute},
    )


def _checkpoint_type(
    *avals: ArrayType, graph: Graph, policy: Any, recompute: bool, name: str
) -> tuple[ArrayType, ...]:
    assert len(avals) == len(graph.inputs)
    assert all(map(ArrayType.fits, graph.input_types, avals)), (avals, graph.input_types)
    return tuple(aval.strong() for aval in graph.output_types)


def _checkpoint_execute(operands: Any, params: Any, run: Any) -> Any:
    return run(params["graph"], fresh=True)(*operands)


def _checkpoint_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    """Push tangents beside the values, or leave a linear part that computes residuals again."""
    graph, again = params["graph"], params["recompute"]
    count = len(graph.outputs)
    nonzero = tuple(t is not None for t in tangents)
    live = [t for t in tangents if t is not None]
    if not mode.keeps_residuals:
        pushed = mode.jvp(graph, nonzero)
        results = _bind(pushed.graph, (*operands, *live), params, again)
        return results[:count], scattered(results[count:], pushed.nonzero_outputs)
    split = mode.linearize(graph, nonzero)
    parts = mode.rematerialize(split, partial(saveable, params["policy"]))
    results = _bind(parts.primal, operands, params, again)
    if not any(split.nonzero_outputs):
        return results[:count], (None,) * count
    given = [*[operands[i] for i in parts.used], *results[count:], *live]
    moved = _bind(parts.linear, given, params, parts.repeats)
    return results[:count], scattered(moved, split.nonzero_outputs)


def _checkpoint_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    linear = tuple(map(is_linear, operands))
    given = tuple(ct is not None for ct in cts)
    transposed = mode.transpose(params["graph"], linear, given)
    values = [x for x in operands if not is_linear(x)]
    known = [*values, *[ct for ct in cts if ct is not None]]
    results = _bind(transposed.graph, known, params, params["recompute"])
    return scattered(results, transposed.nonzero)


def _checkpoint_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    graph, out_batched = mode.batch(params["graph"], size, tuple(batched))
    return bind_primitive(checkpoint, operands, {**params, "graph": graph}), out_batched


def _checkpoint_separate(operands: Any, params: Any, mode: Any) -> Any:
    """Compute the outputs that values determine; the rest computes again what it needs of them."""
    graph = params["graph"]
    known = tuple(not is_linear(x) for x in operands)
    parts = mode.split(graph, known)
    first = make_graph(
        parts.known.inputs, (), parts.known.eqns, parts.known.outputs[: sum(parts.known_outputs)]
    )
    values = [x for x in operands if not is_linear(x)]
    results = _bind(first, values, params, params["recompute"]) if first.outputs else ()
    pairs = zip(graph.outputs, parts.known_outputs, strict=True)
    rest = make_graph(graph.inputs, (), graph.eqns, [atom for atom, flag in pairs if not flag])
    again = params["recompute"] or (bool(results) and bool(parts.known.eqns))
    later = (checkpoint, operands, {**params, "graph": rest, "recompute": again})
    return scattered(results, parts.known_outputs), later


def _checkpoint_prune(eqn: Eqn, live: tuple[bool, ...], dead_code: Any) -> Eqn:
    graph = eqn.params["graph"]
    outputs = [atom for atom, flag in zip(graph.outputs, live, strict=True) if flag]
    pruned = dead_code(make_graph(graph.inputs, (), graph.eqns, outputs))
    read: set[Atom] = {a for inner in pruned.eqns for a in inner.inputs} | set(outputs)
    left = [var in read for var in graph.inputs]
    if all(live) and all(left):
        return eqn
    inputs = [var for var, flag in zip(graph.inputs, left, strict=True) if flag]
    params = {**eqn.params, "graph": make_graph(inputs, (), pruned.eqns, outputs)}
    operands = tuple(atom for atom, flag in zip(eqn.inputs, left, strict=True) if flag)
    results = tuple(var for var, flag in zip(eqn.outputs, live, strict=True) if flag)
    return Eqn(eqn.primitive, operands, params, results, eqn.source)


checkpoint = higher_order(
    "checkpoint",
    _checkpoint_execute,
    doc="Run a graph (without constants); its reverse sweep computes residuals again.",
    type_rule=_checkpoint_type,
    derivative=_checkpoint_derivative,
    transpose=_checkpoint_transpose,
    batch=_checkpoint_batch,
    inlined=lambda params: None if params["recompute"] else params["graph"],
    separate=_checkpoint_separate,
    prune=_checkpoint_prune,
)
checkpoint.transparent = True
