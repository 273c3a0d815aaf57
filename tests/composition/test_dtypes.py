"""Element types: derivatives have those of what they belong to, and tracing never changes one."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp

FLOATING = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64, np.complex128]


@pytest.mark.parametrize("dtype", FLOATING, ids=lambda d: np.dtype(d).name)
def test_derivatives_have_the_type_of_their_argument(dtype):
    x = np.array([0.5, -1.5], dtype)
    dtype = np.dtype(dtype)

    def f(x):
        return np.sum(np.real(x * np.conj(x)) * 3 + 1)

    def g(x):
        return x * x * 2 + 1  # not 1.0: NumPy itself makes bfloat16 + 1.0 a float32

    assert ad.grad(f)(x).dtype == dtype
    assert ad.value_and_grad(f)(x)[0].dtype == f(x).dtype
    assert ad.jit(ad.grad(f))(x).dtype == dtype
    assert [y.dtype for y in ad.jvp(g, (x,), (x,))] == [dtype, dtype]
    y, pull = ad.vjp(g, x)
    assert [y.dtype, pull(y)[0].dtype] == [dtype, dtype]
    y, push = ad.linearize(g, x)
    assert [y.dtype, push(x).dtype] == [dtype, dtype]
    assert ad.vmap(g)(x).dtype == ad.jit(g)(x).dtype == dtype
    holomorphic = dtype.kind == "c"
    for jacobian in (ad.jacfwd, ad.jacrev):
        found = jacobian(g, holomorphic=holomorphic)(x)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.diag(4 * x))


@pytest.mark.parametrize("dtype", FLOATING, ids=lambda d: np.dtype(d).name)
def test_a_gradient_through_a_wider_type_comes_back_in_the_narrow_one(dtype):
    wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
    x = np.array([0.5, -1.5], dtype)

    def f(x):
        y = x.astype(wide)
        return np.sum(np.real(y * y))

    found = ad.grad(f)(x)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, 2 * x)


def test_gradients_of_arguments_of_several_types_keep_each_type():
    arguments = tuple(np.ones(2, dtype) for dtype in FLOATING)
    found = ad.grad(
        lambda *xs: sum(np.sum(np.real(x).astype(np.float64)) for x in xs), range(len(FLOATING))
    )(*arguments)
    assert [g.dtype for g in found] == [np.dtype(dtype) for dtype in FLOATING]
    for gradient, x in zip(found, arguments, strict=True):
        np.testing.assert_array_equal(gradient, x)


# NEP 50: the same expression inside a trace and outside -------------------------------------------

SCALARS = [
    True,
    3,
    -2,
    2.5,
    1e-300,
    1.5 - 2j,
    np.float32(2),
    np.float64(2),
    np.int8(3),
    np.uint64(3),
]
DTYPES = [
    np.bool_,
    np.int8,
    np.uint8,
    np.int32,
    np.int64,
    np.uint64,
    np.float16,
    ml_dtypes.bfloat16,
    np.float32,
    np.float64,
    np.complex64,
    np.complex128,
]
EXPRESSIONS = {
    "x + s": lambda x, s: x + s,
    "s - x": lambda x, s: s - x,
    "x * s": lambda x, s: x * s,
    "s / x": lambda x, s: s / x,
    "x ** s": lambda x, s: x**s,
    "x // s": lambda x, s: x // s,
    "s % x": lambda x, s: s % x,
    "x < s": lambda x, s: x < s,
    "s == x": lambda x, s: s == x,
    "np.add(x, s)": np.add,
    "np.multiply(s, x)": lambda x, s: np.multiply(s, x),
    "np.divide(x, s)": np.divide,
    "np.power(s, x)": lambda x, s: np.power(s, x),
    "np.maximum(x, s)": np.maximum,
    "np.arctan2(x, s)": np.arctan2,
    "np.where(x > 0, x, s)": lambda x, s: np.where(np.real(x) > 0, x, s),
    "np.hypot(s, x)": lambda x, s: np.hypot(s, x),
    "np.copysign(x, s)": np.copysign,
}


def outcome(f, *arguments):
    """Return the type of a result, or that there is none."""
    try:
        result = f(*arguments)
    except (TypeError, OverflowError, ValueError):
        return "refused"
    return np.shape(result), result.dtype


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_types_inside_a_trace_equal_those_of_numpy(dtype, expression):
    f = EXPRESSIONS[expression]
    x = np.array([1, 1], dtype)
    for scalar in SCALARS:
        with np.errstate(all="ignore"):
            expected = outcome(f, x, scalar)
        assert outcome(ad.jit(lambda x, s=scalar: f(x, s)), x) == expected, scalar
        if np.dtype(dtype).kind in "fcV":
            pulled = outcome(lambda x, s=scalar: ad.vjp(lambda x: f(x, s), x)[0], x)
            assert pulled == expected, scalar


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_types_of_two_arrays_inside_a_trace_equal_those_of_numpy(expression):
    f = EXPRESSIONS[expression]
    for one in DTYPES:
        for other in DTYPES:
            x, y = np.ones(2, one), np.ones((), other)
            with np.errstate(all="ignore"):
                expected = outcome(f, x, y)
            assert outcome(ad.jit(f), x, y) == expected, (one, other)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_python_numbers_given_to_jit_are_weak_as_in_numpy(expression):
    f = EXPRESSIONS[expression]
    for dtype in (np.float16, np.float32, np.complex64, np.int8):
        x = np.array([1, 1], dtype)
        for scalar in (True, 3, 2.5, 1.5 - 2j):
            with np.errstate(all="ignore"):
                expected = outcome(f, x, scalar)
            assert outcome(ad.jit(f), x, scalar) == expected, (dtype, scalar)
            nested = ad.jit(lambda x, s: ad.jit(f)(x, s))
            assert outcome(nested, x, scalar) == expected, (dtype, scalar)


UNARY = [
    np.sin,
    np.exp,
    np.sqrt,
    np.abs,
    np.square,
    np.negative,
    np.sign,
    np.floor,
    np.reciprocal,
    np.sum,
    np.mean,
    np.prod,
    np.max,
    np.cumsum,
    np.isfinite,
    np.conj,
    np.real,
    np.argmax,
    np.sort,
]


@pytest.mark.parametrize("function", UNARY, ids=lambda f: f.__name__)
def test_types_of_one_array_inside_a_trace_equal_those_of_numpy(function):
    for dtype in DTYPES:
        x = np.ones(3, dtype)
        expected = outcome(function, x)
        assert outcome(ad.jit(function), x) == expected, dtype


# The setting default_float ----------------------------------------------------------------------


def test_with_default_float32_numbers_alone_are_float32():
    with ad.override(default_float="float32"):
        assert ad.grad(np.tanh)(2.0).dtype == np.float32
        assert ad.jit(lambda x: x * 2)(1.5).dtype == np.float32
        assert ad.jit(lambda: 1.5)().dtype == np.float32
        assert ad.vjp(np.sin, 1.0)[1](1.0)[0].dtype == np.float32
        assert ad.jit(lambda x: x)(1j).dtype == np.complex64
        assert ad.jit(lambda x: x)(1).dtype == np.int64
    assert ad.grad(np.tanh)(2.0).dtype == np.float64


def test_with_default_float32_arrays_keep_their_type():
    x = np.array([1.0, 2.0])
    with ad.override(default_float="float32"):
        assert ad.grad(lambda x: np.sum(x * 2.0))(x).dtype == np.float64
        assert ad.grad(lambda x: np.sum(x * 2.0))(x.astype(np.float16)).dtype == np.float16
        assert ad.jit(lambda x: x / 2)(x).dtype == np.float64


def test_with_default_float32_creation_functions_make_float32():
    with ad.override(default_float="float32", device="cpu"):
        assert anp.zeros(2).dtype == np.float32
        assert anp.ones(2).dtype == np.float32
        assert anp.array([1.0, 2.0]).dtype == np.float32
        assert anp.linspace(0.0, 1.0, 3).dtype == np.float32
        assert anp.zeros(2, np.float64).dtype == np.float64
        assert anp.arange(3).dtype == np.int64
    assert anp.zeros(2).dtype == np.float64


def test_a_jitted_function_follows_a_change_of_the_setting():
    jitted = ad.jit(lambda x: x * 2.0)
    assert jitted(1.0).dtype == np.float64
    with ad.override(default_float="float32"):
        assert jitted(1.0).dtype == np.float32
    assert jitted(1.0).dtype == np.float64
