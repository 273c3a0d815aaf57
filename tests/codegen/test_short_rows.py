"""Kernels of short rows, which are read whole and turned in registers, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.codegen.cpu_short_rows import SHORT_ROW
from tests.codegen.test_cpu_kernels import TARGETS, by_kernels, near, softmax


@pytest.fixture
def random():
    return np.random.default_rng(23)


def moments(x):
    """Two passes, results of rows and of points, an operand that all rows share."""
    mean = np.mean(x, axis=-1, keepdims=True)
    centred = (x - mean) * np.linspace(0.5, 1.5, x.shape[-1]).astype(x.dtype)
    return centred, np.sum(centred * centred, axis=-1), np.max(x, axis=-1) + mean[..., 0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("points", range(1, SHORT_ROW + 2))
@pytest.mark.parametrize("rows", [16, 17, 50])
def test_rows_of_every_size(rows, points, dtype, target, random):
    x = random.normal(size=(rows, points)).astype(dtype)
    for f in (softmax, moments):
        near(by_kernels(f, x, cpu_target=TARGETS[target]), f(x), ulps=60, scale=4.0)


@pytest.mark.parametrize("name", ["max", "min", "sum", "prod", "any", "all"])
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f4", "f8"])
def test_reductions_of_every_type(name, dtype, random):
    x = (random.normal(size=(1000, 7)) * 2).astype(dtype)
    if x.dtype.kind == "f":
        x[::50, 3] = np.nan
        x[::77, 5] = np.inf
    f = lambda v: getattr(np, name)(v, axis=1)
    near(by_kernels(f, x), f(x), ulps=16, scale=8.0 if name == "sum" else None)


def test_rows_along_several_axes_and_views_of_rows(random):
    x = random.normal(size=(3, 20, 6))
    near(by_kernels(softmax, x), softmax(x), ulps=60, scale=1.0)
    for view in (
        lambda v: v[:, :, ::-1],
        lambda v: v[:, ::2],
        lambda v: v[:, :, 1:5],
        lambda v: v.transpose(2, 1, 0),
        lambda v: v[1:, 2:] * 2.0,
    ):
        f = lambda v, view=view: moments(view(v))
        near(by_kernels(f, x), f(x), ulps=60, scale=8.0)


@pytest.mark.parametrize("rows", [16, 32, 33])
def test_short_rows_written_over_a_donated_argument(rows, random):
    rows *= (1 << 20) // (16 * 8 * 8)
    x = random.normal(size=(rows + rows % 2, 8))
    expected = softmax(x)
    with ad.override(kernels=True):
        near(ad.jit(softmax, donate_argnums=0)(x.copy()), expected, ulps=60, scale=1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_short_rows_equal_kernels_of_one_operation_each(dtype, random):
    x = random.normal(size=(77, 9)).astype(dtype)
    for f in (softmax, moments):
        together = ad.tree.leaves(by_kernels(f, x, contract=False))
        alone = ad.tree.leaves(by_kernels(f, x, contract=False, no_fusion=True))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a, b)


def test_any_number_of_threads_gives_the_same_bits(random):
    x = random.normal(size=(20_011, 5))
    once = by_kernels(softmax, x, threads=1)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(by_kernels(softmax, x, threads=threads), once)
