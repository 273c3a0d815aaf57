"""`custom_call`: a function with derivative rules by its author; `custom_batched`: with batching.

An equation of `custom_call` holds the function's graph and, in `rules`, those of the author's.
Forward mode records the jvp rule beside the values. Reverse mode records the forward rule among the
values, and one equation of `custom_linear` where the tangents are: it stands for the derivative,
and its transpose is the author's backward rule.

    b = custom_call a            becomes     b, r = forward a;   b' = custom_linear a r a'
    b' = custom_linear a r a'    becomes     ct a = backward a r (ct b)

Evaluated or pushed forward instead, `custom_linear` is the jvp rule if there is one, else the
transpose of `backward` in its cotangents. What is never differentiated is replaced by the plain
graph before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autodiff.base.dtypes import is_inexact
from autodiff.base.errors import MissingRuleError, message
from autodiff.base.source_info import SourceLine
from autodiff.ir.avals import ArrayType, type_of
from autodiff.ir.builder import bind_equation, bind_primitive, replay, trace_of
from autodiff.ir.evaluate import read
from autodiff.ir.graph import Atom, Eqn, Graph, Var, make_graph
from autodiff.ir.held import has_effect, is_transient
from autodiff.ir.primitive import primitives
from autodiff.primitives.call import call
from autodiff.primitives.families import batch_to, is_linear
from autodiff.primitives.higher_order import (
    build_graph,
    filled,
    higher_order,
    scattered,
    stacked_type,
    zeros,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """The derivative rules of one call, as graphs that take the call's operands first.

    `jvp: (operands, tangents of the differentiable ones) -> (outs, tangents of the inexact outs)`,
    `forward: operands -> (outs, residuals)`,
    `backward: (operands, residuals, cotangents of the inexact outs) -> operand cotangents`, of the
    operands that `returned` marks; the others' are zero.
    """

    differentiable: tuple[bool, ...]
    jvp: Graph | None = None
    forward: Graph | None = None
    backward: Graph | None = None
    returned: tuple[bool, ...] = ()

    def traced(self) -> Rules:
        """Return these rules."""
        return self

    @property
    def transient(self) -> bool:
        """Whether they equal only themselves."""
        graphs = (self.jvp, self.forward, self.backward)
        return any(graph is not None and is_transient(graph) for graph in graphs)

    def __repr__(self) -> str:
        return "+".join([n for n in ("jvp", "backward") if getattr(self, n) is not None]) or "none"


class DeferredRules:
    """Rules that are traced when a derivative first asks for them.

    So it is with calls inside a rule: a rule may call its own function. Equal only to itself, since
    what the rules will be cannot be told from their structure.
    """

    __slots__ = ("_rules", "_trace")

    transient = True

    def __init__(self, trace: Callable[[], Rules]) -> None:
        self._trace = trace
        self._rules: Rules | None = None

    def traced(self) -> Rules:
        """Return the rules."""
        if self._rules is None:
            self._rules = self._trace()
        return self._rules

    def __repr__(self) -> str:
        return "deferred"


@dataclass(frozen=True, slots=True)
class LinearRule:
    """The derivative of one call at one point, as a function of the tangents that are not zero.

    `backward: (values, cotangents) -> tangent cotangents`: of those `returned` marks.
    `forward: (values, tangents) -> output tangents`; None: it is the transpose of `backward`, made
    by the pass `transpose`. `tangents` and `outputs` are the types of its arguments and results.
    """

    name: str
    backward: Graph
    tangents: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    returned: tuple[bool, ...]
    forward: Graph | None
    transpose: Callable[..., Any]

    @property
    def transient(self) -> bool:
        """Whether it equals only itself."""
        graphs = (self.backward, self.forward)
        return any(graph is not None and is_transient(graph) for graph in graphs)

    def __repr__(self) -> str:
        return f"derivative of {self.name}"

    @property
    def value_count(self) -> int:
        """The number of operands before the tangents."""
        return len(self.backward.inputs) - len(self.outputs)

    def pushed(self, line: SourceLine | None = None) -> Graph:
        """Return `(values, tangents) -> output tangents`.

        Raises:
            MissingRuleError: there is a backward rule alone, and it is not linear.
        """
        if self.forward is not None:
            return self.forward
        count = self.value_count
        is_ct = tuple(i >= count for i in range(len(self.backward.inputs)))
        try:
            flipped = self.transpose(self.backward, is_ct, (True,) * sum(self.returned))
        except Exception as error:  # whatever a rule stumbles over that transposes what is linear
            raise MissingRuleError(
                message(
                    self.name,
                    "forward mode through a function that has a backward rule alone transposes the "
                    "rule, which is not linear in its cotangent",
                    line=line,
                    fix="define the rule of forward mode too (defjvp), or use reverse mode (grad, "
                    "vjp, jacrev).",
                )
            ) from error

        def push_all(*operands: Any) -> list[Any]:
            pairs = zip(operands[count:], self.returned, strict=True)
            moved = [t for t, flag in pairs if flag]
            results = replay(flipped.graph, (), [*operands[:count], *moved])
            outs = scattered(results, flipped.nonzero[count:])
            return filled(outs, (True,) * len(outs), self.outputs)

        types = [*self.backward.input_types[:count], *self.tangents]
        return build_graph(self.name, types, push_all)


# ------------------------------------------------------------------------------------ derivatives


def _derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> tuple[Any, Any]:
    name, graph = params["name"], params["graph"]
    rules = params["rules"].traced()
    live = [t for t in tangents if t is not None]
    innermost = trace_of([*operands, *live])
    line = None if innermost is None else innermost.source
    for operand, t, flag in zip(operands, tangents, rules.differentiable, strict=True):
        if t is not None and not flag:
            raise MissingRuleError(_closed_over(name, operand, line))
    inexact = [is_inexact(aval.dtype) for aval in graph.output_types]
    count = len(inexact)
    if rules.jvp is not None and (rules.backward is None or not mode.keeps_residuals):
        moving = [t for t, flag in zip(tangents, rules.differentiable, strict=True) if flag]
        outs, moved = push(rules.jvp, count, operands, moving)
        return outs, scattered(moved, inexact)
    if rules.backward is None:
        raise MissingRuleError(
            message(
                name,
                "a derivative is asked for, but the function has no rule",
                line=line,
                fix=f"define one: {name}.defjvp(rule), or {name}.defvjp(fwd, bwd).",
            )
        )
    results = replay(rules.forward, (), operands)
    outs = results[:count]
    rule, kept = _linear_rule(name, rules, tangents, sum(inexact), mode.transpose)
    if not any(rule.returned) and rule.forward is None:
        return outs, (None,) * count
    known = [*operands, *results[count:]]
    values = [known[i] for i in kept]
    if mode.keeps_residuals:
        moved = bind_primitive(custom_linear, (*values, *live), {"rule": rule})
    else:
        _, moved = push(rule.pushed(line), 0, values, live)
    return outs, scattered(moved, inexact)


def _closed_over(name: str, operand: Any, line: SourceLine | None) -> str:
    return message(
        name,
        "a traced value that a function with rules of its own closes over, or takes as a "
        "nondiff_argnums argument, cannot be differentiated",
        f"a {operand.aval} that is",
        line=line,
        fix="make it an argument that the rules give a derivative, or a constant (stop_gradient).",
    )


def push(
    graph: Graph, count: int, values: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Record `graph(values, tangents)`, linear in the tangents, of which None is zero.

    Returns the first `count` outputs, and the others with None where they are zero. What is made of
    values alone goes to their trace, the rest to that of the tangents.
    """
    known: dict[Var, Any] = dict(zip(graph.inputs, values, strict=False))
    moving: dict[Var, Any] = dict(zip(graph.inputs[len(values) :], tangents, strict=True))

    def operand(atom: Atom) -> Any:
        if atom not in moving:
            return read(known, atom)
        t = moving[atom]  # type: ignore[index]
        return zeros(atom.aval.strong()) if t is None else t

    found = (trace_of(values), trace_of([t for t in tangents if t is not None]))
    traces = {id(trace): (trace, trace.source) for trace in found if trace is not None}
    home = found[0] or found[1]
    assert home is not None
    try:
        for eqn in graph.eqns:
            for trace, outer in traces.values():
                trace.source = eqn.source or outer
            carried = [atom for atom in eqn.inputs if atom in moving]
            if carried and all(moving[atom] is None for atom in carried):  # type: ignore[index]
                moving.update((var, None) for var in eqn.outputs)
                continue
            result = bind_equation(eqn, list(map(operand, eqn.inputs)), home)
            outs = result if eqn.primitive.multiple_outputs else (result,)
            (moving if carried else known).update(zip(eqn.outputs, outs, strict=True))
    finally:
        for trace, outer in traces.values():
            trace.source = outer
    return (
        [operand(atom) for atom in graph.outputs[:count]],
        [moving.get(atom) for atom in graph.outputs[count:]],  # type: ignore[arg-type]
    )


