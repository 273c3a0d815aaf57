"""Kernels that go over blocks of rows: all numbers of rows and points, passes, targets."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.codegen.cpu_kernels import emit_kernel
from autodiff.codegen.cpu_layout import collapsed
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import schedule_for_cpu
from autodiff.runtime.host import host
from tests.codegen.test_cpu_kernels import TARGETS, by_kernels, near

RANDOM = np.random.default_rng(17)


def logsumexp(x):
    m = np.max(x, axis=-1, keepdims=True)
    return np.log(np.sum(np.exp(x - m), axis=-1)) + m[..., 0]


def weighted(x, w, scale):
    """Several reductions in each of two passes; numbers of rows that are read at points."""
    total = np.log1p(np.sum(x * x, axis=1)) * w
    centred = x - np.mean(x, axis=1, keepdims=True) * np.tanh(w)[:, None]
    return centred * scale[::2, None], total, np.max(centred, axis=1) * np.exp(-np.abs(total))


def is_in_blocks(f, *args):
    schedule = schedule_for_cpu(simplify(ad.make_graph(f)(*args)))
    texts = [emit_kernel(collapsed(spec), host(), "kernel") for spec in schedule.kernels()]
    return any("%block" in text or "block.head" in text for text in texts)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("points", [33, 64, 70])
@pytest.mark.parametrize("rows", [2, 15, 16, 17, 40, 300])
def test_values_once_a_row_at_every_size(rows, points, dtype, target):
    x = RANDOM.normal(size=(rows, points)).astype(dtype)
    near(by_kernels(logsumexp, x, cpu_target=TARGETS[target]), logsumexp(x), ulps=8, scale=4.0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [16, 37, 130])
def test_rows_that_read_and_store_in_other_strides(rows, target):
    x = RANDOM.normal(size=(rows, 50))
    w, scale = RANDOM.normal(size=rows), RANDOM.normal(size=2 * rows)
    found = by_kernels(weighted, x, w, scale, cpu_target=TARGETS[target])
    near(found, weighted(x, w, scale), ulps=100, scale=1.0)


@pytest.mark.parametrize("f", [logsumexp, lambda x: np.exp(x - logsumexp(x)[:, None])])
def test_blocks_of_rows_equal_kernels_of_one_operation_each(f):
    x = RANDOM.normal(size=(77, 65)).astype(np.float32)
    assert is_in_blocks(f, x)
    together = by_kernels(f, x, contract=False)
    alone = by_kernels(f, x, contract=False, no_fusion=True)
    np.testing.assert_array_equal(together, alone)


def test_any_number_of_threads_gives_the_same_bits():
    x = RANDOM.normal(size=(3001, 70))
    once = by_kernels(logsumexp, x, threads=1)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(by_kernels(logsumexp, x, threads=threads), once)


def test_rows_are_gone_through_one_by_one_where_nothing_costly_is_done_once_a_row():
    x = RANDOM.normal(size=(64, 64))
    assert is_in_blocks(logsumexp, x)
    assert not is_in_blocks(lambda x: np.mean(x, axis=1), x)
    assert not is_in_blocks(logsumexp, RANDOM.normal(size=(64, 5000)))
