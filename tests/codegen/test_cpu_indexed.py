"""Reads and writes at places given by integer arrays, in generated kernels, against NumPy's."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import primitives
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import schedule_for_cpu
from autodiff.schedule.fuse import fuse
from autodiff.schedule.kernel_spec import Gather, KernelSpec
from tests.codegen.test_cpu_scans import DTYPES, TARGETS, as_kernel, fused, kernels_of, numbers
from tests.primitives.sampling import same_bits
from tests.schedule.interpreter import run_schedule

GATHER, SCATTER = primitives["gather"], primitives["scatter"]
INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]
KINDS = ("set", "add", "multiply", "min", "max")

#: Which axes are indexed and how many are of the batch; shapes of the array and of an index array.
LAYOUTS = {
    "an axis of one": ((0,), 0, (11,), (40,)),
    "rows": ((0,), 0, (7, 19), (30,)),
    "rows, in two axes of places": ((0,), 0, (7, 5), (3, 4)),
    "columns": ((1,), 0, (19, 7), (5,)),
    "elements of a matrix": ((0, 1), 0, (7, 6), (50,)),
    "two axes apart": ((0, 2), 0, (4, 5, 3), (9,)),
    "a batch": ((1,), 1, (4, 9), (4, 21)),
    "a batch of rows": ((1,), 1, (3, 4, 6), (3, 5)),
    "one place": ((0,), 0, (7, 5), ()),
    "one number": ((0, 1), 0, (7, 5), ()),
    "rows of one": ((0,), 0, (7, 1), (20,)),
    "one row of many": ((0,), 0, (7, 20), (1,)),
}


def places(
    mode: str, shape: tuple[int, ...], axes: tuple[int, ...], index_shape: Any, integer: Any = "i8"
) -> list[np.ndarray]:
    """Return index arrays, out of range on both sides unless the mode promises otherwise."""
    random = np.random.default_rng(11)
    integer = np.dtype(integer)
    found = []
    for axis in axes:
        size = shape[axis]
        low, high = (0, size) if mode == "promise" else (-size - 3, 2 * size + 3)
        low = 0 if integer.kind == "u" else max(low, np.iinfo(integer).min)
        index = np.asarray(random.integers(low, high, index_shape))
        found.append(index.astype(integer))
    return found


def gather_of(mode: str, layout: Any, dtype: np.dtype, integer: Any = "i8") -> Any:
    """Return a gather and its operands."""
    axes, batch_axes, shape, index_shape = layout
    fill = Literal(numbers(dtype, (3,), 9)[2]) if mode == "fill" else None
    params = {"mode": mode, "fill_value": fill, "batch_axes": batch_axes, "unique": False}
    run = partial(GATHER, axes=axes, **params)
    return run, (numbers(dtype, shape), *places(mode, shape, axes, index_shape, integer))


def scatter_of(mode: str, kind: str, layout: Any, dtype: np.dtype, integer: Any = "i8") -> Any:
    axes, batch_axes, shape, index_shape = layout
    others = [n for i, n in enumerate(shape) if i >= batch_axes and i not in axes]
    updates = numbers(dtype, (*index_shape, *others), 4)
    params = {"mode": mode, "kind": kind, "batch_axes": batch_axes, "unique": False}
    run = partial(SCATTER, axes=axes, **params)
    indices = places(mode, shape, axes, index_shape, integer)
    return run, (numbers(dtype, shape), updates, *indices)


def same_as_numpy(run: Any, operands: Any, **settings: Any) -> None:
    with np.errstate(all="ignore"):
        expected = run.func.reference(*operands, **run.keywords)
    found = as_kernel(run, *operands, **settings)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert same_bits(found, expected)


# ---------------------------------------------------------------------------------------- gathers


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", ["clip", "wrap", "fill", "promise"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gathers_of_every_layout_and_mode_are_those_of_numpy(layout, mode, target):
    run, operands = gather_of(mode, LAYOUTS[layout], np.dtype(np.float32))
    same_as_numpy(run, operands, cpu_target=TARGETS[target])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gathers_of_every_type_are_those_of_numpy(dtype, target):
    for layout in ("an axis of one", "rows"):
        for mode in ("clip", "fill"):
            run, operands = gather_of(mode, LAYOUTS[layout], dtype)
            same_as_numpy(run, operands, cpu_target=TARGETS[target])


@pytest.mark.parametrize("integer", INTEGERS, ids=str)
@pytest.mark.parametrize("mode", ["clip", "wrap", "fill"])
def test_indices_of_every_type_may_be_anything(mode, integer):
    """The sizes are about what the small types can say: below, at and above."""
    limits = np.iinfo(integer)
    for size in (1, 5, 127, 128, 200, 256, 300):
        run, (x, _) = gather_of(mode, ((0,), 0, (size,), (1,)), np.dtype(np.float64))
        near = [limits.min, limits.max, 0, 1, size - 1, size, size + 1, limits.max - 1]
        index = np.array([i for i in near if limits.min <= i <= limits.max], integer)
        same_as_numpy(run, (x, np.concatenate([index, index])))
    same_as_numpy(*scatter_of("drop", "add", LAYOUTS["rows"], np.dtype(np.float64), integer))


def test_what_breaks_its_promise_reads_inside_the_array():
    x = np.arange(5.0)
    run, _ = gather_of("promise", LAYOUTS["an axis of one"], x.dtype)
    found = as_kernel(run, x, np.array([2**60, -(2**60), 5, -1, 3]))
    assert set(found) <= set(x)
    assert found[4] == 3.0


def test_gathers_read_through_views():
    x = numbers(np.dtype(np.float64), (12, 9))
    i = np.array([3, 0, 5, 5, 2])
    for view in (
        lambda x: x.T,
        lambda x: x[::-1, ::2],
        lambda x: anp.broadcast_to(x[2], (6, 9)),
        lambda x: x.reshape(9, 12)[:, 3:],
    ):

        def run(x, i, view=view):
            return view(x)[i] * 2.0

        assert same_bits(fused(run, x, i), run(x, i))
        assert same_bits(fused(run, x[::-1], i[::-1]), run(x[::-1], i[::-1]))


def test_a_gather_fuses_with_what_makes_its_indices_and_uses_its_elements():
    table, i = numbers(np.dtype(np.float32), (50,)), np.arange(-30, 30)
    w = numbers(np.dtype(np.float32), (60,), 2)

    def f(table, i, w):
        return np.sin(table[(i * 5) // 4]) * w + 1.0

    assert kernels_of(f, table, i, w) == (1, ())
    found, expected = fused(f, table, i, w), f(table, i, w)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_a_gather_is_reduced_in_its_kernel(target):
    table, bags = numbers(np.dtype(np.float32), (40, 33)), np.arange(60).reshape(12, 5) % 40

    def f(table, bags):
        rows = ad.at(table)[bags].get(mode="promise_in_bounds")
        return anp.sum(rows * rows, axis=1), anp.max(table[bags % 7], axis=(1, 2))

    with ad.override(kernels=True, cpu_target=TARGETS[target]):
        found = ad.jit(f)(table, bags)
    for x, y in zip(found, f(table, bags), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    with ad.override(kernels=True):
        graph = simplify(ad.make_graph(lambda t, b: f(t, b)[0])(table, bags))
        *_, spec = schedule_for_cpu(graph).kernels()  # the first counts indices from the end
    assert spec.reduces
    assert any(isinstance(value, Gather) for value in spec.values)


def test_a_gather_in_a_long_sum_is_read_in_chunks():
    random = np.random.default_rng(4)
    table, i = random.random(300), random.integers(0, 300, 100_001)
    w = random.random(100_001)

    def f(table, i, w):
        products = ad.at(table)[i].get(mode="clip") * w
        return products, anp.sum(products), anp.sum(table[i])

    for threads in (1, 3):
        with ad.override(kernels=True, threads=threads):
            products, total, plain = ad.jit(f)(table, i, w)
        assert same_bits(products, table[i] * w)
        np.testing.assert_allclose([total, plain], [np.sum(table[i] * w), np.sum(table[i])], 1e-13)


def test_elements_of_what_a_kernel_computes_are_read_by_a_later_one():
    x, i = numbers(np.dtype(np.float64), (60,)), np.arange(60) // 2

    def f(x, i):
        y = np.exp(x) * 2.0
        return y[i] * x

    assert kernels_of(f, x, i)[1] == ()
    np.testing.assert_allclose(fused(f, x, i), f(x, i), rtol=1e-14)


# --------------------------------------------------------------------------------------- scatters


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", ["clip", "wrap", "drop", "promise"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scatters_of_every_layout_and_mode_have_the_bits_of_numpy(layout, mode, target):
    for kind in ("add", "set"):
        run, operands = scatter_of(mode, kind, LAYOUTS[layout], np.dtype(np.float32))
        same_as_numpy(run, operands, cpu_target=TARGETS[target])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_scatters_of_every_kind_and_type_have_the_bits_of_numpy(kind, dtype, target):
    for layout in ("an axis of one", "rows"):
        run, operands = scatter_of("drop", kind, LAYOUTS[layout], dtype)
        same_as_numpy(run, operands, cpu_target=TARGETS[target])


@pytest.mark.parametrize("start", [0.0, -0.0, 1.5, np.nan])
def test_updates_begin_with_a_number(start):
    i, x = np.array([1, 5, 1, 2]), np.array([1.0, 2.0, 3.0, np.inf])

    def f(i, x):
        return ad.at(anp.full(2000, start))[i].add(x)

    expected = np.full(2000, start)
    np.add.at(expected, i, x)
    assert same_bits(fused(f, i, x), expected)


def test_many_updates_are_made_in_order():
    """Sums of numbers of very different sizes show the order; several pieces of a kernel would."""
    random = np.random.default_rng(1)
    x = (random.normal(size=200_000) * 10.0 ** random.integers(-8, 8, 200_000)).astype(np.float32)
    i = random.integers(0, 50, 200_000)
    expected = np.zeros(50, np.float32)
    np.add.at(expected, i, x)
    for threads in (1, 4):
        with ad.override(kernels=True, threads=threads):
            found = ad.jit(lambda i, x: ad.at(np.zeros(50, np.float32))[i].add(x))(i, x)
        assert same_bits(found, expected)


def test_updates_that_are_numbers_or_repeated_are_combined_as_often():
    i = np.array([3, 1, 3, 3, 0])

    def counted(i):
        return ad.at(anp.zeros(6))[i].add(1.0)

    def one_place(x):
        return ad.at(anp.zeros(6))[np.full(700, 2)].add(x)

    assert same_bits(fused(counted, i), np.array([1.0, 1.0, 0.0, 3.0, 0.0, 0.0]))
    assert same_bits(fused(one_place, np.ones(700)), np.array([0, 0, 700.0, 0, 0, 0]))


def test_an_update_fuses_with_what_computes_it_and_leaves_its_operands():
    x, i = numbers(np.dtype(np.float64), (90,)), np.arange(90) % 13
    start = np.ones(13)

    def f(start, x, i):
        y = np.exp(x) * x
        return ad.at(start)[i].add(y), y

    assert kernels_of(f, start, x, i) == (1, ())
    found, expected = fused(f, start, x, i), f(start, x, i)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
    assert np.all(start == 1.0)


def test_what_reads_an_updated_array_is_a_later_kernel():
    x, i = numbers(np.dtype(np.float64), (700,)), np.arange(700) % 13

    def f(x, i):
        total = ad.at(anp.zeros(700))[i].add(x)
        return total * x + 1.0

    assert kernels_of(f, x, i) == (2, ())
    np.testing.assert_allclose(fused(f, x, i), f(x, i), rtol=1e-14)


def test_an_array_that_nothing_else_needs_is_updated_in_place():
    x, i, w = np.zeros(300_000), np.arange(900) % 7, np.arange(900.0)

    def f(x, i, w):
        return ad.at(x)[i].add(w, mode="clip")

    with ad.override(kernels=True):
        found = ad.jit(f, donate_argnums=0)(x, i, w)
        again = ad.jit(f)(found, i, w)
    expected = np.zeros(300_000)
    np.add.at(expected, i, w)
    assert np.shares_memory(found, x)
    assert not np.shares_memory(again, found)
    assert same_bits(found, expected)
    np.add.at(expected, i, w)
    assert same_bits(again, expected)


def test_what_is_read_at_places_is_not_written_over():
    x, i = np.random.default_rng(2).random(300_000), np.arange(300_000)[::-1].copy()

    def f(x, i):
        return ad.at(x)[i].get(mode="clip") * 2.0, ad.at(x)[i].add(x)

    with ad.override(kernels=True):
        found = ad.jit(f, donate_argnums=0)(x.copy(), i)
    assert same_bits(found[0], x[::-1] * 2.0)
    assert same_bits(found[1], x + x[::-1])


# -------------------------------------------------------------------------- derivatives and batches


@pytest.mark.parametrize("mode", ["fill", "clip", "wrap"])
def test_derivatives_and_batches_run_on_kernels(mode):
    table = numbers(np.dtype(np.float64), (3, 20, 6))
    i = np.random.default_rng(0).integers(-20, 24, (3, 50))

    def loss(table, i):
        return anp.sum(np.sin(ad.at(table)[i].get(mode=mode)) ** 2)

    filled = np.nan_to_num
    for batch in ((0, 0), (0, None), (None, 0)):
        args = [x if axis == 0 else x[0] for x, axis in zip((table, i), batch, strict=True)]
        gradient = ad.vmap(ad.grad(loss), in_axes=batch)
        assert kernels_of(gradient, *args)[1] == ()
        rows = [
            ad.grad(loss)(*[x[k] if axis == 0 else x for x, axis in zip(args, batch, strict=True)])
            for k in range(3)
        ]
        np.testing.assert_allclose(
            filled(fused(gradient, *args)), filled(np.stack(rows)), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("seed", range(6))
def test_a_kernel_means_what_its_spec_says(seed):
    """The same schedules carried out by NumPy from the specs alone, and by kernels."""
    random = np.random.default_rng(seed)
    layout = list(LAYOUTS.values())[seed]
    dtype = np.dtype([np.float32, np.int32][seed % 2])
    for run, operands in (
        gather_of(str(random.choice(["clip", "wrap", "fill"])), layout, dtype),
        scatter_of(str(random.choice(["clip", "drop"])), KINDS[seed % 5], layout, dtype),
    ):
        graph = simplify(ad.make_graph(run)(*operands))
        schedule = fuse(graph, lambda eqn: None, lambda spec: True)
        (found,) = run_schedule(schedule, operands)
        assert same_bits(found, run(*operands))


def test_a_spec_says_where_it_reads_and_writes():
    table, i, x = np.ones((30, 8)), np.zeros(5, np.int64), np.ones((5, 8))

    def spec_of(f: Any, *args: Any) -> KernelSpec:
        with ad.override(kernels=True):
            (spec,) = schedule_for_cpu(simplify(ad.make_graph(f)(*args))).kernels()
        return spec

    read, _ = gather_of("clip", LAYOUTS["rows"], table.dtype)
    assert str(spec_of(read, table, i)) == (
        "kernel over points [5, 8] {\n"
        "  v0: int64 = load 1 at i0\n"
        "  v1: float64 = gather 0 at i1 + 8 v0 below 30, clip\n"
        "  store 0 at 8 i0 + i1: v1\n"
        "}"
    )
    write, _ = scatter_of("drop", "add", LAYOUTS["rows"], table.dtype)
    assert str(spec_of(write, table, x, i)) == (
        "kernel over points [5, 8] {\n"
        "  v0: int64 = load 2 at i0\n"
        "  v1: float64 = load 1 at 8 i0 + i1\n"
        "  store 0, from load 0, at i1 + 8 v0 below 30, drop: added v1\n"
        "}"
    )
