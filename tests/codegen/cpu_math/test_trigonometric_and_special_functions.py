"""Trigonometric functions, their inverses, error functions and gamma functions, on every target."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from autodiff.codegen import cpu_math
from tests.codegen.cpu_math import special_oracles
from tests.codegen.cpu_math.harness import TARGETS, errors, mapped, report

DTYPES = ("float32", "float64")
#: mpmath takes up to a millisecond for a point.
POINTS = dict.fromkeys(special_oracles.EXTENDED, 6000) | dict.fromkeys(special_oracles.DIGITS, 320)


def _bound(name: str, dtype: str) -> float:
    claim = cpu_math.CLAIMS[name]
    return claim.f32 if dtype == "float32" else claim.f64


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", special_oracles.NAMES)
def test_results_are_within_the_error_that_the_function_claims(name, dtype):
    # Special points are among the points: NaN, infinities and the signs of zeros are compared.
    operands, exact = special_oracles.points_and_exact(name, dtype, POINTS[name])
    for target in TARGETS:
        got = mapped(name, special_oracles.count(name), dtype, target)(*operands)
        error, sentence = report(got, exact, *operands)
        assert error <= _bound(name, dtype), (target, sentence)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("sin", "cos", "tan"))
def test_huge_arguments_are_reduced_exactly(name, dtype):
    # 2.**120 needs 120 bits of 2/pi beyond its own.
    x = np.array([1e6, 1e10, 2.0**120, -3e38, 16367173 * 2.0**72], dtype)
    bounds = np.full(x.size, _bound(name, dtype))
    if dtype == "float64":
        # 6381956970095103 * 2**797 is the double closest to a multiple of pi/2 (Muller, Elementary
        # functions, 3rd edition 2016, table 11.1): glibc, which is asked, keeps 10**-15 of it.
        x = np.concatenate([x, [1e300, -1.7e308, 6381956970095103 * 2.0**797]])
        bounds = np.concatenate([bounds, bounds[:2], [16]])
    with mp.workdps(400):
        exact = np.array(
            [special_oracles.longdouble(getattr(mpmath, name)(mpf(float(v)))) for v in x]
        )
    for target in TARGETS:
        got = mapped(name, 1, dtype, target)(x)
        assert (errors(got, exact) <= bounds).all(), target


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_huge_argument_leaves_its_neighbours_alone(dtype):
    x = np.linspace(-3, 3, 64).astype(dtype)
    mixed = x.copy()
    mixed[::5] = 1e9 if dtype == "float32" else 1e12
    for target in TARGETS:
        sine = mapped("sin", 1, dtype, target)
        expected = sine(x)
        expected[::5] = np.sin(mixed[::5].astype(np.longdouble))
        np.testing.assert_array_equal(sine(mixed), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_that_have_an_exact_value_are_exact(dtype):
    one, zero = np.ones(1, dtype), np.zeros(1, dtype)
    for target in TARGETS:
        assert mapped("cos", 1, dtype, target)(zero) == 1
        assert mapped("acos", 1, dtype, target)(one) == 0
        assert mapped("erfc", 1, dtype, target)(zero) == 1
        assert mapped("erf", 1, dtype, target)(10 * one) == 1
        assert mapped("lgamma", 1, dtype, target)(one) == 0
        assert mapped("lgamma", 1, dtype, target)(2 * one) == 0
        assert mapped("atan2", 2, dtype, target)(zero, -one) == np.asarray(np.pi, dtype)
        assert (mapped("sinc", 1, dtype, target)(np.arange(1, 50).astype(dtype)) == 0).all()


def test_the_tail_of_erfc_keeps_its_digits_into_the_subnormals():
    x = np.linspace(20, 27.2, 200)
    exact = np.array([special_oracles.longdouble(mpmath.erfc(mpf(float(v)))) for v in x])
    for target in TARGETS:
        got = mapped("erfc", 1, "float64", target)(x)
        assert got[-1] > 0
        assert errors(got, exact).max() <= _bound("erfc", "float64")


def test_lgamma_and_digamma_keep_their_digits_next_to_their_zeros():
    steps = np.concatenate([10.0 ** np.arange(-15, -1), -(10.0 ** np.arange(-15, -1))])
    near = {"lgamma": np.concatenate([1 + steps, 2 + steps]), "digamma": 1.4616321449683622 + steps}
    for name, x in near.items():
        exact = np.array([special_oracles.by_digits(name, float(v)) for v in x])
        for target in TARGETS:
            assert errors(mapped(name, 1, "float64", target)(x), exact).max() <= 2.5


@pytest.mark.parametrize("name", ("lgamma", "digamma"))
def test_negative_arguments_are_right_relative_to_the_terms_of_the_reflection(name):
    # Near the zeros at negative arguments the terms cancel: F64 results keep the error of the
    # terms, F32 results are computed with more digits.
    random = np.random.default_rng(2)
    x = -np.concatenate(
        [random.uniform(0, 6, 150), random.uniform(0, 40, 50), 10.0 ** random.uniform(-12, 4, 50)]
    )
    for dtype in DTYPES:
        operand = x.astype(dtype)
        exact = np.array([special_oracles.by_digits(name, float(v)) for v in operand])
        mirrored = np.array([special_oracles.by_digits(name, -float(v)) for v in operand])
        terms = np.maximum(np.abs(exact), np.maximum(np.abs(mirrored), 1))
        for target in TARGETS:
            got = mapped(name, 1, dtype, target)(operand)
            if dtype == "float32":
                assert errors(got, exact).max() <= _bound(name, dtype)
            else:
                unit = np.spacing(terms.astype(dtype)).astype(np.longdouble)
                assert (np.abs(got - exact) / unit).max() <= 4
