"""sinc, sinhc and exprel: limits at 0 to order 4 in both modes, and accuracy around the switch."""

from __future__ import annotations

from math import pi
from typing import Any

import mpmath
import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.primitive import primitives
from autodiff.primitives.removable_singularities import exprel, sinc, sinhc

_LIMITS = {
    "sinc": (sinc, [1.0, 0.0, -(pi**2) / 3, 0.0, pi**4 / 5]),
    "numpy.sinc": (np.sinc, [1.0, 0.0, -(pi**2) / 3, 0.0, pi**4 / 5]),
    "sinhc": (sinhc, [1.0, 0.0, 1 / 3, 0.0, 1 / 5]),
    "exprel": (exprel, [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
}


def _forward(function: Any) -> Any:
    return lambda x: ad.jvp(function, (x,), (np.ones_like(x),))[1]


@pytest.mark.parametrize("at", [0.0, -0.0])
@pytest.mark.parametrize("mode", [ad.grad, _forward])
@pytest.mark.parametrize("name", _LIMITS)
def test_derivatives_at_zero_are_the_limits(name, mode, at):
    function, expected = _LIMITS[name]
    for order, limit in enumerate(expected):
        value = float(function(np.float64(at)))
        assert value == pytest.approx(limit, rel=4e-16, abs=0), (name, order)
        function = mode(function)


def _integral(name: str, order: int, x: Any) -> Any:
    """The derivative as an integral over [0, 1], in high precision."""
    shift = order * mpmath.pi / 2
    integrands = {
        "sinc": lambda u: (mpmath.pi * u) ** order * mpmath.cos(u * mpmath.pi * x + shift),
        "sinhc": lambda u: u**order * (mpmath.sinh if order % 2 else mpmath.cosh)(u * x),
        "exprel": lambda u: u**order * mpmath.exp(u * x),
    }
    with mpmath.workdps(40):
        return mpmath.quad(integrands[name], mpmath.linspace(0, 1, 6))


@pytest.mark.parametrize("order", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("name", ["sinc", "sinhc", "exprel"])
def test_derivatives_on_both_sides_of_the_switch_agree_with_the_integral(name, order):
    places = np.array([1e-9, 1e-3, 0.3, 0.9, 1.0, 1.3, 2.5, 4.9, 6.0, 8.1, 11.0, 12.0, 30.0])
    points = np.concatenate([-places, places])
    found = primitives[f"{name}_derivative"].reference(points, order=order)
    scale = pi**order / (order + 1) if name == "sinc" else 0.0
    for x, value in zip(points, found, strict=True):
        exact = _integral(name, order, mpmath.mpf(float(x)))
        # sinc oscillates around 0: its error is relative to the value at 0
        allowed = 4e-15 * max(scale, 0.0 if name == "sinc" else float(abs(exact)))
        assert abs(value - exact) <= allowed, (x, value, float(exact))


def test_large_operands_neither_overflow_early_nor_give_nan():
    x = np.array([-np.inf, -1e300, -1000.0, 700.0, np.inf])
    assert exprel(x).tolist() == [0.0, 1e-300, 1e-3, exprel(np.array([700.0]))[0], np.inf]
    assert sinhc(x)[0] == sinhc(x)[4] == np.inf
    for order in (1, 2, 3):
        for name in ("exprel_derivative", "sinhc_derivative"):
            values = primitives[name].reference(x, order=order)
            assert not np.isnan(values).any(), (name, order)
        assert values[0] == -np.inf if order % 2 else values[0] == np.inf


def test_the_sinc_of_a_complex_number_has_its_complex_derivative():
    z = np.array([0.0, 1e-9j, 0.2 + 0.1j, 1.5 - 0.4j])
    found = ad.jvp(sinc, (z,), (np.ones_like(z),))[1]
    expected = [
        complex(mpmath.diff(lambda z: mpmath.sincpi(z), mpmath.mpc(complex(v))))
        if abs(v) > 0.1
        else -(pi**2) / 3 * v
        for v in z
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-25)
