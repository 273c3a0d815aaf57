"""Programs on CuPy's arrays, their kernels run by the emulator, against the reference on NumPy's.

Each is run with threads and blocks in several orders, which must give the same bits, and once with
every access of memory checked.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from autodiff.codegen import cuda_text
from tests.codegen.cuda_programs import PROGRAMS, Program
from tests.composition import fake_cupy
from tests.emulator.device import emulated

SEEDS = (0, 1, 2)

#: A program of every shape of kernel.
LONG_TOO = (
    *(
        "chain",
        "neighbours",
        "padded",
        "rolled",
        "counted",
        "taken",
        "bias",
        "four_axes",
        "transposed_axes",
        "short_rows",
        "softmax",
    ),
    *("rows_of_a_block", "moments_of_long_rows", "columns", "tall_columns", "middle_axis"),
    *("sum_of_squares", "softmax_of_everything", "gradient_of_embedding", "added_where"),
    *("weights_of_few_bins", "last_updates", "counted_in_bins"),
    *("sum_of_squares", "softmax_of_everything", "running_sum", "running_sum_of_rows"),
    *("running_sum_of_columns", "running_sum_of_tall_columns", "gradient_of_running_sum"),
    "gradient_of_running_product_of_columns",
)


def _on_device(x: Any) -> Any:
    return fake_cupy.ndarray(x) if isinstance(x, np.ndarray) else x


def run(program: Program, *, seed: int = 0, checked: bool = False) -> list[np.ndarray]:
    """Return a program's results, computed by kernels on the emulator."""
    with emulated(seed=seed, checked=checked) as device:
        arguments = tree.map(_on_device, program.arguments)
        results = [x.get() for x in tree.leaves(ad.jit(program.function)(*arguments))]
        assert device.launched
    return results


def expected(program: Program) -> list[np.ndarray]:
    """Return a program's results, computed equation by equation by NumPy."""
    with ad.override(reference=True):
        return [np.asarray(x) for x in tree.leaves(ad.jit(program.function)(*program.arguments))]


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return how far arrays are apart, in units in the last place of the largest wanted."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if wanted.dtype.kind in "biu":
        return 0.0 if np.array_equal(found, wanted) else np.inf
    if wanted.dtype.kind == "c":
        return max(distance(found.real, wanted.real), distance(found.imag, wanted.imag))
    x, y = found.astype(np.longdouble), wanted.astype(np.longdouble)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    unit = np.spacing(np.max(np.abs(wanted))).astype(np.longdouble)
    return float(np.max(np.where(same, 0, np.abs(x - y) / unit)))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_kernels_compute_what_the_reference_does(program):
    results = [run(program, seed=seed) for seed in SEEDS]
    for found, wanted in zip(results[0], expected(program), strict=True):
        assert distance(found, wanted) <= program.ulps
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_no_access_is_out_of_bounds_or_races_with_another(program):
    for found, wanted in zip(run(program, checked=True), expected(program), strict=True):
        assert distance(found, wanted) <= program.ulps


LENGTHS = (1, 2, 3, 4, 5, 7, 31, 32, 33, 127, 128, 129, 255, 1000, 1023, 1024, 1025, 1028, 4100)


@pytest.mark.parametrize(
    ("n", "dtype"),
    [*[(n, "f4") for n in LENGTHS], *product((1, 5, 33, 1028), ("f8", "f2", "u1"))],
)
def test_reductions_of_rows_and_columns_of_every_length(n, dtype):
    x = np.random.default_rng(n).integers(0, 2, (3, n)).astype(dtype)
    both = Program("both", lambda x: (np.max(x, 1), np.sum(x, 1), np.sum(x, 0)), (x,), ulps=0)
    for found, wanted in zip(run(both), expected(both), strict=True):
        assert distance(found, wanted) == 0


@pytest.mark.parametrize("n", [*LENGTHS, 16383, 16384, 70000])
def test_reductions_of_whole_arrays_of_every_length(n):
    x = np.arange(n, dtype=np.int32) % 7
    program = Program("sum", lambda x: np.sum(x * x), (x,), ulps=0)
    for found, wanted in zip(run(program, seed=3), expected(program), strict=True):
        assert distance(found, wanted) == 0


@pytest.mark.parametrize("name", LONG_TOO)
def test_indices_of_64_bits_lead_to_the_same_elements(name, monkeypatch):
    monkeypatch.setattr(cuda_text, "is_long", lambda spec: True)
    (program,) = [program for program in PROGRAMS if program.name == name]
    for found, wanted in zip(run(program), expected(program), strict=True):
        assert distance(found, wanted) <= program.ulps


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_arrays_of_no_elements(shape):
    with emulated():
        x = fake_cupy.ndarray(np.ones(shape, np.float32))
        found = ad.jit(lambda x: (x * 2, np.sum(x, axis=0)))(x)
    for y, wanted in zip(found, (np.ones(shape) * 2, np.sum(np.ones(shape), axis=0)), strict=True):
        np.testing.assert_array_equal(y.get(), wanted.astype(np.float32))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1:, 1:],
        lambda x: x.T,
        lambda x: x[::-1],
        lambda x: x.reshape(-1)[1:],
        lambda x: x.reshape(-1)[2:][::3],
    ],
)
def test_views_as_operands_are_copied_or_read_one_by_one(view):
    base = np.random.default_rng(0).normal(size=(40, 33)).astype(np.float32)
    with emulated(checked=True):
        found = ad.jit(lambda x: x * x + x)(view(fake_cupy.ndarray(base))).get()
    np.testing.assert_array_equal(found, view(base) * view(base) + view(base))


def test_a_number_of_the_host_is_a_parameter():
    with emulated() as device:
        x = fake_cupy.ndarray(np.arange(5, dtype=np.float32))
        step = ad.jit(lambda x, rate: x - rate * x)
        for rate in (0.5, 0.25):
            np.testing.assert_array_equal(step(x, rate).get(), np.arange(5) * np.float32(1 - rate))
        assert device.launched == ["kernel", "kernel"]


def test_a_complex_number_of_the_host_is_a_parameter():
    with emulated():
        z = fake_cupy.ndarray(np.arange(5) + 1j)
        turned = ad.jit(lambda z, by: z * by)(z, np.complex128(2j)).get()
    np.testing.assert_array_equal(turned, (np.arange(5) + 1j) * 2j)


def test_what_is_computed_of_numbers_of_the_host_is_written_into_an_array_of_the_device():
    def f(x, number):
        x = x * 1
        x[()] = number  # cast by a kernel of one number, which is run on the host
        return x

    with emulated():
        found = ad.jit(f)(fake_cupy.ndarray(np.int32(1)), np.float64(2.75))
    assert found.dtype == np.int32
    assert found.item() == 2


def test_a_single_point_stores_what_is_gathered_and_what_is_not():
    def f(table, k):
        return table[k + 1] * 2, k + 3

    table, k = np.arange(7.0), np.array(2)
    with emulated():
        gathered, added = ad.jit(f)(fake_cupy.ndarray(table), fake_cupy.ndarray(k))
    assert (gathered.item(), added.item()) == (6.0, 5)


def test_special_values_go_through_kernels():
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, 1.0], np.float32)

    def functions(x):
        return (
            np.sqrt(x),
            x / (x - x),
            np.maximum(x, 0),
            np.sign(x),
            x * 0.5,
            np.floor(x),
        )

    program = Program("special", functions, (special,))
    for found, wanted in zip(run(program), expected(program), strict=True):
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))
