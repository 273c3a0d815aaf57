"""Orders of elimination: counts worked out by hand, and every order of small random networks."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from autodiff.passes.elimination import Edge, Elimination, Network, best_elimination


def network(edges: Any, inner: Any, units: Any = ()) -> Network:
    return Network(tuple(Edge(s, t, (s, t) in units) for s, t in edges), tuple(inner))


def eliminated(found: Network, order: Any) -> tuple[int, dict[tuple[int, int], bool]]:
    """Return multiplications and what is left, by a table of pairs and nothing else."""
    edges = {(e.source, e.target): e.is_unit for e in found.edges}
    cost = 0
    for v in order:
        into = [pair for pair in edges if pair[1] == v]
        out = [pair for pair in edges if pair[0] == v]
        for first in into:
            for second in out:
                unit = edges[first] and edges[second]
                cost += not edges[first] and not edges[second]
                pair = first[0], second[1]
                edges[pair] = unit and pair not in edges
        for pair in (*into, *out):
            del edges[pair]
    return cost, edges


def pass_cost(edges: dict[tuple[int, int], bool]) -> int:
    return sum(not unit for unit in edges.values())


# 0 -> 1 -> 2 -> 3 -> 4
CHAIN = network([(i, i + 1) for i in range(4)], (1, 2, 3))
# inputs 0, 1, 2 - waist 3 - outputs 4, 5, 6
BOW_TIE = network([*[(i, 3) for i in range(3)], *[(3, i) for i in (4, 5, 6)]], (3,))
# inputs 0, 1; 2 and 3 between; 2 leads to the first of the outputs 4 to 7, and 3 to all
LION = network([(0, 2), (1, 2), (2, 3), (2, 4), *[(3, i) for i in (4, 5, 6, 7)]], (2, 3))
# Speelpenning's product of x0 to x5: each partial product is one factor times the one before
PRODUCT = network(
    [(0, 6), (1, 6), *[e for i in range(4) for e in ((6 + i, 7 + i), (2 + i, 7 + i))]],
    (6, 7, 8, 9),
)


def check(found: Network, **accumulation: int) -> Elimination:
    result = best_elimination(found, complete=True)
    named = {rule: result.accumulation[rule.replace("_", " ")] for rule in accumulation}
    assert named == accumulation
    cost, left = eliminated(found, result.order)
    assert (result.beforehand, result.each_pass) == (cost, pass_cost(left))
    assert result.plain == pass_cost(eliminated(found, ())[1])
    assert result.total <= result.plain
    return result


def test_a_chain_is_one_product_per_inner_vertex():
    """Three products make one edge of four: as much for one pass, a quarter for every other."""
    result = check(CHAIN, forward=3, reverse=3, markowitz=3, relative_markowitz=3, exhaustive=3)
    assert (result.plain, result.beforehand, result.each_pass) == (4, 3, 1)


def test_a_narrow_waist_is_left_alone():
    """The Jacobian has nine entries, a pass through the waist six."""
    result = check(BOW_TIE, forward=9, reverse=9, markowitz=9, exhaustive=9)
    assert (result.plain, result.beforehand, result.each_pass) == (6, 0, 6)
    assert result.rule == "none"


def test_the_lion_costs_twelve_by_either_order_of_vertices():
    """2*2 + 2*4 and 1*4 + 2*4 (Griewank and Walther 2008, section 10.2; edges would do with 11)."""
    result = check(LION, forward=12, reverse=12, markowitz=12, exhaustive=12)
    assert (result.plain, result.each_pass) == (8, 8)


def test_markowitz_rule_is_beaten_on_speelpennings_product():
    """Reverse 2*1 each; forward 2 + 3 + 4 + 5. All four have degree 2 at first: by Markowitz' rule
    the first one goes (2), which makes 3 of the second, so the third (2), which makes 3 of the
    fourth; then the second (3), after which the fourth has five edges into it (5)."""
    result = check(PRODUCT, forward=14, reverse=8, markowitz=12, relative_markowitz=8, exhaustive=8)
    assert result.plain == 10


def test_a_diamond_gains_by_fill_that_is_absorbed():
    """0 -> 1, 2 -> 3: one product makes an edge, the next is added to it: 2 + 1 for 4."""
    diamond = network([(0, 1), (0, 2), (1, 3), (2, 3)], (1, 2))
    result = check(diamond, forward=2, reverse=2, exhaustive=2)
    assert (result.plain, result.beforehand, result.each_pass) == (4, 2, 1)


def test_factors_one_are_free():
    """x + y into a sine: the vertex of the sum goes for nothing, its edges were units."""
    found = network([(0, 2), (1, 2), (2, 3)], (2,), units={(0, 2), (1, 2)})
    result = check(found, forward=0)
    assert (result.plain, result.each_pass) == (1, 1)


def test_partials_that_must_be_computed_are_counted():
    """A division's partial is a division: 1 -> 2 costs one more beforehand."""
    edges = (Edge(0, 1), Edge(1, 2, setup=1), Edge(0, 2))
    result = best_elimination(Network(edges, (1,)))
    # product 1, setup 1, pass 1: no better than the plain pass's 3, but one pass is cheaper
    assert (result.beforehand, result.each_pass, result.plain) == (2, 1, 3)
    dear = (Edge(0, 1), Edge(1, 2, setup=2), Edge(0, 2))
    assert best_elimination(Network(dear, (1,))).rule == "none"


def _random(seed: int) -> Network:
    random = np.random.default_rng(seed)
    count = int(random.integers(5, 9))
    pairs = [(s, t) for t in range(2, count) for s in range(t) if random.random() < 0.5]
    sources, targets = {s for s, _ in pairs}, {t for _, t in pairs}
    inner = [v for v in range(2, count - 1) if v in sources and v in targets]
    return network(pairs, inner, {pair for pair in pairs if random.random() < 0.2})


@pytest.mark.parametrize("seed", range(40))
def test_the_best_of_all_orders_is_found_on_small_networks(seed):
    found = _random(seed)
    result = best_elimination(found, complete=True)
    costs = []
    for order in permutations(found.inner):
        for stop in range(len(order) + 1):
            cost, left = eliminated(found, order[:stop])
            costs.append((cost + pass_cost(left), pass_cost(left)))
    assert (result.total, result.each_pass) == min(costs)
    cost, left = eliminated(found, result.order)
    assert (result.beforehand, result.each_pass) == (cost, pass_cost(left))
    whole = min(eliminated(found, order)[0] for order in permutations(found.inner))
    assert result.accumulation["exhaustive"] == whole
    assert all(c is not None and c >= whole for c in result.accumulation.values())


@pytest.mark.parametrize("seed", range(40, 60))
def test_orders_cut_short_are_never_costlier_than_a_plain_pass(seed):
    random = np.random.default_rng(seed)
    pairs = [(s, t) for t in range(5, 60) for s in random.choice(t, 3, replace=False)]
    found = network([(int(s), t) for s, t in pairs], range(5, 55))
    inner = {s for s, _ in pairs if 5 <= s < 55}
    found = Network(found.edges, tuple(sorted(inner)))
    result = best_elimination(found)
    cost, left = eliminated(found, result.order)
    assert (result.beforehand, result.each_pass) == (cost, pass_cost(left))
    assert result.total <= result.plain == len(found.edges)
