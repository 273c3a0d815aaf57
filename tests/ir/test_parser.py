"""Printed graphs read back are equal, and run to the same numbers."""

import numpy as np
import pytest

import autodiff as ad
from autodiff.base.source_info import short_line
from autodiff.ir.evaluate import evaluate
from autodiff.ir.parser import parse_graph
from autodiff.passes.pipeline import simplify

inner = ad.jit(lambda x: np.tanh(x) * 3.0)

PROGRAMS = {
    "literals": lambda x: np.where(x > 0.5, x * np.float64("nan"), -np.inf + x * 1e-300) ** 3,
    "reductions": lambda x: np.sum(x, axis=0).astype(np.float32) * np.float32(0.1),
    "call": lambda x: inner(x) + inner(2 * x),
    "derivative": lambda x: ad.grad(lambda y: np.sum(inner(y) * x))(x),
    "complex": lambda x: (x * (1 + 2j)) * np.conj(x * 1j),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_printed_graph_reads_back_equal_and_computes_the_same(name):
    x = np.array([0.1, -2.0, 3.0])
    graph = make_graph_of(PROGRAMS[name], x)
    again = parse_graph(str(graph))
    assert str(again).splitlines()[0] == str(graph).splitlines()[0]
    assert again == parse_graph(str(again))
    with np.errstate(all="ignore"):
        for one, other in zip(evaluate(graph, (), [x]), evaluate(again, (), [x]), strict=True):
            np.testing.assert_array_equal(one, other)


def make_graph_of(function, x):
    graph = ad.make_graph(function)(x)
    assert not graph.constants
    return simplify(graph)


def test_text_outside_the_grammar_says_what_must_follow():
    with pytest.raises(ValueError, match=r"parse_graph: 'graph \(' must follow, got 'nonsense'"):
        parse_graph("nonsense")


def test_a_line_that_is_not_known_prints_as_nothing():
    assert short_line(None) == ""
