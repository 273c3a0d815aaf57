"""Kernels over complex numbers: memory of every layout, reductions, fusion, derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import KernelFunction, schedule_for_cpu
from autodiff.schedule.reuse import LARGE
from tests.codegen.elementwise_kernels import complex_of
from tests.primitives.numeric import derivative, direction
from tests.primitives.sampling import same_bits

TARGETS = {"host": "auto", "avx2": "avx2", "sse2": "sse2"}
TYPES = (np.complex64, np.complex128)


def drawn(shape: Any, dtype: Any = np.complex128, seed: int = 1) -> Any:
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype)


def by_kernels(f: Any, *args: Any, **settings: Any) -> Any:
    with ad.override(kernels=True, **settings):
        return ad.jit(f)(*args)


def count_kernels(f: Any, *args: Any) -> int:
    with ad.override(kernels=True):
        schedule = schedule_for_cpu(simplify(ad.make_graph(f)(*args)))
    assert {eqn.primitive.kind for eqn in schedule.graph.eqns} <= {"kernel", "shape"}
    return len(list(schedule.kernels()))


def near(found: Any, expected: Any, ulps: float = 16.0, scale: float | None = None) -> None:
    """Compare leaves: equal types and shapes, values within some units of the modulus."""
    assert tree.structure(found) == tree.structure(expected)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        y: Any = np.asarray(y)
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        if y.dtype.kind not in "fc":
            np.testing.assert_array_equal(x, y)
            continue
        unit = np.spacing(np.abs(y) if scale is None else np.full(y.shape, scale, y.real.dtype))
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        assert np.all(same | (np.abs(x - y) <= ulps * unit)), (x, y)


def chain(x, z):
    return np.exp(1j * x) * z + z * np.conj(z)


def mixed(z):
    w = np.sqrt(z) / (1.5 - z) + np.abs(z) * np.sin(z)
    return np.where(w.real > 0, w, np.conj(w)), np.angle(w), w.imag * 2.0, w == z, np.isnan(w)


SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64, 129)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", SIZES)
def test_a_chain_of_operations_at_every_size(n, dtype, target):
    z = drawn(n, dtype)
    x = z.real * 2
    near(by_kernels(chain, x, z, cpu_target=TARGETS[target]), chain(x, z), scale=2.0)
    assert count_kernels(chain, x, z) == 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", TYPES)
def test_complex_real_and_truth_values_in_one_kernel(dtype, target):
    z = drawn((5, 13), dtype)
    near(by_kernels(mixed, z, cpu_target=TARGETS[target]), mixed(z), ulps=40, scale=2.0)
    assert count_kernels(mixed, z) == 1


VIEWS = {
    "reversed": lambda v: v[::-1, ::-1],
    "every other": lambda v: v[::2, ::3],
    "transposed": lambda v: v.T,
    "column": lambda v: v[:, 3:4],
    "row": lambda v: v[2],
    "part": lambda v: v[1:5, 2:17],
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("view", VIEWS)
def test_views_inside_a_program_are_read_in_place(view, dtype, target):
    z = drawn((6, 18), dtype)

    def f(v):
        part = VIEWS[view](v)
        return part * 2.0 + part * part

    near(by_kernels(f, z, cpu_target=TARGETS[target]), f(z), ulps=4)
    assert count_kernels(f, z) == 1


@pytest.mark.parametrize("layout", ["transposed", "every other", "reversed", "repeated", "0-d"])
def test_arguments_of_any_layout_are_read_right(layout):
    base = drawn((6, 10))
    z = {
        "transposed": base.T,
        "every other": base[::2, ::3],
        "reversed": base[::-1, ::-1],
        "repeated": np.broadcast_to(base[0], (4, 10)),
        "0-d": np.array(0.3 - 2j),
    }[layout]
    near(by_kernels(lambda v: v * 2.0 + np.sqrt(v), z), z * 2.0 + np.sqrt(z), ulps=4)


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_empty_arrays_are_left_to_numpy(shape):
    z = np.zeros(shape, complex)
    near(by_kernels(lambda v: (np.exp(v) * 2.0, np.sum(v * v)), z), (z, np.array(0j)))


# ---- reductions


def _shares(e: Any) -> Any:
    return e / np.sum(np.abs(e), axis=-1, keepdims=True)


ROWS = {
    "sum": lambda z: np.sum(z * z + 1.0, axis=-1),
    "product": lambda z: np.prod(z * 0.9, axis=-1),
    "mean": lambda z: np.mean(z * 1j, axis=-1),
    "norm": lambda z: z / np.sqrt(np.sum((z * np.conj(z)).real, axis=-1, keepdims=True)),
    "variance": lambda z: z - np.mean(z, axis=-1, keepdims=True) * np.exp(z),
    "softmax": lambda z: _shares(np.exp(z - np.mean(z, axis=-1, keepdims=True))),
    "count": lambda z: np.sum(z.real > z.imag, axis=-1),
    "two": lambda z: (np.sum(np.sin(z), axis=-1) * 2.0, np.sin(z)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 1), (1, 5), (4, 16), (5, 37), (2, 3, 70), (100, 3)])
@pytest.mark.parametrize("name", ROWS)
def test_reductions_of_rows(name, shape, dtype, target):
    z = drawn(shape, dtype)
    f = ROWS[name]
    scale = float(max(1.0, *(np.abs(x).max() for x in tree.leaves(f(z)))))
    near(by_kernels(f, z, cpu_target=TARGETS[target]), f(z), ulps=64, scale=scale)
    assert count_kernels(f, z) == 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(7, 5), (40, 3), (33, 65), (17, 333), (64, 256)])
def test_reductions_over_leading_axes_near_and_far_apart(shape, dtype, target):
    z = drawn(shape, dtype)

    def f(v):
        w = v * v + 1.0
        return np.sum(w, axis=0), np.prod(np.exp(w * 0.001j), axis=0) + 1.0

    found = by_kernels(f, z, cpu_target=TARGETS[target])
    near(found, f(z), ulps=64, scale=float(np.abs(f(z)[0]).max()))
    assert count_kernels(f, z) == 1


@pytest.mark.parametrize("dtype", TYPES)
def test_a_sum_of_everything_is_the_same_on_any_number_of_threads(dtype):
    z = drawn(70_001, dtype)
    f = lambda v: (np.sum(v * v), np.mean(v) * 2.0, np.max(v * 1j))
    alone = by_kernels(f, z, threads=1)
    near(alone, f(z), ulps=64, scale=300.0)
    for threads in (2, 3):
        found = by_kernels(f, z, threads=threads)
        assert all(map(same_bits, found, alone))


@pytest.mark.parametrize("target", TARGETS)
def test_extremes_are_lexicographic_and_pass_nan_on(target):
    z = np.round(drawn((6, 45)))  # so that real parts are often equal
    z[1, 17], z[2, 44], z[3, 0] = complex(np.nan, 1), complex(0, np.nan), complex(-np.inf, 2)
    z[4] = complex(-np.inf, -np.inf)
    z[5] = complex(np.inf, -3)
    f = lambda v: (np.max(v + 0.0, axis=1) * 1.0, np.min(v + 0.0, axis=1) * 1.0)
    for found, expected in zip(by_kernels(f, z, cpu_target=TARGETS[target]), f(z), strict=True):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        ordered = ~np.isnan(expected)
        np.testing.assert_array_equal(found[ordered], expected[ordered])


def test_sums_begin_with_the_zero_that_numpys_begin_with():
    parts = np.array([-0.0, 0.0, np.inf, -np.inf, np.nan])
    z = complex_of(*(x.reshape(-1, 1) for x in np.meshgrid(parts, parts)))
    f = lambda v: np.sum(np.where(v == 7, 0j, v), axis=1)
    assert same_bits(by_kernels(f, z), np.sum(z, axis=1))


def test_products_with_a_part_that_is_not_finite_are_not():
    z = drawn((40, 37))
    z.real[::2, 5] = np.inf
    z.imag[1::2, 36] = np.nan
    f = lambda v: np.prod(np.where(v == 7, 0j, v), axis=1)
    with np.errstate(all="ignore"):
        expected = f(z)
    assert not np.isfinite(expected).any()
    assert not np.isfinite(by_kernels(f, z)).any()


# ---- fusion


def _programs() -> dict[str, Any]:
    return {
        "chain": lambda z: chain(z.real, z),
        "mixed": mixed,
        **{name: ROWS[name] for name in ("norm", "variance", "two", "product")},
        "functions": lambda z: np.arctan(np.log(z) * np.tanh(z)) ** 3 + np.cosh(1 / z) ** 0.5,
        "gradient": ad.grad(lambda z: np.sum(np.abs(np.exp(z) / (z + 2.0)) ** 2)),
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", _programs())
def test_fused_kernels_have_the_bits_of_kernels_of_one_operation_each(name, dtype, target):
    f, z = _programs()[name], drawn((9, 43), dtype)
    together = by_kernels(f, z, contract=False, cpu_target=TARGETS[target])
    apart = by_kernels(f, z, contract=False, cpu_target=TARGETS[target], no_fusion=True)
    assert all(map(same_bits, tree.leaves(together), tree.leaves(apart)))
    assert count_kernels(f, z) == 1


def test_a_product_with_the_conjugate_is_real_in_fused_kernels():
    z = drawn(1000)
    assert not np.any(by_kernels(lambda v: v * np.conj(v) + v.real, z).imag)


# ---- derivatives

FUNCTIONS = {
    "polynomial": lambda z: z**3 + 2j * z**2 - z,
    "quotient": lambda z: (z + 1j) / (z * z + 4.0),
    "exponential": lambda z: np.exp(1j * z) * np.sin(z) + np.log(z),
    "root": lambda z: np.sqrt(z + 3.0) * np.tanh(z / 2.0),
    "inverse": lambda z: np.arctan(z / 3.0) + np.arcsinh(z),
    "power": lambda z: (z + 2.0) ** (0.5 + 0.25j),
    "modulus": lambda z: np.abs(z) ** 2 + np.angle(z + 3.0),
    "parts": lambda z: np.real(z) * np.imag(z) + np.conj(z),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_of_fused_functions_are_those_of_differences(name):
    f, z = FUNCTIONS[name], drawn((3, 7), seed=3)
    t = direction(np.random.default_rng(4), z)
    ((expected, error),) = derivative(lambda z: (np.asarray(f(z)),), (z,), (t,))
    found = by_kernels(lambda z, t: ad.jvp(f, (z,), (t,))[1], z, t)
    assert np.all(np.abs(found - expected) <= error + 1e-8 * np.abs(expected))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_fused_functions_are_the_transposes(name):
    """Re(grad conj-paired with t) is the derivative of the real loss along t: SEMANTICS' rule."""
    f, z = FUNCTIONS[name], drawn((3, 7), seed=3)
    t = direction(np.random.default_rng(4), z)
    loss = lambda z: np.sum(np.real(f(z) * (0.5 - 1j)))
    gradient = by_kernels(ad.grad(loss), z)
    ((expected, error),) = derivative(lambda z: (np.asarray(loss(z)),), (z,), (t,))
    assert abs(np.sum((gradient * t).real) - expected) <= error + 1e-8
    assert count_kernels(ad.grad(loss), z) == 1


