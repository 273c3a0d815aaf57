"""A traced value asked for its number on the way to a result that would be constant."""

import cmath
import math
from math import exp

import numpy as np
import pytest

import autodiff as ad


def test_assigning_a_traced_value_into_a_plain_array_raises_and_says_how_to_build_it():
    def fill(x):
        y = np.zeros(3)
        y[0] = x
        return y.sum()

    with pytest.raises(ValueError, match="setting an array element") as caught:
        ad.grad(fill)(2.0)  # NumPy's error, with ours as its cause
    cause = str(caught.value.__cause__)
    assert cause.startswith("assignment: a traced value cannot be written into a plain array, got")
    assert "in fill: y[0] = x" in cause
    assert "To fix: start from a traced array" in cause


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: math.sin(x) * x, "math.sin"),
        (lambda x: exp(x) * x, "math.exp"),
        (lambda x: abs(cmath.exp(x)) * x, "cmath.exp"),
    ],
)
def test_a_function_of_the_standard_library_raises_instead_of_losing_the_derivative(function, name):
    with pytest.raises(TypeError) as caught:
        ad.grad(function)(2.0)
    assert str(caught.value).startswith(
        f"{name}: functions of the standard library cannot be traced, got value="
    )
    assert "To fix: use the function of numpy or autodiff.numpy" in str(caught.value)


def test_float_and_int_and_formats_ask_for_the_number_as_a_constant():
    assert ad.grad(lambda x: float(x) * x)(2.0) == 2.0
    assert ad.grad(lambda x: int(x) * x)(2.0) == 2.0
    assert ad.grad(lambda x: len(f"{x:.3f}") * x)(2.0) == 5.0
    assert ad.grad(lambda x: math.floor(float(x)) * x)(2.0) == 2.0
