"""What a traced value says where it cannot be what a plain array could be."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import refused

X = np.array([1.0, 2.0])


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    np.testing.assert_array_equal(ad.jit(np.square)(X), X**2)
    np.testing.assert_array_equal(ad.vmap(ad.grad(np.square))(X), 2 * X)


QUESTIONS = {
    "bool": lambda x: 1.0 if x > 0 else 2.0,  # here
    "float": lambda x: float(x),  # here
    "int": lambda x: int(x),  # here
    "complex": lambda x: complex(x),  # here
    "index": lambda x: operator.index(x.astype(int)),  # here
    "item": lambda x: x.item(),  # here
    "tolist": lambda x: x.tolist(),  # here
    "format": lambda x: f"{x:.3f}",  # here
}
TYPES = {"bool": "bool", "index": "int64"}


@pytest.mark.parametrize("asked", QUESTIONS)
@pytest.mark.parametrize("name", ["jit", "vmap"])
def test_a_value_asked_for_where_there_is_none(name, asked):
    question = QUESTIONS[asked]
    argument = X[0] if name == "jit" else X
    with refused(
        ad.ConcretizationError,
        f"{asked}: a concrete value is needed, but this {TYPES.get(asked, 'float64')} is traced by "
        f"{name} of <lambda>, where it has none.",
        fix="use autodiff.numpy.where or a control-flow function in place of Python control flow "
        "on values, or make the argument static (static_argnums).",
    ):
        getattr(ad, name)(question)(argument)


def test_a_jitted_function_that_asked_can_be_called_with_a_static_argument():
    def f(x, n):
        return x * 2.0 if n > 1 else x

    with pytest.raises(ad.ConcretizationError):
        ad.jit(f)(X, 2)
    np.testing.assert_array_equal(ad.jit(f, static_argnums=1)(X, 2), 2 * X)


def _leaking(transformation):
    """Run a transformation of a function that stores its argument and a result, and return both."""
    kept = []

    def f(x):
        y = np.sin(x)  # here
        kept.extend([x, y])
        return np.sum(y)

    transformation(f)
    return kept


LEAKS = {
    "grad": lambda f: ad.grad(f)(X),
    "jit": lambda f: ad.jit(f)(X),
    "vjp": lambda f: ad.vjp(f, X),
    "linearize": lambda f: ad.linearize(f, X),
    "vmap": lambda f: ad.vmap(f)(np.stack([X, X])),
    "make_graph": lambda f: ad.make_graph(f)(X),
}
FIX = (
    "return the value from the function instead of storing it outside (in a global, an attribute "
    "or a closure)."
)
USES = {
    "an operation": lambda x: x + 1.0,
    "an operation with an array": lambda x: X * x,
    "an argument of grad": lambda x: ad.grad(np.sum)(x),
    "an argument of jit": lambda x: ad.jit(np.sum)(x),
    "a closure": lambda x: ad.jit(lambda y: x * y)(X),
    "an output": lambda x: ad.jit(lambda y: x)(X),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", LEAKS)
def test_a_value_used_after_its_function_has_returned(name, use):
    argument, result = _leaking(LEAKS[name])
    with refused(
        ad.LeakedTracerError,
        "trace: a traced value must be used while its function runs, got an argument of type "
        f"float64[2] of {name} of f, which has returned.",
        at=False,
        fix=FIX,
    ):
        USES[use](argument)
    with refused(
        ad.LeakedTracerError,
        "trace: a traced value must be used while its function runs, got a value made there of "
        f"type float64[2] of {name} of f, which has returned.",
        fix=FIX,
    ):
        USES[use](result)


def test_a_value_of_a_function_that_failed():
    kept = []

    def f(x):
        kept.append(x)
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        ad.grad(f)(X)
    with refused(
        ad.LeakedTracerError,
        "trace: a traced value must be used while its function runs, got an argument of type "
        "float64[2] of grad of f, which has returned.",
        at=False,
        fix=FIX,
    ):
        kept[0] * 2.0


def test_a_traced_value_in_a_plain_array():
    requirement = "numpy.array: a traced value cannot be put into a plain NumPy array, "
    fix = "use autodiff.numpy.array / asarray / stack, which record it."
    with refused(
        TypeError, f"{requirement}got value=<traced float64[2] of jit of <lambda>>.", fix=fix
    ):
        ad.jit(lambda x: np.array(x))(X)  # here
    with refused(
        TypeError,
        f"{requirement}got value=<traced float64[2] of vjp of <lambda>, value=array([1., 2.])>.",
        fix=fix,
    ):
        ad.vjp(lambda x: np.array(x), X)  # here


def test_a_function_of_numpy_that_cannot_be_traced():
    with refused(
        TypeError,
        "numpy.busday_count: the function is not among those that can be traced.",
        fix="write it with functions of autodiff.numpy (dir(autodiff.numpy)).",
    ):
        ad.jit(lambda x: np.busday_count(x, x))(X)  # here


def test_a_function_of_the_standard_library():
    with refused(
        TypeError,
        "math.sin: functions of the standard library cannot be traced, "
        "got value=<traced float64 of jit of <lambda>>.",
        fix="use the function of numpy or autodiff.numpy, or float(x) if the value is meant as a "
        "constant.",
    ):
        ad.jit(lambda x: math.sin(x))(X[0])  # here


def test_an_attribute_that_arrays_have_not():
    with pytest.raises(AttributeError) as caught:
        ad.jit(lambda x: x.tocsr())(X)
    text = str(caught.value)
    assert text.startswith(
        "A traced array has no attribute 'tocsr'; arrays' methods that it has are: "
    )
    assert "reshape" in text
    assert "sum" in text


def test_the_length_of_a_value_without_axes():
    with refused(TypeError, "len: the array must have an axis, got shape=().", at=False):
        ad.jit(lambda x: len(x))(X[0])


def test_a_write_that_a_view_would_show():
    def f(x):
        y = x * 1.0
        row = y[0]
        y[1] = 0.0  # here
        return row

    with refused(
        ValueError,
        "assignment: the array must not share memory with another traced value in use, "
        "got a float64[2,2] that shares memory with a float64[2].",
        fix="copy one of them first (x = x.copy()), or use x.at[index].set(value).",
    ):
        ad.jit(f)(np.ones((2, 2)))


def test_an_in_place_operation_that_a_view_would_show():
    def f(x):
        y = x * 1.0
        row = y[0]
        y += 1.0  # here
        return row

    with refused(
        ValueError,
        "in-place operation: the array must not share memory with another traced value in use, "
        "got a float64[2,2] that shares memory with a float64[2].",
        fix="copy one of them first (x = x.copy()), or use x.at[index].set(value).",
    ):
        ad.jit(f)(np.ones((2, 2)))


def test_a_write_into_a_plain_array():
    def f(x):
        buffer = np.zeros(2)
        buffer += x  # here
        return buffer

    with refused(
        TypeError,
        "add: a traced value cannot be written into a plain array, got out of type ndarray.",
        fix="write x = x + y in place of x += y or out=x, or start from a traced array "
        "(autodiff.numpy.asarray, zeros_like of an argument).",
    ):
        ad.jit(f)(X)


def test_an_element_of_a_plain_array():
    def f(x):
        buffer = np.zeros(2)
        buffer[0] = x[1]  # here
        return buffer

    with pytest.raises(ValueError, match="setting an array element") as caught:
        ad.jit(f)(X)
    with refused(
        TypeError,
        "assignment: a traced value cannot be written into a plain array, "
        "got value=<traced float64 of jit of f>.",
        fix="start from a traced array (autodiff.numpy.asarray of an argument), build the array "
        "with autodiff.numpy.stack, or use ad.at(array)[index].set(value).",
    ):
        raise caught.value.__cause__