def _linear_rule(
    name: str, rules: Rules, tangents: Sequence[Any], out_count: int, transpose: Any
) -> tuple[LinearRule, list[int]]:
    """Return the rule for the tangents that are not zero, and which values it needs.

    The values are counted among the operands and the residuals.
    """
    backward = rules.backward
    assert backward is not None
    live = [t is not None for t in tangents]
    count = len(backward.inputs) - out_count
    returned = tuple(r for r, flag in zip(rules.returned, live, strict=True) if flag)
    wanted = [flag for flag, r in zip(live, rules.returned, strict=True) if r]
    outputs = [atom for atom, flag in zip(backward.outputs, wanted, strict=True) if flag]
    backward = _reaching(backward, outputs)
    types = tuple(type_of(t).strong() for t in tangents if t is not None)
    used = _read_inputs(backward)
    forward = None
    if rules.jvp is not None:
        moving = [flag for flag, d in zip(live, rules.differentiable, strict=True) if d]
        types_before = backward.input_types[:count]
        forward = _tangents_alone(name, rules.jvp, types_before, moving, out_count)
        used |= _read_inputs(forward)
    kept = [i for i in range(count) if i in used]

    def keeping(graph: Graph) -> Graph:
        inputs = [*[graph.inputs[i] for i in kept], *graph.inputs[count:]]
        return make_graph(inputs, (), graph.eqns, graph.outputs)

    ct_types = tuple(var.aval for var in backward.inputs[count:])
    forward = None if forward is None else keeping(forward)
    return LinearRule(name, keeping(backward), types, ct_types, returned, forward, transpose), kept


