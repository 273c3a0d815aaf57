"""The pass that carries derivatives of every order along a curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import comb
from typing import Any

import numpy as np

from autodiff.base.dtypes import is_inexact
from autodiff.ir.avals import UNKNOWN, ArrayType
from autodiff.ir.builder import Trace, bind_equation, bind_primitive
from autodiff.ir.evaluate import evaluate_equations, read
from autodiff.ir.graph import Eqn, Graph, Literal, Params, Var, make_graph, params_key
from autodiff.ir.primitive import Primitive
from autodiff.passes.dead_code import dead_code
from autodiff.passes.jvp import JvpGraph, jvp
from autodiff.passes.memo import remembered
from autodiff.primitives.derivative_terms import add_cotangents, scaled
from autodiff.primitives.families import full_like_type


@dataclass(frozen=True, slots=True)
class JetGraph:
    """`graph` maps (inputs, derivatives not zero) to (outputs, derivatives not zero).

    Each input or output that is not constant along the curve has `order` derivatives, one after
    another, the first first.
    """

    graph: Graph
    nonzero_outputs: tuple[bool, ...]


class Mode:
    """What a rule of an operation that holds graphs is given while derivatives go along a curve.

    The rule is `taylor(operands, series, params, mode) -> (outs, out_series)`; a series is the list
    of an operand's derivatives, the first first, all of one length, or None where it is constant.
    """

    @staticmethod
    def jet(graph: Graph, order: int, nonzero: tuple[bool, ...]) -> JetGraph:
        """Carry derivatives through a held graph as through the one around it."""
        return jet(graph, order, nonzero)


@remembered(graphs_of=lambda result: (result.graph,))
def jet(graph: Graph, order: int, nonzero: tuple[bool, ...]) -> JetGraph:
    """Carry derivatives along a curve: `a -> b` becomes `(a, a', ..) -> (b, b', ..)`.

    The inputs are functions of one variable s; `nonzero` marks those whose first `order`
    derivatives with respect to s are given (the others are constant), and the result has those of
    the outputs. Nothing is needed for it but every operation's derivative: for `y = f(x)` the rule
    gives y' as a program of x, x' and y, so the k-th derivative of y is the (k-1)-th of that
    program's result, whose equations are treated in the same way. What makes this cheap is that
    each combination of operation, parameters and operands stands for one value along the curve,
    made once, its derivatives remembered: `sin` leads to `cos` and back to the same `sin`, and a
    rule that uses y itself finds it. Operations that are linear in what moves, or a product of two
    such, are recognised by their rules and need no expansion: sums of derivatives, and Leibniz'
    formula. For `b = exp a` and order 2 the result computes
    `b = exp a; b1 = a1 * b; b2 = a2 * b + a1 * b1`.

    It ends: let a value's weight be the largest number of times that anything in it is
    differentiated already, and the total of a request for its k-th derivative the weight plus k.
    The program of y' has operands of one weight more and is asked for order k - 1: the total does
    not grow. With the total fixed, each step either goes to an operand, of which a value is made
    of finitely many, or to a rule's program at a lower order; the programs' operands are those of
    the value itself, perhaps once more differentiated, so going back up in order means going down
    to an operand.

    Sources: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, chapter 13 (propagation
    of Taylor series); Bettencourt, Johnson and Duvenaud, "Taylor-mode automatic differentiation for
    higher-order derivatives in JAX", 2019 (the signature). Recovering the recurrences from first
    derivatives is ours.
    """
    trace = Trace("jet", inline_arrays=True)
    curve = _Curve(trace, order)
    inputs = [trace.input(aval) for aval in graph.input_types]
    series: list[_Value] = []
    for aval, primal, flag in zip(graph.input_types, inputs, nonzero, strict=True):
        terms = [primal, *[trace.input(aval.strong()) for _ in range(order if flag else 0)]]
        series.append(_Value(aval, flag and order > 0, terms.__getitem__))
    ends = curve.follow(graph, series)
    outputs = [end.derivative(0) for end in ends]
    terms = [[end.derivative(k) for k in range(1, order + 1)] for end in ends]
    live = tuple(any(term is not None for term in column) for column in terms)
    for end, column, flag in zip(ends, terms, live, strict=True):
        if flag:
            outputs += [_zeros(end.aval) if term is None else term for term in column]
    result, constants = trace.finish(outputs)
    assert not constants
    return JetGraph(dead_code(result), live)


_UNASKED, _PENDING = object(), object()


class _Value:
    """A value along the curve: its derivatives, each computed when first asked for.

    `moves`: whether it may have any. `compute(k)` gives the k-th, the value itself for 0, None for
    zero. `literal` is what the value was written as, if it was.
    """

    __slots__ = ("_compute", "_known", "_shifted", "aval", "literal", "moves")

    def __init__(
        self,
        aval: ArrayType,
        moves: bool,
        compute: Callable[[int], Any],
        literal: Literal | None = None,
    ) -> None:
        self.aval = aval
        self.moves = moves
        self.literal = literal
        self._compute = compute
        self._known: dict[int, Any] = {}
        self._shifted: _Value | None = None

    def derivative(self, order: int) -> Any:
        """Return the derivative of an order, None if it is zero."""
        if order > 0 and not self.moves:
            return None
        found = self._known.get(order, _UNASKED)
        assert found is not _PENDING, "a derivative along the curve needs itself"
        if found is _UNASKED:
            self._known[order] = _PENDING
            found = self._known[order] = self._compute(order)
        return found

    def value(self) -> Any:
        """Return the value itself, zeros where it is known to be zero."""
        found = self.derivative(0)
        return _zeros(self.aval) if found is None else found

    def shifted(self) -> _Value:
        """Return the derivative as a value along the curve."""
        if self._shifted is None:
            aval = self.aval.strong()
            self._shifted = _Value(aval, self.moves, lambda order: self.derivative(order + 1))
        return self._shifted


class _Curve:
    """The values along one curve, by operation, parameters and operands."""

    def __init__(self, trace: Trace, order: int) -> None:
        self.trace = trace
        self.order = order
        self.made: dict[Any, tuple[_Value, ...]] = {}
        self.literals: dict[Literal, _Value] = {}

    def follow(self, graph: Graph, inputs: Sequence[_Value]) -> list[_Value]:
        """Return a graph's outputs, every derivative of every equation worked out in order.

        (So that no derivative is far from those it needs: Python's stack is not deep.)
        """
        outer = self.trace.source
        env = dict(zip(graph.inputs, inputs, strict=True))
        for eqn in graph.eqns:
            self.trace.source = eqn.source or outer
            operands = tuple([self.read(env, atom) for atom in eqn.inputs])
            held = _transparent(eqn, operands)
            if held is not None:
                env.update(zip(eqn.outputs, self.follow(held, operands), strict=True))
                continue
            if not eqn.outputs:
                values = [x.value() for x in operands]
                bind_equation(eqn, values, self.trace)
                continue
            outs = self.apply(eqn, operands)
            env.update(zip(eqn.outputs, outs, strict=True))
            # Loops give all orders at once when asked for the last.
            orders = range(self.order, -1, -1) if eqn.primitive.taylor else range(self.order + 1)
            for order in orders:
                for out in outs:
                    out.derivative(order)
        self.trace.source = outer
        return [self.read(env, atom) for atom in graph.outputs]

    def expand(self, graph: Graph, inputs: Sequence[_Value]) -> tuple[list[_Value], list[_Value]]:
        """Return a program's outputs and every value in it, none of them worked out."""
        env = dict(zip(graph.inputs, inputs, strict=True))
        steps: list[_Value] = []
        for eqn in graph.eqns:
            if not eqn.outputs:
                continue  # an effect is not repeated
            operands = tuple([self.read(env, atom) for atom in eqn.inputs])
            held = _transparent(eqn, operands)
            if held is not None:
                outs, inner = self.expand(held, operands)
                steps += inner
            else:
                outs = self.apply(eqn, operands)
                steps += outs
            env.update(zip(eqn.outputs, outs, strict=True))
        return [self.read(env, atom) for atom in graph.outputs], steps

    def read(self, env: dict[Var, _Value], atom: Any) -> _Value:
        """Return what stands for an atom."""
        if type(atom) is not Literal:
            return env[atom]
        found = self.literals.get(atom)
        if found is None:
            found = _Value(atom.aval, False, lambda order: atom.value, atom)
            self.literals[atom] = found
        return found

    def apply(self, eqn: Eqn, operands: tuple[_Value, ...]) -> tuple[_Value, ...]:
        """Return the outputs of an equation's operation on `operands`, made once."""
        key = (eqn.primitive, params_key(eqn.params), operands)
        found = self.made.get(key)
        if found is None:
            if eqn.primitive.taylor is not None and any(x.moves for x in operands):
                found = _by_own_rule(eqn, operands)
            else:
                found = _Operation(self, eqn, operands).outputs()
            self.made[key] = found
        return found


class _Operation:
    """One operation on values along the curve, and how its outputs' derivatives come about."""

    def __init__(self, curve: _Curve, eqn: Eqn, operands: tuple[_Value, ...]) -> None:
        self.curve = curve
        self.primitive: Primitive = eqn.primitive
        self.params: Params = eqn.params
        self.operands = operands
        # Literals stay what they are, so that rules see them.
        self.given = [x for x in operands if x.literal is None]
        self.flags = tuple(x.moves and is_inexact(x.aval.dtype) for x in self.given)
        self.graph = _one_equation(eqn, operands, curve.trace)
        count = len(eqn.outputs)
        self.nonzero = (False,) * count
        if any(self.flags):
            self.nonzero = jvp(self.graph, self.flags).nonzero_outputs
        self._orders: dict[int, Sequence[Any]] = {}
        self._higher: Callable[[int], Sequence[Any]] | None = None

    def outputs(self) -> tuple[_Value, ...]:
        """Return the outputs as values along the curve."""
        return tuple(
            _Value(atom.aval, moves, lambda order, i=i: self._at(order)[i])
            for i, (atom, moves) in enumerate(zip(self.graph.outputs, self.nonzero, strict=True))
        )

    def _at(self, order: int) -> Sequence[Any]:
        found = self._orders.get(order)
        if found is None:
            if order == 0:
                found = self._bound([x.value() for x in self.operands])
            else:
                if self._higher is None:
                    self._higher = self._way()
                found = self._higher(order)
            self._orders[order] = found
        return found

    def _bound(self, values: Sequence[Any]) -> Sequence[Any]:
        result = bind_primitive(self.primitive, values, self.params)
        return result if self.primitive.multiple_outputs else (result,)

    def _way(self) -> Callable[[int], Sequence[Any]]:
        """Return the cheapest way to the derivatives that the operation's rules admit."""
        if _is_linear(self.graph, self.flags):
            return self._by_linearity
        if self.primitive.recurrence is not None:
            return self._by_recurrence
        factors = [i for i, flag in enumerate(self.flags) if flag]
        if len(factors) == 2 and all(_is_factor(self.graph, i) for i in factors):
            return self._by_leibniz
        return self._by_expansion()

    def _by_linearity(self, order: int) -> Sequence[Any]:
        """Apply the first derivative's program to derivatives of a higher order."""
        moved = [
            x.derivative(order) if flag else None
            for x, flag in zip(self.given, self.flags, strict=True)
        ]
        flags = tuple(t is not None for t in moved)
        if not any(flags):
            return (None,) * len(self.nonzero)
        pushed = _tangents(self.graph, flags)
        values = [x.value() for x in self.given]
        given = [*values, *[t for t in moved if t is not None]]
        env = dict(zip(pushed.graph.inputs, given, strict=True))
        evaluate_equations(pushed.graph.eqns, env)
        results = iter([read(env, atom) for atom in pushed.graph.outputs])
        return [next(results) if flag else None for flag in pushed.nonzero_outputs]

    def _by_recurrence(self, order: int) -> Sequence[Any]:
        """Follow the operation's own recurrence, given every lower order."""
        assert self.primitive.recurrence is not None
        lower = [self._at(k)[0] for k in range(order)]
        series = [[x.value(), *map(x.derivative, range(1, order + 1))] for x in self.operands]
        return (self.primitive.recurrence(order, lower, series, self.params),)

    def _by_leibniz(self, order: int) -> Sequence[Any]:
        """Return the derivative of a product of two factors, by the binomial formula."""
        first, second = (x for x, flag in zip(self.given, self.flags, strict=True) if flag)
        places = [i for i, x in enumerate(self.operands) if x.literal is None]
        p, q = (place for place, flag in zip(places, self.flags, strict=True) if flag)
        values: list[Any] = [x.value() for x in self.operands]
        terms = []
        for k in range(order + 1):
            values[p], values[q] = first.derivative(k), second.derivative(order - k)
            if values[p] is not None and values[q] is not None:
                (term,) = self._bound(values)
                terms.append(scaled(term, comb(order, k)))
        return (reduce(add_cotangents, terms) if terms else None,)

    def _by_expansion(self) -> Callable[[int], Sequence[Any]]:
        """Follow the program that the operation's rule gives for the first derivative."""
        curve, graph = self.curve, jvp(self.graph, self.flags).graph
        shifted = [x.shifted() for x, flag in zip(self.given, self.flags, strict=True) if flag]
        ends, steps = curve.expand(graph, [*self.given, *shifted])
        tangents = ends[len(self.nonzero) :]

        def way(order: int) -> Sequence[Any]:
            for step in steps:  # in order, as in `follow`
                step.derivative(order - 1)
            results = iter([t.derivative(order - 1) for t in tangents])
            return [next(results) if flag else None for flag in self.nonzero]

        return way


def _transparent(eqn: Eqn, operands: Sequence[_Value]) -> Graph | None:
    """Return the graph that an equation stands for, if its derivatives are that graph's."""
    primitive = eqn.primitive
    if primitive.inlined is None or primitive.taylor is not None or primitive.own_rules:
        return None
    return primitive.inlined(eqn.params) if any(x.moves for x in operands) else None


def _by_own_rule(eqn: Eqn, operands: tuple[_Value, ...]) -> tuple[_Value, ...]:
    """Return the outputs of an operation that has a rule for derivatives along a curve.

    The rule gives all orders up to one at once; it is asked again only for more.
    """
    primitive, params, rule = eqn.primitive, eqn.params, eqn.primitive.taylor
    assert rule is not None
    known: list[Sequence[Any]] = []

    def outputs_at(order: int) -> Sequence[Any]:
        if len(known) > order:
            return known[order]
        values = [x.value() for x in operands]
        if order == 0:
            known.append(bind_primitive(primitive, values, params))
            return known[0]
        series = [_terms(x, order) if x.moves else None for x in operands]
        outs, columns = rule(values, series, params, Mode())
        known[:] = [outs]
        for k in range(order):
            known.append([None if column is None else column[k] for column in columns])
        return known[order]

    return tuple(
        _Value(var.aval, is_inexact(var.aval.dtype), lambda order, i=i: outputs_at(order)[i])
        for i, var in enumerate(eqn.outputs)
    )


def _terms(x: _Value, order: int) -> list[Any]:
    terms = [x.derivative(k) for k in range(1, order + 1)]
    return [_zeros(x.aval) if term is None else term for term in terms]


def _one_equation(eqn: Eqn, operands: Sequence[_Value], trace: Trace) -> Graph:
    """Return the graph of one operation, with operands that are written literals among it."""
    atoms = tuple([x.literal or Var(x.aval) for x in operands])
    types = eqn.primitive.output_types(tuple([atom.aval for atom in atoms]), eqn.params)
    outputs = tuple(map(Var, types))
    alone = Eqn(eqn.primitive, atoms, eqn.params, outputs, trace.source)
    return make_graph([a for a in atoms if type(a) is Var], (), (alone,), outputs)


@remembered(graphs_of=lambda result: (result.graph,))
def _tangents(graph: Graph, nonzero: tuple[bool, ...]) -> JvpGraph:
    """Return the derivative's program without the outputs: `(a, a') -> b'`."""
    pushed = jvp(graph, nonzero)
    whole = pushed.graph
    tangents = whole.outputs[len(graph.outputs) :]
    program = dead_code(make_graph(whole.inputs, (), whole.eqns, tangents))
    return JvpGraph(program, pushed.nonzero_outputs)


def _is_linear(graph: Graph, moving: tuple[bool, ...]) -> bool:
    """Return whether the derivative is the same at all values of what moves.

    That is: its program, linear in the tangents, does not look at what moves.
    """
    program = _tangents(graph, moving).graph
    values = zip(program.inputs, moving, strict=False)
    watched = {var for var, flag in values if flag}
    used = [atom for eqn in program.eqns for atom in eqn.inputs]
    return watched.isdisjoint(used) and watched.isdisjoint(program.outputs)


def _is_factor(graph: Graph, place: int) -> bool:
    """Return whether an operation's derivative in one input is itself, the tangent in its place.

    The derivative is linear in the tangent, so the operation is linear in that input.
    """
    (eqn,) = graph.eqns
    program = _tangents(graph, tuple(i == place for i in range(len(graph.inputs)))).graph
    if len(program.eqns) != 1:
        return False
    (found,) = program.eqns
    names: dict[Any, Any] = dict(zip(graph.inputs, program.inputs, strict=False))
    names[graph.inputs[place]] = program.inputs[-1]
    return (
        found.primitive is eqn.primitive
        and params_key(found.params) == params_key(eqn.params)
        and found.inputs == tuple(names.get(atom, atom) for atom in eqn.inputs)
        and program.outputs == found.outputs
    )


def _zeros(aval: ArrayType) -> Any:
    """Return zeros that take no memory (of an open type: no rows)."""
    if aval.is_open:
        return np.zeros([0 if size == UNKNOWN else size for size in aval.shape], aval.dtype)
    return np.broadcast_to(full_like_type(aval, 0), aval.shape)
