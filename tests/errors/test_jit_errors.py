"""What jit says, that a failure leaves nothing in its cache, and its notice about retracing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import normalized, refused

X = np.array([1.0, 2.0])


def test_a_static_argument_that_cannot_be_hashed():
    jitted = ad.jit(lambda x, shape: x.reshape(shape), static_argnums=1)
    with refused(
        TypeError,
        "jit: a static argument must be hashable, got shape=[2, 1] of type list.",
        fix="pass a tuple in place of a list, or do not make the argument static.",
    ):
        jitted(X, [2, 1])  # here
    assert jitted(X, (2, 1)).shape == (2, 1)


def test_a_static_keyword_that_cannot_be_hashed():
    jitted = ad.jit(lambda x, *, shape: x.reshape(shape), static_argnames="shape")
    with refused(
        TypeError,
        "jit: a static argument must be hashable, got shape=[2, 1] of type list.",
        fix="pass a tuple in place of a list, or do not make the argument static.",
    ):
        jitted(X, shape=[2, 1])  # here
    assert jitted(X, shape=(2, 1)).shape == (2, 1)


@pytest.mark.parametrize("name", ["static_argnums", "donate_argnums"])
def test_positions_that_are_no_integers(name):
    with refused(
        TypeError,
        f"jit: {name} must be an int or a sequence of ints, got {name}='x'.",
        fix="give positions, counted from 0; static_argnames takes names.",
    ):
        ad.jit(np.sin, **{name: "x"})  # here


def test_static_names_that_are_no_parameters():
    with refused(
        ValueError,
        "jit: static_argnames must name parameters of f, got 'm' where the parameters are x, n.",
        fix="correct the name.",
    ):

        def f(x, n):
            return x * n

        ad.jit(f, static_argnames="m")  # here


def test_an_argument_both_static_and_donated():
    with refused(
        ValueError,
        "jit: an argument must not be both static and donated, "
        "got static_argnums=(0, 1), donate_argnums=1.",
        fix="leave it out of one of the two: a static argument has no memory to reuse.",
    ):
        ad.jit(lambda x, y: x, static_argnums=(0, 1), donate_argnums=1)  # here


@pytest.mark.parametrize("named", ["x", "params['a']"])
def test_an_argument_that_is_no_array_is_named(named):
    jitted = ad.jit(lambda x, params=None: x)
    arguments, keywords = ({"x": (("text",), {})}).get(named, ((X,), {"params": {"a": "text"}}))
    with refused(
        TypeError,
        "jit: every leaf of a traced argument must be an array or a number, "
        f"got {named}='text' of type str.",
        fix="make the argument static (static_argnums of jit), or bind it with functools.partial.",
    ):
        jitted(*arguments, **keywords)  # here
    np.testing.assert_array_equal(jitted(X), X)


def test_arguments_after_a_static_one_keep_their_names():
    jitted = ad.jit(lambda n, x: x, static_argnums=0)
    with refused(
        TypeError,
        "jit: every leaf of a traced argument must be an array or a number, "
        "got x='text' of type str.",
        fix="make the argument static (static_argnums of jit), or bind it with functools.partial.",
    ):
        jitted(3, "text")  # here
    np.testing.assert_array_equal(jitted(3, X), X)


def test_a_failed_trace_leaves_nothing_in_the_cache():
    fail = [True]
    traced = []

    @ad.jit
    def f(x):
        y = np.sin(x)
        traced.append(y)
        if fail[0]:
            raise RuntimeError("not yet")
        return y

    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^not yet$"):
            f(X)
    fail[0] = False
    np.testing.assert_array_equal(f(X), np.sin(X))
    np.testing.assert_array_equal(f(X), np.sin(X))
    assert len(traced) == 3


def test_a_failed_trace_inside_another_leaves_both_usable():
    fail = [True]

    @ad.jit
    def inner(x):
        if fail[0]:
            raise RuntimeError("not yet")
        return x**2

    def outer(x):
        try:
            return np.sum(inner(x))
        except RuntimeError:
            return np.sum(x**3)

    np.testing.assert_array_equal(ad.grad(outer)(X), 3 * X**2)
    fail[0] = False
    np.testing.assert_array_equal(ad.grad(outer)(X), 2 * X)
    np.testing.assert_array_equal(inner(X), X**2)


def test_the_ninth_trace_is_noticed_once_with_what_differed():
    jitted = ad.jit(lambda x: x * 2.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 13):
            jitted(np.ones(n))  # here
    (notice,) = caught
    assert notice.category is RuntimeWarning
    assert normalized(str(notice.message)) == (
        "jit: <lambda> has been traced 9 times; the last time the types of the call: "
        "(((9,), dtype('float64')),) after (((8,), dtype('float64')),) differed.\n"
        "At here\n"
        "To fix: pass arrays of equal shapes and types, pad them, or make fewer arguments static; "
        "jit the function once, outside of loops."
    )
    assert notice.filename == __file__


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("the static arguments", lambda f, n: f(X, n)),
        ("the structure", lambda f, n: f([X] * (n + 1), 0)),
    ],
)
def test_the_notice_names_what_differed(what, call):
    jitted = ad.jit(lambda x, n: x, static_argnums=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(9):
            call(jitted, n)
    (notice,) = caught
    assert f"the last time {what} of the call: " in str(notice.message)


def test_calls_of_known_types_are_never_noticed():
    jitted = ad.jit(lambda x: x * 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(30):
            jitted(X)
