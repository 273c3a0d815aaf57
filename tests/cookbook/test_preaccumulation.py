"""The cookbook's program on Jacobian pre-accumulation: a small model inside a large loop."""

from __future__ import annotations

import numpy as np

import autodiff as ad


def pressure(volume, temperature):
    """Redlich and Kwong's equation of state (1949) for one mole: a formula of two scalars."""
    root = np.sqrt(temperature)
    repulsion = 8.314 * temperature / (volume - 2.7e-5)
    attraction = 1.55 / (root * volume * (volume + 2.7e-5))
    return repulsion - attraction


def test_a_scalar_models_jacobian_is_two_numbers_per_point():
    cost = ad.preaccumulation_cost(pressure, 1e-3, 300.0)
    # One multiplication for each input is left, and the products before it pay for themselves.
    assert cost.each_pass == 2 < cost.plain
    assert cost.total <= cost.plain

    volumes, temperatures = np.linspace(1e-3, 2e-3, 7), np.linspace(280.0, 400.0, 7)
    step = ad.vmap(ad.grad(ad.preaccumulate(pressure), argnums=(0, 1)))
    by_volume, by_temperature = step(volumes, temperatures)
    for v, t, dv, dt in zip(volumes, temperatures, by_volume, by_temperature, strict=True):
        size = 1.55 / (np.sqrt(t) * v * (v + 2.7e-5))
        expected = -8.314 * t / (v - 2.7e-5) ** 2 + size * (1 / v + 1 / (v + 2.7e-5))
        np.testing.assert_allclose(dv, expected, rtol=1e-12)
        np.testing.assert_allclose(dt, 8.314 / (v - 2.7e-5) + 0.5 * size / t, rtol=1e-12)
