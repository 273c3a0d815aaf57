"""Programs on CuPy's arrays as users write them: the first thing to run on a card.

Nothing here knows whether a card or the emulator computes. Results are compared with the reference,
NumPy equation by equation.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff import tree
from tests.codegen.cuda_programs import PROGRAMS, Program
from tests.codegen.test_cuda_programs import distance, expected

pytestmark = pytest.mark.gpu

#: Most of the GPU's elementary functions are off by up to 2 units in the last place (NVIDIA, CUDA
#: C++ Programming Guide, mathematical functions), where most of the C library's are by up to 1.
OF_A_CARD = 2


def on_device(gpu: ModuleType, value: Any) -> Any:
    """Return an array on the device; other values as they are."""
    if not isinstance(value, np.ndarray):
        return value
    try:
        return gpu.asarray(value)
    except (TypeError, ValueError):
        assert value.dtype.kind == "V", value.dtype
        pytest.skip("CuPy has had bfloat16 since version 14")


def results(gpu: ModuleType, program: Program) -> list[np.ndarray]:
    """Return what a program's kernels compute on the device."""
    arguments = tree.map(lambda x: on_device(gpu, x), program.arguments)
    found = tree.leaves(ad.jit(program.function)(*arguments))
    assert all(type(x) is gpu.ndarray for x in found)
    return [x.get() for x in found]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_kernels_compute_what_the_reference_does(gpu, program):
    with ad.override(contract=False):
        found = results(gpu, program)
    for x, wanted in zip(found, expected(program), strict=True):
        assert distance(x, wanted) <= OF_A_CARD * program.ulps


COMBINING = ("sum", "softmax", "embedding", "bins", "updates")


@pytest.mark.parametrize(
    "program",
    [p for p in PROGRAMS if any(name in p.name for name in COMBINING)],
    ids=lambda p: p.name,
)
def test_two_runs_give_the_same_bits(gpu, program):
    first, second = results(gpu, program), results(gpu, program)
    assert [x.tobytes() for x in first] == [x.tobytes() for x in second]


@pytest.mark.parametrize("n", [1, 31, 1024, 1025, 4100, 32768, 100_000, 1_000_003])
def test_sums_of_integers_are_exact(gpu, n):
    x = np.arange(n, dtype=np.int64) % 1001 - 500
    device = gpu.asarray(x)
    assert int(ad.jit(np.sum)(device)) == x.sum()
    rows = ad.jit(lambda x: np.sum(x, axis=1))(gpu.asarray(np.stack([x, -x, x * x])))
    assert rows.get().tolist() == [x.sum(), -x.sum(), (x * x).sum()]


@pytest.mark.parametrize("kind", ["add", "multiply", "min", "max"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i4", "u8"])
@pytest.mark.parametrize(("updates", "shape"), [(90, (7,)), (20_000, (7,)), (3000, (90, 130))])
def test_updates_at_places_have_the_bits_of_numpys(gpu, updates, shape, dtype, kind):
    random = np.random.default_rng(updates)
    x = (random.random((updates, *shape[1:])) * 4).astype(dtype)
    i = random.integers(0, shape[0], updates)
    wanted = np.ones(shape, dtype)
    ufunc = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}[kind]
    with np.errstate(over="ignore"):
        ufunc.at(wanted, i, x)
    update = ad.jit(lambda start, i, x: getattr(ad.at(start)[i], kind)(x))
    found = update(gpu.asarray(np.ones(shape, dtype)), gpu.asarray(i), gpu.asarray(x))
    np.testing.assert_array_equal(found.get(), wanted)


def test_a_gradient_that_is_not_jitted(gpu):
    x = np.random.default_rng(0).normal(size=(7, 33))
    loss = lambda x: np.sum(np.tanh(x) ** 2 / np.sum(np.exp(x), axis=1, keepdims=True))
    for _ in range(4):  # equation by equation at first, then by kernels
        found = ad.grad(loss)(gpu.asarray(x))
        assert type(found) is gpu.ndarray
        np.testing.assert_allclose(found.get(), ad.grad(loss)(x), rtol=1e-12)


def test_a_step_of_training_between_products_of_matrices(gpu):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(16, 5)), random.normal(size=(16, 3))
    weights = (random.normal(size=(5, 8)), np.ones(8), random.normal(size=(8, 3)), np.ones(3))

    def loss(weights, x, y):
        a, b, c, d = weights
        return np.mean((np.tanh(x @ a + b) @ c + d - y) ** 2)

    def step(weights, x, y):
        value, slopes = ad.value_and_grad(loss)(weights, x, y)
        return value, tuple(w - 0.1 * s for w, s in zip(weights, slopes, strict=True))

    on_host, on_gpu = weights, tuple(map(gpu.asarray, weights))
    stepped = ad.jit(step)
    for _ in range(3):
        value, on_host = step(on_host, x, y)
        found, on_gpu = stepped(on_gpu, gpu.asarray(x), gpu.asarray(y))
        np.testing.assert_allclose(found.get(), value, rtol=1e-12)
    for found, wanted in zip(on_gpu, on_host, strict=True):
        np.testing.assert_allclose(found.get(), wanted, rtol=1e-11)


def test_views_of_the_device_are_operands(gpu):
    base = np.random.default_rng(0).normal(size=(40, 33)).astype(np.float32)
    on_gpu = gpu.asarray(base)
    square = ad.jit(lambda x: x * x)
    for view in (lambda x: x[1:, 1:], lambda x: x.T, lambda x: x[::-1], lambda x: x[:, 3]):
        np.testing.assert_array_equal(square(view(on_gpu)).get(), view(base) ** 2)


def test_subnormal_numbers_infinities_and_signs_stay(gpu):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3e38], np.float32)
    found = ad.jit(lambda x: (x * 0.5, x + x, np.sqrt(x), 1.0 / x))(gpu.asarray(special))
    with np.errstate(all="ignore"):
        wanted = (special * np.float32(0.5), special + special, np.sqrt(special), 1 / special)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(x.get(), y)
        number = ~np.isnan(y)  # the sign of a NaN that an operation makes is the processor's choice
        np.testing.assert_array_equal(np.signbit(x.get())[number], np.signbit(y)[number])


def test_new_arrays_are_made_where_the_setting_says(gpu):
    with ad.override(device="gpu"):
        assert type(anp.arange(3)) is gpu.ndarray
    with ad.override(device="cpu"):
        assert type(anp.arange(3)) is np.ndarray


def test_a_batch_of_gradients(gpu):
    x = np.random.default_rng(0).normal(size=(9, 20))
    slope = ad.jit(ad.vmap(ad.grad(lambda x: np.sum(np.sin(x) * x))))
    wanted = np.cos(x) * x + np.sin(x)
    np.testing.assert_allclose(slope(gpu.asarray(x)).get(), wanted, rtol=1e-12, atol=1e-13)
