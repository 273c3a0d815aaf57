"""One call of a function whose rules its author gave: its operands, and its graphs.

The function and its rules are traced where it is called, on the same arguments: so Python may ask
for values in a rule as it may around it. All graphs of a call are given one list of operands: the
leaves of the arguments, then what the function and the rules close over (`Hoisted`). Within a rule,
calls of functions with rules have theirs traced only when a derivative asks for them, since a rule
may call its own function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import copy
from typing import Any

import numpy as np

from autodiff.api.trace import (
    Traced,
    argument_name,
    array_leaf,
    check_one_device,
    function_name,
    is_traced,
    trace_function,
    with_imported,
)
from autodiff.base import dtypes, pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType, is_arraylike, type_of
from autodiff.ir.builder import (
    Trace,
    Tracer,
    bind_primitive,
    known_value,
    replay,
    trace_of,
)
from autodiff.ir.evaluate import evaluate
from autodiff.ir.graph import Graph, Var, make_graph
from autodiff.ir.primitive import primitives
from autodiff.primitives.custom_rules import DeferredRules, Rules
from autodiff.primitives.families import convert
from autodiff.primitives.higher_order import build_graph, zeros

_within_rule: ContextVar[bool] = ContextVar("within a rule", default=False)

# ----------------------------------------------------------------------------------- the arguments


def positional(
    name: str, fun: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """Return a call's arguments by position, those given by keyword included.

    Leaves that offer an array by DLPack or CUDA are replaced by it.
    """
    if not kwargs:
        return with_imported(name, args)
    bound = inspect.signature(fun).bind(*args, **kwargs)
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(
            message(
                name,
                "a function with rules of its own takes positional arguments, which rules can be "
                "given",
                f"keyword arguments {', '.join(sorted(bound.kwargs))}",
                line=user_line(),
                fix="make them positional parameters, or bind them (functools.partial) before the "
                "rules are given.",
            )
        )
    return with_imported(name, bound.args)


def check_arrays(
    name: str, fun: Any, args: Sequence[Any], positions: Sequence[int], fix: str
) -> tuple[list[Any], pytree.TreeDef, Callable[[], list[str]]]:
    """Return the leaves of the arguments at `positions`, all arrays, their tree and their names."""
    leaves, tree = pytree.flatten(tuple([args[i] for i in positions]))

    def paths() -> list[str]:
        found = []
        for i in positions:
            inside = pytree.paths(pytree.structure(args[i]))
            found += [pytree.path_string(argument_name(fun, i), path) for path in inside]
        return found

    for i, leaf in enumerate(leaves):
        if not is_arraylike(leaf):
            raise TypeError(
                message(
                    name,
                    "every leaf of an argument must be an array or a number",
                    f"{paths()[i]}={leaf!r} of type {type(leaf).__name__}",
                    line=user_line(),
                    fix=fix,
                )
            )
    check_one_device(name, leaves, paths)
    return leaves, tree, paths


# ------------------------------------------------------------------------------------- what closes


class Hoisted:
    """The operands of one call: the leaves of its arguments, then what its graphs close over.

    A value that several graphs close over is one operand.
    """

    def __init__(self, leaves: Sequence[Any]) -> None:
        self.leaves = list(leaves)
        self.constants: list[Any] = []

    @property
    def operands(self) -> list[Any]:
        """All operands."""
        return [*self.leaves, *self.constants]

    def add(self, value: Any, besides: Sequence[int] = ()) -> int:
        """Return the position of a closed-over value among the constants, entered if new.

        It is none of the positions `besides`.
        """
        for i, known in enumerate(self.constants):
            if i not in besides and _is_same(known, value):
                return i
        self.constants.append(value)
        return len(self.constants) - 1

    def graph(self, traced: Traced) -> Callable[[], Graph]:
        """Return what makes a traced function's graph take all operands first, its others after.

        Its first inputs are the leaves. Constants of graphs given later count too, so it is to be
        called when all are known.
        """
        graph = traced.graph
        own = len(graph.inputs) - len(traced.constants)
        places: list[int] = []
        for value in traced.constants:
            places.append(self.add(value, besides=places))

        def regrouped() -> Graph:
            inputs = list(graph.inputs)
            leaves, others = inputs[: len(self.leaves)], inputs[len(self.leaves) : own]
            constants = dict(zip(places, inputs[own:], strict=True))
            hoisted = [
                constants[i] if i in constants else Var(type_of(value))
                for i, value in enumerate(self.constants)
            ]
            return make_graph([*leaves, *hoisted, *others], (), graph.eqns, graph.outputs)

        return regrouped


def _is_same(known: Any, value: Any) -> bool:
    if type(known) is Tracer or type(value) is Tracer:
        return type(known) is type(value) and known.variable is value.variable
    if known is value:
        return True
    return (
        isinstance(known, np.ndarray | np.generic)
        and isinstance(value, np.ndarray | np.generic)
        and (known.dtype, known.shape) == (value.dtype, value.shape)
        and known.tobytes() == value.tobytes()
    )


# ----------------------------------------------------------------------------- what a rule returns


def _expected(
    name: str, requirement: str, got: str, fix: str = "return what the function itself returns."
) -> TypeError:
    return TypeError(message(name, requirement, got, line=user_line(), fix=fix))


def pair(name: str, rule: Any, got: Any, what: str) -> tuple[Any, Any]:
    """Return the two parts of what a rule returned."""
    if isinstance(got, tuple | list) and len(got) == 2:
        return got[0], got[1]
    count = f" of length {len(got)}" if isinstance(got, tuple | list) else ""
    raise _expected(
        name,
        f"the rule {function_name(rule)} must return a pair {what}",
        f"a {type(got).__name__}{count}",
        f"return {what}.",
    )


def fitted(value: Any, wanted: ArrayType) -> Any:
    """Return a value as one of a type; None if it is of another shape or element type.

    A Python number takes the element type wanted, if that can hold its kind.
    """
    if not is_arraylike(value):
        return None
    aval = type_of(value)
    if aval.shape != wanted.shape:
        return None
    if aval.dtype == wanted.dtype:
        return array_leaf(value)
    if not aval.weak:
        return None
    if np.result_type(wanted.dtype, dtypes.python_type(aval.dtype)(0)) != wanted.dtype:
        return None
    return convert(value, wanted.dtype) if type(value) is Tracer else wanted.dtype.type(value)


def _fitted_leaf(name: str, rule: Any, value: Any, wanted: ArrayType, path: str) -> Any:
    result = fitted(value, wanted)
    if result is None:
        kind = type_of(value).strong() if is_arraylike(value) else type(value).__name__
        raise _expected(
            name,
            f"{path} returned by the rule {function_name(rule)} must be of type {wanted.strong()}",
            f"{kind}",
            "return an array of that shape and dtype (reshape, sum, .astype).",
        )
    return result


def matched(
    name: str, rule: Any, got: Any, tree: pytree.TreeDef, types: Sequence[ArrayType]
) -> list[Any]:
    """Return the leaves of the output that a rule returned, which is to be as the function's."""
    leaves, found = pytree.flatten(got)
    if found != tree:
        difference = pytree.structure_difference(found, tree, "out").removeprefix("got ")
        raise _expected(
            name,
            f"the output returned by the rule {function_name(rule)} must have the structure of the "
            "function's own",
            difference,
        )
    paths = [pytree.path_string("out", path) for path in pytree.paths(tree)]
    return [
        _fitted_leaf(name, rule, leaf, aval, path)
        for leaf, aval, path in zip(leaves, types, paths, strict=True)
    ]