def _tangents_alone(
    name: str,
    jvp: Graph,
    values: Sequence[ArrayType],
    moving: Sequence[bool],
    out_count: int,
) -> Graph:
    """Return `(values, tangents not zero) -> output tangents` of a jvp rule.

    `values` are the operands' types, then those of what else the backward rule is given.
    """
    operands = len(jvp.inputs) - len(moving)
    kinds = [var.aval for var in jvp.inputs[operands:]]
    given = [aval for aval, flag in zip(kinds, moving, strict=True) if flag]
    wanted = _reaching(jvp, jvp.outputs[len(jvp.outputs) - out_count :])

    def push_live(*everything: Any) -> list[Any]:
        tangents = scattered(everything[len(values) :], moving)
        _, moved = push(wanted, 0, everything[:operands], tangents)
        types = [atom.aval for atom in wanted.outputs]
        return filled(moved, (True,) * len(moved), types)

    graph = build_graph(name, [*values, *given], push_live)
    return _reaching(graph, graph.outputs)


def _reaching(graph: Graph, outputs: Sequence[Atom]) -> Graph:
    """Return the graph with these of its values as outputs, without equations they do not need."""
    needed = {atom for atom in outputs if type(atom) is Var}
    eqns: list[Eqn] = []
    for eqn in reversed(graph.eqns):
        if any(var in needed for var in eqn.outputs) or has_effect(eqn):
            eqns.append(eqn)
            needed.update(atom for atom in eqn.inputs if type(atom) is Var)
    eqns.reverse()
    return make_graph(graph.inputs, (), eqns, outputs)


