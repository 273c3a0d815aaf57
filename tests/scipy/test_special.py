"""`autodiff.scipy.special` against `scipy.special`: values, types, derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

import autodiff as ad
from autodiff.scipy import special
from autodiff.testing import check_grads

_GRID = np.array([-np.inf, -3.5, -1.0, -0.2, 0.0, 0.3, 0.99, 1.0, 2.6, 40.0, np.inf, np.nan])
_ONE = sorted(
    set(special.__all__)
    - {"xlogy", "xlog1py", "rel_entr", "kl_div", "polygamma", "logsumexp", "softmax"}
    - {"log_softmax", "sinhc"}
)
_TWO = ("xlogy", "xlog1py", "rel_entr", "kl_div")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", _ONE)
def test_functions_of_one_number_are_scipys(name, dtype):
    x = _GRID.astype(dtype)
    expected = getattr(scipy.special, name)(x)
    function = getattr(special, name)
    eps = float(np.finfo(dtype).eps)
    for found in (function(x), ad.jit(function)(x)):
        assert found.dtype == expected.dtype
        # SciPy's error is absolute near the zeros of gammaln and in the tail of ndtr.
        np.testing.assert_allclose(found, expected, rtol=8 * eps, atol=eps / 4)


@pytest.mark.parametrize("name", _TWO)
def test_functions_of_two_numbers_are_scipys(name):
    x, y = _GRID[:, None], _GRID[None, :]
    expected = getattr(scipy.special, name)(x, y)
    function = getattr(special, name)
    for found in (function(x, y), ad.jit(function)(x, y)):
        np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", _ONE)
def test_derivatives_of_functions_of_one_number(name):
    x = np.array([0.2, 0.45, 0.8])
    check_grads(getattr(special, name), (x,), order=2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", _TWO)
def test_derivatives_of_functions_of_two_numbers(name):
    x, y = np.array([0.2, 0.45, 0.8]), np.array([0.5, 0.3, 1.2])
    check_grads(getattr(special, name), (x, y), order=2)


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_polygamma_is_scipys(order):
    x = np.array([0.1, 1.0, 3.3, 20.0])
    expected = scipy.special.polygamma(order, x)
    np.testing.assert_allclose(special.polygamma(order, x), expected, rtol=1e-14)
    np.testing.assert_allclose(ad.jit(special.polygamma, static_argnums=0)(order, x), expected)
    slope = ad.grad(lambda x: ad.numpy.sum(special.polygamma(order, x)))(x)
    np.testing.assert_allclose(slope, scipy.special.polygamma(order + 1, x), rtol=1e-14)


def test_the_order_of_polygamma_is_an_integer_from_zero():
    with pytest.raises(ValueError, match="polygamma: the order must not be negative, got n=-1"):
        special.polygamma(-1, np.ones(2))
    with pytest.raises(TypeError):
        special.polygamma(1.5, np.ones(2))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
def test_softmax_and_its_logarithm_are_scipys(axis):
    x = np.random.default_rng(0).normal(size=(3, 4)) * 300
    for name in ("softmax", "log_softmax"):
        function, expected = getattr(special, name), getattr(scipy.special, name)(x, axis=axis)
        for found in (function(x, axis), ad.jit(lambda x, f=function: f(x, axis))(x)):
            np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-300)
    check_grads(lambda x: special.log_softmax(x, axis), (x / 300,), order=2)


def test_logsumexp_with_weights_and_sign_is_scipys():
    x = np.random.default_rng(1).normal(size=(3, 4)) * 300
    b = np.random.default_rng(2).normal(size=4)
    expected = scipy.special.logsumexp(x, axis=1, b=b, return_sign=True)
    for found in (
        special.logsumexp(x, axis=1, b=b, return_sign=True),
        ad.jit(lambda x: special.logsumexp(x, axis=1, b=b, return_sign=True))(x),
    ):
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)
        np.testing.assert_array_equal(found[1], expected[1])


def test_lists_and_python_numbers_are_operands():
    assert special.erf(0.5) == scipy.special.erf(0.5)
    np.testing.assert_array_equal(special.expit([0.0, np.inf]), [0.5, 1.0])
    assert float(special.xlogy(0, [0.0])[0]) == 0.0
