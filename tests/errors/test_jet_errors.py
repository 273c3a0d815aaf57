"""What jet says about arguments that do not fit, and that the next call works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.primitive import primitives
from autodiff.passes.jvp import jvp
from tests.errors.expectation import refused

X = np.array([1.0, 2.0])
jet: Any = ad.jet  # called wrongly on purpose
FIX = "convert it with .astype, or reshape it."


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    np.testing.assert_array_equal(ad.jet(np.square, (X,), ([X],))[1], [2 * X * X])
    np.testing.assert_array_equal(ad.grad(lambda x: np.sum(x**2))(X), 2 * X)


def test_primals_that_are_not_a_tuple():
    with refused(
        TypeError,
        "jet: primals must be a tuple or list with one entry per argument, "
        "got primals of type ndarray.",
        fix="write primals=(x,), series=([x1, x2],).",
    ):
        jet(np.sin, X, ([X],))  # here


def test_series_that_is_not_a_tuple():
    with refused(
        TypeError,
        "jet: series must be a tuple or list with one entry per argument, "
        "got series of type ndarray.",
        fix="write primals=(x,), series=([x1, x2],).",
    ):
        jet(np.sin, (X,), X)  # here


def test_fewer_series_than_arguments():
    with refused(
        ValueError,
        "jet: series must have one list of derivatives for each argument, of which there are 2, "
        "got len(series)=1.",
        fix="give an empty list for an argument that is constant.",
    ):
        ad.jet(np.multiply, (X, X), ([X],))  # here


def test_a_derivative_in_place_of_a_list_of_derivatives():
    with refused(
        TypeError,
        "jet: each entry of series must be a tuple or list of derivatives, "
        "got series[0] of type ndarray.",
        fix="write [x1, x2] for the first two derivatives of primals[0].",
    ):
        jet(np.sin, (X,), (X,))  # here


def test_a_derivative_of_another_shape_is_named():
    with refused(
        TypeError,
        "jet: series[1][2] must have the shapes and dtypes of primals[1], "
        "got series[1][2]['w'][0]=float64[3] where float64[2] is expected.",
        fix=FIX,
    ):
        good, bad = {"w": [X]}, {"w": [np.ones(3)]}
        ad.jet(lambda x, p: x * p["w"][0], (X, good), ([X], [good, good, bad]))  # here


def test_a_derivative_of_another_dtype_is_named():
    with refused(
        TypeError,
        "jet: series[0][0] must have the shapes and dtypes of primals[0], "
        "got series[0][0]=float32[2] where float64[2] is expected.",
        fix=FIX,
    ):
        ad.jet(np.sin, (X,), ([X.astype(np.float32)],))  # here


def test_a_derivative_of_another_structure_is_named():
    with pytest.raises(TypeError, match=r"jet: series\[0\]\[1\] must have the structure of"):
        ad.jet(lambda p: p["a"], ({"a": X},), ([{"a": X}, {"b": X}],))


def test_a_leaf_that_is_no_array_is_named():
    with pytest.raises(TypeError, match=r"jet: every leaf .* x\['a'\]='text'"):
        ad.jet(lambda x: x, ({"a": "text"},), ([],))


def test_the_result_of_a_function_in_place_of_the_function():
    with refused(
        TypeError,
        "jet: the first argument must be a function, got fun=array([1., 2.]).",
        fix="write jet(f, (x,), ([x1],)), not jet(f(x), (x,), ([x1],)).",
    ):
        jet(X, (X,), ([X],))  # here


def test_an_operation_without_derivative_is_named(monkeypatch):
    monkeypatch.setattr(primitives["cbrt"], "differentiate", None)
    monkeypatch.setattr(primitives["cbrt"], "not_differentiable", "it is tabulated")
    jvp.forget()
    with refused(
        ad.MissingRuleError,
        "cbrt: it has no derivative: it is tabulated.",
        fix="keep it out of what is differentiated (stop_gradient on its operands), or give the "
        "function around it a derivative of its own (custom_jvp, custom_vjp).",
    ):
        ad.jet(lambda x: np.cbrt(x) * 3.0, (X,), ([X],))  # here


def test_what_goes_wrong_in_the_function_leaves_no_trace():
    def fails(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ad.jet(fails, (X,), ([X],))
