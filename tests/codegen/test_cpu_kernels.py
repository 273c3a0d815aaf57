"""Generated kernels against NumPy, and fused ones against the same operations one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import (
    KernelFunction,
    schedule_for_cpu,
)
from autodiff.schedule.target import AVX2, SSE2

RANDOM = np.random.default_rng(7)
TARGETS = {"host": "auto", "avx2": "avx2", "sse2": "sse2"}


def by_kernels(f: Any, *args: Any, **settings: Any) -> Any:
    with ad.override(kernels=True, **settings):
        return ad.jit(f)(*args)


def near(found: Any, expected: Any, ulps: float = 8.0, scale: float | None = None) -> None:
    """Compare leaves: equal types and shapes, values within some units in the last place.

    `scale`: of what numbers the units are; by default of each number itself.
    """
    assert tree.structure(found) == tree.structure(expected)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        y = np.asarray(y)
        assert type(x) is np.ndarray
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        if x.dtype.kind != "f":
            np.testing.assert_array_equal(x, y)
            continue
        wide = np.float64 if x.dtype.itemsize < 8 else np.longdouble
        a, b = x.astype(wide), y.astype(wide)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        unit = np.abs(np.spacing(y if scale is None else np.full_like(y, scale))).astype(wide)
        assert np.all(same | (np.abs(a - b) <= ulps * unit)), (x, y)


def count_kernels(f: Any, *args: Any) -> int:
    with ad.override(kernels=True):
        return len(list(schedule_for_cpu(simplify(ad.make_graph(f)(*args))).kernels()))


def chain(x):
    y = np.sin(x) * np.exp(-x * x) + 2.0 * x
    return np.cos(y) * y + np.where(y > 0, np.sqrt(np.abs(y)), y / (1.0 + y * y))


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def norm(x):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-3)


SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 129)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", SIZES)
def test_a_chain_of_operations_at_every_size(n, dtype, target):
    x = RANDOM.normal(size=n).astype(dtype)
    near(by_kernels(chain, x, cpu_target=TARGETS[target]), chain(x), ulps=8, scale=2.0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 1), (1, 5), (4, 16), (5, 37), (2, 3, 130), (1000, 10)])
def test_rows_with_several_reductions(shape, dtype, target):
    x = RANDOM.normal(size=shape).astype(dtype)
    for f in (softmax, norm):
        near(by_kernels(f, x, cpu_target=TARGETS[target]), f(x), ulps=40, scale=1.0)
    assert count_kernels(softmax, x) == 1


@pytest.mark.parametrize("f", [softmax, norm], ids=lambda f: f.__name__)
def test_gradients_of_rows_are_kernels_too(f):
    x, w = RANDOM.normal(size=(6, 21)), RANDOM.normal(size=21)
    gradient = ad.grad(lambda v: np.sum(f(v) * w))
    near(by_kernels(gradient, x), gradient(x), ulps=200, scale=1.0)
    assert count_kernels(gradient, x) <= 2


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "i2"])
def test_reductions_of_whole_arrays_and_of_rows(name, dtype):
    x = (RANDOM.normal(size=(5, 43)) * 3).astype(dtype)
    function = getattr(np, name)

    def f(v):
        w = v + v
        return function(w, dtype=w.dtype) if name in ("sum", "prod") else function(w)

    def rows(v):
        w = v + v
        if name in ("sum", "prod"):
            return function(w, axis=1, dtype=w.dtype)
        return function(w, axis=1)

    scale = max(1.0, float(np.abs(f(x)))) if name == "sum" else None
    near(by_kernels(f, x), f(x), ulps=64, scale=scale)
    near(by_kernels(rows, x), rows(x), ulps=64, scale=scale)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(7, 5), (40, 3), (3, 40), (33, 65), (16, 128), (4, 5, 37)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reductions_over_leading_axes(shape, dtype, target):
    x = RANDOM.normal(size=shape).astype(dtype)

    def f(v):
        total = np.sum(v * v + 1.0, axis=0)
        e = np.exp(v - np.max(v, axis=0))
        return total, e / np.sum(e, axis=0), np.sqrt(np.sum(v * v, axis=0)) + 1.0

    found = by_kernels(f, x, cpu_target=TARGETS[target])
    near(found, f(x), ulps=40, scale=float(np.max(f(x)[0])))
    near(found[1], f(x)[1], ulps=40, scale=1.0)
    assert count_kernels(lambda v: np.sum(v * v + 1.0, axis=0), x) == 1


FAR_APART = {
    "sum": lambda x, m: np.sum(np.exp(-x * x), axis=-2),
    "variance": lambda x, m: np.mean((x - m) ** 2, axis=-2),
    "largest": lambda x, m: np.max(x * 2.0 - m, axis=-2),
    "two": lambda x, m: (np.sum(x * x, axis=-2), np.prod(np.cos(x), axis=-2)),
    "and points": lambda x, m: (np.sin(x), np.sum(np.sin(x), axis=-2) + m),
    "count": lambda x, m: np.sum(x > m, axis=-2),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(17, 333), (40, 1030), (3, 21, 300), (64, 256)])
@pytest.mark.parametrize("name", FAR_APART)
def test_rows_whose_points_lie_far_apart_are_read_in_order(name, shape, dtype, target):
    x = RANDOM.normal(size=shape).astype(dtype)
    x[..., 3, 5] = np.nan
    m = RANDOM.normal(size=shape[-1]).astype(dtype)
    expected = FAR_APART[name](x.astype(np.longdouble), m.astype(np.longdouble))
    found = by_kernels(FAR_APART[name], x, m, cpu_target=TARGETS[target])
    tolerance = 200 * np.finfo(dtype).eps
    for ours, exact in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=tolerance, atol=tolerance)


def test_a_tile_of_rows_is_divided_over_threads_without_a_change():
    x = RANDOM.normal(size=(700, 1500)).astype(np.float32)
    f = FAR_APART["sum"]
    (spec,) = schedule_for_cpu(simplify(ad.make_graph(f)(x, x[0]))).kernels()
    assert "tile.head" in KernelFunction(spec).text
    alone = by_kernels(f, x, x[0], threads=1)
    for threads in (2, 3, 8):
        exactly_equal(by_kernels(f, x, x[0], threads=threads), alone)
    # points that lie near need no tiles; their sums are rounded alike
    np.testing.assert_array_equal(alone[:96], by_kernels(f, x[:, :96], x[0, :96]))


def test_reductions_over_middle_axes_and_of_transposed_arrays():
    x = RANDOM.normal(size=(5, 6, 70))
    for f in (
        lambda v: np.sum(v * 2.0 + 1.0, axis=1),
        lambda v: np.max(v.T * 2.0 + 1.0, axis=0),
        lambda v: np.sum(np.transpose(v, (2, 0, 1)) * 2.0 + 1.0, axis=(1, 2)),
        lambda v: np.sum(v * 2.0 + 1.0, axis=(0, 2)),
    ):
        near(by_kernels(f, x), f(x), ulps=40, scale=300.0)


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8, 10, 16])
@pytest.mark.parametrize("rows", [1, 7, 16, 100])
def test_short_rows(rows, columns):
    x = RANDOM.normal(size=(rows, columns)).astype(np.float32)
    near(by_kernels(softmax, x), softmax(x), ulps=16, scale=1.0)
    sums = lambda v: np.sum(v * 2.0 + 1.0, axis=1) * np.max(v + 1.0, axis=1)
    near(by_kernels(sums, x), sums(x), ulps=40, scale=40.0)


def test_reductions_pass_nan_on_as_numpys_do():
    x = RANDOM.normal(size=(4, 50))
    x[1, 17], x[2, 49], x[3, 0] = np.nan, np.nan, np.inf
    for f in (
        lambda v: np.max(v * 1.5, axis=1) + 0.0,
        lambda v: np.min(v * 1.5, axis=1) + 0.0,
        lambda v: np.sum(v * 1.5 + 1.0, axis=1),
    ):
        near(by_kernels(f, x), f(x), ulps=64, scale=100.0)


def test_what_only_a_later_pass_needs_is_computed_there():
    x = RANDOM.normal(size=(3, 41))

    def f(v):
        return np.exp(-0.5 * v**2) * np.sum(v, axis=1, keepdims=True)

    near(by_kernels(f, x), f(x), ulps=40, scale=10.0)
    assert count_kernels(f, x) == 1


def test_what_is_the_same_all_along_a_row_is_stored_at_every_point():
    rows, x = RANDOM.normal(size=(5, 1)), RANDOM.normal(size=(5, 33))

    def f(r, v):
        repeated = np.broadcast_to(r, (5, 33)) * 2.0 + 1.0
        totals = np.broadcast_to(np.sum(v * v, axis=1, keepdims=True), (5, 33))
        return repeated, repeated + 1.0, np.sum(v * 2.0, axis=1), totals * 1.0

    near(by_kernels(f, rows, x), f(rows, x), ulps=64, scale=40.0)
    ones = lambda v: (np.zeros_like(v) + 1.0) * 3.0
    near(by_kernels(ones, x), ones(x))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_empty_arrays_are_left_to_numpy(shape):
    x = np.zeros(shape)
    f = lambda v: (np.sin(v) * 2.0 + 1.0, np.sum(np.exp(v) * 2.0), np.sum(v * v + 1.0, axis=0))
    near(by_kernels(f, x), f(x))
    assert count_kernels(f, x) == 0


def test_truth_values_and_counts():
    x = RANDOM.normal(size=(7, 33))
    near(by_kernels(lambda v: np.any((v > 2.0) & (v < 9.0), axis=1), x), np.any(x > 2.0, axis=1))
    near(by_kernels(lambda v: np.all((v > -2.0) | (v > 5.0), axis=1), x), np.all(x > -2.0, axis=1))


@pytest.mark.parametrize("view", ["reversed", "every other", "transposed", "column", "row", "part"])
def test_views_inside_a_program_are_read_in_place(view):
    x = RANDOM.normal(size=(6, 18))
    views = {
        "reversed": lambda v: v[::-1, ::-1],
        "every other": lambda v: v[::2, ::3],
        "transposed": lambda v: v.T,
        "column": lambda v: v[:, 3:4],
        "row": lambda v: v[2],
        "part": lambda v: v[1:5, 2:17],
    }

    def f(v):
        part = views[view](v)
        return part * 2.0 + part * part

    near(by_kernels(f, x), f(x), ulps=1)


@pytest.mark.parametrize("layout", ["transposed", "every other", "reversed", "repeated", "0-d"])
def test_arguments_of_any_layout_are_read_right(layout):
    base = RANDOM.normal(size=(6, 10))
    x = {
        "transposed": base.T,
        "every other": base[::2, ::3],
        "reversed": base[::-1, ::-1],
        "repeated": np.broadcast_to(base[0], (4, 10)),
        "0-d": np.array(0.3),
    }[layout]
    kept = np.array(x)

    def f(v):
        return v * 2.0 + np.sqrt(np.abs(v)) - 1.0

    near(by_kernels(f, x), f(x), ulps=2)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("n", [3, 70_000])
def test_a_type_under_its_other_name_is_taken(n):
    """`longlong` equals int64, yet arrays of it hold another dtype object."""
    f = ad.jit(lambda v: v * 3 - 2)
    x = np.arange(n)
    for kind in (np.int64, np.longlong, np.dtype("q"), np.dtype("l")):
        near(f(x.astype(kind)), x * 3 - 2)
    # NumPy's comparison of int64 with uint64 is of longlong with ulonglong.
    g = lambda v: ((v == x.astype(np.uint64)) | (v < 0), v.astype(np.int64) == np.uint64(2))
    for kind in (np.int16, np.int64, np.longlong, np.int32):
        near(by_kernels(g, x.astype(kind)), g(x.astype(kind)))


def test_several_types_in_one_kernel():
    x, n = RANDOM.normal(size=77).astype(np.float32), np.arange(77, dtype=np.int16)

    def f(v, k):
        wide = v.astype(np.float64) * k
        return wide, (wide > 3.0) & (k % 3 == 0), (v * 2).astype(np.float16) + 1, k // 4 - k

    near(by_kernels(f, x, n), f(x, n), ulps=1)


def test_kernels_run_inside_loops_and_branches():
    x = RANDOM.normal(size=40)

    def f(v):
        c, ys = ad.scan(lambda c, r: (np.tanh(c * r) + v, np.sum(c * c + r)), v, np.ones((5, 40)))
        return ad.cond(c[0] > 0, lambda u: u * 2.0 + 1.0, lambda u: u * u - 1.0, c), ys

    near(by_kernels(f, x), f(x), ulps=60, scale=4.0)
    gradient = ad.grad(lambda v: np.sum(f(v)[0]))
    near(by_kernels(gradient, x), gradient(x), ulps=500, scale=4.0)


def exactly_equal(found, expected):
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        assert x.tobytes() == y.tobytes() or np.array_equal(x, y, equal_nan=True)


@pytest.mark.parametrize("f", [softmax, norm, chain], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_rows_equal_kernels_of_one_operation_each_bit_for_bit(f, dtype):
    x = RANDOM.normal(size=(9, 83)).astype(dtype)
    together = by_kernels(f, x, contract=False)
    exactly_equal(together, by_kernels(f, x, contract=False, no_fusion=True))
    assert count_kernels(f, x) == 1


def test_a_kernel_reads_as_what_it_computes():
    with ad.override(kernels=True):
        schedule = schedule_for_cpu(simplify(ad.make_graph(softmax)(np.ones((3, 20)))))
        (spec,) = schedule.kernels()
        text = KernelFunction(spec).text
    assert "; kernel over rows [3], points [20] {" in text
    assert ";   v3: float64 = exp v2" in text
    assert "; exp  (test_cpu_kernels.py:" in text
    assert "define void @kernel(ptr %pointers, ptr %sizes, i64 %begin, i64 %end)" in text


def test_targets_without_wide_vectors_are_really_used():
    with ad.override(kernels=True, cpu_target="sse2"):
        schedule = schedule_for_cpu(simplify(ad.make_graph(chain)(np.ones(20, np.float32))))
        (spec,) = schedule.kernels()
        text = KernelFunction(spec).text
    assert "<4 x float>" in text
    assert "<16 x float>" not in text
    assert AVX2.lanes("float32") == 2 * SSE2.lanes("float32")
