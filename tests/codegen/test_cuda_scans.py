"""Running results in kernels for GPUs, made by every team of threads: values and their order."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.codegen import cuda_scans
from autodiff.codegen.cuda_kernels import can_emit
from autodiff.codegen.scan_phases import Phases
from autodiff.ir.primitive import primitives
from autodiff.passes.pipeline import simplify
from autodiff.runtime import cuda_programs, executor
from autodiff.runtime.cuda_kernels import schedule_for_cuda
from autodiff.schedule.kernel_spec import Compute, Scan
from tests.codegen.cuda_programs import Program
from tests.codegen.test_cpu_scans import DTYPES, OF_ONE, RUNNING, near, numbers, takes
from tests.codegen.test_cuda_programs import run
from tests.composition import fake_cupy
from tests.emulator.device import emulated
from tests.primitives.sampling import same_bits

#: What makes rows of some hundred points be taken by a team that else takes longer ones.
TEAMS: dict[str, dict[str, int]] = {
    "warp": {},
    "block": {"WARP_ROW": 0, "LEAST_PART": 1 << 20, "THREADS": 64, "STEPS": 2},
    "grid": {"WARP_ROW": 0, "LEAST_PART": 1, "THREADS": 64, "STEPS": 1, "STRETCH": 2, "DEEP": 2},
}

COMPLEX = [np.dtype(np.complex64), np.dtype(np.complex128)]

LENGTHS = (1, 2, 3, 5, 31, 33, 64, 127, 128, 129, 255, 300, 1023, 1028)


@pytest.fixture(params=TEAMS)
def team(request, monkeypatch):
    """Rows of some hundred points are taken by one kind of team after the other."""
    for name, value in TEAMS[request.param].items():
        monkeypatch.setattr(cuda_scans, name, value)
    monkeypatch.setattr(cuda_programs, "_function", cuda_programs._function.__wrapped__)
    monkeypatch.setattr(executor, "_executables", OrderedDict())
    return request.param


def there(function: Any, *args: Any, checked: bool = False) -> Any:
    """Return a function's result, computed by kernels on the device."""
    (found,) = run(Program("p", function, args), seed=1, checked=checked)
    return found


