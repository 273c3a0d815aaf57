"""Several kernels in one call: one block of parameters, one piece of memory between them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.graph import make_graph
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cuda_kernels import schedule_for_cuda
from autodiff.runtime.cuda_launcher import _assignments
from autodiff.runtime.cuda_programs import KernelProgram, cuda_function, graph_program
from tests.composition.fake_cupy import ndarray
from tests.emulator.device import EmulatorDevice, emulated


@pytest.fixture(params=[False, True], ids=["fast", "checked"])
def device(request):
    with emulated(checked=request.param) as found:
        yield found


@pytest.fixture
def sizes(monkeypatch):
    """The bytes of every array that the device is asked for."""
    found: list[int] = []
    empty = EmulatorDevice.empty

    def counted(self, shape, dtype):
        found.append(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return empty(self, shape, dtype)

    monkeypatch.setattr(EmulatorDevice, "empty", counted)
    return found


def chained(x, w):
    """Kernels over columns and over rows: each needs the sums of the one before it."""
    for axis in (0, 1, 0):
        x = np.sin(x - np.sum(x * w, axis=axis, keepdims=True))
    return x, np.max(x, axis=1)


def program_of(function, *arguments, device):
    graph = simplify(ad.make_graph(function)(*arguments))
    scheduled = schedule_for_cuda(make_graph(graph.inputs, (), graph.eqns, graph.outputs)).graph
    functions = [cuda_function(eqn.params["spec"], device) for eqn in scheduled.eqns]
    return graph_program(scheduled, functions, device)


X = np.linspace(-1.0, 2.0, 70).reshape(7, 10)
W = np.cos(np.arange(70.0)).reshape(7, 10)


def check(found, expected):
    for y, wanted in zip(found, expected, strict=True):
        assert type(y) is ndarray
        np.testing.assert_allclose(y._data, wanted, rtol=1e-12)


def test_kernels_are_launched_in_one_call(device, sizes):
    f = ad.jit(chained)
    for scale in (1.0, 2.0, 3.0):
        sizes.clear()
        check(f(ndarray(scale * X), ndarray(W)), chained(scale * X, W))
    # Two results, and one piece for all that lies between the kernels.
    assert len(sizes) == 3
    assert sizes[:2] == [X.nbytes, 7 * 8]


def test_memory_is_used_again_for_what_comes_later(device, sizes):
    def long(x):
        for i in range(12):
            x = np.sin(x - np.sum(x, axis=i % 2, keepdims=True))
        return x

    f = ad.jit(long)
    found = f(ndarray(X))
    sizes.clear()
    np.testing.assert_array_equal(f(ndarray(X))._data, found._data)
    result, between = sizes
    assert result == X.nbytes
    assert between < 6 * X.nbytes


def test_other_operands_are_brought_into_order(device):
    f = ad.jit(chained)
    wide = np.zeros((7, 20))
    wide[:, ::2] = X
    for x in (ndarray(X), ndarray(wide)[:, ::2], ndarray(X[::-1].copy())[::-1], ndarray(X)):
        check(f(x, ndarray(W)), chained(X, W))
    single = (X.astype(np.float32), W.astype(np.float32))
    shifted = ndarray(np.concatenate([[0.0], single[0].ravel()]).astype(np.float32))[1:]
    assert shifted.data.ptr % 16
    for y, wanted in zip(
        f(shifted.reshape(7, 10), ndarray(single[1])), chained(*single), strict=True
    ):
        np.testing.assert_allclose(y._data, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [0.5, 2, np.float64(0.25), np.float32(0.5)])
def test_numbers_of_the_host_are_given_by_value(device, rate):
    def f(x, rate):
        x = x - rate * np.sum(x, axis=0)
        return x * rate / np.max(x, axis=1, keepdims=True)

    jitted = ad.jit(f)
    for _ in range(2):
        check([jitted(ndarray(X), rate)], [f(X, rate)])
        check([jitted(ndarray(X), ndarray(np.asarray(rate)))], [f(X, np.asarray(rate))])


def test_what_is_computed_of_numbers_alone_is_computed_on_the_host(device):
    def f(x, t):
        x = x * np.sum(x * (1 - 0.9**t), axis=0)
        return np.sum(x, axis=1), t + 1.0

    jitted = ad.jit(f)
    for t in (1.0, 2.0):
        y, later = jitted(ndarray(X), t)
        np.testing.assert_allclose(y._data, f(X, t)[0], rtol=1e-12)
        assert float(later) == t + 1.0


def test_passes_over_few_long_rows_are_kernels_of_the_program(device):
    def f(x):
        e = np.exp(x - np.max(x, axis=1, keepdims=True))
        return np.sum(e / np.sum(e, axis=1, keepdims=True), axis=0)

    x = np.random.default_rng(0).normal(size=(2, 70_000))
    program = program_of(f, x, device=device)
    assert program is not None
    for _ in range(2):
        check(program.call(ndarray(x)), [f(x)])
    before = len(device.launched)
    program.call(ndarray(x))
    assert len(device.launched) - before > 2


def test_a_program_is_part_of_another_one_under_other_numbers(device):
    x = np.random.default_rng(0).normal(size=(3, 60_000))

    def f(x):
        return np.exp(x - np.max(x, axis=1, keepdims=True))

    (eqn,) = schedule_for_cuda(simplify(ad.make_graph(f)(x))).graph.eqns
    program = cuda_function(eqn.params["spec"], device)
    assert isinstance(program, KernelProgram)
    steps = program.steps([7], [3], 20)
    assert steps[0].operands == (7,)
    assert steps[-1].results == (3,)
    assert {value for step in steps for value in step.results} == {3, 20}


def test_results_that_are_no_kernels_alone_are_left_to_calls(device):
    def f(x):
        y = np.sin(x - np.sum(x, axis=0))
        return y, x, y, np.sum(y, axis=1)

    found = ad.jit(f)(ndarray(X))
    check(found, f(X))
    assert not any(np.shares_memory(found[0]._data, y._data) for y in found[1:])


def test_threads_share_a_program(device):
    f = ad.jit(chained)
    arguments = [k * X for k in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: f(ndarray(x), ndarray(W)), arguments * 4))
    for x, results in zip(arguments * 4, found, strict=True):
        check(results, chained(x, W))


def test_neighbouring_parameters_are_written_together():
    assert _assignments({3: "p1", 2: "p0", 5: "m"}) == ["values[2:4] = p0, p1", "values[5] = m"]
