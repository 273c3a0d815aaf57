"""Kernels that read through paddings and concatenations and run, gather, scatter or reduce.

Each function is compared with NumPy, and most with kernels of one operation each, bit for bit.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.primitive import primitives
from autodiff.passes.pipeline import simplify
from autodiff.primitives.shapes import positions
from autodiff.runtime.cpu_kernels import KernelFunction, can_emit, kernel_function, why_not_computed
from autodiff.schedule.chunks import CHUNK
from autodiff.schedule.fuse import fuse
from autodiff.schedule.kernel_spec import Choose, Gather, Load, Position, Scan
from tests.codegen.test_cpu_scans import fused, kernels_of
from tests.codegen.test_half_reductions import HALVES, near
from tests.schedule.interpreter import run_schedule
from tests.schedule.test_fuse import refusal

RANDOM = np.random.default_rng(31)
TARGETS = ["auto", "avx2", "sse2"]
SUM, LARGEST = primitives["cumsum"], primitives["cummax"]


def running(x: Any, axis: int, *, reverse: bool, largest: bool = False) -> Any:
    """Return the running sums, or largest elements, along an axis from its start or its end."""
    if not isinstance(x, np.ndarray):
        return (LARGEST if largest else SUM)(x, axis=axis, reverse=reverse)
    turned = np.flip(x, axis) if reverse else x
    run = np.maximum.accumulate(turned, axis) if largest else np.cumsum(turned, axis)
    return np.flip(run, axis) if reverse else run


def check(
    f: Any, *args: Any, target: str = "auto", tolerance: float = 1e-12, exact: bool = True
) -> list[Any]:
    """Compare kernels with NumPy, and bit for bit (`exact`) with those of one operation each.

    Returns the fused kernels.
    """
    with ad.override(kernels=True, contract=False, cpu_target=target):
        graph = simplify(ad.make_graph(f)(*args))
        schedules = [
            fuse(graph, why_not_computed, can_emit, unite=unite) for unite in (True, False)
        ]
        found, apart = [run_schedule(schedule, args, kernel_function) for schedule in schedules]
    expected = f(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for x, y, z in zip(found, apart, expected, strict=True):
        x, y, z = np.asarray(x), np.asarray(y), np.asarray(z)
        assert (x.shape, x.dtype) == (z.shape, z.dtype)
        np.testing.assert_allclose(x, z, rtol=tolerance, atol=tolerance)
        assert not exact or x.tobytes() == y.tobytes()
    interpreted = run_schedule(fuse(graph, refusal, lambda spec: True), args)
    for x, z in zip(interpreted, expected, strict=True):
        np.testing.assert_allclose(x, z, rtol=tolerance, atol=tolerance)
    return list(schedules[0].kernels())


def has(spec: Any, kind: type) -> bool:
    return any(isinstance(value, kind) for value in spec.values)


# ------------------------------------------------------------------------------- running results

#: A sum of running results is made in their order and vectors: its last bits are of the kernel.
SUMMED = "summed"


def counted(x: Any, axis: int) -> Any:
    """Return elements times their places."""
    if isinstance(x, np.ndarray):
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        return x * np.arange(x.shape[axis], dtype=x.dtype).reshape(shape)
    return x * positions(x, axis, x.dtype)


def scanned(axis: int, *, reverse: bool) -> dict[str, Any]:
    """Return functions with running results of, and beside, what is read with bounds."""

    def run(x: Any, **options: Any) -> Any:
        return running(x, axis, reverse=reverse, **options)

    def shifted(x: Any) -> Any:
        return (
            np.exp(x - np.max(x, axis=axis, keepdims=True))
            - np.pad(x, 1)[(slice(2, None),) * x.ndim]
        )

    def widths(x: Any) -> Any:
        return [(3, 5) if i == axis else (1, 0) for i in range(x.ndim)]

    def inner(x: Any) -> Any:
        return tuple(slice(1, -1) if i == axis else slice(None) for i in range(x.ndim))

    return {
        "of a padded array": lambda x: run(np.pad(x, widths(x)) * 2.0 + 1.0),
        "of arrays laid end to end": lambda x: run(np.concatenate([x, np.flip(x), x * 2.0], axis)),
        "of what is rolled": lambda x: run(np.roll(x, 2, axis) - x),
        "beside a padded array": lambda x: (
            run(np.pad(x, widths(x))) * np.pad(x, widths(x), mode="edge")
        ),
        "written over": lambda x: ad.at(run(x))[inner(x)].set(np.sin(x[inner(x)])) * 2.0,
        "of places": lambda x: run(counted(x, axis)) + counted(run(x, largest=True), axis),
        "of places along other axes": lambda x: run(counted(np.pad(x, widths(x)), 0)),
        SUMMED: lambda x: np.sum(run(np.pad(x, widths(x))) * 2.0, axis=axis),
        "in two passes": lambda x: shifted(run(np.pad(x, widths(x)))),
        "written over in two passes": lambda x: shifted(
            ad.at(run(x))[inner(x)].set(np.sin(x[inner(x)]))
        ),
        "two of them": lambda x: (
            run(np.pad(x, widths(x))),
            run(np.pad(x, widths(x)), largest=True),
        ),
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(3,), (17,), (131,)], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", scanned(0, reverse=False))
def test_running_results_of_a_line(name, reverse, shape, target):
    x = RANDOM.normal(size=shape)
    specs = check(scanned(0, reverse=reverse)[name], x, target=target, exact=name != SUMMED)
    assert any(has(spec, Scan) for spec in specs)


@pytest.mark.parametrize(
    ("dtype", "target"), [("f4", "auto"), ("f8", "auto"), ("f8", "avx2"), ("f4", "sse2")]
)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(40, 5), (35, 70)], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", scanned(0, reverse=False))
def test_running_results_of_a_table(name, reverse, shape, axis, dtype, target):
    x = RANDOM.normal(size=shape).astype(dtype)
    tolerance, exact = 1e-12 if dtype == "f8" else 2e-3, name != SUMMED
    f = scanned(axis, reverse=reverse)[name]
    check(f, x, target=target, tolerance=tolerance, exact=exact)


@pytest.mark.parametrize("reverse", [False, True])
def test_running_results_down_far_rows_are_made_in_tiles(reverse):
    x = RANDOM.normal(size=(9, 1100))
    for name, f in scanned(0, reverse=reverse).items():
        specs = check(f, x, exact=name != SUMMED)
        if name == "of a padded array":
            assert "tile.head" in KernelFunction(specs[0]).text


@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_sum_of_a_padded_array_is_one_kernel(reverse):
    (spec,) = check(
        lambda x: running(np.pad(x, (3, 5)), 0, reverse=reverse), RANDOM.normal(size=99)
    )
    (load,) = spec.loads
    assert isinstance(load, Load) and load.bounds
    assert has(spec, Scan)
    assert load.strides == ((-1,) if reverse else (1,))


def test_a_running_sum_of_arrays_laid_end_to_end_chooses_between_them():
    f = lambda x, y: running(np.concatenate([x, y, x]), 0, reverse=True)
    (spec,) = check(f, RANDOM.normal(size=50), RANDOM.normal(size=21))
    assert has(spec, Choose)
    assert has(spec, Scan)


def test_the_gradient_of_a_running_sum_of_a_padded_array():
    w = RANDOM.normal(size=107)
    x = RANDOM.normal(size=99)
    gradient = ad.grad(lambda x: np.sum(np.cumsum(np.pad(x, (3, 5))) * w))
    expected = np.flip(np.cumsum(np.flip(w)))[3:-5]
    np.testing.assert_allclose(fused(gradient, x), expected, rtol=1e-12, atol=1e-12)


# ----------------------------------------------------------------------------------------- places

PLACES = np.array([0, 5, 11, 11, 2, 3, 17, 8, 1, 0, 9])

GATHERS = {
    "from arrays laid end to end": lambda x, i: np.concatenate([x, x[::-1], x])[i] * 2.0,
    "from a padded array": lambda x, i: np.pad(x, (4, 9))[i] + 1.0,
    "from what is written over": lambda x, i: ad.at(x * 1.0)[2:5].set(7.0)[i] * x[: i.size],
    "from a turned array": lambda x, i: x[::-1][i] * np.pad(x, (0, 3))[: i.size],
    "at padded places": lambda x, i: x[np.pad(i, (3, 6))] * 2.0,
    "at places laid end to end": lambda x, i: x[np.concatenate([i, i[::-1], i[:2]])] * 2.0,
    "at counted places": lambda x, i: x[np.roll(i, 1)] - x[i],
    "padded afterwards": lambda x, i: np.pad(x[i] * 3.0, (2, 2)) + np.pad(x[i], (0, 4)),
    "added up": lambda x, i: np.sum(np.concatenate([x, x])[i] * np.pad(x, (1, 0))[: i.size]),
    "in two passes": lambda x, i: np.exp(np.pad(x[i], 2) - np.max(np.pad(x[i], 2))) * 2.0,
    "rows": lambda x, i: np.pad(x, (0, 2))[:20].reshape(20, 1)[i % 5] * np.pad(x[:3], (2, 0)),
    "added up to each": lambda x, i: running(np.pad(x[i], (2, 3)), 0, reverse=True),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("times", [1, 40])
@pytest.mark.parametrize("name", GATHERS)
def test_reads_at_places_and_layouts(name, times, target):
    x, i = RANDOM.normal(size=18 * times), np.tile(PLACES, times)
    specs = check(GATHERS[name], x, i, target=target)
    assert any(has(spec, Gather) for spec in specs)


def test_an_array_laid_out_is_made_before_it_is_read_at_places():
    x, y, i = RANDOM.normal(size=90), RANDOM.normal(size=30), RANDOM.integers(0, 120, size=77)
    f = lambda x, y, i: np.concatenate([x, y])[i] * 2.0
    specs = check(f, x, y, i)
    (reads,) = [spec for spec in specs if has(spec, Gather)]
    assert not has(reads, Choose)
    assert kernels_of(f, x, y, i)[1] in [(), ("concatenate",)]


def test_padded_places_read_the_element_at_0():
    x, i = RANDOM.normal(size=90), RANDOM.integers(0, 90, size=77)
    (spec,) = check(lambda x, i: x[np.pad(i, 9)] * 2.0, x, i)
    assert any(load.bounds for load in spec.loads)


def test_places_that_are_positions_are_computed():
    x, j = RANDOM.normal(size=(9, 77)), RANDOM.integers(0, 77, size=9)

    def f(x, j):
        rows = np.arange(9) if isinstance(j, np.ndarray) else positions(j, 0, j.dtype)
        return x[rows, j] * 2.0

    (spec,) = check(f, x, j)
    assert has(spec, Position)
    assert has(spec, Gather)


def added(start: Any, i: Any, x: Any) -> Any:
    """Return an array with numbers added at places."""
    if not isinstance(x, np.ndarray):
        return ad.at(start)[i].add(x)
    total = np.array(start)
    np.add.at(total, i, x)
    return total


SCATTERS = {
    "padded": lambda a, x, i: added(a, np.pad(i, (2, 3)), np.pad(x, (2, 3)) * 2.0),
    "laid end to end": lambda a, x, i: added(
        a, np.concatenate([i, i[::-1]]), np.concatenate([x, x * 2.0])
    ),
    "rolled": lambda a, x, i: added(a, i, np.roll(x, 3) - x),
    "rows": lambda a, x, i: added(
        a.reshape(20, 5), i, np.pad(np.stack([x, x[::-1]], 1), ((0, 0), (2, 1))) + 1.0
    ),
    "counted": lambda a, x, i: added(a, i, counted(x, 0)),
    "into a padded array": lambda a, x, i: added(np.pad(x[:8] * 1.0, 6), i, x),
    "padded afterwards": lambda a, x, i: np.pad(added(a, i, x), 2) * 2.0,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("times", [1, 40])
@pytest.mark.parametrize("name", SCATTERS)
def test_updates_at_places_of_what_is_laid_out(name, times, target):
    a, x, i = RANDOM.normal(size=100), RANDOM.normal(size=11 * times), np.tile(PLACES, times)
    specs = check(SCATTERS[name], a, x, i, target=target)
    assert any(spec.updates for spec in specs)


def test_a_scatter_of_padded_updates_is_one_kernel():
    a, x = RANDOM.normal(size=20), RANDOM.normal(size=90)
    i = RANDOM.integers(0, 20, size=95)
    (spec,) = check(lambda a, x, i: added(a, i, np.pad(x, (2, 3)) * 2.0), a, x, i)
    assert spec.updates
    assert any(load.bounds for load in spec.loads)


# ------------------------------------------------------------------------------------- reductions


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(40, 3), (70, 300), (300, 70), (200, 16)], ids=str)
@pytest.mark.parametrize("function", [np.sum, np.max])
@pytest.mark.parametrize("axis", [0, 1])
def test_reductions_of_a_padded_table(axis, function, shape, target):
    x = RANDOM.normal(size=shape)
    f = lambda x: function(np.pad(x, ((2, 3), (1, 4))) * 2.0 + 1.0, axis=axis)
    check(f, x, target=target)
    g = lambda x: np.log(function(np.concatenate([x, x[::-1]], 1 - axis) + 9.0, axis=axis))
    check(g, x, target=target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(100, 3), (64, 16), (33, 8), (500, 40), (40, 300)], ids=str)
def test_reductions_of_half_precision_in_short_rows_and_in_blocks_of_rows(shape, dtype, target):
    """The sum is rounded once, also where the rows are turned or gone through in blocks."""
    x = RANDOM.uniform(0.5, 1.0, size=shape).astype(dtype)
    with ad.override(cpu_target=target):
        found = fused(lambda x: np.sum(x * x, axis=1), x)
        log = fused(lambda x: np.log(np.sum(x * x, axis=1)), x)
    total = np.sum((x * x).astype(np.float64), axis=1)
    near(found, total, dtype, 0.51)
    # The logarithm of the sum as it is given, rounded.
    near(log, np.log(found.astype(np.float64)), dtype, 0.51)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(100, 3), (500, 40), (70, 1030)], ids=str)
def test_reductions_of_half_precision_of_padded_arrays(shape, dtype):
    x = RANDOM.uniform(0.5, 1.0, size=shape).astype(dtype)
    padded = lambda x: np.pad(x * x, ((1, 2), (0, 3)))
    wide = padded(x).astype(np.float64)
    found = fused(lambda x: [np.sum(padded(x), axis=axis) for axis in (0, 1)], x)
    for axis in (0, 1):
        near(found[axis], np.sum(wide, axis=axis), dtype, 0.51)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_long_padded_array_of_half_precision_is_added_in_chunks(dtype):
    long = RANDOM.uniform(0.5, 1.0, size=3 * CHUNK).astype(dtype)
    exact = np.sum(long.astype(np.float64))
    near(fused(lambda x: np.sum(np.pad(x, 99)), long), exact, dtype, 0.51)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_results_of_half_precision_and_their_sum(reverse, axis, dtype):
    """Running results are rounded one by one, their sum once."""
    x = RANDOM.integers(-3, 4, size=(50, 40)).astype(dtype)

    def f(x):
        run = running(np.pad(x, 1), axis, reverse=reverse)
        return run, np.sum(run, axis=axis)

    run, total = fused(f, x)
    expected = running(np.pad(x.astype(np.float64), 1), axis, reverse=reverse)
    np.testing.assert_array_equal(run.astype(np.float64), expected)
    near(total, np.sum(expected, axis=axis), dtype, 0.51)


def test_long_sums_of_what_is_read_at_places_and_padded_are_divided_alike():
    x, i = RANDOM.normal(size=500), RANDOM.integers(0, 500, size=3 * CHUNK)
    f = lambda x, i: np.sum(x[i] * np.pad(x, (CHUNK, 2 * CHUNK - 500)) + counted(x[i], 0))
    check(f, x, i, tolerance=1e-9)
    results = set()
    for threads in (1, 2, 3):
        with ad.override(threads=threads):
            results.add(fused(f, x, i).tobytes())
    assert len(results) == 1
