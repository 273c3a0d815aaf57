"""Kernels over many arrays, run by the emulator: bits, numbers, views, launches, compilations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.runtime import cuda_functions
from bench.declare import OURS, Peer
from bench.programs import gpu
from tests.codegen.cuda_programs import SHAPES, adamw_of_each, momentum_of_each
from tests.composition import fake_cupy
from tests.emulator import EmulatorError
from tests.emulator.device import EmulatorDevice, emulated

F32 = np.float32


def arrays(*shapes: Any, dtype: Any = F32, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.uniform(0.1, 2.0, shape).astype(dtype) for shape in shapes]


def there(value: Any) -> Any:
    """Return NumPy's arrays as the device's; numbers stay numbers."""
    return tree.map(lambda x: fake_cupy.ndarray(x) if isinstance(x, np.ndarray) else x, value)


def back(value: Any) -> list[np.ndarray]:
    return [x.get() for x in tree.leaves(value)]


def equal_bits(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return all(
        (x.shape, x.dtype, x.tobytes()) == (y.shape, y.dtype, y.tobytes())
        for x, y in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize(
    ("update", "groups", "numbers"),
    [
        (adamw_of_each, [arrays(*SHAPES, seed=i) for i in range(4)], (F32(0.01),)),
        *[
            (
                momentum_of_each,
                [*[arrays(*SHAPES, dtype=half, seed=i) for i in range(2)], arrays(*SHAPES)],
                (F32(0.1),),
            )
            for half in (np.float16, ml_dtypes.bfloat16)
        ],
        (
            momentum_of_each,
            [arrays(*SHAPES, dtype=np.complex64, seed=i) for i in range(3)],
            (np.complex64(0.1 - 0.2j),),
        ),
    ],
)
def test_launched_together_kernels_have_the_bits_of_those_launched_alone(update, groups, numbers):
    with emulated(checked=True) as device:
        together = back(ad.jit(update)(*there(groups), *numbers))
        assert device.launched == ["kernel"]
        alone = ad.jit(update)
        apart = [
            y
            for member in zip(*groups, strict=True)
            for y in back(alone(*[[there(x)] for x in member], *numbers))
        ]
        assert len(device.launched) == 1 + len(groups[0])
    assert equal_bits(together, apart)


def test_an_update_of_a_hundred_tensors_is_two_launches():
    step = gpu.adamw(Peer(name=OURS, version="", numpy=np))
    given = arrays(*[(1 + 7 * (i % 100),) for i in range(400)])
    with emulated(seed=1) as device:
        found = back(ad.jit(step)(*there(given)))
        assert device.launched == ["kernel", "kernel"]
    with ad.override(reference=True):
        wanted = ad.jit(step)(*given)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-6)


def test_another_model_compiles_nothing(monkeypatch, tmp_path):
    compiled = []
    compile = EmulatorDevice.compile
    monkeypatch.setattr(
        EmulatorDevice, "compile", lambda self, text: compiled.append(text) or compile(self, text)
    )

    def step(parameters, gradients, rate):
        # No other test has this number, and so its text.
        return [x - rate * g * F32(0.8125) for x, g in zip(parameters, gradients, strict=True)]

    with ad.override(cache_dir=str(tmp_path)), emulated() as device:
        for shapes in ([(5,), (33,)], [(2000, 2), (1,), (7,), (12,)], [(i,) for i in range(2, 99)]):
            given = [arrays(*shapes, seed=i) for i in range(2)]
            found = back(ad.jit(step)(*there(given), 0.5))
            assert equal_bits(found, step(*given, F32(0.5)))
        assert device.launched == ["kernel"] * 3
    assert len(compiled) == 1


def test_numbers_of_the_host_are_parameters_from_call_to_call():
    given = arrays((5,), (2, 3), (70,))
    step = ad.jit(lambda arrays, rate: [x - rate * x for x in arrays])
    with emulated() as device:
        for rate in (0.5, F32(0.25), fake_cupy.ndarray(np.array(0.125, F32))):
            found = back(step(there(given), rate))
            assert equal_bits(found, [x - F32(float(rate)) * x for x in given])
        assert device.launched == ["kernel"] * 3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("where", ["host", "device", "both"])
def test_every_array_may_have_a_number_of_its_own(dtype, where):
    given = arrays((5,), (2, 3), (70,), dtype=dtype)
    numbers = [np.dtype(dtype).type(k) for k in (0.5, 2.0, -1.0)]
    with emulated(checked=True) as device:
        passed = [
            fake_cupy.ndarray(np.asarray(k)) if where == "device" or (where == "both" and i) else k
            for i, k in enumerate(numbers)
        ]
        step = ad.jit(lambda arrays, ks: [x * k for x, k in zip(arrays, ks, strict=True)])
        found = back(step(there(given), passed))
        assert device.launched == ["kernel"]
    assert equal_bits(found, [x * k for x, k in zip(given, numbers, strict=True)])


@pytest.mark.parametrize(
    "view", [lambda x: x[1:], lambda x: x[::-1], lambda x: x[2:][::3], lambda x: x.reshape(3, -1).T]
)
def test_arrays_that_are_not_aligned_or_not_contiguous_are_read_all_the_same(view):
    given = arrays((33,), (3000,), (9,))
    with emulated(checked=True) as device:
        step = ad.jit(lambda arrays: [x * x + x for x in arrays])
        for viewed in ({0}, {1}, {0, 1, 2}):
            passed = [view(x) if i in viewed else x for i, x in enumerate(given)]
            placed = [view(y) if i in viewed else y for i, y in enumerate(there(given))]
            assert equal_bits(back(step(placed)), [x * x + x for x in passed])
        assert device.launched == ["kernel"] * 3


@pytest.mark.parametrize(
    ("condition", "found", "number"),
    [("i + 4 <= n", "must be aligned", 0.625), ("is_aligned", "out of bounds", 0.6875)],
)
def test_arrays_are_read_by_lanes_only_where_they_may_be(condition, found, number, monkeypatch):
    source = cuda_functions._source

    def with_a_mistake(made: CudaKernel) -> str:
        return source(made).replace("is_aligned && i + 4 <= n", condition)

    monkeypatch.setattr(cuda_functions, "_source", with_a_mistake)
    # Each mistake is in the text of another number, which no other test has.
    step = ad.jit(lambda arrays: [x * x - F32(number) for x in arrays])
    given = arrays((65,), (3000,))
    with emulated(checked=True), pytest.raises(EmulatorError, match=found):
        step([x[1:] for x in there(given)])
        step(there(given))


def test_results_are_arrays_of_their_own():
    given = arrays((5,), (6,))
    step = ad.jit(lambda arrays: [x + F32(1) for x in arrays])
    with emulated():
        placed = there(given)
        first = step(placed)
        second = step(first)
        assert equal_bits(back(first), [x + 1 for x in given])
        assert equal_bits(back(second), [x + 1 + 1 for x in given])
        assert equal_bits(back(placed), given)


def test_arguments_may_be_donated():
    given = [arrays(*SHAPES, seed=i) for i in range(3)]
    step = ad.jit(momentum_of_each, donate_argnums=(0, 2))
    with emulated(checked=True):
        found = back(step(*there(given), F32(0.1)))
    with ad.override(reference=True):
        wanted = tree.leaves(ad.jit(momentum_of_each)(*given, F32(0.1)))
    assert equal_bits(found, wanted)


def test_loops_launch_what_they_do_together():
    def f(x, y):
        return ad.fori_loop(0, 3, lambda i, xy: (np.tanh(xy[0]), np.tanh(xy[1])), (x, y))

    given = arrays((40,), (3, 5))
    with emulated() as device:
        found = back(ad.jit(f)(*there(given)))
        launches = len(device.launched)
    assert launches <= 3
    for x, y in zip(found, given, strict=True):
        np.testing.assert_allclose(x, np.tanh(np.tanh(np.tanh(y))), rtol=1e-6)


def test_threads_share_a_function():
    step = ad.jit(lambda arrays, k: [x * k for x in arrays])
    given = arrays((5,), (64,), (2, 7))
    with emulated():
        step(there(given), F32(1))

        def run(k: int) -> bool:
            return equal_bits(back(step(there(given), F32(k))), [x * F32(k) for x in given])

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(run, range(40)))