def drawn(dtype: np.dtype, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    if dtype.kind == "c":
        return numbers(np.dtype(float), shape, seed) + 1j * numbers(np.dtype(float), shape, 9)
    return numbers(dtype, shape, seed)


def parts(x: Any) -> np.ndarray:
    """Return the parts of complex numbers, or what is real."""
    return np.stack([x.real, x.imag]) if x.dtype.kind == "c" else x


def largest_error(dtype: np.dtype, terms: int) -> float:
    """Return what a result of some terms may be off, relative to the largest intermediate one."""
    if dtype.kind in "biu":
        return 0.0
    times = 4 if dtype.kind == "c" else 1  # of each complex product
    return times * terms * float(ml_dtypes.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [*DTYPES, *COMPLEX], ids=str)
@pytest.mark.parametrize("primitive", RUNNING, ids=str)
def test_running_results_are_the_reference_for_every_type_and_team(primitive, dtype, team):
    if not takes(primitive, dtype):
        assert dtype.kind in "biuc"
        return
    count = len(primitive.samples.shapes[0])
    args = [drawn(dtype, (3, 200), seed).astype(dtype) for seed in range(count)]
    for axis, reverse in ((0, True), (1, False), (1, True)):
        found = there(partial(primitive, axis=axis, reverse=reverse), *args)
        expected = primitive.reference(*args, axis=axis, reverse=reverse)
        near(parts(found), parts(expected), largest_error(dtype, 200))


def test_several_blocks_take_a_row_in_two_launches_and_one_block_in_one(team):
    x = numbers(np.dtype(float), (2, 300))
    with emulated() as device:
        ad.jit(lambda x: np.cumsum(x, axis=1))(fake_cupy.ndarray(x))
        expected = ["kernel_parts", "kernel"] if team == "grid" else ["kernel"]
        assert device.launched == expected


@pytest.mark.parametrize("n", LENGTHS)
def test_running_sums_of_every_length(n, team):
    cumsum = primitives["cumsum"]
    for shape, axis in (((n,), 0), ((3, n), 1), ((n, 9), 0), ((2, n, 8), 1)):
        x = numbers(np.dtype(np.int32), shape)
        for reverse in (False, True):
            found = there(partial(cumsum, axis=axis, reverse=reverse), x, checked=True)
            np.testing.assert_array_equal(found, cumsum.reference(x, axis=axis, reverse=reverse))


def test_what_is_before_and_after_and_several_levels_are_in_one_kernel(team):
    def f(x):
        total = np.cumsum(np.exp(x) * 2.0, axis=1)
        again = np.cumsum(total - x, axis=1) * x
        return again / np.max(total, axis=1, keepdims=True) + np.sum(again, axis=1, keepdims=True)

    x = numbers(np.dtype(float), (3, 500))
    schedule = schedule_for_cuda(simplify(ad.make_graph(f)(x)))
    assert [eqn.primitive.kind for eqn in schedule.graph.eqns] == ["kernel"]
    near(there(f, x, checked=True), f(x), 1e-12)


def test_special_values_spread_as_in_numpy(team):
    x = np.zeros(300)
    x[:4] = -0.0
    for places in ((20,), (3, 170), (0, 299)):
        for first, second in ((np.nan, 1.0), (np.inf, -np.inf), (-np.inf, 2.0)):
            y = x.copy()
            y[list(places)] = ([first, second] * 2)[: len(places)]
            for primitive in OF_ONE:
                for reverse in (False, True):
                    given = partial(primitive, axis=0, reverse=reverse)
                    with np.errstate(all="ignore"):
                        near(there(given, y), given(y), 1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_zeros_keep_their_signs(dtype, team):
    x = -np.zeros(300, dtype)
    assert same_bits(there(np.cumsum, x), x)
    z = there(np.cumprod, np.where(np.arange(300) == 0, np.array(-0.0, np.float32), 1))
    assert np.all(np.signbit(z))


def test_a_zero_among_factors_stays_beside_products_that_overflow(team):
    for zero in (0, 1, 40, 299):
        x = np.full(300, 1e200)
        x[zero] = 0.0
        found = there(np.cumprod, x)
        assert np.all(found[zero + 2 :] == 0) or zero == 1  # where nothing is infinite before
        assert not np.any(np.isnan(found[: zero + 1][x[: zero + 1] != 0]))


def test_products_of_factors_that_leave_the_range_are_no_error_of_recurrences(team):
    recurrence = partial(primitives["linear_recurrence"], axis=0, reverse=False)
    for factor in (1e200, 1e-200, -1e200):
        a, b = np.full(300, factor), np.zeros(300)
        assert np.all(there(recurrence, a, b) == 0)
        a[::2] = 1 / factor  # every other result is 0 again, or nearly
        b[0] = 1.0
        near(there(recurrence, a, b), np.cumprod(np.where(np.arange(300) == 0, 1, a)), 1e-12)


def test_the_first_factor_of_a_recurrence_is_not_used(team):
    recurrence = partial(primitives["linear_recurrence"], axis=0)
    for reverse in (False, True):
        a, b = numbers(np.dtype(float), (300,), 1), numbers(np.dtype(float), (300,), 2)
        expected = recurrence(a, b, reverse=reverse)
        for value in (np.inf, np.nan):
            a[-1 if reverse else 0] = value
            found = there(partial(recurrence, reverse=reverse), a, b)
            near(found, expected, 1e-13)


def test_an_infinite_factor_gives_what_follows_from_point_to_point(team):
    a, b = np.full(300, 0.5), np.ones(300)
    a[[1, 150]] = np.inf, 0.25
    found = there(partial(primitives["linear_recurrence"], axis=0, reverse=False), a, b)
    assert found[0] == 1 and np.all(found[1:] == np.inf)


def test_a_running_product_may_leave_the_range_of_its_type_and_come_back():
    x = np.where(np.arange(2000) < 1000, 1e-3, 1e3)
    found = there(np.cumprod, x)
    exact = np.cumsum(np.log10(x))
    inside = np.abs(exact) < 290
    np.testing.assert_allclose(found[inside], 10.0 ** exact[inside], rtol=1e-9)
    assert np.all(found[np.abs(exact) > 400] == 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "linear_recurrence"])
def test_one_thread_a_row_gives_the_bits_of_one_after_the_other(name, dtype):
    primitive = primitives[name]
    args = [numbers(np.dtype(dtype), (70, 45), seed) for seed in (1, 2)]
    args = args[: len(primitive.samples.shapes[0])]
    found = there(partial(primitive, axis=0, reverse=False), *args)
    expected = np.empty_like(found)
    before = args[-1][0]
    expected[0] = before
    steps = {
        "cumsum": np.add,
        "cumprod": np.multiply,
        "cummax": np.maximum,
        "linear_recurrence": lambda y, a, b: a * y + b,
    }
    for i in range(1, 70):
        before = steps[name](before, *[x[i] for x in args])
        expected[i] = before
    assert same_bits(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_sums_are_at_least_as_accurate_as_one_after_the_other(dtype, team):
    x = np.random.default_rng(3).uniform(0, 1, 50_000).astype(dtype)
    exact = np.cumsum(x.astype(np.longdouble))
    error, error_of_numpy = (np.max(np.abs(y - exact)) for y in (there(np.cumsum, x), np.cumsum(x)))
    assert error <= error_of_numpy


def test_half_precisions_are_carried_in_single_precision(team):
    x = np.random.default_rng(3).uniform(0, 1, (2, 400)).astype(np.float16)
    exact = np.cumsum(x.astype(np.float64), axis=1)
    found = there(lambda x: np.cumsum(x, axis=1), x).astype(np.float64)
    unit = np.spacing(exact.astype(np.float16)).astype(np.float64)
    assert np.all(np.abs(found - exact) <= 0.501 * unit)  # rounded to 16 bits once


@pytest.mark.parametrize("primitive", OF_ONE, ids=str)
def test_derivatives_and_batches_run_on_kernels(primitive):
    x = numbers(np.dtype(float), (4, 60), seed=5)

    def loss(x):
        return anp.sum(primitive(x, axis=0, reverse=False) ** 2)

    gradient = ad.vmap(ad.grad(loss))
    graph = schedule_for_cuda(simplify(ad.make_graph(gradient)(x))).graph
    assert "cumulative" not in {eqn.primitive.kind for eqn in graph.eqns}
    near(there(gradient, x), np.stack([ad.grad(loss)(row) for row in x]), 1e-11)


def test_what_can_only_be_made_from_point_to_point_is_refused():
    graph = simplify(ad.make_graph(np.cumprod)(np.ones(5)))
    (spec,) = schedule_for_cuda(graph).kernels()
    (scan,) = spec.scans
    assert can_emit(spec)
    strict = replace(scan, primitive=replace(scan.primitive, factor=None))
    assert not can_emit(replace(spec, values=(strict,)))


def test_a_phase_keeps_what_the_next_one_needs():
    graph = simplify(ad.make_graph(lambda x: np.cumsum(np.exp(x)) + np.exp(x) * x)(np.ones(50)))
    (spec,) = schedule_for_cuda(graph).kernels()
    computed = [(i, x) for i, x in enumerate(spec.values, 1) if isinstance(x, Compute | Scan)]
    names = {i: x.primitive.name for i, x in computed}
    first, second = Phases(spec).of_pass(0)
    assert {names[i] for i in first.found} == {"cumsum"}
    assert {names[i] for i in first.kept} == {"exp", "multiply"}  # x itself is not read again
    assert second.read == first.kept and second.stored and not second.found
