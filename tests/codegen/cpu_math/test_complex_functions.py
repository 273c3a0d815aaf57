"""Complex functions of the math library against NumPy: special values, and extended precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autodiff.codegen.cpu_math.complex import COMPLEX_FUNCTIONS
from tests.codegen.cpu_math.harness import TARGETS, compiled, report

DTYPES = ("float32", "float64")
NUMPY: dict[str, Any] = {
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "multiply": np.multiply,
    "divide": np.divide,
}
#: Units in the last place of each part, as the module's docstring states them.
BOUNDS = {"exp": 3.0, "log": 2.5, "sin": 4.5, "cos": 4.5, "tanh": 7.0, "sqrt": 2.5, "abs": 2.5}
_BINARY = ("multiply", "divide")


def _apply(name: str, dtype: str, target_name: str, *parts: np.ndarray) -> list[np.ndarray]:
    target, scalar = TARGETS[target_name]
    lanes = 1 if scalar else target.lanes(dtype)

    def part(k: int) -> np.ndarray:
        run = compiled(
            lambda b, *values: COMPLEX_FUNCTIONS[name](b, *values)[k],
            len(parts),
            np.dtype(dtype),
            target,
            lanes,
        )
        return run(*parts)

    return [part(0), part(1)]


def _complex(x: np.ndarray, y: np.ndarray, dtype: Any) -> np.ndarray:
    # Not x + 1j*y: that changes infinities and the signs of zeros.
    z = np.empty(x.shape, dtype)
    z.real, z.imag = x, y
    return z


def _parts(z: np.ndarray) -> list[np.ndarray]:
    return [np.real(z), np.imag(z)]


def _same(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    signs = (np.signbit(got) == np.signbit(expected)) | np.isnan(expected)
    kinds = np.isnan(got) == np.isnan(expected)
    with np.errstate(all="ignore"):
        close = np.abs(got - expected) <= 1e-5 * np.abs(expected)
    return kinds & signs & ((got == expected) | np.isnan(expected) | close)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPLEX_FUNCTIONS)
def test_zeros_infinities_and_nan_are_those_of_numpy(name, dtype):
    large = 100 if dtype == "float32" else 800
    numbers = np.array([0, -0.0, 1, -1, 0.5, 3, -large, np.inf, -np.inf, np.nan], dtype)
    if name in _BINARY:
        numbers = numbers[[0, 1, 2, 3, 5, 7, 8, 9]]
    count = 4 if name in _BINARY else 2
    parts = [part.ravel() for part in np.meshgrid(*[numbers] * count)]
    kind = np.result_type(dtype, np.complex64)
    numbers = [_complex(*pair, kind) for pair in zip(parts[::2], parts[1::2], strict=True)]
    with np.errstate(all="ignore"):
        expected = _parts(NUMPY[name](*numbers))
    for target in TARGETS:
        for got, wanted in zip(_apply(name, dtype, target, *parts), expected, strict=True):
            same = _same(got, wanted)
            where = [part[~same][:3] for part in parts]
            assert same.all(), (target, where, got[~same][:3], wanted[~same][:3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_each_part_is_within_the_stated_error(name, dtype):
    random = np.random.default_rng(4)
    count = 3000
    angle, radius = random.uniform(0, 7, count), 1 + 10.0 ** random.uniform(-10, -1, count)
    x, y = (
        np.concatenate([wide, small, turned]).astype(dtype)
        for wide, small, turned in (
            (
                random.normal(size=count) * 20,
                10.0 ** random.uniform(-20, 1, count),
                radius * np.cos(angle),
            ),
            (
                random.normal(size=count) * 5,
                10.0 ** random.uniform(-20, 1, count),
                radius * np.sin(angle),
            ),
        )
    )
    exact = _parts(NUMPY[name](_complex(x, y, np.clongdouble)))
    for target in TARGETS:
        for got, wanted in zip(_apply(name, dtype, target, x, y), exact, strict=True):
            error, sentence = report(got, wanted, x, y)
            assert error <= BOUNDS[name], (target, sentence)


@pytest.mark.parametrize("name", _BINARY)
def test_products_and_quotients_are_within_three_units_of_the_modulus(name):
    random = np.random.default_rng(5)
    parts = [random.normal(size=3000) for _ in range(4)]
    a = _complex(parts[0], parts[1], np.clongdouble)
    c = _complex(parts[2], parts[3], np.clongdouble)
    exact = NUMPY[name](a, c)
    unit = np.spacing(np.abs(exact).astype(np.float64))
    for target in TARGETS:
        got = _apply(name, "float64", target, *parts)
        for part, wanted in zip(got, _parts(exact), strict=True):
            assert (np.abs(part - wanted) / unit).max() < 3


def test_large_and_small_numbers_neither_overflow_nor_vanish():
    big, small = np.array([1e300, 1.5e308]), np.array([1e-310, 5e-324])
    for target in TARGETS:
        real, _ = _apply("log", "float64", target, big, big)
        np.testing.assert_allclose(real, np.log(big) + np.log(2) / 2, rtol=1e-15)
        real, _ = _apply("log", "float64", target, small, small)
        np.testing.assert_allclose(real, np.log(small) + np.log(2) / 2, rtol=1e-15)
        real, imaginary = _apply("sqrt", "float64", target, big, big)
        root: Any = np.sqrt(_complex(big, big, np.clongdouble))
        np.testing.assert_allclose(real, root.real, rtol=1e-15)
        np.testing.assert_allclose(imaginary, root.imag, rtol=1e-15)
        real, imaginary = _apply("sqrt", "float64", target, 0 * small, small)
        np.testing.assert_allclose(real, np.sqrt(small) / np.sqrt(2), rtol=1e-15)
        real, _ = _apply("exp", "float64", target, np.array([710.0]), np.array([1.5]))
        np.testing.assert_allclose(real, np.exp(700) * np.cos(1.5) * np.exp(10), rtol=1e-13)
