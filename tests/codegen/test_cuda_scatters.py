"""Updates at places given by integer arrays, in kernels for GPUs, against NumPy's bit for bit.

The emulator runs them with every access checked, in an order of threads that differs from launch to
launch. Each way of making updates (schedule/scatters.py) is tried on the same ones.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.codegen import cuda_scatters
from autodiff.passes.pipeline import simplify
from autodiff.runtime import cuda_functions, cuda_programs, executor
from autodiff.runtime.cuda_kernels import schedule_for_cuda
from autodiff.runtime.cuda_programs import staged_program
from autodiff.schedule import scatters
from autodiff.schedule.fuse import kernel
from autodiff.schedule.kernel_spec import KernelSpec
from tests.codegen.test_cpu_indexed import INTEGERS, KINDS, LAYOUTS, scatter_of
from tests.codegen.test_cpu_scans import numbers
from tests.composition import fake_cupy
from tests.emulator import EmulatorError
from tests.emulator.device import DEVICE, emulated
from tests.primitives.sampling import same_bits
from tests.schedule.interpreter import run_kernel

anp = ad.numpy
SEEDS = (0, 1, 2)
F32 = np.dtype(np.float32)

#: Writes up to which they are looked for: all of those here, or none, so that they are sorted.
WAYS = {"looked for": 10_000, "sorted or last": 0}


def spec_of(f: Any, operands: Sequence[Any]) -> tuple[KernelSpec, list[Any]]:
    """Return the one kernel of a function, and its operands in order."""
    graph = simplify(ad.make_graph(f)(*operands))
    (eqn,) = schedule_for_cuda(graph).graph.eqns
    assert eqn.primitive is kernel
    return eqn.params["spec"], [operands[graph.inputs.index(atom)] for atom in eqn.inputs]


def made_by(f: Any, operands: Sequence[Any], few: int, seed: int = 1) -> list[np.ndarray]:
    """Return what the one kernel of a function computes, as the stages it becomes."""
    spec, taken = spec_of(f, operands)
    with pytest.MonkeyPatch.context() as patch, emulated(checked=True, seed=seed):
        patch.setattr(scatters, "FEW_WRITES", few)
        function = staged_program(spec, scatters.in_scatter_stages(spec), DEVICE)
        return [x.get() for x in function.call(*map(fake_cupy.ndarray, taken))]


def on_device(f: Any, *arguments: Any, seed: int = 1) -> tuple[Any, list[str]]:
    """Return a function's result on arrays of the device, and the kernels launched for it."""
    with emulated(checked=True, seed=seed) as device:
        there = [fake_cupy.ndarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
        found = ad.tree.map(lambda x: x.get(), ad.jit(f)(*there))
        return found, list(device.launched)


def same_as_numpy(run: Any, operands: Any, few: int, seed: int = 1) -> None:
    with np.errstate(all="ignore"):
        expected = run.func.reference(*operands, **run.keywords)
    (found,) = made_by(run, operands, few, seed)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert same_bits(found, expected)


@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("mode", ["clip", "wrap", "drop", "promise"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scatters_of_every_layout_and_mode_have_the_bits_of_numpy(layout, mode, few):
    for kind in ("add", "set"):
        run, operands = scatter_of(mode, kind, LAYOUTS[layout], np.dtype(np.float32))
        same_as_numpy(run, operands, few)


@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("dtype", sorted(dtypes.SUPPORTED, key=str), ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_scatters_of_every_kind_and_type_have_the_bits_of_numpy(kind, dtype, few):
    for layout in ("an axis of one", "rows"):
        run, operands = scatter_of("drop", kind, LAYOUTS[layout], dtype)
        same_as_numpy(run, operands, few)


@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("integer", INTEGERS, ids=str)
def test_indices_of_every_type_may_be_anything(integer, few):
    limits = np.iinfo(integer)
    for mode in ("clip", "wrap", "drop"):
        for size in (5, 128, 300):
            near = [limits.min, limits.max, 0, 1, size - 1, size, size + 1, limits.max - 1]
            index = np.array([i for i in near if limits.min <= i <= limits.max] * 2, integer)
            run, _ = scatter_of(mode, "add", ((0,), 0, (size,), index.shape), F32)
            same_as_numpy(run, (numbers(F32, (size,)), numbers(F32, index.shape), index), few)


# ------------------------------------------------------------------------------- order and values


def of_many_sizes(count: int, dtype: Any = np.float32) -> np.ndarray:
    """Return numbers whose sums show in which order they are added."""
    random = np.random.default_rng(count)
    return (random.normal(size=count) * 10.0 ** random.integers(-3, 4, count)).astype(dtype)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64], ids=str)
@pytest.mark.parametrize(
    ("writes", "slots"), [(200, 9), (1000, 1), (3000, 7), (3000, 2000), (2500, 90)]
)
def test_sums_are_made_in_the_order_of_updates(writes, slots, dtype, seed):
    x = of_many_sizes(writes, dtype)
    i = np.random.default_rng(writes).integers(0, slots, writes)
    i[writes // 3 : writes // 2] = slots // 2
    expected = np.zeros(slots, dtype)
    np.add.at(expected, i, x)
    found, _ = on_device(lambda i, x: ad.at(anp.zeros(slots, dtype))[i].add(x), i, x, seed=seed)
    assert same_bits(found, expected)


@pytest.mark.parametrize("columns", [2, 3, 31, 33, 127, 128, 129, 600])
@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
def test_rows_of_every_length_are_added_in_order(columns, few):
    i = np.random.default_rng(columns).integers(0, 9, 70)
    x = of_many_sizes(70 * columns).reshape(70, columns)
    expected = np.ones((9, columns), np.float32)
    np.add.at(expected, i, x)
    run, _ = scatter_of("promise", "add", ((0,), 0, (9, columns), (70,)), F32)
    (found,) = made_by(run, (np.ones((9, columns), np.float32), x, i), few)
    assert same_bits(found, expected)


@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", ["min", "max"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
def test_extremes_of_nan_and_of_both_zeros_are_those_of_numpy(dtype, kind, few):
    special = np.array([0.0, -0.0, np.nan, 1.0, -np.inf, np.inf, -0.0, 0.0], dtype)
    random = np.random.default_rng(3)
    x, i = special[random.integers(0, 8, 90)], random.integers(0, 40, 90)
    run, _ = scatter_of("clip", kind, ((0,), 0, (40,), (90,)), np.dtype(dtype))
    start = special[random.integers(0, 2, 40)]
    same_as_numpy(run, (start, x, i), few)


@pytest.mark.parametrize("start", [0.0, -0.0, 1.5, np.nan])
def test_updates_begin_with_a_number(start):
    i, x = np.array([1, 5, 1, 2]), np.array([1.0, 2.0, 3.0, np.inf])
    expected = np.full(2000, start)
    np.add.at(expected, i, x)
    full = np.broadcast_to(np.float64(start), (2000,))
    run, _ = scatter_of("promise", "add", ((0,), 0, (2000,), (4,)), full.dtype)
    filling, _ = scatters.in_scatter_stages(spec_of(lambda i, x: run(full, x, i), (i, x))[0])
    assert not filling.operands
    (found,) = made_by(lambda i, x: run(full, x, i), (i, x), 100)
    assert same_bits(found, expected)


def test_places_and_numbers_of_updates_fill_more_than_32_bits():
    random = np.random.default_rng(5)
    i, x = random.integers(0, 1 << 21, 3000), of_many_sizes(3000)
    i[::3] = i[0]
    expected = np.zeros(1 << 21, np.float32)
    np.add.at(expected, i, x)
    run, _ = scatter_of("promise", "add", ((0,), 0, (1 << 21,), (3000,)), F32)
    operands = np.zeros(1 << 21, np.float32), x, i
    *_, listed, _ = scatters.in_scatter_stages(spec_of(run, operands)[0])
    assert listed.spec.stores[0].dtype == np.uint64
    (found,) = made_by(run, operands, 0)
    assert same_bits(found, expected)


@pytest.mark.parametrize("kind", ["add", "multiply", "min", "max"])
@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers_are_updated_in_bins(dtype, kind):
    random = np.random.default_rng(7)
    shape = (30, 2)
    run, _ = scatter_of("drop", kind, ((0,), 0, shape, (4000,)), np.dtype(dtype))
    x = random.integers(0, 5, (4000, 2)).astype(dtype)
    x = x - 2 if dtype[0] == "i" else x
    operands = (random.integers(1, 9, shape).astype(dtype), x, random.integers(-2, 33, 4000))
    spec, _ = spec_of(run, operands)
    assert cuda_scatters.is_binned(scatters.in_scatter_stages(spec)[-1].spec)
    same_as_numpy(run, operands, 0)


# -------------------------------------------------------------------------- kernels and launches


def test_updates_that_are_distinct_take_one_kernel_after_a_copy():
    run, (x, y, k) = scatter_of("wrap", "add", LAYOUTS["one place"], F32)
    expected = x.copy()
    expected[k % 7] += y
    found, launched = on_device(run, x, y, k)
    assert same_bits(found, expected)
    assert len(launched) == 2


def test_places_that_are_seen_to_differ_take_one_kernel_after_a_copy():
    x, y, diagonal = of_many_sizes(90_000).reshape(300, 300), of_many_sizes(300), np.arange(300)
    expected = x.copy()
    expected[diagonal, diagonal] += y
    found, launched = on_device(lambda x, y: ad.at(x)[diagonal, diagonal].add(y), x, y)
    assert same_bits(found, expected)
    assert len(launched) == 2


def test_a_promise_to_be_unique_is_relied_on():
    run, (x, updates, i) = scatter_of("promise", "add", LAYOUTS["rows"], F32)
    run.keywords["unique"] = True
    once, _ = np.unique(i, return_index=True)
    same_as_numpy(run, (x, updates[: once.size], once), 0)
    with pytest.raises(EmulatorError, match="no barrier orders"):
        made_by(run, (x, updates, i), 0)


def test_a_kernel_makes_several_updates_and_other_outputs():
    random = np.random.default_rng(8)
    x, i, j = of_many_sizes(400), random.integers(0, 9, 400), random.integers(0, 300, 400)
    few_bins, many_bins = ((0,), 0, (9,), (400,)), ((0,), 0, (300,), (400,))
    add, _ = scatter_of("promise", "add", few_bins, F32)
    replace, _ = scatter_of("promise", "set", many_bins, F32)

    def f(x, i, j):
        zeros = np.broadcast_to(np.float32(0), (9,))
        ones, one = np.broadcast_to(np.int32(1), (9,)), np.broadcast_to(np.int32(1), (400,))
        start = np.broadcast_to(np.float32(1), (300,))
        y = x * 2.0
        return add(zeros, y, i), y, add(ones, one, i), replace(start, y, j)

    sums, last = np.zeros(9, np.float32), np.ones(300, np.float32)
    np.add.at(sums, i, x * 2)
    last[j] = x * 2
    wanted = (sums, x * 2, 1 + np.bincount(i, minlength=9).astype(np.int32), last)
    for few in WAYS.values():
        for found, expected in zip(made_by(f, (x, i, j), few), wanted, strict=True):
            assert same_bits(found, expected)


def test_an_update_may_take_the_memory_of_its_operand():
    run, (x, updates, i) = scatter_of("drop", "add", LAYOUTS["rows"], F32)
    spec, taken = spec_of(run, (x, updates, i))
    (update,) = spec.updates
    over = KernelSpec(
        *(spec.shape, spec.rows, spec.loads, spec.values),
        (type(update)(**{**_fields(update), "over": update.initial}),),
    )
    with emulated():
        there = [fake_cupy.ndarray(operand.copy()) for operand in taken]
        (found,) = staged_program(over, scatters.in_scatter_stages(over), DEVICE).call(*there)
        assert isinstance(update.initial, int)
        assert found is there[update.initial]
        assert same_bits(found.get(), run.func.reference(x, updates, i, **run.keywords))


def _fields(x: Any) -> dict[str, Any]:
    return {name: getattr(x, name) for name in x.__slots__}


def test_an_argument_that_is_given_away_is_updated_in_place():
    run, (x, y, k) = scatter_of("wrap", "add", LAYOUTS["one place"], F32)
    expected = run(x, y, k)
    with emulated(checked=True) as device:
        there = [fake_cupy.ndarray(array.copy()) for array in (x, y, k)]
        kept = ad.jit(run)(*there)
        assert same_bits(there[0].get(), x)
        device.launched.clear()
        given = ad.jit(run, donate_argnums=0)(*there)
        assert len(device.launched) == 1
        assert given.data.ptr == there[0].data.ptr
    assert same_bits(kept.get(), expected)
    assert same_bits(given.get(), expected)


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::-1], lambda x: x[1:]])
def test_what_shares_memory_with_an_argument_given_away_is_read_before(view):
    def f(x, i, y):
        return ad.at(x)[i].add(1.0, mode="clip"), y * 2.0

    x, i = of_many_sizes(40), np.arange(30) * 3 % 40
    expected = x.copy()
    expected[i] += 1
    with emulated(checked=True):
        there = fake_cupy.ndarray(x.copy())
        found = ad.jit(f, donate_argnums=0)(there, fake_cupy.ndarray(i), view(there))
        assert same_bits(found[0].get(), expected)
        assert same_bits(found[1].get(), view(x) * 2)


