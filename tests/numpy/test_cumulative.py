"""Running sums and products, and methods of ufuncs, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.numpy.traced_and_plain import (
    check_derivatives,
    check_function,
    check_method,
    check_values,
    layouts,
    sample,
)

X = sample((3, 4), "f8")


@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "f2", "f4", "f8", "c8"])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_sums_and_products_are_numpys(name: str, dtype: str) -> None:
    for x in layouts(sample((3, 4), dtype)):
        check_function(name, x, ulps=8, jit=False)
        check_function(name, x, axis=0, ulps=8)
        check_method(name, x, -1, ulps=8)
    for shape in ((), (0,), (1,), (2, 0)):
        check_function(name, sample(shape, dtype))
    check_function(name, sample((), dtype), axis=0)
    check_function(name, sample((4,), dtype), dtype="c16", ulps=8)


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
def test_the_array_standards_running_functions_are_numpys(name: str) -> None:
    for dtype in ("i4", "f4"):
        x = sample((3, 4), dtype)
        for axis in (0, 1):
            check_function(name, x, axis=axis, ulps=8)
            check_function(name, x, axis=axis, include_initial=True, ulps=8)
        check_function(name, x[0], include_initial=True, dtype="f8", ulps=8)
    with pytest.raises(ValueError, match=f"{name}: the array must have an axis"):
        ad.jit(lambda x: getattr(np, name)(x))(X)


def test_derivatives_of_running_operations() -> None:
    check_derivatives(lambda x: np.cumsum(x, axis=0) ** 2, X, order=2)
    check_derivatives(lambda x: np.cumprod(x / 4, axis=1), X, order=2)
    check_derivatives(lambda x: np.cumulative_prod(x / 4, axis=0, include_initial=True), X)


REDUCED = ["add", "multiply", "maximum", "minimum", "logical_and", "logical_or", "logaddexp"]


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("dtype", ["?", "i4", "f4", "f8"])
def test_reduce_and_accumulate_are_numpys(name: str, dtype: str) -> None:
    if name == "logaddexp" and dtype in ("?", "i4"):
        dtype = "f8"
    x = sample((3, 4), dtype)
    check_values(lambda m, x: getattr(np, name).reduce(x), x, ulps=8)
    check_values(lambda m, x: getattr(np, name).reduce(x, 1), x, ulps=8)
    check_values(lambda m, x: getattr(np, name).reduce(x, axis=None), x, ulps=8)
    check_values(lambda m, x: getattr(np, name).reduce(x, axis=1, keepdims=True), x, ulps=8)
    check_values(lambda m, x: getattr(np, name).accumulate(x), x, ulps=8)
    check_values(lambda m, x: getattr(np, name).accumulate(x, axis=-1), x, ulps=8)


def test_options_of_reduce_are_numpys() -> None:
    check_values(lambda m, x: np.add.reduce(x, axis=(0, 1), initial=2.0), X, ulps=4)
    check_values(lambda m, x: np.add.reduce(x, dtype="c16"), X, ulps=4)
    check_values(lambda m, x: np.maximum.reduce(x, initial=1.0, where=x < 2), X)


@pytest.mark.parametrize("name", ["add", "multiply", "subtract", "maximum", "power", "less"])
def test_outer_is_numpys(name: str) -> None:
    x, y = np.abs(X) + 1, np.array([1.0, 2.5])
    check_values(lambda m, x: getattr(np, name).outer(x, y), x, ulps=1)
    check_values(lambda m, x: getattr(np, name).outer(y, x), x, ulps=1)
    check_values(lambda m, x: getattr(np, name).outer(x, 2), x, ulps=1)


@pytest.mark.parametrize("name", ["maximum", "minimum", "logaddexp"])
def test_derivatives_of_reduce_and_accumulate(name: str) -> None:
    x = sample((3, 4), "f8", seed=5) / 4
    check_derivatives(lambda x: getattr(np, name).reduce(x), x)
    check_derivatives(lambda x: getattr(np, name).accumulate(x, axis=1), x)


def test_ties_of_running_extrema_share_the_derivative() -> None:
    x = np.array([1.0, 1.0, 1.0, 0.0])
    found = ad.grad(lambda x: np.maximum.accumulate(x)[-1])(x)
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 1 / 3, 0])
