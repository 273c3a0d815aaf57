"""Which local partial derivatives to multiply beforehand, and in what order.

A linear program of one number per value is a graph whose edges carry partial derivatives: a value
is the sum, over its edges, of the edge's partial times the value it comes from. One pass over the
graph, forward or backward, multiplies once for each edge. Eliminating a vertex joins each edge into
it with each edge out of it: the two partials are multiplied, and the product is an edge of its own
or is added to one that is there. What remains gives the same results with other costs.

`best_elimination(network)` is the entry point. Edges whose partial is 1 or -1 cost nothing, in a
product or in a pass.

Sources: Griewank and Reese, "On the calculation of Jacobian matrices by the Markowitz rule", 1991;
Naumann, "Optimal accumulation of Jacobian matrices by elimination methods on the dual computational
graph", Mathematical Programming 99 (2004); Griewank and Walther, "Evaluating Derivatives", 2nd ed.
2008, chapters 9 and 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

#: Vertices up to which every order is searched: 2**8 sets of eliminated ones.
EXHAUSTIVE = 8


@dataclass(frozen=True, slots=True)
class Edge:
    """`target` depends on `source`. `is_unit`: by 1 or -1. `setup`: operations to get the partial.

    (The factor of a multiplication is there; the partial of a division by it is to be computed.)
    """

    source: int
    target: int
    is_unit: bool = False
    setup: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """Edges between vertices 0, 1, ...; those in `inner` are neither inputs nor outputs.

    Every edge leads to a vertex of a higher number.
    """

    edges: tuple[Edge, ...]
    inner: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Elimination:
    """Vertices to eliminate, in order, and multiplications: beforehand, and in one pass after it.

    `plain` is the cost of one pass over the network as it is, `vertices` how many inner ones there
    are, besides those that cost nothing to eliminate. `accumulation` gives, for each rule,
    what it costs to eliminate every inner vertex, None where that is more than was looked at.
    """

    order: tuple[int, ...]
    rule: str
    beforehand: int
    each_pass: int
    plain: int
    vertices: int
    accumulation: dict[str, int | None]

    @property
    def total(self) -> int:
        """Multiplications for the partials and one pass."""
        return self.beforehand + self.each_pass


class _State:
    """A network while vertices are eliminated: edges both ways, whether each is a unit."""

    __slots__ = ("into", "out", "paid", "setups", "weight")

    def __init__(self, network: Network) -> None:
        self.into: dict[int, dict[int, bool]] = {}
        self.out: dict[int, dict[int, bool]] = {}
        self.setups: dict[tuple[int, int], int] = {}
        self.weight = 0  # edges that cost a multiplication in a pass
        self.paid = 0
        for v in network.inner:
            self.into.setdefault(v, {})
            self.out.setdefault(v, {})
        for edge in network.edges:
            self._join(edge.source, edge.target, edge.is_unit)
            if edge.setup:
                key = edge.source, edge.target
                self.setups[key] = self.setups.get(key, 0) + edge.setup

    def copy(self) -> _State:
        other = object.__new__(_State)
        other.into = {v: dict(edges) for v, edges in self.into.items()}
        other.out = {v: dict(edges) for v, edges in self.out.items()}
        other.setups = dict(self.setups)
        other.weight, other.paid = self.weight, self.paid
        return other

    def _join(self, source: int, target: int, is_unit: bool) -> None:
        """Add an edge, or add to the one that is there (whose partial is then known no more)."""
        edges = self.out.setdefault(source, {})
        known = edges.get(target)
        if known is None:
            self.weight += not is_unit
        else:
            self.weight += known  # a unit no longer
            is_unit = False
        edges[target] = is_unit
        self.into.setdefault(target, {})[source] = is_unit

    def degree(self, v: int) -> int:
        """Return the multiplications it takes to eliminate a vertex (its Markowitz degree)."""
        into, out = self.into[v], self.out[v]
        return sum(not u for u in into.values()) * sum(not u for u in out.values())

    def growth(self, v: int) -> int:
        """Return by how much one pass and the products before it cost more without a vertex."""
        into, out = self.into[v], self.out[v]
        change = self.degree(v) - sum(not u for u in (*into.values(), *out.values()))
        for source, first in into.items():
            known = self.out[source]
            for target, second in out.items():
                is_unit = known.get(target)
                change += (not (first and second)) if is_unit is None else is_unit
        return change

    def to_set_up(self, v: int) -> list[tuple[int, int]]:
        """Return the edges whose partials must be known when a vertex goes, and are not yet.

        Those of the vertex, and the other edges into what it leads to, whose equations go with it.
        """
        if not self.setups:
            return []
        edges = [(source, v) for source in self.into[v]]
        edges += [(source, target) for target in self.out[v] for source in self.into[target]]
        return [edge for edge in edges if edge in self.setups]

    def eliminate(self, v: int) -> None:
        """Replace all paths of two edges through a vertex by one edge each."""
        self.paid += self.degree(v)
        for edge in self.to_set_up(v):
            self.paid += self.setups.pop(edge)
        into, out = self.into.pop(v), self.out.pop(v)
        for source, is_unit in into.items():
            del self.out[source][v]
            self.weight -= not is_unit
        for target, is_unit in out.items():
            del self.into[target][v]
            self.weight -= not is_unit
        for source, first in into.items():
            for target, second in out.items():
                self._join(source, target, first and second)

    def without_relays(self, inner: Sequence[int]) -> list[int]:
        """Eliminate vertices that hand on what they get, or what one other vertex gets.

        It costs nothing and makes no pass dearer, and leaves less to search. Returns them.
        """
        gone = []
        for v in inner:
            is_relay = any(
                len(edges) == 1 and all(edges.values()) for edges in (self.into[v], self.out[v])
            )
            if is_relay and self.growth(v) <= 0 and not self.to_set_up(v):
                self.eliminate(v)
                gone.append(v)
        return gone


def best_elimination(network: Network, *, complete: bool = False) -> Elimination:
    """Return the cheapest elimination found; none at all if nothing is cheaper than plain passes.

    Each rule's order is followed as long as its products cost no more than one plain pass does, and
    cut where products and one pass together cost least (of equal costs: where the pass costs
    least). So no result is costlier than a plain pass. With `complete` every order is followed to
    its end, for the costs of whole Jacobians.
    """
    start = _State(network)
    plain = start.weight
    relays = start.without_relays(sorted(network.inner))
    inner = sorted(set(network.inner) - set(relays))
    best = Elimination((), "none", 0, plain, plain, len(inner), {})
    if _is_better(start, best):
        best = _found(best, relays, "relays", start)
    accumulation: dict[str, int | None] = {}
    for rule, order in _rules(network, inner):
        state = start.copy()
        done = list(relays)
        finished = True
        for v in order(state):
            state.eliminate(v)
            done.append(v)
            if state.paid > plain and not complete:
                finished = False
                break
            if _is_better(state, best):
                best = _found(best, done, rule, state)
        accumulation[rule] = state.paid if finished else None
    if len(network.inner) <= EXHAUSTIVE:
        start, relays, inner = _State(network), [], sorted(network.inner)
    if len(inner) <= EXHAUSTIVE:
        best, accumulation["exhaustive"] = _searched(start, relays, inner, best)
    return replace(best, accumulation=accumulation)


def _found(before: Elimination, order: Sequence[int], rule: str, state: _State) -> Elimination:
    return replace(
        before, order=tuple(order), rule=rule, beforehand=state.paid, each_pass=state.weight
    )


def _is_better(state: _State, best: Elimination) -> bool:
    found = state.paid + state.weight, state.weight
    return found < (best.total, best.each_pass)


# ------------------------------------------------------------------------------------------ orders


Order = Callable[[_State], Iterable[int]]


def _rules(network: Network, inner: Sequence[int]) -> Iterator[tuple[str, Order]]:
    yield "forward", lambda state: inner
    yield "reverse", lambda state: inner[::-1]
    yield "markowitz", lambda state: _greedy(inner, state, state.degree)
    product = _reach(network)
    yield (
        "relative markowitz",
        lambda state: _greedy(inner, state, lambda v: state.degree(v) - product[v]),
    )
    yield "least growth", lambda state: _greedy(inner, state, state.growth)


def _greedy(inner: Sequence[int], state: _State, rank: Callable[[int], int]) -> Iterator[int]:
    """Yield the vertex of lowest rank, again and again; of equal ones the first.

    Ranks of the neighbours are worked out anew when a vertex has gone (those further away may be
    out of date by then, and are looked at again before they are taken).
    """
    queue = [(rank(v), v) for v in inner]
    heapify(queue)
    left = set(inner)
    while queue:
        key, v = heappop(queue)
        if v not in left:
            continue
        actual = rank(v)
        if actual > key:
            heappush(queue, (actual, v))
            continue
        left.discard(v)
        around = [*state.into[v], *state.out[v]]
        yield v
        for other in around:
            if other in left:
                heappush(queue, (rank(other), other))


def _reach(network: Network) -> dict[int, int]:
    """Return, for each inner vertex, how many inputs it depends on times outputs it reaches."""
    inner = set(network.inner)

    def counted(edges: Iterable[tuple[int, int]]) -> dict[int, int]:
        found: dict[int, set[int]] = {}
        for source, target in edges:
            mine = found.setdefault(target, set())
            mine.update(found.get(source, ()) if source in inner else (source,))
        return {v: len(ends) for v, ends in found.items()}

    pairs = [(edge.source, edge.target) for edge in network.edges]
    inputs = counted(sorted(pairs, key=lambda pair: pair[1]))
    outputs = counted(sorted(((t, s) for s, t in pairs), key=lambda pair: -pair[1]))
    return {v: inputs.get(v, 0) * outputs.get(v, 0) for v in network.inner}


def _searched(
    start: _State, relays: Sequence[int], inner: Sequence[int], best: Elimination
) -> tuple[Elimination, int]:
    """Return the best elimination of all, and what the whole Jacobian costs at least.

    The network without a set of vertices is the same in whatever order they went, so the cheapest
    way to each set is found from those to the sets of one vertex less.
    """
    ways: dict[frozenset[int], tuple[_State, tuple[int, ...]]] = {
        frozenset(): (start, tuple(relays))
    }
    for _ in inner:
        further: dict[frozenset[int], tuple[_State, tuple[int, ...]]] = {}
        for gone, (state, order) in ways.items():
            for v in inner:
                if v in gone:
                    continue
                after = state.copy()
                after.eliminate(v)
                known = further.get(gone | {v})
                if known is None or after.paid < known[0].paid:
                    further[gone | {v}] = after, (*order, v)
        ways = further
        for state, order in ways.values():
            if _is_better(state, best):
                best = _found(best, order, "exhaustive", state)
    ((state, _),) = ways.values()
    return best, state.paid
