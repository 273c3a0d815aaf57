"""Tracing: the trace that records equations, and how an operation finds the trace it belongs to.

An operation goes to the innermost trace among its operands; a tracer of an outer trace, like an
array, is captured as a constant of the inner graph. Nested transformations and closures need
nothing else, and cannot confuse one derivative with another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any

import numpy as np

from autodiff.base.array_modules import on_one_device
from autodiff.base.dtypes import default_dtype
from autodiff.base.errors import ConcretizationError, LeakedTracerError, message
from autodiff.base.settings import settings
from autodiff.base.source_info import SourceLine, user_line
from autodiff.ir.avals import PYTHON_SCALARS, ArrayType, type_of
from autodiff.ir.checks import evaluate_checked
from autodiff.ir.evaluate import evaluate_equations, read
from autodiff.ir.graph import (
    Atom,
    Eqn,
    Graph,
    Literal,
    Params,
    StructuralKey,
    Var,
    is_repeated_scalar,
    make_graph,
)
from autodiff.ir.graph import params_key as hashable
from autodiff.ir.held import equation_without_effects, has_effect, without_effects
from autodiff.ir.primitive import Primitive, primitives, set_binder
from autodiff.ir.tracer import Tracer

_levels = count()

#: The trace of the innermost function being traced, for what has an effect: that belongs to the
#: function it is written in, whatever its operands.
_function_traced: ContextVar[Trace | None] = ContextVar("autodiff_function_traced", default=None)


class Trace:
    """One recording in progress.

    `values` maps variables to values where inputs have them (None inside `jit` and `vmap`), so that
    Python may ask for one. `inline_literals` keeps scalars in the structure; otherwise they are
    constants, so that a number that changes from call to call does not change the structure.
    `inline_arrays` keeps arrays in the structure too: for passes, whose rules make only small ones.
    `source` is the user's line of what a pass is recording; `with_source`, for users' functions,
    looks it up on the stack, and keeps the structural key while recording, since it will be asked
    for.
    """

    __slots__ = (
        "captured",
        "closed",
        "constants",
        "eqns",
        "evaluated",
        "inline_arrays",
        "inline_literals",
        "inputs",
        "keys",
        "level",
        "name",
        "next_index",
        "source",
        "values",
        "with_source",
    )

    def __init__(
        self,
        name: str,
        *,
        concrete: bool = False,
        inline_literals: bool = True,
        inline_arrays: bool = False,
        with_source: bool = False,
    ) -> None:
        self.name = name
        self.level = next(_levels)
        self.inputs: list[Var] = []
        self.constants: dict[Var, Any] = {}
        self.captured: dict[int, tuple[Var, Any]] = {}
        self.eqns: list[Eqn] = []
        self.keys: list[Any] | None = [] if with_source else None
        self.next_index = 0
        self.values: dict[Var, Any] | None = {} if concrete else None
        self.evaluated = 0
        self.closed = False
        self.inline_literals = inline_literals
        self.inline_arrays = inline_arrays
        self.with_source = with_source
        self.source: SourceLine | None = None

    def new_var(self, aval: ArrayType) -> Var:
        """Return the next variable of this trace."""
        index = self.next_index
        self.next_index = index + 1
        return Var(aval, index)

    def input(self, aval: ArrayType, value: Any = None) -> Tracer:
        """Return a tracer for a new input; `value` is kept if this trace has values."""
        var = self.new_var(aval)
        self.inputs.append(var)
        if self.values is not None:
            self.values[var] = value
        return Tracer(self, var)

    def capture(self, value: Any) -> Atom:
        """Return the atom that stands for a value from outside this trace."""
        if type(value) is Tracer:
            if value.recording is self:
                return value.variable
            known = self.captured.get(id(value.variable))
            if known is not None:
                return known[0]
            if value.recording.closed:
                raise leaked(value)
            return self.expect(value)
        if type(value) is Literal:
            return value
        if type(value) in PYTHON_SCALARS:
            value = default_dtype(type(value)).type(value)
        if isinstance(value, np.generic):
            return self.scalar(value, type_of(value))
        if type(value) is np.ndarray and (
            self.inline_arrays or (is_repeated_scalar(value) and not value.flags.writeable)
        ):
            return Literal(value)
        return self._capture_array(value)

    def expect(self, tracer: Tracer, variable: Var | None = None) -> Var:
        """Capture a tracer as `variable`, or as a constant; it counts even if its trace closed."""
        var = self._constant(tracer.aval, tracer) if variable is None else variable
        self.captured[id(tracer.variable)] = (var, tracer)
        return var

    def _capture_array(self, value: Any) -> Atom:
        """Capture an array as it is now: what the caller writes into it later is not seen."""
        known = self.captured.get(id(value))
        if known is not None and _same_content(self.constants[known[0]], value):
            return known[0]
        var = self._constant(type_of(value), value.copy() if _is_writable(value) else value)
        self.captured[id(value)] = (var, value)
        return var

    def scalar(self, value: np.generic, aval: ArrayType) -> Atom:
        """Return the atom that stands for a number of type `aval` from outside this trace."""
        return Literal(value) if self.inline_literals else self._constant(aval, value)

    def _constant(self, aval: ArrayType, value: Any) -> Var:
        index = self.next_index
        self.next_index = index + 1
        var = Var(aval, index)
        self.constants[var] = value
        if self.values is not None:
            self.values[var] = value
        return var

    def value_of(self, tracer: Tracer, asked: str) -> Any:
        """Return the value of a tracer, running what was recorded since the last question."""
        values = self.values
        if values is None:
            raise ConcretizationError(
                message(
                    asked,
                    f"a concrete value is needed, but this {tracer.aval} is traced by {self.name}, "
                    "where it has none",
                    line=user_line(),
                    fix="use autodiff.numpy.where or a control-flow function in place of Python "
                    "control flow on values, or make the argument static (static_argnums).",
                )
            )
        if tracer.variable not in values:
            if self.closed:
                raise leaked(tracer)
            pending = self.eqns[self.evaluated :]
            self.evaluated = len(self.eqns)
            # Effects wait for the run of the finished graph, so that they happen once.
            pending = [equation_without_effects(eqn) for eqn in pending if eqn.outputs]
            for eqn in pending:
                for atom in eqn.inputs:
                    if type(values.get(atom)) is Tracer:  # type: ignore[arg-type]
                        values[atom] = known_value(values[atom], asked)  # type: ignore[index]
            run = evaluate_checked if "nans" in settings().check else evaluate_equations
            with np.errstate(all="ignore"):
                run(pending, values)
        return values[tracer.variable]

    def finish(self, outputs: Sequence[Any]) -> tuple[Graph, list[Any]]:
        """Close the trace; return its graph and the values of the graph's constants."""
        atoms = [self.capture(value) for value in outputs]
        self.closed = True
        if self.keys is None:
            graph = make_graph(self.inputs, tuple(self.constants), self.eqns, atoms)
            return graph, list(self.constants.values())
        summary = (
            tuple([var.aval for var in self.inputs]),
            tuple([(var.index, var.aval) for var in self.constants]),
            tuple(self.keys),
            tuple([atom.index if type(atom) is Var else atom for atom in atoms]),
        )
        key = StructuralKey(lambda: summary)
        graph = make_graph(self.inputs, tuple(self.constants), self.eqns, atoms, key)
        constants = list(self.constants.values())
        return graph, constants

    def abandon(self) -> None:
        """Close the trace without a graph, so that nothing it made can be used again."""
        self.closed = True