def test_one_update_after_another_is_made_in_the_same_memory():
    add, (_, y, i) = scatter_of("promise", "add", LAYOUTS["rows"], F32)
    x = numbers(F32, (7, 19))

    def f(x, y, i):
        for _ in range(4):
            x = add(x, y, i)
        return x

    expected = x
    for _ in range(4):
        expected = add.func.reference(expected, y, i, **add.keywords)
    found, launched = on_device(f, x, y, i)
    assert same_bits(found, expected)
    assert len(launched) == 1 + 4


def test_a_number_of_the_host_is_added():
    i = np.arange(700) % 9

    def f(i, rate):
        return ad.at(anp.zeros(9))[i].add(rate * i)

    expected = np.zeros(9)
    np.add.at(expected, i, 0.3 * i)
    assert same_bits(on_device(f, i, 0.3)[0], expected)


def test_operands_that_are_views_are_updated_from():
    x, i, y = of_many_sizes(60).reshape(6, 10), np.arange(10) % 4, of_many_sizes(30).reshape(10, 3)
    expected = x.T.copy()[::-1, ::2].copy()
    np.add.at(expected, i, y[::-1])
    with emulated(checked=True):
        there = [fake_cupy.ndarray(array) for array in (x, i, y)]
        view = there[0].T[::-1, ::2], there[1], there[2][::-1]
        found = ad.jit(lambda x, i, y: ad.at(x)[i].add(y, mode="clip"))(*view).get()
    assert same_bits(found, expected)


