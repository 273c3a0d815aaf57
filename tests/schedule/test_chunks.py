"""Reductions of everything in chunks: which are divided, and that both parts together are right."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.codegen.cpu_layout import collapsed
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import schedule_for_cpu
from autodiff.schedule.chunks import CHUNK, in_chunks

RANDOM = np.random.default_rng(3)


def spec_of(f, *args):
    with ad.override(kernels=True):
        (spec,) = schedule_for_cpu(simplify(ad.make_graph(f)(*args))).kernels()
    return collapsed(spec)


def by_kernels(f, *args, **settings):
    with ad.override(kernels=True, **settings):
        return ad.jit(f)(*args)


@pytest.mark.parametrize("n", [2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 1, 5 * CHUNK + 123])
@pytest.mark.parametrize("threads", [1, 2])
def test_both_parts_together_are_the_whole(n, threads):
    x, w = RANDOM.normal(size=n), np.array(0.7)

    def f(x, w):
        y = x * w + 1.0
        return np.sum(y), y, np.max(y * y) + w, np.sqrt(np.sum(y * y)) * 2.0

    found = by_kernels(f, x, w, threads=threads)
    for one, other in zip(found, f(x, w), strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-12)
    assert in_chunks(spec_of(f, x, w)) is not None


def test_the_result_is_the_same_on_any_number_of_threads():
    x = RANDOM.normal(size=20 * CHUNK + 17).astype(np.float32)
    results = {
        by_kernels(lambda v: np.sum(np.exp(v) * 0.1), x, threads=n).tobytes() for n in (1, 2, 3)
    }
    assert len(results) == 1


def test_single_precision_sums_of_many_numbers_are_as_good_as_numpys():
    x = RANDOM.uniform(size=1 << 20).astype(np.float32)
    exact = np.sum(x.astype(np.float64) ** 2)
    found = by_kernels(lambda v: np.sum(v * v) + np.float32(0.0), x)
    assert abs(float(found) - exact) < 4e-7 * exact


def test_what_goes_over_the_points_twice_or_is_short_is_not_divided():
    x = RANDOM.normal(size=3 * CHUNK)
    assert in_chunks(spec_of(lambda v: np.sum((v - np.mean(v)) ** 2), x)) is None
    assert in_chunks(spec_of(lambda v: np.sum(v * v + 1.0), x[:100])) is None
    variance = lambda v: np.sum((v - np.mean(v)) ** 2)
    np.testing.assert_allclose(by_kernels(variance, x), variance(x), rtol=1e-12)
