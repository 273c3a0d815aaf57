"""Counting operations in graphs, and what a linearization keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import autodiff as ad
from autodiff.api.trace import leaf_types, trace_function
from autodiff.base.dtypes import is_inexact
from autodiff.ir.graph import Eqn, Graph
from autodiff.ir.held import held_graphs
from autodiff.passes.linearize import linearize
from autodiff.passes.pipeline import simplify


def equations(graph: Graph) -> Iterator[Eqn]:
    """Yield a graph's equations and those of the graphs they hold."""
    for eqn in graph.eqns:
        yield eqn
        for held in held_graphs(eqn):
            yield from equations(held)


def count(graph: Graph, name: str) -> int:
    """Return how many equations at any depth are of the operation called `name`."""
    return sum(str(eqn.primitive) == name for eqn in equations(graph))


def simplified(fun: Any, *args: Any) -> Graph:
    """Return the graph of a function as it runs under jit."""
    return simplify(ad.make_graph(fun)(*args))


def residual_bytes(fun: Any, *args: Any) -> int:
    """Return how many bytes the reverse sweep of a function of arrays keeps, arguments included."""
    traced = trace_function(
        fun, leaf_types(args), function="test", name="f", values=None, inline_literals=True
    )
    inexact = tuple(is_inexact(aval.dtype) for aval in traced.graph.input_types)
    split = linearize(traced.graph, inexact)
    kept = split.linear.inputs[: len(split.forwarded)]
    return sum(var.aval.size * var.aval.dtype.itemsize for var in kept)