def known_value(value: Any, asked: str) -> Any:
    """Return what a value is known to be: an array, or a tracer of a trace without values.

    So what is computed for Python's sake is not recorded in the traces around.
    """
    while type(value) is Tracer and value.recording.values is not None:
        value = value.recording.value_of(value, asked)
    return value


def _is_writable(value: Any) -> bool:
    flags = getattr(value, "flags", None)
    return bool(getattr(flags, "writeable", True))


def _same_content(kept: Any, value: Any) -> bool:
    if kept is value:
        return True
    return kept.shape == value.shape and kept.dtype == value.dtype and bool((kept == value).all())


def leaked(tracer: Tracer) -> LeakedTracerError:
    """Return the error for a tracer used after its trace has closed, naming where it was made."""
    line = None
    for eqn in tracer.recording.eqns:
        if tracer.variable in eqn.outputs:
            line = eqn.source
    return LeakedTracerError(
        message(
            "trace",
            "a traced value must be used while its function runs",
            f"{'a value made there' if line else 'an argument'} of type {tracer.aval} of "
            f"{tracer.recording.name}, which has returned",
            line=line,
            fix="return the value from the function instead of storing it outside "
            "(in a global, an attribute or a closure).",
        )
    )


def trace_of(operands: Sequence[Any]) -> Trace | None:
    """Return the innermost trace among the operands, None if none is traced."""
    found: Trace | None = None
    for operand in operands:
        if type(operand) is Tracer:
            trace = operand.recording
            if found is None or trace.level > found.level:
                found = trace
    return found


def bind_primitive(primitive: Primitive, operands: Sequence[Any], params: Params) -> Any:
    """Record the operation in its operands' innermost trace, or compute it if there is none."""
    trace = trace_of(operands)
    if primitive.execute is not None:
        function = _function_traced.get()
        if function is not None and _further_in(trace, function) is not trace:
            eqn = Eqn(primitive, (), params, (), None)
            if has_effect(eqn):
                return bind_equation(eqn, operands, function)
    if trace is None:
        return primitive.reference(*on_one_device(operands), **params)
    atoms = tuple(
        [
            x.variable if type(x) is Tracer and x.recording is trace else trace.capture(x)
            for x in operands
        ]
    )
    types = primitive.output_types(tuple([atom.aval for atom in atoms]), params)
    return record(trace, primitive, atoms, params, types)


