"""What becomes one kernel, what does not and why, and the order in which all runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.evaluate import evaluate
from autodiff.ir.graph import Graph
from autodiff.ir.verify import verify
from autodiff.passes.pipeline import simplify
from autodiff.schedule.fuse import Schedule, fuse, kernel
from autodiff.schedule.group import MOST_INSTRUCTIONS
from autodiff.schedule.kernel_spec import Compute, KernelSpec, Reduce, in_rows, passes
from tests.passes.programs import random_graph
from tests.primitives.sampling import same_bits
from tests.schedule.interpreter import run_schedule

X, W = np.ones((4, 5)), np.ones(5)


def refusal(eqn):
    if eqn.primitive.combine is not None or eqn.primitive.kind == "elementwise":
        return None
    return "it is not elementwise"


def graph_of(function: Any, *args: Any) -> Graph:
    return simplify(ad.make_graph(function)(*args))


def fused(function: Any, *args: Any, **options: Any) -> Schedule:
    schedule = fuse(graph_of(function, *args), refusal, lambda spec: True, **options)
    verify(schedule.graph, "fuse")
    return schedule


def the_kernel(function: Any, *args: Any) -> KernelSpec:
    (spec,) = fused(function, *args).kernels()
    return spec


def operations(schedule: Schedule) -> list[str]:
    return [eqn.primitive.name for eqn in schedule.graph.eqns]


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def test_a_softmax_is_one_kernel_of_three_passes():
    spec = the_kernel(softmax, X)
    assert str(spec) == (
        "kernel over rows [4], points [5] {\n"
        "  v0: float64 = load 0 at 5 i0 + i1\n"
        "  v1: float64 = max over points of v0\n"
        "  v2: float64 = subtract v0 v1\n"
        "  v3: float64 = exp v2\n"
        "  v4: float64 = sum over points of v3\n"
        "  v5: float64 = divide v3 v4\n"
        "  store 0 at 5 i0 + i1: v5\n"
        "}"
    )
    assert passes(spec) == (0, 1, 1, 1, 2, 2)
    assert in_rows(spec) == (False, True, False, False, True, False)


def test_a_layer_norm_and_its_gradient_are_one_kernel_each():
    def norm(x):
        centred = x - np.mean(x, axis=-1, keepdims=True)
        return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-5)

    assert len(list(fused(norm, X).kernels())) == 1
    gradient = fused(ad.grad(lambda x: np.sum(norm(x) * W)), X)
    assert set(operations(gradient)) == {"kernel"}


def test_views_are_strides_of_loads():
    def f(x, w):
        return x[:, ::-1] * w + x[1:2, 2:3] - np.broadcast_to(x[0], (4, 5)).T.T

    spec = the_kernel(f, X, W)
    found = {(load.operand, load.strides, load.offset) for load in spec.loads}
    assert found == {(0, (5, -1), 4), (1, (0, 1), 0), (0, (0, 0), 7), (0, (0, 1), 0)}
    assert "transpose" not in operations(fused(f, X, W))


def test_a_value_read_again_in_another_order_starts_another_kernel():
    f = lambda x: np.sin(x @ x.T * 1.0 + 1.0) + np.sin(x @ x.T * 1.0 + 1.0).T
    schedule = fused(f, X, instructions=lambda eqn: 9)
    assert operations(schedule).count("kernel") == 2
    assert any("in another order" in text for text in schedule.refusals)


def test_an_equation_between_keeps_a_kernel_from_closing_a_circle():
    """sort needs sin(x), and what follows needs both: sin must be stored before sort runs."""

    def f(x):
        s = np.sin(x)
        return np.cos(s) + np.sort(s)

    schedule = fused(f, X)
    assert operations(schedule) == ["kernel", "sort", "kernel"]
    assert any("needs a result of the kernel" in text for text in schedule.refusals)


def test_two_kernels_do_not_wait_for_each_other():
    """b needs a and d needs c; were {a, d} and {b, c} one kernel each, neither could run first."""

    def f(x, w):
        a = np.sin(x)
        c = np.cos(w)
        b = np.sum(a, axis=0) * c
        d = a + np.sort(c)[None, :]
        return b, d, np.sum(d) + np.sum(b)

    schedule = fused(f, X, W)
    outs = run_schedule(schedule, [X, W])
    for found, expected in zip(outs, f(X, W), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("seed", range(200))
def test_random_graphs_over_several_spaces_have_an_order_to_run_in(seed):
    x, w = np.cos(np.arange(16.0)).reshape(4, 4), np.sin(np.arange(4.0))

    def f(x, w):
        random = np.random.default_rng(seed)
        pool = [x, w, np.sum(x)]
        for _ in range(25):
            a, b = (pool[i] for i in random.integers(len(pool), size=2))
            kind = random.integers(5)
            if kind == 0 and a.ndim:
                pool.append(np.sum(a, axis=int(random.integers(a.ndim))))
            elif kind == 1 and a.ndim == 2:
                pool.append(a[::-1])
            elif kind == 2 and a.ndim:
                pool.append(np.sort(a, axis=-1))
            else:
                pool.append(np.tanh(a) * 0.5 + b)
        return tuple(pool[-4:])

    graph = graph_of(f, x, w)
    schedule = fuse(graph, refusal, lambda spec: len(spec.values) > 1)
    verify(schedule.graph, "fuse")
    found = run_schedule(schedule, [x, w])
    for one, other in zip(found, f(x, w), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_common_result_is_stored_once_and_computed_once():
    schedule = fused(lambda x: (np.sin(x), np.cos(np.sin(x)) * 2.0), X)
    (spec,) = schedule.kernels()
    names = [value.primitive.name for value in spec.values if isinstance(value, Compute)]
    assert names == ["sin", "cos", "multiply"]
    assert len(spec.stores) == 2


def test_kernels_that_read_the_same_array_are_one():
    spec = the_kernel(ad.value_and_grad(lambda x: np.sum(np.sin(x) + x)), X)
    assert len(spec.loads) == 1
    assert [store.shape for store in spec.stores] == [(), X.shape]
    assert len(list(fused(lambda x, y: (np.sin(x), np.cos(y)), X, X).kernels())) == 2


def test_kernels_that_read_the_same_array_stay_two_where_one_would_go_over_it_badly():
    for function in (
        lambda x: (np.sum(x * x, axis=0), np.sin(x)),  # its rows are columns
        lambda x: (np.sum(x * x, axis=0), np.sum(x + 1.0, axis=1)),
        lambda x: (np.sum(x * x, axis=1), np.sin(x)),  # rows of five
    ):
        assert len(list(fused(function, X).kernels())) == 2
    wide = np.ones((4, 100))
    both = fused(lambda x: (np.sum(x * x, axis=1), np.sin(x)), wide)
    assert len(list(both.kernels())) == 1


def test_kernels_that_read_the_same_array_stay_two_where_one_waits_for_the_other():
    def two(x):
        ordered = np.sort(np.exp(x) + x)
        return np.sin(ordered) * x

    assert operations(fused(two, X)).count("kernel") == 2


def test_a_kernel_takes_and_gives_in_the_order_of_the_graph():
    graph = fused(lambda x, y, z: (z - y * 2.0, x / z), X, X, X).graph
    (eqn,) = graph.eqns
    assert eqn.inputs == graph.inputs
    assert eqn.outputs == graph.outputs


def test_what_is_over_another_space_is_refused_with_a_reason_that_names_the_line():
    schedule = fused(lambda x: np.sum(x * 2.0, axis=0) + np.sum(x * 2.0, axis=1)[:4, None], X)
    wanted = "another reduction of the kernel is over other axes"
    found = [text for text in schedule.refusals if text.startswith("sum (test_fuse.py:")]
    assert any(text.endswith(wanted) for text in found)


def test_a_sum_over_everything_is_followed_by_what_is_done_with_it():
    spec = the_kernel(lambda x: np.sqrt(np.sum(x * x)) + 1.0, X)
    assert spec.rows == 0
    assert in_rows(spec)[-2:] == (True, True)
    assert spec.stores[0].shape == ()


def test_without_fusion_every_equation_is_a_kernel_of_its_own():
    schedule = fused(softmax, X, unite=False)
    assert all(len(spec.values) == 1 for spec in schedule.kernels())
    assert operations(schedule).count("kernel") == 5


def test_a_kernel_that_is_not_worth_it_is_left_as_its_equations():
    graph = graph_of(softmax, X)
    schedule = fuse(graph, refusal, lambda spec: False)
    assert [eqn.primitive for eqn in schedule.graph.eqns] == [e.primitive for e in graph.eqns]


def test_equal_kernels_of_different_lines_are_equal():
    one, other = the_kernel(lambda x: x * 2.0 + 1.0, X), the_kernel(lambda y: y * 2.0 + 1.0, X)
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_keep_their_values_when_their_kernels_are_run_by_numpy(seed):
    """Kernels carried out from their specs, point by point in NumPy, give the graph's values."""
    graph, arguments = random_graph(seed)
    graph = simplify(graph)
    schedule = fuse(graph, refusal, lambda spec: len(spec.values) > 1)
    verify(schedule.graph, "fuse")
    with np.errstate(all="ignore"):
        expected = evaluate(graph, (), arguments)
        found = run_schedule(schedule, arguments)
    assert all(map(same_bits, found, expected))


def test_a_schedule_prints_its_kernels_and_refusals():
    text = str(fused(lambda x: np.sort(np.sin(x) * 2.0), X))
    assert "# kernel 0\nkernel over points [4, 5] {" in text
    assert "# not fused: sort (test_fuse.py:" in text
    assert kernel.name == "kernel"
    assert not any(isinstance(v, Reduce) for v in the_kernel(lambda x: x + 1.0, X).values)


def test_a_kernel_has_a_most_of_instructions():
    def f(x):
        return np.cos(np.sin(np.exp(x) + 1.0))

    assert len(list(fused(f, X).kernels())) == 1
    half = fused(f, X, instructions=lambda eqn: MOST_INSTRUCTIONS // 2)
    assert len(list(half.kernels())) == 2
    assert any("instructions" in text for text in half.refusals)
