"""Running results in generated kernels: values, the order of rounding, and what they fuse with."""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.primitive import Primitive, primitives
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import schedule_for_cpu
from tests.primitives.sampling import same_bits

TARGETS = {"host": "auto", "avx2": "avx2", "sse2": "sse2"}
RUNNING = [p for p in primitives.values() if p.kind == "cumulative"]
OF_ONE = [p for p in RUNNING if len(p.samples.shapes[0]) == 1]
DTYPES = [
    np.dtype(bool),
    *(np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)),
    np.dtype(np.float16),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(np.float32),
    np.dtype(np.float64),
]


def as_kernel(function: Any, *args: Any, **settings: Any) -> Any:
    """Run a function with every equation that can be one as a kernel, whatever its size."""
    with ad.override(kernels=True, no_fusion=True, **settings):
        graph = simplify(ad.make_graph(function)(*args))
        assert schedule_for_cpu(graph).refusals == ()
        return ad.jit(function)(*args)


def fused(function: Any, *args: Any) -> Any:
    with ad.override(kernels=True):
        return ad.jit(function)(*args)


def kernels_of(function: Any, *args: Any) -> tuple[int, tuple[str, ...]]:
    """Return how many kernels a function is, and what is left to NumPy."""
    with ad.override(kernels=True):
        schedule = schedule_for_cpu(simplify(ad.make_graph(function)(*args)))
    rest = [eqn.primitive.name for eqn in schedule.graph.eqns if eqn.primitive.kind != "kernel"]
    return len(list(schedule.kernels())), tuple(rest)


def numbers(dtype: np.dtype, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype.kind == "b":
        return random.random(shape) < 0.1
    if dtype.kind in "iu":
        return random.integers(0, 100, shape).astype(dtype)
    return random.uniform(-1.3, 1.3, shape).astype(dtype)


def near(found: np.ndarray, expected: np.ndarray, error: float) -> None:
    """Compare with the larger of the numbers in units of `error`: intermediate ones are as large.

    NaNs and infinities are where they are expected.
    """
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
        return
    wide = np.float64 if found.dtype.itemsize < 8 else np.longdouble
    a, b = found.astype(wide), expected.astype(wide)
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite])
    scale = np.max(np.abs(b[finite]), initial=1e-30)
    assert np.all(np.abs(a - b)[finite] <= error * scale)


def takes(primitive: Primitive, dtype: np.dtype) -> bool:
    return ("f" if dtype.kind == "V" else dtype.kind) in primitive.dtypes


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("primitive", OF_ONE, ids=str)
def test_running_results_are_those_of_numpy_for_every_type(primitive, dtype, target):
    if not takes(primitive, dtype):
        assert dtype.kind in "biu"
        return
    x = numbers(dtype, (3, 37))
    for reverse in (False, True):
        for axis in (0, 1):
            run = partial(primitive, axis=axis, reverse=reverse)
            found = as_kernel(run, x, cpu_target=TARGETS[target])
            expected = primitive.reference(x, axis=axis, reverse=reverse)
            # 37 terms, each rounded alike: 40 units of the type's precision.
            units = 40 * float(ml_dtypes.finfo(dtype).eps) if dtype.kind in "fV" else 0.0
            near(found, expected, units)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((2,), 0),
        ((15,), 0),
        ((16,), 0),
        ((17,), 0),
        ((100,), 0),
        ((5, 1), 0),
        ((1, 5), 1),
        ((1, 5, 1), 1),
        ((3, 2), 0),
        ((33, 5), 0),
        ((300, 700), 0),  # a tile of blocks of rows
        ((2, 20, 33), 1),
        ((20, 3, 4), 0),
        ((4, 3, 20), 2),
    ],
)
def test_running_sums_at_every_size(shape, axis, reverse):
    x = numbers(np.dtype(np.int64), shape)
    run = partial(primitives["cumsum"], axis=axis, reverse=reverse)
    np.testing.assert_array_equal(as_kernel(run, x), run(x))


