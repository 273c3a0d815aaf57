"""Reductions of half precision in kernels: combined in single precision, rounded once."""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import (
    KernelFunction,
    can_emit,
    kernel_function,
    schedule_for_cpu,
    why_not_computed,
)
from autodiff.schedule.chunks import CHUNK
from autodiff.schedule.fuse import fuse
from tests.schedule.interpreter import run_schedule

RANDOM = np.random.default_rng(11)
TARGETS = ["auto", "avx2", "sse2"]
HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
SHAPES = [(5, 37), (40, 3), (3, 1), (70, 1030), (6, 5, 7), (2 * CHUNK + 77,)]


def by_kernels(f: Any, *args: Any, **settings: Any) -> Any:
    with ad.override(kernels=True, **settings):
        return ad.jit(f)(*args)


def of_squares(function: Any, axis: int | None, x: Any) -> Any:
    return function(x * x, axis=axis)


def kernels_of(f: Any, *args: Any) -> list[Any]:
    with ad.override(kernels=True):
        return list(schedule_for_cpu(simplify(ad.make_graph(f)(*args))).kernels())


def spacing(x: Any, dtype: np.dtype) -> Any:
    """Return the distance of neighbours in a half precision near x, subnormal ones included."""
    limits = ml_dtypes.finfo(dtype)
    size = np.maximum(np.abs(x), float(limits.smallest_normal))
    return float(limits.eps) * 2.0 ** np.floor(np.log2(size))


def near(found: np.ndarray, exact: Any, dtype: np.dtype, ulps: float) -> None:
    assert found.dtype == dtype
    wide, exact = found.astype(np.float64), np.asarray(exact, np.float64)
    assert wide.shape == exact.shape
    same = (wide == exact) | (np.isnan(wide) & np.isnan(exact))
    with np.errstate(invalid="ignore"):
        assert np.all(same | (np.abs(wide - exact) <= ulps * spacing(exact, dtype)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_reduction_is_the_exact_one_rounded_once(shape, dtype, target):
    """Half a unit of the only rounding, and a little for the sum in single precision."""
    x = RANDOM.uniform(0.5, 1.0, size=shape).astype(dtype)
    y = (x * x).astype(np.float64)
    for axis in {0, len(shape) - 1, None}:
        for function in (np.sum, np.max, np.min):
            squares = partial(of_squares, function, axis)
            found = by_kernels(squares, x, cpu_target=target)
            near(found, function(y, axis=axis), dtype, 0.51)
    found = by_kernels(lambda v: np.prod(v * v, axis=-1), x[..., :9], cpu_target=target)
    near(found, np.prod(y[..., :9], axis=-1), dtype, 0.51)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_means_variances_and_softmaxes_are_one_kernel(dtype):
    x = RANDOM.normal(size=(9, 83)).astype(dtype)
    wide = x.astype(np.float64)

    def softmax(v):
        e = np.exp(v - np.max(v, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)

    # every operation between is rounded to half precision, the largest terms to 1/2 unit of 4
    near(by_kernels(softmax, x), softmax(wide), dtype, 16)
    near(by_kernels(lambda v: np.mean(v * v, axis=1), x), np.mean(wide**2, axis=1), dtype, 4)
    variance = lambda v: np.mean((v - np.mean(v, axis=0)) ** 2, axis=0)
    near(by_kernels(variance, x), variance(wide), dtype, 8)
    assert len(kernels_of(softmax, x)) == 1


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_sums_do_not_stall_where_half_precision_would(dtype):
    """Adding 1 to 2048 (float16) or 256 (bfloat16) in the type itself changes nothing."""
    x = np.ones((4096, 300), dtype)
    assert np.all(by_kernels(lambda v: np.sum(v, axis=0), x).astype(float) == 4096.0)
    assert float(by_kernels(lambda v: np.sum(v[:, 0] * v[:, 1]), x)) == 4096.0
    many = np.ones(5 * CHUNK, dtype)
    assert float(by_kernels(lambda v: np.sum(v * v), many)) == 5 * CHUNK


def test_partial_results_do_not_overflow_where_the_total_does_not():
    x = np.full(4 * CHUNK, 10.0, np.float16)
    x[2 * CHUNK :] = -10.0
    assert float(by_kernels(lambda v: np.sum(v * 2.0), x)) == 0.0
    assert np.isinf(by_kernels(lambda v: np.sum(v * 2.0), np.abs(x)))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_nan_and_infinities_are_passed_on(dtype, axis):
    x = RANDOM.normal(size=(40, 50)).astype(dtype)
    x[3, 17], x[20, 49], x[39, 0] = np.nan, np.inf, 0.0
    y = x.astype(np.float64)
    for function in (np.max, np.min, np.sum, np.prod):
        found = by_kernels(partial(of_squares, function, axis), x).astype(np.float64)
        expected = np.asarray(function(y * y, axis=axis))
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_array_equal(found[np.isinf(expected)], expected[np.isinf(expected)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_fused_kernels_equal_kernels_of_one_operation_each_bit_for_bit(axis, dtype, target):
    x = RANDOM.normal(size=(33, 600)).astype(dtype)

    def f(v):
        e = np.exp(v - np.max(v, axis=axis, keepdims=True)) * 0.5
        total = np.sum(e, axis=axis, keepdims=True)
        return e / total, np.min(e * e + v, axis=axis), np.prod(np.cos(v * 0.01), axis=axis)

    with ad.override(kernels=True, contract=False, cpu_target=target):
        graph = simplify(ad.make_graph(f)(x))
        results = [
            run_schedule(fuse(graph, why_not_computed, can_emit, unite=unite), [x], kernel_function)
            for unite in (True, False)
        ]
    for together, apart in zip(*results, strict=True):
        assert together.tobytes() == apart.tobytes()


def test_rows_far_apart_are_read_in_tiles_and_give_the_same_bits():
    x = RANDOM.normal(size=(50, 1500)).astype(np.float16)
    f = lambda v: np.sum(v * v, axis=0)
    (spec,) = kernels_of(f, x)
    assert "tile.head" in KernelFunction(spec).text
    near_apart = np.ascontiguousarray(x[:, :64])
    assert by_kernels(f, x)[:64].tobytes() == by_kernels(f, near_apart).tobytes()


def test_the_result_is_the_same_on_any_number_of_threads():
    x = RANDOM.normal(size=20 * CHUNK + 17).astype(np.float16)
    results = {by_kernels(lambda v: np.sum(v * v), x, threads=n).tobytes() for n in (1, 2, 3)}
    assert len(results) == 1
