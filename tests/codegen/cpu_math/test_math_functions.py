"""Exponentials, logarithms, hyperbolic functions, powers and roots against exact values."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from autodiff.codegen import cpu_math
from tests.codegen.cpu_math import special_oracles
from tests.codegen.cpu_math.harness import TARGETS, errors, mapped, report
from tests.codegen.cpu_math.oracles import ORACLES, points, unit_floor

DTYPES = ("float32", "float64")
RANDOM_POINTS = 6000
DIGITS = 60


def _bound(name: str, dtype: str) -> float:
    claim = cpu_math.CLAIMS[name]
    return claim.f32 if dtype == "float32" else claim.f64


def test_every_function_of_the_library_has_exact_values_to_be_compared_with():
    assert {*ORACLES, *special_oracles.NAMES} == set(cpu_math.FUNCTIONS)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ORACLES)
def test_results_are_within_the_error_that_the_function_claims(name, dtype, target):
    # Special points are among the points: NaN, infinities and the signs of zeros are compared.
    oracle = ORACLES[name]
    operands = points(name, dtype, RANDOM_POINTS)
    exact = oracle.extended(*(x.astype(np.longdouble) for x in operands))
    got = mapped(name, oracle.count, dtype, target)(*operands)
    error, sentence = report(got, exact, *operands, floor=unit_floor(name, operands, exact))
    assert error <= _bound(name, dtype), sentence


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ORACLES)
def test_results_agree_with_sixty_digits(name, dtype):
    oracle = ORACLES[name]
    target = next(iter(TARGETS))
    operands = points(name, dtype, 150, seed=7)
    got = mapped(name, oracle.count, dtype, target)(*operands)
    finite = np.isfinite(got) & (got != 0)
    for x in operands:
        finite &= np.isfinite(x) & (x != 0)
    operands, got = tuple(x[finite] for x in operands), got[finite]
    assert got.size > 30
    with mpmath.mp.workdps(DIGITS):
        exact = [
            oracle.digits(*map(mpmath.mpf, map(float, point)))
            for point in zip(*operands, strict=True)
        ]
        floor = unit_floor(name, operands, np.array(list(map(float, exact))))
        sizes = np.abs(got) if floor is None else np.maximum(np.abs(got), floor)
        for k, number in enumerate(got):
            error = abs(mpmath.mpf(float(number)) - exact[k]) / float(np.spacing(sizes[k]))
            # The unit is that of the result: at a power of 2 it may be twice that of the exact one.
            assert error <= 2 * _bound(name, dtype), (name, [x[k] for x in operands], number)


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_negative_numbers_have_the_sign_of_the_exponent_s_parity(dtype):
    for target in TARGETS:
        power = mapped("pow", 2, dtype, target)
        base = np.array([-2, -2, -2, -0.5, -3, -1, -0.0, -np.inf, -np.inf, -2], dtype)
        exponent = np.array([2, 3, 0.5, -3, 0, np.inf, -3, -3, 3, -1e30], dtype)
        expected = np.array([4, -8, np.nan, -8, 1, 1, -np.inf, -0.0, -np.inf, 0], dtype)
        got = power(base, exponent)
        np.testing.assert_array_equal(got, expected)
        assert (np.signbit(got) == np.signbit(expected))[~np.isnan(expected)].all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_keep_their_digits_where_the_function_rounds_to_one(dtype):
    x = np.array([20, 40], dtype)
    e = np.exp(-x.astype(np.longdouble))
    for target in TARGETS:
        assert (
            errors(mapped("logistic_derivative", 1, dtype, target)(x), e / (1 + e) ** 2).max() < 2.5
        )
        exact = 4 * e**2 / (1 + e**2) ** 2
        assert errors(mapped("tanh_derivative", 1, dtype, target)(x), exact).max() < 2.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_results_are_exact(dtype):
    whole = np.arange(-20, 21).astype(dtype)
    for target in TARGETS:
        np.testing.assert_array_equal(mapped("exp2", 1, dtype, target)(whole), 2.0**whole)
        np.testing.assert_array_equal(
            mapped("log2", 1, dtype, target)((2.0**whole).astype(dtype)), whole
        )
        np.testing.assert_array_equal(mapped("cbrt", 1, dtype, target)(whole**3), whole)
        squares = mapped("pow", 2, dtype, target)(whole, np.full_like(whole, 2))
        np.testing.assert_array_equal(squares, whole**2)
        np.testing.assert_array_equal(
            mapped("hypot", 2, dtype, target)(3 * whole, 4 * whole), 5 * np.abs(whole)
        )
