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
}
#: Units in the last place of each part, as the module's docstring states them.
BOUNDS = {"exp": 3.0, "log": 2.5, "sin": 4.5, "cos": 4.5, "tanh": 7.0, "sqrt": 2.5}


def _apply(name: str, dtype: str, target_name: str, *parts: np.ndarray) -> list[np.ndarray]:
    target, scalar = TARGETS[target_name]
    lanes = 1 if scalar else target.lanes(dtype)

    def part(k: int) -> np.ndarray:
        run = compiled(
            lambda b, x, y: COMPLEX_FUNCTIONS[name](b, x, y)[k],
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
    x, y = (part.ravel() for part in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        expected = _parts(NUMPY[name](_complex(x, y, np.result_type(dtype, np.complex64))))
    for target in TARGETS:
        for got, wanted in zip(_apply(name, dtype, target, x, y), expected, strict=True):
            same = _same(got, wanted)
            where = x[~same][:3], y[~same][:3]
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


def test_a_root_keeps_a_part_far_smaller_than_the_other():
    x, y = np.array([-4e100, 4e100, -4e-100, 4e300]), np.array([1e-150, -1e-150, 1e-250, 1e-100])
    exact = _parts(np.sqrt(_complex(x, y, np.clongdouble)))
    for target in TARGETS:
        for got, wanted in zip(_apply("sqrt", "float64", target, x, y), exact, strict=True):
            np.testing.assert_allclose(got, np.float64(wanted), rtol=1e-15)


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
