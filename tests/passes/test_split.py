"""Separating what known inputs determine: both parts together are the graph."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.evaluate import evaluate
from autodiff.ir.verify import verify
from autodiff.passes.split import split
from tests.passes.programs import random_graph
from tests.primitives.sampling import same_bits


@pytest.mark.parametrize("seed", range(40))
def test_the_known_part_and_the_rest_give_the_graphs_outputs_bit_for_bit(seed):
    graph, arguments = random_graph(seed)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, (), arguments)
        for known in product((True, False), repeat=len(graph.inputs)):
            parts = split(graph, known)
            verify(parts.known, "split")
            verify(parts.rest, "split")
            values = [x for x, flag in zip(arguments, known, strict=True) if flag]
            others = [x for x, flag in zip(arguments, known, strict=True) if not flag]
            first = evaluate(parts.known, (), values)
            count = sum(parts.known_outputs)
            residuals = parts.gather_residuals(first[count:], values)
            second = iter(evaluate(parts.rest, (), [*residuals, *others]))
            early = iter(first[:count])
            found = [next(early) if flag else next(second) for flag in parts.known_outputs]
            assert all(map(same_bits, found, expected))


def test_residuals_are_values_that_the_rest_reads_and_inputs_are_forwarded():
    a, c = np.array(1.0), np.array(2.0)
    graph = ad.make_graph(lambda a, c: (np.sin(a), np.sin(a) * c, a + c))(a, c)
    parts = split(graph, (True, False))
    assert parts.known_outputs == (True, False, False)
    assert [eqn.primitive.name for eqn in parts.known.eqns] == ["sin", "sin"]
    assert [eqn.primitive.name for eqn in parts.rest.eqns] == ["multiply", "add"]
    assert parts.forwarded == (None, 0)


def test_parts_are_made_of_the_graphs_own_variables_also_where_an_equal_graph_was_split():
    for _ in range(2):
        graph = ad.make_graph(lambda a, c: np.sin(a) * c)(np.array(1.0), np.array(2.0))
        parts = split(graph, (True, False))
        assert parts.known.inputs == graph.inputs[:1]
        assert parts.rest.outputs == graph.outputs
