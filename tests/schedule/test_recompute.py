"""What is computed again in the kernel that reads it, and what is stored and loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.evaluate import evaluate
from autodiff.ir.verify import verify
from autodiff.passes.pipeline import simplify
from autodiff.schedule.fuse import Schedule, fuse
from tests.schedule.interpreter import run_schedule
from tests.schedule.test_fuse import refusal

X, U = np.cos(np.arange(20.0)), np.sin(np.arange(42.0)).reshape(6, 7)


def instructions(eqn: Any) -> int:
    return 1 if eqn.primitive.operator is not None else 20


def fused(f: Any, *args: Any) -> Schedule:
    """Return the schedule of a function, after it has been run by NumPy and compared."""
    graph = simplify(ad.make_graph(f)(*args))
    schedule = fuse(graph, refusal, lambda spec: len(spec.values) > 1, instructions=instructions)
    verify(schedule.graph, "fuse")
    for x, y in zip(run_schedule(schedule, args), evaluate(graph, (), args), strict=True):
        np.testing.assert_array_equal(x, y)
    return schedule


def counts(f: Any, *args: Any) -> tuple[int, int]:
    """Return how many kernels a function becomes, and how many arrays they store."""
    kernels = list(fused(f, *args).kernels())
    return len(kernels), sum(len(spec.stores) for spec in kernels)


def laplacian(u):
    return u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]


def test_a_stencil_and_its_gradient_are_one_kernel_each():
    steps = lambda x: np.sum((x[1:] - x[:-1]) ** 2)
    assert counts(steps, X) == (1, 1)
    assert counts(ad.grad(steps), X) == (1, 1)


def test_differences_of_what_is_computed_are_one_kernel():
    assert counts(lambda x: np.diff(x * x + 1.0) * 2.0, X) == (1, 1)
    assert counts(lambda x: (x * 2.0)[::-1] + x * 2.0, X) == (1, 1)


def test_what_would_be_computed_too_often_is_stored():
    """Five points of five points each: the gradient reads one array that it stores."""
    assert counts(ad.grad(lambda u: np.sum(laplacian(u) ** 2)), U) == (2, 2)


def test_a_costly_operation_is_computed_once_at_each_point():
    assert counts(lambda x: np.diff(np.sin(x) * 2.0) * 2.0, X) == (2, 2)
    assert counts(lambda x: np.sin(x)[3:] * 2.0, X) == (1, 1)  # read once


def test_a_costly_operation_is_not_repeated_along_another_axis():
    assert counts(lambda u: np.exp(u[0] * 2.0)[None, :] * u + 1.0, U) == (2, 2)
    # nor is a cheap one repeated for many rows
    assert counts(lambda u: (u[0] * 2.0 + 1.0)[None, :] * u + 1.0, U) == (2, 2)
    assert counts(lambda u: (u[0] * 2.0 + 1.0)[None, :] * u[:3] + 1.0, U) == (1, 1)


def test_what_is_laid_out_is_computed_where_it_is_laid():
    f = lambda x: np.concatenate([np.sin(x) * 2.0, np.cos(x) + 1.0])
    (spec,) = fused(f, X).kernels()
    assert spec.shape == (40,)
    assert [value.dtype.name for value in spec.values].count("float64") == 5
    assert counts(lambda x: np.pad(np.sin(x) * 2.0, 3), X) == (1, 1)
    assert counts(ad.grad(lambda x: np.sum(np.sin(x[1:]) ** 2)), X) == (1, 1)


def test_a_value_needed_elsewhere_is_stored_and_not_computed_again_where_rounding_may_differ():
    """A product may be rounded with the sum it is part of: in one kernel, and not in the other."""

    def f(x):
        y = x * x + 1.0
        return y, y[1:] * 2.0

    loads = [{load.operand for load in spec.loads} for spec in fused(f, X).kernels()]
    graph = fused(f, X).graph
    assert len(loads) <= 2
    assert graph.outputs[0] in [atom for eqn in graph.eqns for atom in eqn.inputs]

    def g(x):  # sums alone have the same bits wherever they are computed
        y = x + 1.0 - x[::-1]
        return y, y[1:] * 2.0 + 1.0

    graph = fused(g, X).graph
    assert graph.outputs[0] not in [atom for eqn in graph.eqns for atom in eqn.inputs]


def test_what_is_not_a_kernel_in_the_end_finds_what_it_reads():
    """Kernels that are not worth it are left as equations, which need all that they name."""

    def f(x):
        y = x + 1.0
        return np.sum(y), -y[::-1]

    for least in range(1, 5):
        graph = simplify(ad.make_graph(f)(X))
        schedule = fuse(graph, refusal, lambda spec, n=least: len(spec.values) >= n)
        verify(schedule.graph, "fuse")
        np.testing.assert_array_equal(run_schedule(schedule, [X])[1], f(X)[1])


@pytest.mark.parametrize("least", [1, 2, 3])
@pytest.mark.parametrize("seed", range(40))
def test_random_stencils_keep_their_values(seed, least):
    def f(x, u):
        random = np.random.default_rng(seed)
        pool = [x, x[2:-2]]
        for _ in range(14):
            a, b = (pool[i] for i in random.integers(len(pool), size=2))
            n = min(a.size, b.size)
            kind = random.integers(6)
            if kind == 0:
                pool.append(a[:n] * b[b.size - n :] + 0.5)
            elif kind == 1:
                pool.append(np.pad(a, tuple(random.integers(0, 3, size=2))))
            elif kind == 2:
                pool.append(np.concatenate([a[:5], np.tanh(b[::-1])]))
            elif kind == 3:
                pool.append(a - np.sum(a * 0.1) * b[0])
            elif kind == 4:
                pool.append(np.roll(a, 1) - a)
            else:
                pool.append(np.cumsum(a[::-1]) * u[0, 0])
        return tuple(pool[-3:])

    graph = simplify(ad.make_graph(f)(X, U))
    schedule = fuse(
        graph, refusal, lambda spec: len(spec.values) >= least, instructions=instructions
    )
    verify(schedule.graph, "fuse")
    for x, y in zip(run_schedule(schedule, [X, U]), evaluate(graph, (), [X, U]), strict=True):
        np.testing.assert_array_equal(x, y)
