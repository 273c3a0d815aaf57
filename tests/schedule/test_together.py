"""Which kernels are launched together, which are not and why, and the order in which all runs."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.evaluate import evaluate
from autodiff.ir.graph import Graph
from autodiff.ir.verify import verify
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cuda_kernels import schedule_for_cuda
from autodiff.schedule import multi_kernel, together
from autodiff.schedule.fuse import Schedule
from autodiff.schedule.multi_kernel import PARAMETER_BYTES, MultiKernel
from tests.primitives.sampling import same_bits
from tests.schedule.interpreter import run_schedule

F32 = np.float32


def graph_of(function: Any, *args: Any) -> Graph:
    return simplify(ad.make_graph(function)(*args))


def scheduled(function: Any, *args: Any) -> Schedule:
    """Return the schedule for a GPU, whose values are those of the graph."""
    graph = graph_of(function, *args)
    schedule = schedule_for_cuda(graph)
    verify(schedule.graph, "launch_together")
    leaves = ad.tree.leaves(args)
    with np.errstate(all="ignore"):
        expected, found = evaluate(graph, (), leaves), run_schedule(schedule, leaves)
    assert all(map(same_bits, found, expected))
    return schedule


def counts(schedule: Schedule) -> list[int]:
    """Return how many kernels each launch is of."""
    return [len(x.members) if isinstance(x, MultiKernel) else 1 for x in schedule.kernels()]


def operations(schedule: Schedule) -> list[str]:
    return [eqn.primitive.name for eqn in schedule.graph.eqns]


def ones(*shapes: Any, dtype: Any = F32) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(0.5, 1.5, shape).astype(dtype) for shape in shapes]


def momentum(parameters, gradients, means, rate):
    updated = []
    for x, g, m in zip(parameters, gradients, means, strict=True):
        m = F32(0.5) * m + g
        updated.append((x - rate * m, m))
    return updated


def test_an_update_of_all_parameters_is_one_launch_that_can_be_read():
    shapes = ((3, 5), (7,), (1,))
    schedule = scheduled(momentum, *[ones(*shapes) for _ in range(3)], F32(0.1))
    assert str(schedule) == (
        "# kernel 0\n"
        "kernel over points [n], for 3 in one launch {\n"
        "  v0: float32 = load 0 at i0\n"
        "  v1: float32 = load 1 at i0\n"
        "  v2: float32 = load 2 at 0\n"
        "  v3: float32 = load 3 at i0\n"
        "  v4: float32 = multiply 0.5 v0\n"
        "  v5: float32 = add v4 v1\n"
        "  v6: float32 = multiply v2 v5\n"
        "  v7: float32 = subtract v3 v6\n"
        "  store 0 at i0: v7\n"
        "  store 1 at i0: v5\n"
        "}\n"
        "  n = 15: loads 0, 1, 3; stores [3, 5]\n"
        "  n = 7: loads 4, 5, 6; stores [7]\n"
        "  n = 1: loads 7, 8, 9; stores [1]\n"
        "  all: load 2 is 2"
    )


def test_a_hundred_parameters_are_two_launches():
    shapes = [(n,) for n in range(1, 101)]
    schedule = scheduled(momentum, *[ones(*shapes) for _ in range(3)], F32(0.1))
    assert counts(schedule) == [84, 16]
    (first, _) = schedule.kernels()
    assert isinstance(first, MultiKernel) and first.capacity == 84


def test_a_step_of_training_updates_the_weights_of_all_layers_in_one_launch():
    def loss(weights, x):
        for w in weights:
            x = np.tanh(x @ w)
        return np.sum(x * x)

    def step(weights, means, x):
        gradients = ad.grad(loss)(weights, x)
        return momentum(weights, gradients, means, F32(0.1))

    weights = ones((6, 5), (5, 4), (4, 7))
    graph = graph_of(step, weights, weights, *ones((9, 6)))
    launches = [x for x in schedule_for_cuda(graph).kernels() if isinstance(x, MultiKernel)]
    assert [[member.size for member in x.members] for x in launches] == [[30, 20, 28]]


def test_what_a_launch_is_told_of_its_members_fits_into_its_parameters():
    schedule = scheduled(momentum, *[ones(*[(3,)] * 90) for _ in range(3)], F32(0.1))
    for launch in schedule.kernels():
        assert isinstance(launch, MultiKernel)
        own = len(launch.body.loads) - len(launch.shared) + len(launch.body.stores)
        each = multi_kernel.ADDRESS_BYTES * own + multi_kernel.SIZES_BYTES
        rest = multi_kernel.SHARED_BYTES * (1 + len(launch.shared))
        assert len(launch.members) <= launch.capacity
        assert (
            launch.capacity * each + rest <= PARAMETER_BYTES < (launch.capacity + 1) * each + rest
        )


def test_kernels_of_other_types_or_operations_are_other_launches():
    single, half = ones((3,), (4,)), ones((5,), (6,), dtype=ml_dtypes.bfloat16)
    schedule = scheduled(lambda *arrays: [np.exp(x) for x in arrays], *single, *half)
    assert counts(schedule) == [2, 2]
    schedule = scheduled(lambda x, y: (np.exp(x), np.sin(y)), *single)
    assert counts(schedule) == [1, 1]


def test_a_number_of_each_is_its_own_and_a_number_of_all_is_shared():
    def f(arrays, numbers, rate):
        return [x * k - rate for x, k in zip(arrays, numbers, strict=True)]

    (launch,) = scheduled(f, ones((3,), (2, 2)), [F32(2), F32(3)], F32(0.5)).kernels()
    assert isinstance(launch, MultiKernel)
    numbers = [k for k, load in enumerate(launch.body.loads) if load.strides == (0,)]
    assert len(numbers) == 2 and len(launch.shared) == 1
    assert launch.shared < set(numbers)


def test_parts_of_one_array_are_arrays_of_their_own():
    (launch,) = scheduled(lambda x: [np.exp(x[:5]), np.exp(x[5:])], *ones((12,))).kernels()
    assert isinstance(launch, MultiKernel)
    assert [member.reads for member in launch.members] == [((0, 0),), ((0, 5),)]


def test_kernels_that_need_one_another_are_launched_in_turn():
    def f(x, y):
        return np.exp(np.sort(np.exp(np.sort(np.exp(x))))), np.exp(y)

    schedule = scheduled(f, *ones((3,), (4,)))
    assert counts(schedule) == [1, 1, 2]
    (refusal,) = [text for text in schedule.refusals if "launched" in text]
    assert refusal.startswith("2 kernels (test_together.py:")
    assert refusal.endswith(
        "are not launched with those alike before them: a result of these is needed first"
    )


def test_a_kernel_needed_on_the_way_to_another_is_not_launched_with_it():
    # By way of a sort: sort needs the first, the last needs the sort.
    schedule = scheduled(lambda x: np.exp(np.sort(np.exp(x))), *ones((5,)))
    assert counts(schedule) == [1, 1]
    assert operations(schedule) == ["kernel", "sort", "kernel"]


def test_a_kernel_waits_for_others_as_long_as_nothing_needs_its_result():
    def f(x, y, z):
        a = np.exp(x)
        b = np.sort(z)
        c = np.exp(y)
        return np.sort(a), b, c

    schedule = scheduled(f, *ones((3,), (4,), (5,)))
    assert operations(schedule) == ["sort", "kernel", "sort"]


def test_views_of_results_wait_with_them():
    def f(x, y):
        a = np.exp(x).reshape(2, 3).T
        b = np.exp(y).reshape(4)
        return a, np.sort(a), b

    schedule = scheduled(f, *ones((6,), (2, 2)))
    assert counts(schedule) == [2]
    assert operations(schedule)[0] == "kernel"


def test_launches_of_many_bytes_are_several(monkeypatch):
    f, x = (lambda arrays: [np.exp(x) for x in arrays]), ones(*[(100,)] * 6)
    assert counts(scheduled(f, x)) == [6]
    monkeypatch.setattr(together, "MOST_BYTES", 2 * 2 * 400)
    assert counts(scheduled(f, x)) == [2, 2, 2]
    monkeypatch.setattr(together, "MOST_BYTES", 1)
    assert counts(scheduled(f, x)) == [1] * 6


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x / np.sum(x), "a point is not computed of its own elements alone"),
        (lambda x: x[::-1] * 2, "an array is gone through in another order than in memory"),
        (lambda x: np.exp(np.sum(x)) + np.sin(x[0]), "a point is not computed"),
    ],
)
def test_what_is_launched_one_by_one_has_its_reason(function, reason):
    schedule = scheduled(lambda x, y: (function(x), function(y)), *ones((6,), (6,)))
    assert not any(isinstance(x, MultiKernel) for x in schedule.kernels())
    refusals = [text for text in schedule.refusals if "launched one by one" in text]
    assert any(reason in text for text in refusals)
    assert all("test_together.py:" in text for text in refusals)


def test_numbers_alone_are_computed_one_by_one():
    schedule = scheduled(lambda x, y: (np.exp(np.sort(x)[0]), np.exp(y)), np.ones(3), np.float64(2))
    assert not any(isinstance(x, MultiKernel) for x in schedule.kernels())


def test_without_fusion_every_equation_is_a_launch():
    with ad.override(no_fusion=True):
        schedule = scheduled(lambda x, y: (np.exp(x), np.exp(y)), *ones((3,), (4,)))
    assert counts(schedule) == [1, 1]


def random_schedule(seed: int) -> Schedule:
    """Return the schedule of a random program over arrays of several shapes."""
    random = np.random.default_rng(seed)

    def f(*arrays):
        pool = list(arrays)
        for _ in range(30):
            x = pool[random.integers(len(pool))]
            kind = random.integers(7)
            if kind < 2:
                pool.append(np.exp(-x) if kind else x * x)
            elif kind < 4:
                pool.append(np.sort(np.exp(-np.sort(x))))
            elif kind == 4:
                pool.append(x.reshape(-1)[::-1] if x.ndim > 1 else x.reshape(1, -1))
            elif kind == 5:
                pool.append(np.sum(x) * x)
            else:
                alike = [y for y in pool if y.shape == x.shape]
                pool.append(x - alike[random.integers(len(alike))])
        return [pool[i] for i in random.integers(len(pool), size=8)]

    return scheduled(f, *ones((2, 3), (5,), (2, 3), (1,), (1, 4)))


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_programs_keep_their_values_and_have_an_order_to_run_in(first):
    schedules = [random_schedule(seed) for seed in range(first, first + 20)]
    assert any(isinstance(x, MultiKernel) for schedule in schedules for x in schedule.kernels())
    assert any("needed first" in text for schedule in schedules for text in schedule.refusals)
