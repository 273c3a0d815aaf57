"""Activations and softmax against formulas in more digits, and finite everywhere."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import autodiff as ad
from autodiff import nn
from tests.numpy.doors import assert_differentiates

REFERENCES = {
    "relu": lambda x: max(x, 0),
    "leaky_relu": lambda x: x if x >= 0 else mpmath.mpf(0.01) * x,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543773 * mpmath.expm1(x)),
    "gelu": lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + 0.044715 * x**3))),
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log_sigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "tanh": mpmath.tanh,
}  # fmt: skip
NUMBERS = [-1000.0, -30.0, -1.5, -1e-3, -0.0, 0.0, 1e-8, 0.5, 2.0, 17.0, 1000.0]


@pytest.mark.parametrize("name", REFERENCES)
def test_activation(name: str) -> None:
    with mpmath.workdps(60):
        expected = [float(REFERENCES[name](mpmath.mpf(x))) for x in NUMBERS]
    x = np.array(NUMBERS)
    found = ad.vjp(getattr(nn, name), x)[0]
    # gelu's 1 + tanh loses the digits of its left tail
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=3e-15 if name == "gelu" else 0)
    np.testing.assert_allclose(found, getattr(nn, name)(x), rtol=5e-16)
    # a kernel's functions differ from NumPy's by some units; gelu's 1 + tanh loses digits of both
    np.testing.assert_allclose(
        ad.jit(getattr(nn, name))(x), found, rtol=1e-14, atol=3e-15 if name == "gelu" else 0
    )


def test_gelu_by_the_error_function_is_exact_in_the_tail() -> None:
    with mpmath.workdps(60):
        expected = [float(mpmath.mpf(x) * mpmath.ncdf(x)) for x in NUMBERS]
    # exp(-x**2 / 2) magnifies the rounding of x by x**2
    np.testing.assert_allclose(nn.gelu(np.array(NUMBERS), approximate=False), expected, rtol=2e-13)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", [*REFERENCES, "gelu by erf"])
def test_values_and_two_derivatives_are_finite(name: str, dtype: str) -> None:
    if name == "gelu by erf":

        def function(x: Any) -> Any:
            return nn.gelu(x, approximate=False)

    else:
        function = getattr(nn, name)
    largest = float(np.finfo(dtype).max) / 2  # selu is a little more than x
    x = np.array([-largest, -1000.0, -20.0, -1.0, -0.0, 0.0, 1.0, 20.0, 1000.0, largest], dtype)

    def derivative(x: Any) -> Any:
        return ad.vjp(function, x)[1](np.ones(x.shape, dtype))[0]

    for result in (function(x), derivative(x), ad.vjp(derivative, x)[1](np.ones_like(x))[0]):
        assert result.dtype == x.dtype
        assert np.isfinite(result).all()


@pytest.mark.parametrize("name", REFERENCES)
def test_derivatives(name: str) -> None:
    assert_differentiates(lambda m, x: getattr(nn, name)(x), np.array([-3.2, -0.7, 0.4, 2.1]))


def test_derivative_of_relu_at_0_is_0() -> None:
    assert float(ad.grad(nn.relu)(0.0)) == 0.0
    assert np.isnan(nn.relu(np.nan))


def test_softplus_at_0() -> None:
    derivatives = [nn.softplus]
    for _ in range(3):
        derivatives.append(ad.grad(derivatives[-1]))
    np.testing.assert_allclose(
        [float(f(0.0)) for f in derivatives], [np.log(2), 0.5, 0.25, 0.0], atol=1e-16
    )


@pytest.mark.parametrize("axis", [-1, 0, (0, 1)])
def test_softmax(axis: Any) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 5)) * 3
    expected = np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)
    for wrap in (lambda f: f, ad.jit, lambda f: lambda x: ad.vjp(f, x)[0]):
        np.testing.assert_allclose(wrap(lambda x: nn.softmax(x, axis))(x), expected, rtol=1e-14)
        np.testing.assert_allclose(
            wrap(lambda x: nn.log_softmax(x, axis))(x), np.log(expected), rtol=1e-13
        )
    assert_differentiates(lambda m, x: nn.softmax(x, axis), x)
    assert_differentiates(lambda m, x: nn.log_softmax(x, axis), x)


def test_softmax_of_huge_numbers() -> None:
    x = np.array([-1e300, 0.0, 1e300])
    np.testing.assert_array_equal(nn.softmax(x), [0, 0, 1])
    np.testing.assert_array_equal(nn.log_softmax(x), [-2e300, -1e300, 0])


def test_softmax_with_masked_entries() -> None:
    x = np.array([[0.0, -np.inf, 1.0], [-np.inf] * 3])
    probability, pull = ad.vjp(nn.softmax, x)
    np.testing.assert_allclose(probability, [[1 / (1 + np.e), 0, np.e / (1 + np.e)], [0, 0, 0]])
    assert np.isfinite(pull(np.array([[1.0, 2.0, 3.0]] * 2))[0]).all()
    logarithm, pull = ad.vjp(nn.log_softmax, x)
    np.testing.assert_array_equal(np.isneginf(logarithm), np.isneginf(x))
    assert np.isfinite(pull(np.array([[1.0, 2.0, 3.0]] * 2))[0]).all()


def test_one_hot() -> None:
    labels = np.array([[1, 2], [0, 7]])
    expected = (labels[..., None] == np.arange(3)).astype(float)
    np.testing.assert_array_equal(nn.one_hot(labels, 3), expected)
    np.testing.assert_array_equal(ad.jit(lambda x: nn.one_hot(x, 3))(labels), expected)
    moved = nn.one_hot(labels, 3, axis=0, dtype="float32")
    np.testing.assert_array_equal(moved, np.moveaxis(expected, -1, 0))
    assert moved.dtype == np.float32


def test_standardize() -> None:
    x = np.random.default_rng(0).normal(size=(3, 6)) * 4 + 2
    found = nn.standardize(x, epsilon=0.0)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-15)
    np.testing.assert_allclose(found.var(-1), 1)
    assert_differentiates(lambda m, x: nn.standardize(x), x)
    assert np.isfinite(ad.vjp(nn.standardize, np.ones((2, 3)))[1](np.ones((2, 3)))[0]).all()