def _read_inputs(graph: Graph) -> set[int]:
    """Return the positions of the inputs that something reads."""
    read_atoms = {atom for eqn in graph.eqns for atom in eqn.inputs} | set(graph.outputs)
    return {i for i, var in enumerate(graph.inputs) if var in read_atoms}


# --------------------------------------------------------------------------------- the other rules


def _call_like(params: Any) -> dict[str, Any]:
    return {"graph": params["graph"], "name": params["name"]}


def _type(*avals: ArrayType, graph: Graph, name: str, rules: Any) -> tuple[ArrayType, ...]:
    return call.type_rule(*avals, graph=graph, name=name)  # type: ignore[return-value]


def _execute(operands: Any, params: Any, run: Any) -> Any:
    return run(params["graph"], fresh=True)(*operands)


def _transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    return call.transpose(cts, operands, _call_like(params), mode)  # type: ignore[misc]


def _separate(operands: Any, params: Any, mode: Any) -> Any:
    return call.separate(operands, _call_like(params), mode)  # type: ignore[misc]


def _batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    flags = tuple(batched)
    out_count = len(params["graph"].outputs)
    graph, _ = mode.batch(params["graph"], size, flags, (True,) * out_count)
    rules = params["rules"]
    if isinstance(rules, DeferredRules):
        before = rules
        rules = DeferredRules(lambda: _batched_rules(before.traced(), size, flags, out_count, mode))
    else:
        rules = _batched_rules(rules, size, flags, out_count, mode)
    outs = bind_primitive(custom_call, operands, {**params, "graph": graph, "rules": rules})
    return outs, (True,) * out_count


def _batched_rules(
    rules: Rules, size: int, flags: tuple[bool, ...], out_count: int, mode: Any
) -> Rules:
    """Map the rules of a call over a leading axis of the operands that `flags` marks.

    All outputs are given the axis. The cotangent of an operand without it is the sum of the
    examples'.
    """
    jvp, forward, backward = rules.jvp, rules.forward, rules.backward
    if jvp is not None:
        moving = tuple(f for f, d in zip(flags, rules.differentiable, strict=True) if d)
        jvp, _ = mode.batch(jvp, size, (*flags, *moving), (True,) * len(jvp.outputs))
    if backward is not None:
        assert forward is not None
        kept = len(forward.outputs) - out_count
        forced = (True,) * out_count + (False,) * kept
        forward, out_flags = mode.batch(forward, size, flags, forced)
        given = (*flags, *out_flags[out_count:])
        given += (True,) * (len(backward.inputs) - len(given))
        backward, _ = mode.batch(backward, size, given, (True,) * len(backward.outputs))
        returned = [f for f, r in zip(flags, rules.returned, strict=True) if r]
        backward = _summed(backward, returned)
    return Rules(rules.differentiable, jvp, forward, backward, rules.returned)


def _summed(graph: Graph, kept: Sequence[bool]) -> Graph:
    """Return the graph with outputs summed over their first axis where `kept` is False."""
    if all(kept):
        return graph

    def summed(*operands: Any) -> list[Any]:
        return [
            ct if flag else bind_primitive(primitives["sum"], (ct,), {"axes": (0,)})
            for ct, flag in zip(replay(graph, (), operands), kept, strict=True)
        ]

    return build_graph("vmap", graph.input_types, summed)


