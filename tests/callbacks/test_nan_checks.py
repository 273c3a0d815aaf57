"""With AUTODIFF_CHECK=nans the first NaN is an error that names its line, forward or backward."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import normalized


@pytest.fixture(autouse=True)
def _checked():
    with ad.override(check=frozenset({"nans"})):
        yield


def logarithm(x: Any) -> Any:
    return np.log(x)  # here


def loss(x: Any) -> Any:
    return np.sum(logarithm(2.0 * x) * 3.0)


def roots(x: Any) -> Any:
    """Its value at 0 is 0 and its derivative there inf - inf."""
    y = np.sqrt(2.0 * x)
    return np.sqrt(x) - y  # here


def body(carry: Any, x: Any) -> Any:
    return carry + logarithm(x), None


X = np.array([1.0, -2.0, 3.0])
FORWARD = {
    "grad": lambda: ad.grad(loss)(X),
    "jvp": lambda: ad.jvp(loss, (X,), (X,)),
    "vjp": lambda: ad.vjp(loss, X),
    "linearize": lambda: ad.linearize(loss, X),
    "jit": lambda: ad.jit(loss)(X),
    "grad of jit": lambda: ad.grad(ad.jit(loss))(X),
    "jit of grad": lambda: ad.jit(ad.grad(loss))(X),
    "hessian": lambda: ad.hessian(loss)(X),
    "vmap": lambda: ad.vmap(lambda x: loss(X * x))(np.ones(2)),
    "vmap of vmap": lambda: ad.vmap(ad.vmap(loss))(np.broadcast_to(X, (2, 2, 3))),
    "vmap of grad of jit": lambda: ad.vmap(ad.grad(ad.jit(loss)))(np.stack([X, X])),
    "scan": lambda: ad.scan(body, 0.0, X),
    "grad of scan": lambda: ad.grad(lambda x: ad.scan(body, 0.0, x)[0])(X),
    "jit of vmap of scan": lambda: ad.jit(ad.vmap(lambda x: ad.scan(body, 0.0, x)[0]))(X[None]),
    "scan of scan": lambda: ad.scan(
        lambda c, _: (c + ad.scan(body, 0.0, X)[0], None), 0.0, length=2
    ),
    "while_loop": lambda: ad.while_loop(lambda c: c < 3.0, lambda c: c + 1 + logarithm(c), -1.0),
    "cond": lambda: ad.jit(lambda x: ad.cond(x < 0, logarithm, np.cos, x))(-1.0),
    "checkpoint": lambda: ad.grad(ad.checkpoint(loss))(X),
}


@pytest.mark.parametrize("name", FORWARD)
def test_a_nan_of_the_forward_sweep_is_located(name):
    for _ in range(2):
        with pytest.raises(FloatingPointError) as caught:
            FORWARD[name]()
        text = normalized(str(caught.value))
        assert text.startswith("log: numbers must not give NaN (setting check=nans), got NaN")
        assert ", in the forward sweep.\nAt here\nTo fix: " in text


BACKWARD = {
    "grad": lambda: ad.grad(roots)(0.0),
    "vjp": lambda: ad.vjp(roots, 0.0)[1](1.0),
    "grad of jit": lambda: ad.grad(ad.jit(roots))(0.0),
    "jit of grad": lambda: ad.jit(ad.grad(roots))(0.0),
    "vmap of grad": lambda: ad.vmap(ad.grad(roots))(np.array([1.0, 0.0])),
    "grad of vmap": lambda: ad.grad(lambda x: np.sum(ad.vmap(roots)(x)))(np.array([1.0, 0.0])),
    "grad of checkpoint": lambda: ad.grad(ad.checkpoint(roots))(0.0),
    "grad of scan": lambda: ad.grad(
        lambda x: ad.scan(lambda c, x: (c + roots(x), None), 0.0, x)[0]
    )(np.array([1.0, 0.0])),
}


@pytest.mark.parametrize("name", BACKWARD)
def test_a_nan_of_the_backward_sweep_is_located(name):
    with pytest.raises(FloatingPointError) as caught:
        BACKWARD[name]()
    text = normalized(str(caught.value))
    assert "got NaN" in text
    assert ", in the backward sweep.\nAt " in text


def test_the_message_says_what_of_the_operands_gave_nan():
    with pytest.raises(FloatingPointError) as caught:
        ad.jit(logarithm)(X)
    assert normalized(str(caught.value)) == (
        "log: numbers must not give NaN (setting check=nans), got NaN at index (1,) from -2.0 of "
        "float64[3], in the forward sweep.\nAt here\nTo fix: keep the operands where the operation "
        "is defined; a numpy.where must choose its operand, since one that chooses between results "
        "still computes both."
    )


def test_scalars_are_shown_and_of_whole_array_operations_the_types():
    with pytest.raises(
        FloatingPointError, match=r"got NaN from 0\.0 of float64 and inf of float64, "
    ):
        ad.jit(lambda x, y: x * y)(0.0, np.inf)
    infinite = np.array([[np.inf, 1.0]])
    with pytest.raises(
        FloatingPointError, match=r"got NaN at index \(0, 0\) from float64\[1,2\] and "
    ):
        ad.jit(lambda x, y: x @ y)(infinite, np.array([[1.0], [-np.inf]]))


def test_a_nan_of_the_tangents_is_told_from_one_of_the_values():
    with pytest.raises(FloatingPointError) as caught:
        ad.jvp(roots, (0.0,), (1.0,))
    assert ", in a derivative, in the forward sweep.\nAt here\n" in normalized(str(caught.value))
    assert ad.jit(roots)(0.0) == 0.0


def test_nan_among_the_inputs_is_no_error_but_one_made_beside_it_is():
    x = np.array([np.nan, 1.0])
    np.testing.assert_array_equal(ad.jit(logarithm)(x), [np.nan, 0.0])
    np.testing.assert_array_equal(ad.grad(loss)(x), [np.nan, 3.0])
    np.testing.assert_array_equal(ad.jit(np.sum)(x), np.nan)
    with pytest.raises(FloatingPointError, match=r"NaN at index \(1,\) from -1.0 of float64\[2\]"):
        ad.jit(logarithm)(np.array([np.nan, -1.0]))


def test_what_python_asks_for_is_checked_too():
    def f(x):
        if logarithm(x) > 0.0:
            return x
        return 2.0 * x

    with pytest.raises(FloatingPointError, match=r"in logarithm: return np\.log"):
        ad.grad(f)(-1.0)


def test_other_element_types_are_checked():
    with pytest.raises(FloatingPointError, match="of float32"):
        ad.jit(logarithm)(np.float32(-1.0))
    with pytest.raises(FloatingPointError, match="of complex128"):
        ad.jit(lambda z: z * 0.0)(np.complex128(complex(np.inf, 1.0)))
    assert ad.jit(lambda n: n + 1)(np.int64(2)) == 3


def test_guarded_operations_are_no_error():
    def guarded(x):
        return np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0)

    np.testing.assert_array_equal(ad.vmap(ad.grad(guarded))(X), [1.0, 0.0, 1 / 3])


# A rule that computes both sides of what it then chooses from makes NaN that no result has.
LIMITS = {
    "logaddexp": (lambda x: np.logaddexp(x, -np.inf), -np.inf),
    "logsumexp": (lambda x: ad.scipy.special.logsumexp(ad.numpy.stack([x, -np.inf])), -np.inf),
    "norm": (lambda x: np.linalg.norm(ad.numpy.stack([x, x])), 0.0),
    "sinc": (np.sinc, 0.0),
    "power": (lambda x: x**0.0, 0.0),
    "xlogy": (lambda x: ad.scipy.special.xlogy(x, x), 0.0),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_derivative_without_nan_is_no_error_however_it_is_computed(name):
    function, x = LIMITS[name]
    for derivative in (
        ad.grad(function),
        ad.jit(ad.grad(function)),
        lambda x: ad.vjp(function, x)[0],
    ):
        with ad.override(check=frozenset()):
            expected = derivative(np.array(x))
        if not np.isnan(expected):
            np.testing.assert_array_equal(derivative(np.array(x)), expected, strict=True)


def test_results_and_their_freshness_are_those_without_the_check():
    def f(x):
        return x, np.sin(x).T, x[0], np.broadcast_to(x[0], (2,))

    x = np.array([1.0, 2.0])
    for found, expected in zip(ad.jit(f)(x), f(x), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert type(found) is np.ndarray
        assert not np.shares_memory(found, x)
    value, gradient = ad.value_and_grad(lambda x: np.sum(np.tanh(x) ** 2))(x)
    np.testing.assert_allclose(value, np.sum(np.tanh(x) ** 2))
    np.testing.assert_allclose(gradient, 2 * np.tanh(x) / np.cosh(x) ** 2)


def test_a_program_compiled_before_is_not_used_with_the_check_nor_the_other_way_round():
    f = ad.jit(logarithm)
    with ad.override(check=frozenset()):
        assert np.isnan(f(-1.0))
    with pytest.raises(FloatingPointError):
        f(-1.0)
    with ad.override(check=frozenset()):
        assert np.isnan(f(-1.0))


def test_after_the_error_the_next_call_works():
    f = ad.jit(ad.grad(loss))
    with pytest.raises(FloatingPointError):
        f(X)
    np.testing.assert_array_equal(f(np.array([1.0, 3.0, 2.0])), [3.0, 1.0, 1.5])


def test_the_environment_variable_sets_it():
    program = "import autodiff as ad, numpy as np; ad.jit(np.log)(-1.0)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"AUTODIFF_CHECK": "nans"},
        check=False,
    )
    assert "FloatingPointError: log: numbers must not give NaN" in run.stderr
    wrong = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"AUTODIFF_CHECK": "nan"},
        check=False,
    )
    assert "AUTODIFF_CHECK must be a comma-separated list of nans" in wrong.stderr


def _early(x):
    return np.sum(np.sqrt(x) * 2.0)


def _late(x):
    return np.sum(np.sqrt(x) * 2.0)


@pytest.mark.parametrize("transformed", [ad.jit, ad.grad, lambda f: ad.jit(ad.grad(f)), ad.vmap])
def test_the_line_named_is_that_of_the_function_called_not_of_an_equal_one(transformed):
    for function in (_early, _late, _early):
        line = function.__code__.co_firstlineno + 1
        x = np.full((2, 3), -1.0) if transformed is ad.vmap else -(X**2)
        with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError) as raised:
            transformed(function)(x)
        assert f"{__file__}:{line}," in str(raised.value)
