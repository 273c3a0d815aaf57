"""The names of the array API standard (version 2024.12), and NumPy's other names of functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff.numpy as anp

STANDARD = """
abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
bitwise_or bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1
floor floor_divide greater greater_equal hypot imag isfinite isinf isnan less less_equal log log1p
log2 log10 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply
negative nextafter not_equal positive pow real reciprocal remainder round sign signbit sin sinh
square sqrt subtract tan tanh trunc matmul matrix_transpose tensordot vecdot argmax argmin
count_nonzero nonzero searchsorted where cumulative_prod cumulative_sum max mean min prod std sum
var take take_along_axis argsort sort all any diff unique_all unique_counts unique_inverse
unique_values
"""

#: What NumPy has and `autodiff.numpy` lacks, with the reason.
LACKING = dict.fromkeys(
    ("unique_all", "unique_counts", "unique_inverse", "unique_values"),
    "the shape of the result depends on values",
)

ALIASES = {
    "abs": "absolute",
    "acos": "arccos",
    "atan2": "arctan2",
    "bitwise_left_shift": "left_shift",
    "conj": "conjugate",
    "mod": "remainder",
    "pow": "power",
    "true_divide": "divide",
}


def test_names_of_the_array_api_standard() -> None:
    offered = {name for name in STANDARD.split() if hasattr(np, name)}
    assert offered - set(dir(anp)) == set(LACKING)


@pytest.mark.parametrize("name", ALIASES)
def test_another_name_is_the_same_function(name: str) -> None:
    assert getattr(anp, name) is getattr(anp, ALIASES[name])


def test_every_function_has_a_docstring_and_its_name() -> None:
    def is_described(function: Any) -> bool:
        return bool(function.__doc__) and not function.__name__.startswith("_")

    functions = [getattr(anp, name) for name in dir(anp)]
    ours = [f for f in functions if getattr(f, "__module__", "").startswith("autodiff")]
    assert [f for f in ours if callable(f) and not is_described(f)] == []