@contextmanager
def tracing(trace: Trace | None) -> Iterator[None]:
    """Let effects be recorded in `trace` while a function is traced; None: let them happen."""
    token = _function_traced.set(trace)
    try:
        yield
    finally:
        _function_traced.reset(token)


def bind_effect(primitive: Primitive, operands: Sequence[Any], params: Params) -> None:
    """Record an operation with an effect in the function being traced; outside, let it happen."""
    trace = _further_in(trace_of(operands), _function_traced.get())
    if trace is None:
        primitive.reference(*operands, **params)
    else:
        _record_in(trace, primitive, operands, params)


def bind_equation(eqn: Eqn, operands: Sequence[Any], trace: Trace) -> Any:
    """Apply an equation's operation to other operands, as `bind_primitive` does.

    If it has an effect it is recorded in `trace` even where its operands are of outer traces, or of
    none; in that case what it computes stays known.
    """
    primitive, params = eqn.primitive, eqn.params
    if primitive.effect or primitive.execute is not None:
        found = trace_of(operands)
        if _further_in(found, trace) is not found and has_effect(eqn):
            outputs = _record_in(trace, primitive, operands, params)
            if found is not None or primitive.effect:
                return outputs
            params = equation_without_effects(eqn).params
            return primitive.reference(*operands, **params)
    return bind_primitive(primitive, operands, params)


def postponed_effects(graph: Graph, operands: Sequence[Any]) -> Graph:
    """Return the graph that may run now on operands that are not traced.

    While a function is traced, its effects are recorded there and the graph returned has none.
    """
    function = _function_traced.get()
    if function is None or not any(map(has_effect, graph.eqns)):
        return graph
    _record_in(function, primitives["call"], operands, {"graph": graph, "name": "effects"})
    return without_effects(graph)


def _further_in(one: Trace | None, other: Trace | None) -> Trace | None:
    if one is None or other is None:
        return one or other
    return other if other.level > one.level else one


def _record_in(trace: Trace, primitive: Primitive, operands: Sequence[Any], params: Params) -> Any:
    atoms = tuple([trace.capture(x) for x in operands])
    types = primitive.output_types(tuple([atom.aval for atom in atoms]), params)
    return record(trace, primitive, atoms, params, types)


def record(
    trace: Trace,
    primitive: Primitive,
    atoms: tuple[Atom, ...],
    params: Params,
    types: tuple[ArrayType, ...],
) -> Any:
    """Append an equation to an open trace and return tracers for its outputs."""
    if trace.closed:
        values = [atom for atom in atoms if type(atom) is Var and atom not in trace.constants]
        raise leaked(Tracer(trace, values[0]))
    source = trace.source
    if source is None and trace.with_source:
        source = user_line(3)  # of here, of the caller and of what called that
    index = trace.next_index
    keys = trace.keys
    if primitive.multiple_outputs:
        outputs = tuple([Var(aval, index + i) for i, aval in enumerate(types)])
        trace.next_index = index + len(outputs)
        if keys is not None:
            keys += (primitive, hashable(params), types[0].weak if types else None)
    else:
        outputs = (Var(types[0], index),)
        trace.next_index = index + 1
        if keys is not None:
            keys += (primitive, hashable(params) if params else None, types[0].weak)
    if keys is not None:
        for atom in atoms:
            keys.append(atom.index if type(atom) is Var else atom)
    trace.eqns.append(Eqn(primitive, atoms, params, outputs, source))
    if primitive.multiple_outputs:
        return tuple([Tracer(trace, var) for var in outputs])
    return Tracer(trace, outputs[0])


def replay(graph: Graph, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Record a graph's equations again on `arguments`, keeping their lines; return the outputs."""
    env: dict[Var, Any] = dict(zip(graph.inputs, arguments, strict=True))
    env.update(zip(graph.constants, constants, strict=True))
    trace = trace_of(list(env.values()))
    outer = trace.source if trace is not None else None
    function = _further_in(trace, _function_traced.get())
    try:
        for eqn in graph.eqns:
            if trace is not None:
                trace.source = eqn.source or outer
            if function is not None and (eqn.primitive.effect or eqn.primitive.execute is not None):
                operands = [read(env, atom) for atom in eqn.inputs]
                outputs = bind_equation(eqn, operands, function)
                env.update(zip(eqn.outputs, outputs, strict=True))
            else:
                evaluate_equations((eqn,), env)
    finally:
        if trace is not None:
            trace.source = outer
    return [read(env, atom) for atom in graph.outputs]


set_binder(bind_primitive)