@pytest.mark.parametrize("number", [0, 1])
def test_both_barriers_of_bins_are_needed(number, monkeypatch):
    source = cuda_functions._source

    def without(made: Any) -> str:
        head, body = source(made).split('extern "C"')
        places = [match.span() for match in re.finditer(r"__syncthreads\(\);", body)]
        if len(places) == 2:
            start, stop = places[number]
            body = body[:start] + body[stop:]
        return f'{head}extern "C"{body}'

    monkeypatch.setattr(cuda_functions, "_source", without)
    monkeypatch.setattr(cuda_programs, "_function", cuda_programs._function.__wrapped__)
    monkeypatch.setattr(executor, "_executables", OrderedDict())
    i = np.arange(9000) % 11
    with pytest.raises(EmulatorError, match=r"no barrier orders|written before it is read"):
        on_device(lambda i: ad.at(anp.zeros(11, np.int64))[i].add(1, mode="clip"), i)


# -------------------------------------------------------------------------- derivatives and stages


@pytest.mark.parametrize("mode", ["fill", "clip", "wrap"])
def test_derivatives_and_batches_have_the_bits_of_the_sums_in_order(mode):
    table = numbers(np.dtype(np.float64), (3, 20, 6))
    i = np.random.default_rng(0).integers(-20, 24, (3, 500))

    def weighted(table, i):
        rows = ad.at(table)[i].get(mode=mode)
        return anp.sum(rows * np.arange(1.0, 501.0)[:, None])

    for axes in ((0, 0), (0, None), (None, 0)):
        given = [x if axis == 0 else x[0] for x, axis in zip((table, i), axes, strict=True)]
        gradient = ad.vmap(ad.grad(weighted), in_axes=axes)
        found, _ = on_device(gradient, *given)
        for k in range(3):
            index = given[1][k] if axes[1] == 0 else given[1]
            index = np.where(index < 0, index + 20, index)
            inside = (index >= 0) & (index < 20) if mode == "fill" else np.ones(500, bool)
            index = np.clip(index, 0, 19) if mode == "clip" else index % 20
            expected = np.zeros((20, 6))
            terms = np.broadcast_to(np.arange(1.0, 501.0)[:, None], (500, 6))
            np.add.at(expected, index[inside], terms[inside])
            assert same_bits(found[k], expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
def test_stages_mean_what_the_kernel_does(layout, few, monkeypatch):
    """They are carried out by NumPy from their specs alone, one point after the other."""
    monkeypatch.setattr(scatters, "FEW_WRITES", few)
    for mode in ("clip", "drop"):
        for kind in ("add", "set"):
            run, operands = scatter_of(mode, kind, LAYOUTS[layout], np.dtype(np.int8))
            spec, taken = spec_of(run, operands)
            known: dict[int, Any] = dict(enumerate(taken))
            results: dict[int, Any] = {}
            for stage in scatters.in_scatter_stages(spec):
                outputs = run_kernel(stage.spec, [known[k] for k in stage.operands])
                if stage.is_sorted:
                    outputs[0].sort()
                for k, x in zip(stage.outputs, outputs, strict=True):
                    (results if k >= 0 else known)[k] = x
            assert same_bits(results[0], run(*operands))


def test_stages_say_what_they_do(monkeypatch):
    monkeypatch.setattr(scatters, "FEW_WRITES", 4)

    def stages(kind: str) -> list[str]:
        run, operands = scatter_of("drop", kind, ((0,), 0, (30, 8), (5,)), F32)
        return [str(x.spec) for x in scatters.in_scatter_stages(spec_of(run, operands)[0])]

    copy = "kernel over points [240] {\n  v0: float32 = load 0 at i0\n  store 0 at i0: v0\n}"
    assert stages("add") == [
        copy,
        "kernel over points [5] {\n"
        "  v0: int64 = load 0 at i0\n"
        "  v1: uint32 = i0 + 8 v0 below 30, drop to 240\n"
        "  store 0 at i0: v1\n"
        "}",
        "kernel over points [5, 8] {\n"
        "  v0: int64 = load 0 at i0\n"
        "  v1: float32 = load 1 at 8 i0 + i1\n"
        "  store 0, from load 3 over 3, at i1 + 8 v0 below 30, drop in order of 2: added v1\n"
        "}",
    ]
    assert stages("set") == [
        copy,
        "kernel over points [30] {\n  v0: int32 = -1\n  store 0 at i0: v0\n}",
        "kernel over points [5] {\n"
        "  v0: int64 = load 0 at i0\n"
        "  v1: int32 = i0\n"
        "  store 0, from load 1 over 1, at 0 + 1 v0 below 30, drop: larger v1\n"
        "}",
        "kernel over points [5, 8] {\n"
        "  v0: int64 = load 0 at i0\n"
        "  v1: float32 = load 1 at 8 i0 + i1\n"
        "  v2: int64 = 0 + 8 v0 below 30, drop to -1\n"
        "  v3: int64 = 0 + 1 v0 below 30, drop to -1\n"
        "  v4: int32 = gather 2 at 0 + 1 v3 below 30, fill -1\n"
        "  v5: int32 = i0\n"
        "  v6: bool = equal v4 v5\n"
        "  v7: int64 = where v6 v2 -1\n"
        "  store 0, from load 3 over 3, at i1 + 1 v7 below 240, drop unique: replaced v1\n"
        "}",
    ]