def matched_or_zero(
    name: str,
    rule: Any,
    got: Any,
    tree: pytree.TreeDef,
    types: Sequence[ArrayType],
    what: str,
    of: str,
) -> list[Any]:
    """Return tangents or cotangents that a rule returned, None where zero or of an integer.

    `got` is to have the structure `tree`, with None in place of leaves and subtrees that are zero.
    `what` it is called in messages, `of` is what has that structure.
    """
    paths = pytree.paths(tree)
    given, whole = pytree.flatten(got, is_leaf=lambda x: x is None)
    # Numbers stand for the leaves: a walk over trees keeps what it has seen until the collector
    # comes by, and leaves may be large.
    places = [None if leaf is None else i for i, leaf in enumerate(given)]
    marked = pytree.unflatten(whole, places)
    try:
        found = pytree.flatten_prefix(marked, tree)
        filled = {
            path
            for path, place in zip(pytree.paths(whole), places, strict=True)
            if place is not None
        }
        fits = filled <= set(paths)
    except ValueError:
        found, fits = [], False
    if not fits:
        difference = pytree.structure_difference(pytree.structure(got), tree, what)
        raise _expected(
            name,
            f"{what} returned by the rule {function_name(rule)} must have the structure of {of}, "
            "None where it is zero",
            difference.removeprefix("got "),
            f"return one array for each leaf of {of}.",
        )
    return [
        None
        if place is None or not dtypes.is_inexact(aval.dtype)
        else _fitted_leaf(name, rule, given[place], aval, pytree.path_string(what, path))
        for place, aval, path in zip(found, types, paths, strict=True)
    ]


