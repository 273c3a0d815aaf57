"""What callbacks and prints say about wrong arguments and wrong results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import normalized, refused

X = np.array([1.0, 2.0])
NO_FUNCTION: Any = X
NO_FORMAT: Any = 1.0
RESULT_FIX = "convert it with .astype or reshape it, or correct result_types."


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    double = ad.jit(lambda x: ad.pure_callback(lambda x: 2 * x, x, x))
    np.testing.assert_array_equal(double(X), 2 * X)
    np.testing.assert_array_equal(ad.vmap(ad.grad(np.square))(X), 2 * X)


def host(x):
    return WRONG[-1](x)


WRONG = [lambda x: x]
RESULTS = {
    "shape": (
        lambda x: {"a": x[:1], "b": x},
        "result['a']=float64[1] where float64[2] is expected",
    ),
    "dtype": (
        lambda x: {"a": x, "b": x.astype(np.float32)},
        "result['b']=float32[2] where float64[2] is expected",
    ),
    "number": (lambda x: {"a": x, "b": 1.0}, "result['b']=float64 where float64[2] is expected"),
    "text": (
        lambda x: {"a": "x", "b": x},
        "result['a']='x' of type str where float64[2] is expected",
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_of_another_type_is_named(name):
    function, got = RESULTS[name]
    types = {"a": X, "b": X}
    WRONG.append(function)
    try:
        for run in (lambda f: f(X), lambda f: ad.jit(f)(X), lambda f: ad.vmap(f)(np.stack([X, X]))):
            requirement = f"pure_callback: host must return what result_types says, got {got}."
            with refused(TypeError, requirement, fix=RESULT_FIX):
                run(lambda x: ad.pure_callback(host, types, x))  # here
    finally:
        WRONG.pop()


def test_a_result_of_another_structure_is_named():
    WRONG.append(lambda x: {"a": x})
    try:
        with pytest.raises(TypeError) as caught:
            ad.jit(lambda x: ad.pure_callback(host, {"a": X, "b": X}, x))(X)  # here
    finally:
        WRONG.pop()
    text = normalized(str(caught.value))
    assert text.startswith("pure_callback: host must return the structure of result_types, got ")
    assert "result" in text
    assert "\nAt here\nTo fix: return the same containers" in text


def test_a_leaf_without_a_type_is_named():
    with refused(
        TypeError,
        "pure_callback: every leaf of result_types must have a shape and a dtype, got "
        "result_types['a'][0]=3 of type int.",
        fix="give an array of the right type, or what eval_shape returns for one.",
    ):
        ad.pure_callback(np.sin, {"a": (3,)}, X)  # here


def test_an_unknown_way_of_mapping_lists_those_there_are():
    with refused(
        ValueError,
        "pure_callback: vmap_method must be one of sequential, expand_dims, broadcast_all, got "
        "vmap_method='parallel'.",
        fix="choose one of these; sequential is right for any function.",
    ):
        ad.pure_callback(np.sin, X, X, vmap_method="parallel")  # here


DERIVATIVES = {
    "grad": lambda f: ad.grad(lambda x: np.sum(f(x)))(X),
    "jvp": lambda f: ad.jvp(f, (X,), (X,)),
    "vjp": lambda f: ad.vjp(f, X),
    "grad of jit of vmap": lambda f: ad.grad(lambda x: np.sum(ad.jit(ad.vmap(f))(x)))(X),
    "grad of scan": lambda f: ad.grad(
        lambda x: ad.scan(lambda c, _: (c + np.sum(f(x)), None), 0.0, length=2)[0]
    )(X),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_a_derivative_names_the_call_and_how_to_give_it_one(name):
    with refused(
        ad.MissingRuleError,
        "pure_callback: it has no derivative: it is a Python function that only its results are "
        "known of.",
        fix="keep it out of what is differentiated (stop_gradient on its operands), or give the "
        "function around it a derivative of its own (custom_jvp, custom_vjp).",
    ):
        DERIVATIVES[name](lambda x: ad.pure_callback(np.sin, x, x))  # here


def test_what_is_no_function_is_refused():
    for name, call in (
        ("pure_callback", lambda: ad.pure_callback(NO_FUNCTION, X, X)),  # here
        ("debug.callback", lambda: ad.debug.callback(NO_FUNCTION, X)),  # here
    ):
        with refused(
            TypeError,
            f"{name}: the first argument must be a function, got fun=array([1., 2.]).",
            fix=f"write {name}(f, ...), not {name}(f(x), ...).",
        ):
            call()


def test_a_value_in_place_of_a_format_is_refused():
    with refused(
        TypeError,
        "debug.print: the first argument must be a format, got fmt=1.0 of type float.",
        fix='write debug.print("x = {}", x).',
    ):
        ad.debug.print(NO_FORMAT)  # here


FORMATS = {
    "{} {}": "IndexError: Replacement index 1 out of range for positional args tuple",
    "{y}": "KeyError: 'y'",
    "{:.3f}": "TypeError: unsupported format string passed to numpy.ndarray.__format__",
    "{0.nothing}": "AttributeError: 'numpy.ndarray' object has no attribute 'nothing'",
    "{": "ValueError: Single '{' encountered in format string",
}


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_format_that_does_not_fit_is_refused_where_it_is_written(fmt, capsys):
    def f(x):
        ad.debug.print(fmt, x)  # here
        return x

    for run in (f, ad.jit(f), ad.vmap(lambda x: f(x * X))):
        with refused(
            ValueError,
            f"debug.print: the format must fit the arguments, got fmt={fmt!r} ({FORMATS[fmt]}).",
            fix="give one argument for each {} and one keyword for each {name}; a format such as "
            "{:.3f} takes scalars only.",
        ):
            run(X)
    assert capsys.readouterr().out == ""
