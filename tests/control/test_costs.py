"""What loops cost: tracing and derivatives do not depend on length, residuals are what must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.api.trace import run
from autodiff.ir.graph import Graph
from autodiff.ir.held import held_graphs
from autodiff.passes.linearize import linearize
from autodiff.passes.pipeline import simplify
from autodiff.passes.transpose import transpose


def equations(graph: Graph) -> int:
    """Return the number of equations, those of held graphs included."""
    return sum(1 + sum(map(equations, held_graphs(eqn))) for eqn in graph.eqns)


def operations(graph: Graph) -> list[str]:
    return [eqn.primitive.name for eqn in graph.eqns]


def split_of(function: Any, *args: Any) -> Any:
    """Return the linearized graph of a function, and the sizes of its computed residuals."""
    graph = ad.make_graph(function)(*args)
    moving = tuple(i < len(args) for i in range(len(graph.inputs)))  # constants come last
    split = linearize(graph, moving)
    return split, [aval.shape for aval in split.primal.output_types[split.output_count :]]


def loop(length):
    def f(x, w):
        def body(c, r):
            c = np.sin(w * c + r)
            return c, c * r

        return ad.scan(body, x, np.ones((length, 3)))

    return f


X, W = np.linspace(0.1, 0.5, 3), np.array([0.5, -0.2, 0.9])


def test_graphs_of_a_scan_and_of_its_derivatives_do_not_depend_on_its_length():
    sizes = set()
    for length in (3, 30, 3000):
        graph = ad.make_graph(loop(length))(X, W)
        split = linearize(graph, (True, True, False))
        linear = tuple(i >= len(split.forwarded) for i in range(len(split.linear.inputs)))
        flipped = transpose(split.linear, linear, (True, True))
        again = linearize(flipped.graph, (True,) * len(flipped.graph.inputs))
        parts = (graph, split.primal, split.linear, flipped.graph, again.primal, again.linear)
        sizes.add(tuple(map(equations, parts)))
    assert len(sizes) == 1


def test_a_body_is_traced_as_often_for_many_iterations_as_for_few():
    calls = []

    def f(x, length):
        def body(c, _):
            calls.append(1)
            return np.sin(c), None

        return ad.scan(body, x, length=length)[0]

    counts = []
    for length in (2, 2000):
        calls.clear()
        ad.grad(lambda x, n=length: f(x, n))(np.array(0.5))
        counts.append(len(calls))
    assert counts[0] == counts[1] == 1


@pytest.mark.parametrize("length", [0, 1, 7, 50])
def test_the_reverse_sweep_keeps_residuals_times_length(length):
    """cos(w c + r) and the carry before each step: two rows of three numbers each, and no more."""
    _, shapes = split_of(loop(length), X, W)
    assert sorted(shapes) == [(length, 3), (length, 3)]


def test_what_no_iteration_changes_is_kept_once():
    def f(x, w):
        return ad.scan(lambda c, _: (np.exp(np.sin(w)) * c, None), x, length=40)[0]

    split, shapes = split_of(f, X, W)
    # d/dw needs c of each step; cos(w) exp(sin(w)) and exp(sin(w)) are the same in all.
    assert shapes.count((40, 3)) == 1
    assert all(shape == (3,) for shape in shapes if shape != (40, 3))
    scan = next(eqn for eqn in split.primal.eqns if eqn.primitive.name == "scan")
    assert "exp" not in operations(scan.params["body"])
    assert sum(n == "exp" for n in operations(simplify(split.primal))) == 1


def test_rows_that_are_read_again_are_not_stacked():
    def f(x, rows):
        return ad.scan(lambda c, r: (c * r, None), x, rows)[0]

    graph = ad.make_graph(f)(X, np.ones((20, 3)))
    split = linearize(graph, (True, False))  # only in x: the factor of each step is its row
    assert len(split.primal.outputs) == split.output_count
    assert split.forwarded == (1,)


def test_inputs_that_serve_as_residuals_are_forwarded():
    def f(x, w):
        return ad.scan(lambda c, _: (w * c, None), x, length=9)[0]

    graph = ad.make_graph(f)(X, W)
    split = linearize(graph, (True, False))
    assert len(split.primal.outputs) == split.output_count
    assert split.forwarded == (1,)


def test_forward_mode_keeps_nothing():
    def pushed(x, w):
        return ad.jvp(loop(500), (x, w), (x, w))

    graph = simplify(ad.make_graph(pushed)(X, W))
    (scan,) = (eqn for eqn in graph.eqns if eqn.primitive.name == "scan")
    # carry, its tangent, and ys with theirs: what the function returns.
    assert [var.aval.shape for var in scan.outputs] == [(3,), (3,), (500, 3), (500, 3)]


def test_a_while_loop_keeps_rows_for_the_iterations_it_has_run():
    def f(x):
        return ad.while_loop(lambda c: c[0] < 100.0, lambda c: c * x, x)

    split, _ = split_of(f, np.array([1.5, 1.2]))
    x = np.array([1.5, 1.2])
    results = run(split.primal, [x])
    steps = int(np.ceil(np.log(100.0) / np.log(1.5))) - 1
    kept = [r.shape for r in results[split.output_count :]]
    assert (steps, 2) in kept
    assert kept.count((steps, 2)) == 1
    assert all(shape in ((steps, 2), ()) for shape in kept)


def test_a_branch_shares_slots_for_residuals_with_the_others():
    def f(x):
        return ad.cond(np.sum(x) > 0.0, np.sin, np.tanh, x)

    _, shapes = split_of(f, X)
    assert [shape for shape in shapes if shape] == [(3,)]


def test_results_that_nobody_uses_are_not_computed():
    def f(x):
        def body(carry, r):
            used, unused = carry
            return (np.sin(used), unused * np.exp(used) + r), (used, np.cosh(unused))

        (last, _), (ys, _) = ad.scan(body, (x, x), np.ones((5, 3)))
        return last, ys

    graph = simplify(ad.make_graph(f)(X))
    (scan,) = graph.eqns
    assert operations(scan.params["body"]) == ["sin"]
    assert len(scan.inputs) == 1
    assert [v.aval.shape for v in scan.outputs] == [(3,), (5, 3)]


def test_unused_results_of_branches_and_while_loops_are_not_computed():
    def f(x):
        a, _ = ad.cond(x[0] > 0, lambda v: (v, np.exp(v)), lambda v: (-v, np.sinh(v)), x)
        n, _ = ad.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, np.tanh(c[1])), (0, x))
        return a, n

    graph = simplify(ad.make_graph(f)(X))
    held = [operations(g) for eqn in graph.eqns for g in held_graphs(eqn)]
    assert not {"exp", "sinh", "tanh"} & {name for names in held for name in names}
    assert ad.jit(f)(X)[1] == 5
