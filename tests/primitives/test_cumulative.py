"""Running results: zeros in products, ties, infinities, and the recurrence beneath them."""

from __future__ import annotations

from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.primitives.cumulative import (
    cumlogsumexp,
    cummax,
    cummin,
    cumprod,
    doubling,
    linear_recurrence,
)

_FORWARD = {"axis": 0, "reverse": False}


def _exact_gradient(x: list[float], wanted: tuple[int, ...], upto: int) -> float:
    """The derivative of x[0] * ... * x[upto] with respect to the elements `wanted`, each once."""
    if len(set(wanted)) < len(wanted) or max(wanted) > upto:
        return 0.0
    return prod(x[i] for i in range(upto + 1) if i not in wanted)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("zeros", [(), (1,), (0, 3), (1, 2, 3)])
@pytest.mark.parametrize("modes", list(product([ad.jacfwd, ad.jacrev], repeat=3)), ids=lambda m: "")
def test_derivatives_of_running_products_are_exact_beside_zeros(zeros, modes, reverse):
    """Small integers, so that the products are exact, to order 3 in every combination of modes."""
    x = [2.0, -3.0, 5.0, 7.0, -2.0]
    for i in zeros:
        x[i] = 0.0
    values = x[::-1] if reverse else x
    function = partial(cumprod, axis=0, reverse=reverse)
    for order, mode in enumerate(modes, start=1):
        function = mode(function)
        found = function(np.array(values))
        found = np.flip(found) if reverse else found
        for place in product(range(5), repeat=order + 1):
            upto, *wanted = place
            assert found[place] == _exact_gradient(x, tuple(wanted), upto), (place, modes)


def _sequential(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    y = np.zeros_like(b)
    for i in range(len(b)):
        y[i] = b[i] if i == 0 else a[i] * y[i - 1] + b[i]
    return y


@pytest.mark.parametrize("size", [1, 2, 3, 8, 37])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_the_recurrence_is_the_loop(dtype, size):
    random = np.random.default_rng(size)
    a, b = (random.uniform(-1, 1, (size, 3)).astype(dtype) for _ in "ab")
    if a.dtype.kind == "c":
        a = a * np.exp(1j * random.uniform(size=a.shape)).astype(dtype)
    near = 20 * float(np.finfo(dtype).eps)
    found = linear_recurrence(a, b, axis=0, reverse=False)
    np.testing.assert_allclose(found, _sequential(a, b), rtol=near, atol=near)
    backwards = linear_recurrence(a, b, axis=0, reverse=True)
    expected = _sequential(a[::-1], b[::-1])[::-1]
    np.testing.assert_allclose(backwards, expected, rtol=near, atol=near)
    found = linear_recurrence(a.T, b.T, axis=1, reverse=False)
    np.testing.assert_allclose(found, _sequential(a, b).T, rtol=near, atol=near)


@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_products_of_factors_may_leave_the_range_where_no_result_does(dtype):
    factors = np.full(240, 2, dtype)
    start = np.zeros(240, dtype)
    start[0] = 2.0**-120
    found = linear_recurrence(factors, start, axis=0, reverse=False)
    assert (found == 2.0 ** np.arange(-120.0, 120.0)).all()
    large = np.array([1, 1e30, 1e30, 0, 1], dtype)
    start = np.array([1e-30, 0, 0, 0, 3], dtype)
    found = linear_recurrence(large, start, axis=0, reverse=False)
    assert np.isfinite(found).all()
    assert found[3:].tolist() == [0, 3]


@pytest.mark.parametrize("extremum", [cummax, cummin])
def test_ties_of_running_extrema_share_equally_so_far(extremum):
    x = np.array([1.0, 1.0, 0.0, 2.0, 2.0, 2.0])
    x = x if extremum is cummax else -x
    half, third = 0.5, 1 / 3
    expected = [
        [1, 0, 0, 0, 0, 0],
        [half, half, 0, 0, 0, 0],
        [half, half, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, half, half, 0],
        [0, 0, 0, third, third, third],
    ]
    for jacobian in (ad.jacfwd, ad.jacrev):
        np.testing.assert_allclose(jacobian(partial(extremum, **_FORWARD))(x), expected, rtol=1e-15)
    for jacobian in (ad.jacfwd, ad.jacrev):
        backwards = jacobian(partial(extremum, axis=0, reverse=True))(x[::-1])
        np.testing.assert_allclose(backwards[::-1, ::-1], expected, rtol=1e-15)


@pytest.mark.parametrize("jacobian", [ad.jacfwd, ad.jacrev])
def test_the_derivative_of_a_running_logsumexp_at_infinities(jacobian):
    x = np.array([-np.inf, -np.inf, 0.0, 1.0, -np.inf, 2000.0, np.inf, 1.0])
    share = 1 / (1 + np.exp(1.0))
    found = jacobian(partial(cumlogsumexp, **_FORWARD))(x)
    expected = np.zeros((8, 8))
    expected[2, 2] = 1
    expected[3:5, 2], expected[3:5, 3] = share, 1 - share
    expected[5, 5] = 1
    expected[6:, 6] = 1
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    second = ad.jacfwd(jacobian(partial(cumlogsumexp, **_FORWARD)))(x[:6])
    assert np.isfinite(second).all()
    curvature = share * (1 - share) * np.array([[1, -1], [-1, 1]])
    np.testing.assert_allclose(second[3, 2:4, 2:4], curvature, rtol=1e-14)


def test_the_running_logsumexp_is_that_of_every_prefix():
    x = np.random.default_rng(1).normal(size=(6, 3)) * 100
    found = cumlogsumexp(x, **_FORWARD)
    expected = [np.logaddexp.reduce(x[: i + 1], axis=0) for i in range(6)]
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize("ufunc", [np.maximum, np.minimum, np.logaddexp, np.add])
@pytest.mark.parametrize("size", [0, 1, 5, 8])
def test_doubling_is_numpys_accumulate(ufunc: Any, size: int):
    """What arrays of other modules are computed by."""
    x = np.random.default_rng(size).integers(-9, 9, size=(2, size, 3)).astype(float)
    expected = ufunc.accumulate(x, axis=1)
    np.testing.assert_allclose(doubling(ufunc, x, 1), expected, rtol=1e-14, atol=1e-14)
