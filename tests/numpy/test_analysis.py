"""Differences, polynomials, interpolation, bins and covariance against NumPy, by both doors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from tests.numpy.doors import (
    assert_compiles,
    assert_differentiates,
    assert_equal_to_numpy,
    samples,
)

DTYPES = ["float32", "float64", "complex128", "int32", "int8"]
COORDINATES = np.array([0.0, 1.0, 3.0, 4.0, 7.0])

OF_MATRIX = {
    "diff": lambda m, x: m.diff(x),
    "diff, twice": lambda m, x: m.diff(x, 2, axis=0),
    "diff, none": lambda m, x: m.diff(x, 0),
    "diff, more often than there are elements": lambda m, x: m.diff(x, 7),
    "diff, ends": lambda m, x: m.diff(x, prepend=0, append=[[1], [2], [3]]),
    "ediff1d": lambda m, x: m.ediff1d(x),
    "ediff1d, ends": lambda m, x: m.ediff1d(x, to_begin=x[0], to_end=x[1, 0]),
    "gradient": lambda m, x: m.gradient(x),
    "gradient, spacing": lambda m, x: m.gradient(x, 2.0, axis=1),
    "gradient, spacings": lambda m, x: m.gradient(x, 2, 0.5),
    "gradient, coordinates": lambda m, x: m.gradient(x, 2, COORDINATES),
    "gradient, all coordinates": lambda m, x: m.gradient(x, [0, 1, 3], COORDINATES, edge_order=2),
    "gradient, even coordinates": lambda m, x: m.gradient(x, np.arange(5) * 2, axis=-1),
    "gradient, second order": lambda m, x: m.gradient(x, edge_order=2, axis=(1, 0)),
    "trapezoid": lambda m, x: m.trapezoid(x),
    "trapezoid, coordinates": lambda m, x: m.trapezoid(x, x=[0, 1, 3], axis=0),
    "trapezoid, its own coordinates": lambda m, x: m.trapezoid(x, x=x * 2),
    "trapezoid, step": lambda m, x: m.trapezoid(x, dx=0.5),
    "polyval": lambda m, x: m.polyval([1, 2, 3], x),
    "polyval, traced": lambda m, x: m.polyval(x[0], x),
    "polyadd": lambda m, x: m.polyadd(x[0], x[:, 0]),
    "polysub": lambda m, x: m.polysub(x[:, 0], x[0]),
    "polymul": lambda m, x: m.polymul(x[0] + 20, x[:, 0] + 20),
    "polyder": lambda m, x: m.polyder(x[0]),
    "polyder, to nothing": lambda m, x: m.polyder(x[0], 7),
    "polyint": lambda m, x: m.polyint(x[0]),
    "polyint, constants": lambda m, x: m.polyint(x[0], 3, [1, 2, 3.0]),
    "polyint, one constant": lambda m, x: m.polyint(x[0], 2, 5),
    "vander": lambda m, x: m.vander(x[0]),
    "vander, rising": lambda m, x: m.vander(x[0], 2, True),
    "vander, no columns": lambda m, x: m.vander(x[0], 0),
    "cov": lambda m, x: m.cov(x),
    "cov of one variable": lambda m, x: m.cov(x[0]),
    "cov, more variables": lambda m, x: m.cov(x, x[0] * x[1]),
    "cov of columns": lambda m, x: m.cov(x, rowvar=False, bias=True),
    "cov, frequencies": lambda m, x: m.cov(x, fweights=[1, 2, 3, 1, 0]),
    "cov, weights": lambda m, x: m.cov(x, aweights=[0.1, 0.2, 0.3, 0.4, 0.5]),
    "cov, both": lambda m, x: m.cov(x, fweights=[1, 2, 3, 1, 0], aweights=COORDINATES),
    "cov, both, no correction": lambda m, x: m.cov(
        x, fweights=[1, 2, 3, 1, 0], aweights=COORDINATES, ddof=0
    ),
    "corrcoef": lambda m, x: m.corrcoef(x),
    "corrcoef of one variable": lambda m, x: m.corrcoef(x[0]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_MATRIX)
def test_analysis(name: str, dtype: str, random: np.random.Generator) -> None:
    assert_equal_to_numpy(OF_MATRIX[name], samples(random, (3, 5), dtype))


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("name", OF_MATRIX)
def test_derivatives(name: str, dtype: Any, random: np.random.Generator) -> None:
    x = samples(random, (3, 5), dtype) / 2
    function = OF_MATRIX[name]
    if name.startswith("corrcoef"):
        # The diagonal is constant, up to rounding that is cut off at 1.
        assert_differentiates(lambda m, x: m.corrcoef(x)[np.triu_indices(3, 1)], x)
    else:
        assert_differentiates(function, x)


@pytest.mark.parametrize("name", ["diff", "gradient", "trapezoid", "polyval", "cov"])
def test_compiled(name: str, random: np.random.Generator) -> None:
    assert_compiles(OF_MATRIX[name], samples(random, (3, 5)))


@pytest.mark.parametrize("name", ["diff", "gradient, coordinates", "trapezoid", "cov", "vander"])
def test_mapped_is_a_loop(name: str, random: np.random.Generator) -> None:
    x = samples(random, (4, 3, 5))
    mapped = ad.vmap(lambda x: OF_MATRIX[name](np, x))(x)
    loop = [OF_MATRIX[name](np, each) for each in x]
    for i, each in enumerate(loop):
        found = [part[i] for part in mapped] if isinstance(mapped, tuple) else mapped[i]
        np.testing.assert_allclose(found, each, rtol=1e-12, atol=1e-12)


def test_diff_of_truth_values() -> None:
    assert_equal_to_numpy(lambda m, x: m.diff(x), np.array([True, False, False, True]))


@pytest.mark.parametrize("size", [0, 1])
def test_diff_of_little(size: int) -> None:
    assert_equal_to_numpy(lambda m, x: m.diff(x), np.ones((2, size)))
    assert_equal_to_numpy(lambda m, x: m.ediff1d(x), np.ones(size))


def test_gradient_differentiates_its_coordinates(random: np.random.Generator) -> None:
    def function(m: Any, f: Any, x: Any) -> Any:
        return m.gradient(f, x, edge_order=2)

    f, x = samples(random, (6,)), np.cumsum(random.uniform(0.5, 1.5, 6))
    assert_equal_to_numpy(function, f, x)
    assert_differentiates(function, f, x)


# ------------------------------------------------------------------------------------ interpolation

POINTS = np.array([0.0, 1.0, 2.5, 4.0])
VALUES = np.array([1.0, 3.0, -1.0, 2.0])
PLACES = np.array([-1.0, 0.0, 0.5, 1.0, 2.5, 3.0, 4.0, 5.0, np.inf, np.nan])

INTERPOLATIONS = {
    "plain": lambda m, x, xp, fp: m.interp(x, xp, fp),
    "outside": lambda m, x, xp, fp: m.interp(x, xp, fp, left=-9, right=9),
    "periodic": lambda m, x, xp, fp: m.interp(x, xp, fp, period=3),
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interp(name: str) -> None:
    function = INTERPOLATIONS[name]
    places = PLACES[:-2] if name == "periodic" else PLACES
    assert_equal_to_numpy(function, places, POINTS, VALUES)
    assert_equal_to_numpy(function, places[::-2].astype("f4"), POINTS, VALUES + 1j)
    assert_equal_to_numpy(function, places[2:6].reshape(2, 2), POINTS, VALUES.astype(int))
    assert_equal_to_numpy(function, np.array(0.7), POINTS, VALUES)


def test_interp_between_few_or_infinite_points() -> None:
    function = INTERPOLATIONS["plain"]
    assert_equal_to_numpy(function, PLACES[:-1], POINTS[:1], VALUES[:1])
    assert_equal_to_numpy(function, PLACES, POINTS, np.array([1, np.inf, 3, np.inf]))
    assert_equal_to_numpy(function, PLACES[:0], POINTS, VALUES)


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_derivatives_of_interp(name: str) -> None:
    places = np.array([-0.7, 0.3, 0.6, 1.4, 2.2, 3.9, 4.6])
    assert_differentiates(INTERPOLATIONS[name], places, POINTS, VALUES)


def test_derivative_of_interp_at_a_point_is_the_slope_to_its_right() -> None:
    slopes = [ad.grad(lambda x: np.interp(x, POINTS, VALUES))(x) for x in (0.0, 1.0, 0.5, 9.0)]
    np.testing.assert_allclose(slopes, [2.0, -4 / 1.5, 2.0, 0.0])


# --------------------------------------------------------------------------------------------- bins


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("bins", [POINTS, POINTS[::-1], POINTS[:1]])
def test_digitize(bins: Any, right: bool) -> None:
    assert_equal_to_numpy(lambda m, x: m.digitize(x, bins, right), PLACES[:-1])
    assert_equal_to_numpy(lambda m, x, bins: m.digitize(x, bins, right), PLACES[:-1], bins)


def test_bincount() -> None:
    index = np.array([0, 3, 1, 3])
    assert_equal_to_numpy(lambda m, x: m.bincount(x), index)
    assert_equal_to_numpy(lambda m, x: m.bincount(x, minlength=6), index)
    assert_equal_to_numpy(lambda m, x: m.bincount(x), index[:0])
    weights = np.array([0.5, 1.0, 2.0, 3.0], "f4")
    assert_equal_to_numpy(lambda m, w: m.bincount(index, w, 6), weights)
    assert_differentiates(lambda m, w: m.bincount(index, w, 6) ** 2, weights.astype(float))


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda x: np.diff(x, -1), ValueError, "diff: n must not be negative, got n=-1"),
        (lambda x: np.gradient(x, edge_order=3), ValueError, "gradient: edge_order must be 1 or 2"),
        (lambda x: np.gradient(x, 1, 2), TypeError, "gradient: there must be one distance"),
        (lambda x: np.gradient(x, [1.0, 2.0]), ValueError, "gradient: distances must be numbers"),
        (lambda x: np.gradient(x[:1]), ValueError, "gradient: axis 0 must have at least 2"),
        (lambda x: np.interp(x, x, x[:2]), ValueError, "interp: xp and fp must be vectors"),
        (lambda x: np.digitize(x, [1, 3, 2]), ValueError, "digitize: bins must be monotonically"),
        (lambda x: np.bincount(x), TypeError, "bincount: x must be a vector of non-negative"),
        (lambda x: np.bincount([1, -1], x[:2]), ValueError, "bincount: x must not have negative"),
        (lambda x: np.cov(x, aweights=[1.0]), ValueError, "cov: aweights must be a vector"),
        (lambda x: np.polyint(x, -1), ValueError, "polyint: m must not be negative"),
        (lambda x: np.vander(x[None]), ValueError, "vander: x must have one axis"),
        (lambda x: np.convolve(x, []), ValueError, "convolve: v must be a sequence"),
    ],
)
def test_errors(function: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        ad.vjp(function, np.ones(3))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
