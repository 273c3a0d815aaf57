"""The pass that multiplies local partial derivatives before tangents or cotangents come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autodiff.base.dtypes import is_complex, is_inexact
from autodiff.ir.avals import ArrayType
from autodiff.ir.builder import Trace, replay
from autodiff.ir.evaluate import evaluate_equations, read
from autodiff.ir.graph import Eqn, Graph, Literal, Var, make_graph
from autodiff.passes.algebra import algebra
from autodiff.passes.dead_code import dead_code
from autodiff.passes.elimination import Edge, Elimination, Network, best_elimination
from autodiff.passes.fold import fold
from autodiff.passes.inline import inline
from autodiff.passes.memo import remembered
from autodiff.passes.transpose import transpose
from autodiff.primitives.derivative_terms import negated, partial_product, partial_sum

if TYPE_CHECKING:
    from autodiff.passes.linearize import Linearized


@dataclass(frozen=True, slots=True)
class Preaccumulated:
    """`parts` is a linearized graph; `eliminations` what was done to each connected local part.

    `sizes` are the numbers of elements of those parts' values.
    """

    parts: Linearized
    eliminations: tuple[Elimination, ...]
    sizes: tuple[int, ...]


@remembered(graphs_of=lambda result: result.parts.graphs)
def preaccumulate(parts: Linearized, complete: bool = False) -> Preaccumulated:
    """Shorten the linear part: `(res, a') -> b'` becomes `(res', a') -> b'`, with fewer products.

    Equations that act on each element by itself, on values of one shape, are the edges of a network
    (elimination.py), cut at what other equations make or need. Each connected part is eliminated as
    far as that makes products and one pass together cheaper, or a pass cheaper at an equal total;
    the products of partials join the primal part. For `c = a * b; d = sin c` the linear part
    `c' = a' * b + b' * a; d' = c' * cos c` stays as it is, since the products `b * cos c` and
    `a * cos c` would save one multiplication of three and cost two; for `c = sin a; d = exp c; e =
    c * d` the four multiplications of a pass become one, after two.

    `complete`: every order of elimination is followed to its end, for comparing their costs.

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, chapters 9 and 10.
    """
    linear = dead_code(inline(parts.linear, transparent_only=True))
    outer = Trace("preaccumulate", inline_arrays=True)
    inner = Trace("preaccumulate (linear part)", inline_arrays=True)
    inputs = [outer.input(aval) for aval in parts.primal.input_types]
    results = replay(parts.primal, (), inputs)
    count = parts.output_count
    residuals = parts.gather_residuals(results[count:], inputs)
    tangents = [inner.input(var.aval) for var in linear.inputs[len(residuals) :]]
    env: dict[Var, Any] = dict(zip(linear.inputs, [*residuals, *tangents], strict=True))

    local = _local_equations(linear, len(residuals))
    parts_found = _connected(linear, local)
    eliminations = [best_elimination(part.network, complete=complete) for part in parts_found]
    partials = _Partials(env, local)
    for part, elimination in zip(parts_found, eliminations, strict=True):
        partials.enter(part)
        for v in elimination.order:
            partials.eliminate(part.vars[v])
    for eqn in linear.eqns:
        for trace in (outer, inner):
            trace.source = eqn.source
        var = eqn.outputs[0] if eqn.outputs else None
        if var in partials.gone:
            continue
        if var in partials.changed:
            env[var] = partials.weighted_sum(var)  # type: ignore[arg-type, index]
        else:
            evaluate_equations((eqn,), env)
    ends = [read(env, atom) for atom in linear.outputs]
    shortened, captured = inner.finish(ends)
    position = {tracer.variable: i for i, tracer in enumerate(inputs)}
    forwarded = tuple(position.get(tracer.variable) for tracer in captured)
    computed = [r for r, i in zip(captured, forwarded, strict=True) if i is None]
    primal, constants = outer.finish([*results[:count], *computed])
    assert not constants
    return Preaccumulated(
        replace(
            parts,
            primal=dead_code(primal),
            linear=make_graph(
                (*shortened.constants, *shortened.inputs), (), shortened.eqns, shortened.outputs
            ),
            forwarded=forwarded,
        ),
        tuple(eliminations),
        tuple(part.vars[0].aval.size for part in parts_found),
    )


# ------------------------------------------------------------------------------- what is local


@dataclass(frozen=True, slots=True)
class _Local:
    """An equation of one linear output, and its partial with respect to each linear operand.

    A partial is a graph over the equation's values, or 1 or -1.
    """

    eqn: Eqn
    values: tuple[Var, ...]
    sources: tuple[Var, ...]
    partials: tuple[Graph | int, ...]


def _local_equations(linear: Graph, residual_count: int) -> dict[Var, _Local]:
    """Return the equations that act on each element by itself, by what they make."""
    moving: set[Var] = set(linear.inputs[residual_count:])
    found: dict[Var, _Local] = {}
    for eqn in linear.eqns:
        is_linear = any(atom in moving for atom in eqn.inputs)
        local = _as_local(eqn, moving) if is_linear else None
        if local is not None:
            found[eqn.outputs[0]] = local
        if is_linear:
            moving.update(eqn.outputs)
    return found


def _as_local(eqn: Eqn, moving: set[Var]) -> _Local | None:
    if eqn.primitive.kind != "elementwise" or len(eqn.outputs) != 1:
        return None
    aval = eqn.outputs[0].aval.strong()
    sources = tuple(atom for atom in eqn.inputs if type(atom) is Var and atom in moving)
    if not is_inexact(aval.dtype) or is_complex(aval.dtype) or len(set(sources)) < len(sources):
        return None
    if any(source.aval.strong() is not aval for source in sources):
        return None
    values = tuple(dict.fromkeys(a for a in eqn.inputs if type(a) is Var and a not in moving))
    alone = make_graph((*values, *sources), (), (eqn,), eqn.outputs)
    partials = tuple(_partial(alone, len(values) + i, len(values)) for i in range(len(sources)))
    if any(partial is None for partial in partials):
        return None
    return _Local(eqn, values, sources, partials)  # type: ignore[arg-type]


@remembered(graphs_of=lambda result: ())
def _partial_of(graph: Graph, place: int, value_count: int) -> tuple[Graph | int | None]:
    """Return what an elementwise linear equation multiplies one operand by, if that can be told.

    It is the transposed equation applied to ones.
    """
    flags = tuple(i == place for i in range(len(graph.inputs)))
    flipped = transpose(graph, flags, (True,))
    program = dead_code(flipped.graph)
    if not flipped.nonzero[place] or any(
        eqn.primitive.kind != "elementwise" for eqn in program.eqns
    ):
        return (None,)
    read_atoms = {atom for eqn in program.eqns for atom in eqn.inputs}
    values, others, ct = (
        program.inputs[:value_count],
        program.inputs[value_count:-1],
        program.inputs[-1],
    )
    if not read_atoms.isdisjoint(others):
        return (None,)
    trace = Trace("partial", inline_arrays=True)
    one = ct.aval.dtype.type(1)
    env: dict[Var, Any] = {var: trace.input(var.aval) for var in values}
    env[ct] = one
    evaluate_equations(program.eqns, env)
    found, constants = trace.finish([read(env, program.outputs[0])])
    assert not constants
    found = dead_code(algebra(fold(found)))
    (atom,) = found.outputs
    if type(atom) is Literal and atom.is_scalar and abs(float(atom.value)) == 1:
        return (int(atom.value),)
    return (found,)


def _partial(graph: Graph, place: int, value_count: int) -> Graph | int | None:
    return _partial_of(graph, place, value_count)[0]


@dataclass(frozen=True, slots=True)
class _Part:
    """A network of local equations: its vertices stand for variables of one type.

    `targets` are those whose equations belong to it; the other variables are read.
    """

    network: Network
    vars: tuple[Var, ...]
    targets: tuple[Var, ...]


def _connected(linear: Graph, local: dict[Var, _Local]) -> list[_Part]:
    """Return the local equations in parts of which each can be treated by itself.

    A vertex to be eliminated and what it leads to belong together. An input that several parts read
    does not join them.
    """
    needed: set[Any] = set(linear.outputs)
    for eqn in linear.eqns:
        if not eqn.outputs or eqn.outputs[0] not in local:
            needed.update(eqn.inputs)
    leader: dict[Var, Var] = {var: var for var in local}

    def root(var: Var) -> Var:
        while leader[var] is not var:
            leader[var] = leader[leader[var]]
            var = leader[var]
        return var

    for target, found in local.items():
        for source in found.sources:
            if source in local and source not in needed:
                leader[root(source)] = root(target)
    groups: dict[Var, list[Var]] = {}
    for var in local:
        groups.setdefault(root(var), []).append(var)
    everything = [*linear.inputs, *[var for eqn in linear.eqns for var in eqn.outputs]]
    position = {var: i for i, var in enumerate(everything)}
    return [_part(targets, local, needed, position) for targets in groups.values()]


def _part(
    targets: Sequence[Var], local: dict[Var, _Local], needed: set[Any], position: dict[Var, int]
) -> _Part:
    members = {*targets, *[source for target in targets for source in local[target].sources]}
    vertices = sorted(members, key=position.__getitem__)
    number = {var: i for i, var in enumerate(vertices)}
    edges = [
        Edge(number[source], number[target], _is_unit(partial), _setup(partial))
        for target in targets
        for source, partial in zip(local[target].sources, local[target].partials, strict=True)
    ]
    inner = tuple(number[var] for var in targets if var not in needed)
    return _Part(Network(tuple(edges), inner), tuple(vertices), tuple(targets))


def _setup(partial: Graph | int) -> int:
    return len(partial.eqns) if isinstance(partial, Graph) else 0


# ---------------------------------------------------------------------------- carrying it out


class _Partials:
    """The partials of edges while vertices go: recorded among the values, as they are needed."""

    def __init__(self, env: dict[Var, Any], local: dict[Var, _Local]) -> None:
        self.env = env
        self.local = local
        self.gone: set[Any] = set()
        self.changed: set[Any] = set()
        self.into: dict[Var, dict[Var, Any]] = {}
        self.out: dict[Var, dict[Var, None]] = {}

    def enter(self, part: _Part) -> None:
        """Take up a part's edges; their partials are graphs until they are needed."""
        for var in part.vars:
            self.out.setdefault(var, {})
        for target in part.targets:
            found = self.local[target]
            self.into[target] = dict(zip(found.sources, found.partials, strict=True))
            for source in found.sources:
                self.out[source][target] = None

    def value(self, source: Var, target: Var) -> Any:
        """Return an edge's partial: 1, -1 or a value."""
        partial = self.into[target][source]
        if isinstance(partial, Graph):
            values = [self.env[var] for var in self.local[target].values]
            (partial,) = replay(partial, (), values)
            self.into[target][source] = partial
        return partial

    def eliminate(self, v: Var) -> None:
        """Replace all paths of two edges through a vertex by one edge each."""
        self.gone.add(v)
        for target in self.out[v]:
            self.changed.add(target)
            second = self.value(v, target)
            for source in self.into[v]:
                product = _product(self.value(source, v), second)
                if source in self.into[target]:
                    product = _sum(self.value(source, target), product, v.aval)
                self.into[target][source] = product
                self.out[source][target] = None
        for target in self.out.pop(v):
            del self.into[target][v]
        for source in self.into.pop(v):
            del self.out[source][v]

    def weighted_sum(self, v: Var) -> Any:
        """Return a value from those that its edges come from."""
        total = None
        for source in self.into[v]:
            term = _product(self.value(source, v), self.env[source])
            total = term if total is None else partial_sum(total, term)
        return total


def _is_unit(value: Any) -> bool:
    return type(value) is int


def _product(x: Any, y: Any) -> Any:
    """Return a product, of which either factor may be 1 or -1 and either may be 0-d."""
    if _is_unit(x):
        x, y = y, x
    if not _is_unit(y):
        return partial_product(x, y)
    if _is_unit(x):
        return x * y
    return x if y == 1 else negated(x)


def _sum(x: Any, y: Any, aval: ArrayType) -> Any:
    x, y = (aval.dtype.type(z) if _is_unit(z) else z for z in (x, y))
    return partial_sum(x, y)