def test_running_sums_of_single_elements_are_these():
    x = numbers(np.dtype(np.int64), (600, 1))
    found = fused(lambda x: anp.cumsum(x * 2, axis=1) + anp.sum(x, axis=1, keepdims=True), x)
    np.testing.assert_array_equal(found, x * 3)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_running_sums_of_nothing_are_nothing(shape):
    found = fused(lambda x: anp.cumsum(x * 2.0, axis=-1), np.ones(shape))
    assert (found.shape, found.dtype) == (shape, np.float64)


def test_running_sums_of_views_read_through_them():
    x = numbers(np.dtype(np.int64), (6, 40))
    views = {
        "transposed": lambda x: x.T,
        "backwards": lambda x: x[::-1, ::-1],
        "in steps": lambda x: x[::2, 1::3],
        "repeated": lambda x: anp.broadcast_to(x[:1], (5, 40)),
    }
    for view in views.values():
        for axis in (0, 1):
            for direction in (1, -1):

                def run(x, view=view, axis=axis, direction=direction):
                    y = anp.cumsum(view(x) * 2, axis=axis)
                    return anp.flip(anp.cumsum(anp.flip(y, axis), axis=axis), axis) * direction

                np.testing.assert_array_equal(fused(run, x), run(x))
    outside = x.T[::-1]
    np.testing.assert_array_equal(
        as_kernel(lambda x: anp.cumsum(x, axis=0), outside), np.cumsum(outside, axis=0)
    )


