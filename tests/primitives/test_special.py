"""Special functions: derivatives against mpmath to the last digits, tails, points of SEMANTICS."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import mpmath
import numpy as np
import pytest

import autodiff as ad
from autodiff.primitives import special

mpmath.mp.dps = 60


def _ulps(found: Any, exact: Any) -> float:
    """Return the distance in units in the last place of `found`, a floating scalar."""
    unit = mpmath.mpf(float(np.spacing(np.abs(found))))
    return float(abs(mpmath.mpf(float(found)) - exact) / unit)


def _derivative(function: Any, order: int, x: np.ndarray) -> np.ndarray:
    """Return the derivative of an elementwise function by forward mode nested `order` times."""
    for _ in range(order):
        inner = function
        function = lambda x, inner=inner: ad.jvp(inner, (x,), (np.ones(x.shape, x.dtype),))[1]
    return function(x)


_NORMAL = mpmath.ncdf
_TAILS = np.array([-25.0, -8.3, -1.7, -0.2, 0.0, 0.4, 1.1, 3.9, 12.1, 25.9])

#: Function, its derivative, points, and the error allowed. Each rule is a product of at most three
#: numbers with 4 ULP each (`ulp` of their operations).
_FIRST = {
    "erf": (special.erf, lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x), _TAILS, 6),
    "erfc": (special.erfc, lambda x: -2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x), _TAILS, 6),
    "ndtr": (special.ndtr, mpmath.npdf, 1.4 * _TAILS, 6),
    "log_ndtr": (special.log_ndtr, lambda x: mpmath.npdf(x) / _NORMAL(x), 1.4 * _TAILS, 8),
    "logistic": (
        special.logistic,
        lambda x: mpmath.exp(-x) / (1 + mpmath.exp(-x)) ** 2,
        np.array([-700.0, -40.0, -1.0, 0.0, 1.0, 20.0, 40.0, 700.0]),
        6,
    ),
    "logit": (special.logit, lambda x: 1 / (x * (1 - x)), np.array([1e-30, 0.1, 0.5, 0.99]), 4),
    "gammaln": (special.gammaln, mpmath.digamma, np.array([0.1, 0.9, 2.5, 30.0, 1e10]), 16),
    "digamma": (
        special.digamma,
        lambda x: mpmath.polygamma(1, x),
        np.array([-0.3, 0.1, 0.9, 2.5, 30.0]),
        16,
    ),
    "i0": (special.i0, lambda x: mpmath.besseli(1, x), np.array([-30.0, 0.1, 7.0, 300.0]), 16),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", _FIRST)
def test_first_derivatives_are_accurate_in_the_tails(name, dtype):
    function, exact, points, allowed = _FIRST[name]
    points = points.astype(dtype)
    found = _derivative(function, 1, points)
    assert found.dtype == points.dtype
    compared = 0
    for x, value in zip(points, found, strict=True):
        expected = exact(mpmath.mpf(float(x)))
        if abs(expected) < float(np.finfo(dtype).tiny) or abs(expected) > float(
            np.finfo(dtype).max
        ):
            continue
        assert _ulps(value, expected) <= allowed, (name, x, value, float(expected))
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize(
    ("function", "exact"),
    [
        (special.gammaln, mpmath.loggamma),
        (special.digamma, mpmath.digamma),
        (special.i0, lambda x: mpmath.besseli(0, x)),
        (special.erf, mpmath.erf),
        (special.logistic, lambda x: 1 / (1 + mpmath.exp(-x))),
        (special.log_ndtr, lambda x: mpmath.log(_NORMAL(x))),
        (special.ndtri, lambda x: mpmath.sqrt(2) * mpmath.erfinv(2 * x - 1)),
        (special.erfinv, mpmath.erfinv),
    ],
    ids=["gammaln", "digamma", "i0", "erf", "logistic", "log_ndtr", "ndtri", "erfinv"],
)
def test_higher_derivatives_agree_with_mpmath(function, exact, order):
    points = np.array([0.17, 0.5, 0.83])
    found = _derivative(function, order, points)
    expected = [float(mpmath.diff(exact, mpmath.mpf(float(x)), order)) for x in points]
    # sums of a few products of numbers that are themselves good to 1e-15
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_the_modified_bessel_function_has_exact_derivatives_at_zero():
    zero = np.zeros(1)
    found = [float(_derivative(special.i0, n, zero)[0]) for n in range(6)]
    assert found == [1.0, 0.0, 0.5, 0.0, 0.375, 0.0]


def test_the_logistic_function_has_its_third_derivative_at_zero():
    assert _derivative(special.logistic, 3, np.zeros(1))[0] == -0.125


def test_the_logistic_function_keeps_subnormal_values():
    value = special.logistic(np.float64(-740.0))
    assert _ulps(value, 1 / (1 + mpmath.exp(740))) <= 1


def test_derivatives_vanish_at_infinity():
    ends = np.array([-np.inf, np.inf])
    for function in (special.erf, special.erfc, special.ndtr, special.logistic):
        for order in (1, 2, 3):
            assert (_derivative(function, order, ends) == 0).all(), (function, order)


def test_the_hazard_of_the_lower_tail_grows_like_minus_x():
    found = _derivative(special.log_ndtr, 1, np.array([-1e4, -1e8, -1e200]))
    np.testing.assert_allclose(found, [1e4 + 1e-4, 1e8, 1e200], rtol=1e-15)


def test_an_unused_pole_gives_no_nan():
    x = np.array([0.0, 3.0])
    for function in (
        special.gammaln,
        special.digamma,
        special.logit,
        special.ndtri,
        special.erfinv,
    ):
        gradient = ad.grad(
            lambda x, function=function: ad.numpy.sum(ad.numpy.where(x < 0, function(x), 1.0))
        )(x)
        assert (gradient == 0).all(), function


def test_x_log_y_at_the_origin():
    zero = np.float64(0.0)
    assert special.xlogy(zero, zero) == 0
    assert ad.grad(special.xlogy, 0)(zero, zero) == -np.inf
    assert ad.grad(special.xlogy, 1)(zero, zero) == 0
    assert ad.grad(special.xlog1py, 1)(zero, np.float64(-1.0)) == 0
    two = np.float64(2.0)  # the mixed second derivative 1 / y is there at x = 0 too
    assert ad.grad(ad.grad(special.xlogy, 1), 0)(zero, two) == 0.5
    assert ad.grad(ad.grad(special.xlogy, 0), 1)(zero, two) == 0.5


def test_integers_are_taken_as_scipy_takes_them():
    for dtype, expected in [("i1", "f4"), ("u2", "f4"), ("i4", "f8"), ("i8", "f8"), ("?", "f4")]:
        x = np.ones(3, dtype)
        assert special.erf(x).dtype == expected
        assert ad.jit(special.erf)(x).dtype == expected


def test_complex_operands_are_refused_where_there_is_no_complex_function():
    with pytest.raises(TypeError, match="erf: the operands must be of types it is defined for"):
        ad.jit(special.erf)(np.ones(2, complex))


def test_scipy_special_is_loaded_by_the_first_call():
    program = (
        "import sys, autodiff; assert 'scipy.special' not in sys.modules; import numpy as np; "
        "from autodiff.scipy import special; special.erf(np.float64(1)); "
        "assert 'scipy.special' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