@pytest.mark.parametrize("dtype", TYPES)
def test_a_large_result_over_a_donated_argument_is_the_same(dtype):
    z = drawn(LARGE // 8 + 5, dtype)
    f = lambda v: np.sqrt(v) * v + np.conj(v)
    expected = by_kernels(f, z)
    with ad.override(kernels=True, reference=False):
        donated = z.copy()
        found = ad.jit(f, donate_argnums=0)(donated)
    assert np.shares_memory(found, donated)
    assert same_bits(found, expected)


def test_loops_over_complex_numbers_run_kernels():
    z = drawn(20)

    def f(z):
        step = lambda w, c: (w * w * 0.25 + z * c, np.abs(w))
        return ad.scan(step, z, np.linspace(0, 1, 6))

    expected = z, []
    w = z
    for c in np.linspace(0, 1, 6):
        expected[1].append(np.abs(w))
        w = w * w * 0.25 + z * c
    near(by_kernels(f, z), (w, np.stack(expected[1])), ulps=200, scale=1.0)


def test_a_kernel_reads_as_what_it_computes():
    z = drawn(40, np.complex64)
    with ad.override(kernels=True):
        (spec,) = schedule_for_cpu(simplify(ad.make_graph(chain)(z.real, z))).kernels()
        text = KernelFunction(spec).text
    assert ";   v4: complex64 = exp v3" in text
    assert "getelementptr [2 x float]" in text