# ----------------------------------------------------------------------- values that rules ask for


class _LaterTrace(Trace):
    """A trace whose inputs have values, all computed when Python first asks for one."""

    __slots__ = ("compute",)

    def __init__(self, name: str, compute: Callable[[], Sequence[Any]]) -> None:
        super().__init__(name, concrete=True)
        self.compute = compute

    def value_of(self, tracer: Tracer, asked: str) -> Any:
        values = self.values
        assert values is not None
        if not all(var in values for var in self.inputs):
            values.update(zip(self.inputs, self.compute(), strict=True))
        return super().value_of(tracer, asked)


def _stand_ins(trace: Trace, avals: Sequence[ArrayType]) -> list[Tracer]:
    """Return inputs of a trace, by which Python's questions about another's inputs get there."""
    tracers = [trace.input(aval) for aval in avals]
    if trace.values is not None:
        trace.values.clear()
    return tracers


# ----------------------------------------------------------------------------------------- a call


class RuleCall:
    """One call of a function with rules, on traced arguments."""

    def __init__(
        self,
        kind: str,
        fun: Callable[..., Any],
        args: Sequence[Any],
        positions: Sequence[int],
    ) -> None:
        self.kind = kind
        self.fun = fun
        self.name = function_name(fun)
        self.arity = len(args)
        self.positions = positions
        leaves, self.tree, _ = check_arrays(
            self.name,
            fun,
            args,
            positions,
            "put the argument's position into nondiff_argnums, or bind it with functools.partial.",
        )
        self.count = len(leaves)
        self.others, self.other_tree = pytree.flatten(
            [arg for i, arg in enumerate(args) if i not in positions]
        )
        self.traced_others = [i for i, x in enumerate(self.others) if type(x) is Tracer]
        leaves += [self.others[i] for i in self.traced_others]
        self.avals = [type_of(leaf) for leaf in leaves]
        self.leaves = [array_leaf(leaf) for leaf in leaves]
        self.known: Sequence[Any] = ()
        innermost = trace_of(self.leaves)
        assert innermost is not None
        self.inline_literals = innermost.inline_literals
        self.traced = self._trace(self._apply, self.avals, self.leaves, fun)
        self.out_tree = self.traced.out_tree
        self.out_types = [aval.strong() for aval in self.traced.graph.output_types]
        self.differentiable = [
            i < self.count and dtypes.is_inexact(aval.dtype) for i, aval in enumerate(self.avals)
        ]
        pairs = zip(self.avals, self.differentiable, strict=True)
        self.moving = [aval.strong() for aval, flag in pairs if flag]
        self.out_moving = [a for a in self.out_types if dtypes.is_inexact(a.dtype)]

    def record(self, jvp: Any, fwd: Any, bwd: Any) -> Any:
        """Record the call with its rules (functions, or None) and return its output."""
        hoisted = Hoisted(self.leaves)
        graph = hoisted.graph(self.traced)
        if _within_rule.get():
            later = self._without_values(list(hoisted.constants))
            rules: Any = DeferredRules(lambda: later._deferred_rules(jvp, fwd, bwd))
        else:
            rules = self._rules(hoisted, jvp, fwd, bwd)()
        params = {"graph": graph(), "name": self.name, "rules": rules}
        outs = bind_primitive(primitives["custom_call"], hoisted.operands, params)
        return pytree.unflatten(self.out_tree, outs)

    # Tracing.

    def _trace(
        self,
        apply: Callable[..., Any],
        avals: Sequence[ArrayType],
        values: Sequence[Any] | None,
        fun: Any,
        has_aux: bool = False,
    ) -> Traced:
        known = self.known

        def applied(*inputs: Any) -> Any:
            for value in known if inputs else ():
                if type(value) is Tracer:
                    inputs[0].recording.expect(value)
            return apply(*inputs)

        return trace_function(
            applied,
            avals,
            function=self.kind,
            name=function_name(fun),
            values=values,
            has_aux=has_aux,
            inline_literals=self.inline_literals,
        )

    def _arguments(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """Return the differentiable arguments with these leaves, the first of a graph's inputs."""
        return pytree.unflatten(self.tree, leaves[: self.count])

    def _nondiff(self, leaves: Sequence[Any]) -> list[Any]:
        """Return the other arguments, with those of these leaves that belong to them."""
        others = list(self.others)
        for i, value in zip(self.traced_others, leaves[self.count :], strict=False):
            others[i] = value
        return pytree.unflatten(self.other_tree, others)

    def _all_arguments(self, leaves: Sequence[Any]) -> list[Any]:
        rest, moving = iter(self._nondiff(leaves)), iter(self._arguments(leaves))
        return [next(moving) if i in self.positions else next(rest) for i in range(self.arity)]

    def _apply(self, *leaves: Any) -> Any:
        return self.fun(*self._all_arguments(leaves))

    def _rules(self, hoisted: Hoisted, jvp: Any, fwd: Any, bwd: Any) -> Callable[[], Rules]:
        """Trace the rules; return what puts their graphs together when all operands are known."""
        is_outermost = _within_rule.set(True)
        try:
            jvp_graph = None if jvp is None else hoisted.graph(self._trace_jvp(jvp))
            forward = backward = None
            returned: list[bool] = []
            if fwd is not None:
                traced, rest = self._trace_fwd(fwd)
                forward = hoisted.graph(traced)
                traced, returned = self._trace_bwd(bwd, traced, rest)
                backward = hoisted.graph(traced)
        finally:
            _within_rule.reset(is_outermost)

        def rules() -> Rules:
            closed = (False,) * len(hoisted.constants)
            return Rules(
                (*self.differentiable, *closed),
                None if jvp_graph is None else jvp_graph(),
                None if forward is None else forward(),
                None if backward is None else backward(),
                (*returned, *closed) if backward is not None else (),
            )

        return rules

    def _zero_filled(self, moving: Sequence[Any], avals: Sequence[ArrayType]) -> list[Any]:
        """Return the given tangents with zeros for the leaves that have none."""
        given = iter(moving)
        return [
            next(given) if dtypes.is_inexact(aval.dtype) else zeros(aval.strong()) for aval in avals
        ]

    def _trace_jvp(self, rule: Any) -> Traced:
        """Trace the rule of forward mode: `(leaves, tangents) -> (outs, out tangents)`."""
        count = len(self.avals)
        stand_ins = _stand_ins(Trace(f"{self.kind} of {self.name} (tangents)"), self.moving)

        def apply(*inputs: Any) -> list[Any]:
            primals = self._arguments(inputs)
            moving = self._zero_filled(inputs[count:], self.avals[: self.count])
            got = rule(*self._nondiff(inputs), primals, self._arguments(moving))
            out, moved = pair(self.name, rule, got, "(out, tangent_out)")
            outs = matched(self.name, rule, out, self.out_tree, self.out_types)
            found = matched_or_zero(
                self.name,
                rule,
                moved,
                self.out_tree,
                self.out_types,
                "tangent_out",
                "the function's output",
            )
            return [
                *outs,
                *[
                    zeros(aval) if t is None else t
                    for t, aval in zip(found, self.out_types, strict=True)
                    if dtypes.is_inexact(aval.dtype)
                ],
            ]

        avals = [*self.avals, *self.moving]
        traced = self._trace(apply, avals, [*self.leaves, *stand_ins], rule)
        self._check_primal_part(rule, traced.graph)
        return traced

    def _check_primal_part(self, rule: Any, graph: Graph) -> None:
        """Raise where the output that a jvp rule returned depends on the tangents."""
        count = len(self.avals)
        depends: set[Any] = set(graph.inputs[count : count + len(self.moving)])
        for eqn in graph.eqns:
            if any(atom in depends for atom in eqn.inputs):
                depends.update(eqn.outputs)
        for atom, path in zip(graph.outputs, pytree.paths(self.out_tree), strict=False):
            if atom in depends:
                raise _expected(
                    self.name,
                    f"the output returned by the rule {function_name(rule)} must not depend on "
                    "the tangents",
                    f"{pytree.path_string('out', path)} that does",
                    "return (out, tangent_out), in this order.",
                )

    def _trace_fwd(self, rule: Any) -> tuple[Traced, Any]:
        """Trace the forward rule: `leaves -> (outs, residuals)`."""

        def apply(*leaves: Any) -> Any:
            got = rule(*self._all_arguments(leaves))
            out, residuals = pair(self.name, rule, got, "(out, residuals)")
            outs = matched(self.name, rule, out, self.out_tree, self.out_types)
            return outs, residuals

        traced = self._trace(apply, self.avals, self.leaves, rule, has_aux=True)
        return traced, traced.unflatten_aux

    def _trace_bwd(self, rule: Any, fwd: Traced, rebuild: Any) -> tuple[Traced, list[bool]]:
        """Trace the backward rule: `(residuals, cotangents) -> leaf cotangents`, not the zeros."""
        out_count, first = len(self.out_types), len(self.avals)
        types = [aval.strong() for aval in fwd.graph.output_types[out_count:]]
        last = first + len(types)
        returned: list[bool] = []

        def residual_values() -> Sequence[Any]:
            given = [known_value(x, "residuals") for x in (*self.leaves, *fwd.constants)]
            return evaluate(fwd.graph, (), given)[out_count:]

        stand_ins = [
            *_stand_ins(_LaterTrace(f"{self.kind} of {self.name}", residual_values), types),
            *_stand_ins(Trace(f"{self.kind} of {self.name} (cotangents)"), self.out_moving),
        ]

        def apply(*inputs: Any) -> list[Any]:
            ct = pytree.unflatten(self.out_tree, self._zero_filled(inputs[last:], self.out_types))
            got = rule(*self._nondiff(inputs), rebuild(inputs[first:last]), ct)
            found = self._operand_cotangents(rule, got)
            returned[:] = [x is not None for x in found] + [False] * (first - self.count)
            return [x for x in found if x is not None]

        avals = [*self.avals, *types, *self.out_moving]
        traced = self._trace(apply, avals, [*self.leaves, *stand_ins], rule)
        return traced, returned

    def _operand_cotangents(self, rule: Any, got: Any) -> list[Any]:
        """Return one cotangent for each leaf, None where zero."""
        wanted = len(self.positions)
        if not isinstance(got, tuple | list) or len(got) != wanted:
            count = f" of length {len(got)}" if isinstance(got, tuple | list) else ""
            raise _expected(
                self.name,
                f"the rule {function_name(rule)} must return a tuple with one cotangent for each "
                f"differentiable argument, of which there are {wanted}",
                f"a {type(got).__name__}{count}",
                "return a tuple, None in it for an argument whose cotangent is zero.",
            )
        found: list[Any] = []
        avals = iter(self.avals)
        for value, tree, i in zip(got, self.tree.children(), self.positions, strict=True):
            types = [next(avals).strong() for _ in range(tree.num_leaves)]
            argument = argument_name(self.fun, i)
            found += matched_or_zero(
                self.name, rule, value, tree, types, f"ct_{argument}", f"the argument {argument}"
            )
        return found

    def _without_values(self, known: Sequence[Any]) -> RuleCall:
        """Return this call for later: with constants `known`, holding on to no other value."""
        later = copy(self)
        later.inline_literals = True
        later.known = known
        later.leaves = _stand_ins(Trace(f"{self.kind} of {self.name}"), self.avals)
        later.others = [None if type(x) is Tracer else x for x in self.others]
        del later.traced
        return later

    def _deferred_rules(self, jvp: Any, fwd: Any, bwd: Any) -> Rules:
        """Trace the rules of a call inside a rule, on inputs without values.

        Arrays that the rules close over, but not the function, become part of the graphs.
        """
        known = self.known
        hoisted = Hoisted(self.leaves)
        for value in known:
            hoisted.add(value, besides=range(len(hoisted.constants)))
        rules = self._rules(hoisted, jvp, fwd, bwd)()
        further = hoisted.constants[len(known) :]
        if is_traced(further):
            tracer = next(x for x in further if type(x) is Tracer)
            raise _expected(
                self.name,
                "a rule that is differentiated again may close over no traced values but those of "
                "its function",
                f"a {tracer.aval} of {tracer.recording.name}",
                "pass it as an argument, or use it in the function too.",
            )
        first = len(self.leaves) + len(known)
        return _with_arrays_inside(rules, first, further)


def _with_arrays_inside(rules: Rules, first: int, arrays: Sequence[Any]) -> Rules:
    """Return rules whose operands from `first` on, as many as there are arrays, are these."""
    if not arrays:
        return rules
    after = first + len(arrays)

    def inside(graph: Graph | None) -> Graph | None:
        if graph is None:
            return None
        types = graph.input_types
        return build_graph(
            "a rule",
            [*types[:first], *types[after:]],
            lambda *xs: replay(graph, (), [*xs[:first], *arrays, *xs[first:]]),
        )

    return Rules(
        rules.differentiable[:first],
        inside(rules.jvp),
        inside(rules.forward),
        inside(rules.backward),
        rules.returned[:first],
    )
