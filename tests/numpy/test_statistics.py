"""Order statistics and reductions that ignore NaN, against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from tests.numpy.traced_and_plain import (
    check_derivatives,
    check_function,
    check_values,
    layouts,
    sample,
)

HOLES = np.array([[1.0, np.nan, 3.5, -2.0], [np.nan] * 4, [4.0, 0.5, np.nan, 0.25]])
AXES = [None, 0, 1, (0, 1)]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Mean of empty slice"),
    pytest.mark.filterwarnings("ignore:All-NaN"),
    pytest.mark.filterwarnings("ignore:Degrees of freedom"),
]


@pytest.mark.parametrize("dtype", ["?", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5,), (1,), (3, 4), (4, 3), ()])
def test_median_is_numpys(shape: Any, dtype: str) -> None:
    for axis in (None, 0) if shape else (None,):
        check_function("median", sample(shape, dtype), axis=axis, ulps=1)
        check_function("median", sample(shape, dtype), axis=axis, keepdims=True, ulps=1, jit=False)


def test_median_of_nothing_and_of_nan_is_nan() -> None:
    check_function("median", np.zeros((0, 3)))
    check_function("median", np.zeros((0, 3)), axis=0)
    check_function("median", np.zeros((0, 3)), axis=1)
    check_function("median", HOLES, axis=1)
    check_function("median", np.array([np.inf, np.inf, 1.0]))


@pytest.mark.parametrize("dtype", ["i4", "f4", "f8"])
@pytest.mark.parametrize("q", [0, 1, [0, 1], 0.5, 0.3, 1.0, [0.25, 0.7], [[0.1], [0.9]], []])
def test_quantile_is_numpys(q: Any, dtype: str) -> None:
    for x in layouts(sample((3, 5), dtype)):
        check_function("quantile", x, q=q, axis=1, ulps=2, jit=False)
    x = sample((3, 5), dtype)
    for axis in (None, 0, (0, 1)):
        check_function("quantile", x, q=q, axis=axis, ulps=2)
    check_function("quantile", x, q=q, axis=1, keepdims=True, ulps=2)
    check_function("percentile", x, q=np.multiply(q, 100).tolist(), axis=0, ulps=8)


def test_quantile_of_nan_is_nan() -> None:
    check_function("quantile", HOLES, q=0.3, axis=1)


def test_derivatives_of_order_statistics() -> None:
    x = sample((3, 4), "f8")
    check_derivatives(lambda x: np.median(x, axis=0), x)
    check_derivatives(lambda x: np.median(x, axis=1) ** 2, x, order=2)
    check_derivatives(lambda x: np.quantile(x, [0.2, 0.9], axis=1), x)
    check_derivatives(lambda x, q: anp.quantile(x, q), x, np.array([0.31, 0.64]))
    check_derivatives(lambda q: anp.percentile(x, q), np.array(31.0))
    np.testing.assert_array_equal(ad.grad(np.median)(np.array([1.0, 4, 3, 2])), [0, 0, 0.5, 0.5])


def test_what_quantile_cannot_do_is_named() -> None:
    with pytest.raises(ValueError, match="quantile: on traced values the method must be 'linear'"):
        ad.jit(lambda x: np.quantile(x, 0.5, method="lower"))(HOLES)
    with pytest.raises(ValueError, match="percentile: q must be from 0 to 100"):
        ad.jit(lambda x: np.percentile(x, 101))(HOLES)
    with pytest.raises(ValueError, match="quantile: there must be an element"):
        ad.jit(lambda x: np.quantile(x, 0.5))(np.zeros(0))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(
    "name", ["nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"]
)
def test_reductions_without_nan_are_numpys(name: str, axis: Any) -> None:
    for x in (HOLES, HOLES.astype("f4"), sample((3, 4), "i4"), sample((3, 4), "f8")):
        check_function(name, x, axis=axis, ulps=8)
        check_function(name, x, axis=axis, keepdims=True, ulps=8, jit=False)
    if name in ("nanvar", "nanstd"):
        check_function(name, HOLES, axis=axis, ddof=2, ulps=8)
        check_function(name, HOLES, axis=axis, correction=1, ulps=8)
    if name in ("nanmax", "nanmin", "nansum"):
        mask = np.array([True, True, True, False])
        check_function(name, HOLES, axis=axis, initial=0.0, where=mask, ulps=8)


@pytest.mark.parametrize("name", ["nancumsum", "nancumprod"])
def test_running_operations_without_nan_are_numpys(name: str) -> None:
    for axis in (None, 0, 1):
        check_function(name, HOLES, axis=axis, ulps=8)


@pytest.mark.parametrize(
    "name", ["nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"]
)
def test_nan_has_derivative_zero_and_the_rest_theirs(name: str) -> None:
    x = np.array([1.0, np.nan, 3.5, -2.0])
    kept = np.array([0, 2, 3])
    plain = {"nanmax": "max", "nanmin": "min"}.get(name, name.removeprefix("nan"))
    expected = np.zeros(4)
    expected[kept] = ad.grad(lambda x: getattr(np, plain)(x))(x[kept])
    np.testing.assert_allclose(ad.grad(lambda x: getattr(np, name)(x))(x), expected, rtol=1e-14)
    np.testing.assert_array_equal(
        ad.grad(lambda x: getattr(anp, name)(x))(np.full(2, np.nan)), np.zeros(2)
    )
    check_values(lambda m, x: getattr(m, name)(x[kept]), x, ulps=8)
