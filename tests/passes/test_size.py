"""Passes on long graphs: work in proportion to the equations, and no recursion."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.evaluate import evaluate
from autodiff.ir.graph import Graph, make_graph
from autodiff.ir.verify import verify
from autodiff.passes.batch import batch
from autodiff.passes.gradient import gradient
from autodiff.passes.jvp import jvp
from autodiff.passes.linearize import linearize
from autodiff.passes.pipeline import SIMPLIFY, simplify
from autodiff.passes.transpose import transpose
from autodiff.runtime.executor import Executable


def _chain(length: int) -> Callable[[Any], Any]:
    """Return a function of `length` operations, in which some values are used late."""

    def function(x: Any) -> Any:
        early = x
        for i in range(length // 2):
            x = anp.sin(x) if i % 2 else x * early
            x = x + 1.0
            if i % 10 == 0:
                early = x
        return x

    return function


def _transposed(graph: Graph) -> Any:
    split = linearize(graph, (True,))
    linear = split.linear
    count = len(split.forwarded)
    return transpose(linear, tuple(i >= count for i in range(len(linear.inputs))), (True,))


def _renumbered(graph: Graph) -> Graph:
    return make_graph(graph.inputs, graph.constants, graph.eqns, graph.outputs)


def _evaluated(graph: Graph) -> Any:
    return evaluate(graph, (), [0.5])


PASSES: dict[str, Callable[[Graph], Any]] = {
    **dict(SIMPLIFY),
    "simplify": simplify,
    "jvp": lambda graph: jvp(graph, (True,)),
    "linearize": lambda graph: linearize(graph, (True,)),
    "transpose": _transposed,
    "gradient": lambda graph: gradient(graph, (True,)),
    "batch": lambda graph: batch(graph, 3, (True,)),
    "verify": lambda graph: verify(graph, "test"),
    "key": _renumbered,
    "text": str,
    "evaluate": _evaluated,
    "run": lambda graph: Executable(graph)(np.float64(0.5)),
    "compile": lambda graph: Executable(graph, compile_now=True)(np.float64(0.5)),
}


def _calls(function: Callable[[], Any]) -> int:
    """Return how many Python and C functions `function` calls: its time, without a clock."""
    count = 0

    def counter(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counter)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_does_work_in_proportion_to_the_equations(name):
    run = PASSES[name]
    run(ad.make_graph(_chain(400))(np.float64(0.5)))  # what is made when first needed
    counts = []
    for length in (400, 800, 1600):
        graph = ad.make_graph(_chain(length))(np.float64(0.5))
        assert len(graph.eqns) == length
        counts.append(_calls(lambda graph=graph: run(graph)))
    first, second, third = counts
    assert third - second <= 2.1 * (second - first) + 100, counts


def test_tracing_does_work_in_proportion_to_the_operations():
    counts = [
        _calls(lambda n=n: ad.make_graph(_chain(n))(np.float64(0.5))) for n in (400, 800, 1600)
    ]
    assert counts[2] - counts[1] <= 2.1 * (counts[1] - counts[0]) + 100, counts


def test_graphs_made_by_passes_have_sizes_in_proportion():
    def sizes(length: int) -> list[int]:
        graph = ad.make_graph(_chain(length))(np.float64(0.5))
        split = linearize(graph, (True,))
        return [
            len(made.eqns)
            for made in (
                jvp(graph, (True,)).graph,
                split.primal,
                split.linear,
                _transposed(graph).graph,
                gradient(graph, (True,)).graph,
                simplify(gradient(graph, (True,)).graph),
            )
        ]

    for small, large in zip(sizes(1000), sizes(2000), strict=True):
        assert large <= 2 * small + 10


def test_a_gradient_takes_memory_in_proportion_to_the_operations():
    def peak(length: int) -> int:
        tracemalloc.start()
        try:
            ad.grad(_chain(length))(0.5)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    small, large = peak(1000), peak(4000)
    assert large <= 5 * small, (small, large)


LENGTH = 100_000


def test_a_chain_of_a_hundred_thousand_equations_is_simplified_and_printed():
    graph = ad.make_graph(_chain(LENGTH))(np.float64(0.5))
    assert len(graph.eqns) == LENGTH
    assert len(simplify(graph).eqns) == LENGTH
    assert str(graph).count("\n") == LENGTH + 2


@pytest.mark.slow
def test_the_gradient_of_a_hundred_thousand_operations_is_right():
    """Traced, linearized, transposed, joined and run: neither recursion nor quadratic time."""

    def decay(x: Any) -> Any:
        for _ in range(LENGTH):
            x = x * 0.99999
        return x

    expected = 1.0
    for _ in range(LENGTH):
        expected *= 0.99999
    np.testing.assert_allclose(ad.grad(decay)(2.0), expected, rtol=1e-12)