@pytest.mark.parametrize("primitive", OF_ONE, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_one_after_the_other_have_the_bits_of_numpy(primitive, dtype):
    x = numbers(np.dtype(dtype), (50, 19))
    run = partial(primitive, axis=0, reverse=False)
    found, expected = as_kernel(run, x), run(x)
    if primitive.name == "cumlogsumexp":  # its function has errors of its own
        near(found, expected, 100 * float(np.finfo(dtype).eps))
    else:
        assert same_bits(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_and_half_precisions_have_the_bits_of_numpy_along_rows(dtype):
    x = numbers(np.dtype(dtype), (7, 300))
    assert same_bits(as_kernel(lambda x: anp.cumprod(x, axis=1), x), np.cumprod(x, axis=1))
    half = x.astype(np.float16)
    found = as_kernel(lambda x: anp.cumsum(x, axis=1), half)
    assert same_bits(found, np.cumsum(half, axis=1, dtype=np.float16))


@pytest.mark.parametrize("primitive", OF_ONE, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_of_rounding_is_that_of_no_processor_or_number_of_threads(primitive, dtype):
    """`cumlogsumexp` is left out on other processors: its function may round otherwise there."""
    x = numbers(np.dtype(dtype), (40, 5000))
    for axis in (0, 1):
        run = partial(primitive, axis=axis, reverse=True)
        first = as_kernel(run, x, threads=1)
        assert same_bits(as_kernel(run, x, threads=3), first)
        for target in () if primitive.name == "cumlogsumexp" else ("avx2", "sse2"):
            assert same_bits(as_kernel(run, x, cpu_target=target), first)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_sums_are_at_least_as_accurate_as_one_after_the_other(dtype):
    x = np.random.default_rng(3).uniform(0, 1, 100_000).astype(dtype)
    exact = np.cumsum(x.astype(np.longdouble))
    found = as_kernel(lambda x: anp.cumsum(x), x)
    error, error_of_numpy = (np.max(np.abs(y - exact)) for y in (found, np.cumsum(x)))
    assert error <= error_of_numpy
    # Every element is rounded at most 4 times within its block and once for each block before.
    bound = (5 + np.arange(x.size) // 16) * np.finfo(dtype).eps / 2 * exact
    assert np.all(np.abs(found - exact) <= bound)


def test_special_values_spread_as_in_numpy():
    x = np.zeros(64)
    x[:4] = -0.0
    for places in ((20,), (3, 40), (0, 63)):
        for first, second in ((np.nan, 1.0), (np.inf, -np.inf), (-np.inf, 2.0)):
            y = x.copy()
            y[list(places)] = ([first, second] * 2)[: len(places)]
            for primitive in OF_ONE:
                for reverse in (False, True):
                    run = partial(primitive, axis=0, reverse=reverse)
                    with np.errstate(all="ignore"):
                        near(as_kernel(run, y), run(y), 1e-14)
    signed = as_kernel(lambda x: anp.cumsum(x), np.full(20, -0.0))
    assert np.all(np.signbit(signed))


def test_a_zero_among_factors_stays_beside_products_that_overflow():
    x = np.array([0.0, 1e200, 1e200, 1e200])
    assert np.all(as_kernel(lambda x: anp.cumprod(x), x) == 0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(23,), (5, 23), (3, 7, 6)])
def test_the_recurrence_is_made_in_a_loop(shape, dtype, target):
    recurrence = primitives["linear_recurrence"]
    a, b = (numbers(np.dtype(dtype), shape, seed) for seed in (1, 2))
    for axis in range(len(shape)):
        for reverse in (False, True):
            first = [slice(None)] * len(shape)
            first[axis] = slice(-1, None) if reverse else slice(1)
            a[tuple(first)] = np.inf  # is not used
            run = partial(recurrence, axis=axis, reverse=reverse)
            found = as_kernel(run, a, b, cpu_target=TARGETS[target])
            near(found, run(a, b), 60 * float(np.finfo(dtype).eps))
            a[tuple(first)] = 0.5


# ------------------------------------------------------------------------------------------ fusion


def test_operations_before_and_after_are_in_the_same_kernel():
    x = numbers(np.dtype(np.float64), (30, 41))

    def f(x):
        return np.exp(-anp.cumsum(x * x, axis=1)) + x

    def after_softmax(x):
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        return anp.cumsum(e / np.sum(e, axis=-1, keepdims=True), axis=-1)

    def reduced(x):
        y = anp.cumsum(x * x, axis=1)
        return y / np.max(y, axis=1, keepdims=True), anp.cumprod(x, axis=0)

    assert kernels_of(f, x) == (1, ())
    assert kernels_of(after_softmax, x) == (1, ())
    assert kernels_of(reduced, x) == (2, ())
    for function in (f, reduced):
        found, apart = fused(function, x), as_kernel_pieces(function, x)
        assert all(map(same_bits, ad.tree.leaves(found), ad.tree.leaves(apart)))
    # A sum has other vectors in a kernel with a running one: its order may differ.
    near(fused(after_softmax, x), as_kernel_pieces(after_softmax, x), 1e-15)


def as_kernel_pieces(function: Any, *args: Any) -> Any:
    with ad.override(kernels=True, no_fusion=True):
        return ad.jit(function)(*args)


def test_running_results_in_different_directions_are_different_kernels():
    x = numbers(np.dtype(np.float64), (600,))
    cumsum = primitives["cumsum"]

    def both(x):
        y = cumsum(x * 2.0, axis=0, reverse=False)
        return cumsum(y * x, axis=0, reverse=True)

    assert kernels_of(both, x) == (2, ())
    near(fused(both, x), both(x), 1e-13)


@pytest.mark.parametrize("primitive", OF_ONE, ids=str)
def test_derivatives_and_batches_run_on_kernels(primitive):
    x = numbers(np.dtype(np.float64), (4, 600), seed=5)

    def loss(x):
        return anp.sum(primitive(x, axis=0, reverse=False) ** 2)

    gradient = ad.vmap(ad.grad(loss))
    _, rest = kernels_of(gradient, x)
    assert not {name for name in rest if primitives[name].kind == "cumulative"}
    near(fused(gradient, x), np.stack([ad.grad(loss)(row) for row in x]), 1e-11)