custom_call = higher_order(
    "custom_call",
    _execute,
    doc="Run a graph on the operands; its derivatives are by rules its author gave.",
    type_rule=_type,
    derivative=_derivative,
    transpose=_transpose,
    batch=_batch,
    inlined=lambda params: params["graph"],
    separate=_separate,
)
custom_call.own_rules = True


# ---------------------------------------------------------------------- the derivative of one call


def _linear_type(*avals: ArrayType, rule: LinearRule) -> tuple[ArrayType, ...]:
    assert len(avals) == rule.value_count + len(rule.tangents)
    return tuple(aval.strong() for aval in rule.outputs)


def _pushed_or_kept(params: Any) -> Graph | None:
    """Return the forward graph; None where there is none, so that only running it is an error."""
    try:
        return params["rule"].pushed()
    except MissingRuleError:
        return None


def _linear_execute(operands: Any, params: Any, run: Any) -> Any:
    return run(params["rule"].pushed(), fresh=True)(*operands)


def _linear_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    pushed = {"graph": params["rule"].pushed(), "name": params["rule"].name}
    return call.derivative(operands, tangents, pushed, mode)  # type: ignore[misc]


def _linear_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    rule: LinearRule = params["rule"]
    values, tangents = operands[: rule.value_count], operands[rule.value_count :]
    assert not any(map(is_linear, values)), "the derivative is linear in the tangents alone"
    given = filled(cts, (True,) * len(cts), rule.outputs)
    found = scattered(replay(rule.backward, (), [*values, *given]), rule.returned)
    wanted = [ct if is_linear(t) else None for ct, t in zip(found, tangents, strict=True)]
    return (*[None] * len(values), *wanted)


def _linear_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    rule: LinearRule = params["rule"]
    count = rule.value_count
    values = tuple(batched[:count])
    operands = [
        *operands[:count],
        *[batch_to(t, f, size) for t, f in zip(operands[count:], batched[count:], strict=True)],
    ]
    cts = (True,) * len(rule.outputs)
    every = (True,) * len(rule.backward.outputs)
    backward, _ = mode.batch(rule.backward, size, (*values, *cts), every)
    forward = rule.forward
    if forward is not None:
        moving = (True,) * len(rule.tangents)
        forward, _ = mode.batch(forward, size, (*values, *moving), cts)
    rule = replace(
        rule,
        backward=backward,
        forward=forward,
        tangents=tuple(stacked_type(aval, size) for aval in rule.tangents),
        outputs=tuple(stacked_type(aval, size) for aval in rule.outputs),
    )
    return bind_primitive(custom_linear, operands, {"rule": rule}), cts


custom_linear = higher_order(
    "custom_linear",
    _linear_execute,
    doc="The derivative of a `custom_call` at one point: linear in the operands that are tangents.",
    type_rule=_linear_type,
    derivative=_linear_derivative,
    transpose=_linear_transpose,
    batch=_linear_batch,
    inlined=_pushed_or_kept,
)


# ---------------------------------------------------------------------------------------- batching


def _batched_type(*avals: ArrayType, graph: Graph, name: str, rule: Any) -> tuple[ArrayType, ...]:
    return call.type_rule(*avals, graph=graph, name=name)  # type: ignore[return-value]


def _batched_derivative(operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    return call.derivative(operands, tangents, _call_like(params), mode)  # type: ignore[misc]


def _by_rule(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    return params["rule"](size, operands, tuple(batched))


custom_batched = higher_order(
    "custom_batched",
    _execute,
    doc="Run a graph on the operands; over a mapped axis, the function its author gave instead. "
    "`rule(size, operands, batched) -> outputs, flags`.",
    type_rule=_batched_type,
    derivative=_batched_derivative,
    transpose=_transpose,
    batch=_by_rule,
    inlined=lambda params: params["graph"],
    separate=_separate,
)
