"""Reductions against NumPy's in value, type and shape, and their derivatives."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.special

import autodiff as ad
import autodiff.numpy as anp
from tests.numpy.traced_and_plain import (
    SHAPES,
    check_derivatives,
    check_function,
    check_method,
    check_values,
    layouts,
    sample,
)

DTYPES = ("?", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", ml_dtypes.bfloat16)
# Order of summation is free: up to 12 numbers are added here, each sum rounded once.
SUM_ULPS = 8


def _axes(shape: tuple[int, ...]) -> list[Any]:
    ndim = len(shape)
    axes: list[Any] = [None, *range(ndim)]
    return [*axes, -1, (), tuple(range(ndim))[::-1][:2]] if ndim else axes


#: Shapes and axes: all of them for float64, for other types enough to see the type rule.
CASES = [(shape, axis) for shape in SHAPES for axis in _axes(shape)]
FEW_CASES: list[tuple[Any, Any]] = [((), None), ((0,), None), ((3, 4), None), ((3, 4), 0)]


def _cases(dtype: Any) -> list[tuple[Any, Any]]:
    return CASES if dtype == "f8" else FEW_CASES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "any", "all", "count_nonzero"])
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_reductions_with_an_identity_are_numpys(name: str, dtype: Any) -> None:
    for shape, axis in _cases(dtype):
        x = sample(shape, dtype)
        check_function(name, x, axis=axis, ulps=SUM_ULPS)
        check_function(name, x, axis=axis, keepdims=True, ulps=SUM_ULPS, jit=False)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in ("?", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.filterwarnings("ignore:Degrees of freedom")
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_spreads_are_numpys(name: str, dtype: Any) -> None:
    for shape, axis in _cases(dtype):
        x = sample(shape, dtype)
        check_function(name, x, axis=axis, ulps=16)
        check_function(name, x, axis=axis, ddof=1, ulps=16, jit=False)
        check_function(name, x, axis=axis, correction=1, keepdims=True, ulps=16, jit=False)


EXTREMA = [
    (name, dtype)
    for name in ("max", "min", "argmax", "argmin", "ptp")
    for dtype in DTYPES
    if (name, dtype) != ("ptp", "?")  # NumPy does not subtract truth values
]


@pytest.mark.parametrize(("name", "dtype"), EXTREMA)
def test_extrema_are_numpys(name: str, dtype: Any) -> None:
    for shape, axis in _cases(dtype):
        if 0 in shape or (name.startswith("arg") and isinstance(axis, tuple)):
            continue
        x = sample(shape, dtype)
        check_function(name, x, axis=axis)
        check_function(name, x, axis=axis, keepdims=True, jit=False)


@pytest.mark.parametrize("name", ["max", "min", "argmax"])
@pytest.mark.parametrize("axis", [None, 0])
def test_extrema_of_nothing_are_refused_where_numpy_refuses(name: str, axis: Any) -> None:
    x = np.zeros((0, 3))
    with pytest.raises(ValueError, match=f"{name}: there must be an element to choose"):
        ad.jit(lambda x: getattr(anp, name)(x, axis=axis))(x)
    check_function(name, x, axis=1)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "max", "min", "std", "any", "all"])
@pytest.mark.parametrize("dtype", ["i4", "f8"])
def test_methods_are_numpys_on_any_memory_layout(name: str, dtype: str) -> None:
    for x in layouts(sample((3, 4), dtype)):
        for axis in (None, 1):
            check_method(name, x, axis, ulps=SUM_ULPS)
        check_method(name, x, axis=0, keepdims=True, ulps=SUM_ULPS)


def test_the_method_var_is_numpys() -> None:
    check_method("var", sample((3, 4), "f8"), 0, ulps=16)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_initial_and_where_are_numpys(name: str) -> None:
    x = sample((3, 4), "f4")
    row = np.array([True, False, True, True])
    check_function(name, x, initial=1.5, ulps=8)
    check_function(name, x, axis=1, initial=1.5, where=x > 0.5, ulps=8)
    check_function(name, x, axis=0, initial=1.5, where=row, ulps=8)
    check_function(name, x[:, :0], axis=1, initial=1.5)
    check_function(name, sample((4,), "i4"), initial=3, where=np.array([True, False, False, True]))


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std"])
def test_dtype_and_where_are_numpys(name: str) -> None:
    x = sample((3, 4), "f4")
    check_function(name, x, axis=1, dtype="f8", ulps=8)
    check_function(name, x, axis=0, where=np.array([[True], [False], [True]]), ulps=8)


def test_types_may_be_narrower_than_the_numbers_own() -> None:
    integers = sample((4,), "i4")
    check_function("sum", integers, dtype="i2")
    check_function("mean", integers, dtype="i4")
    for name in ("any", "all"):
        check_function(name, sample((3, 4), "?"), axis=0, where=sample((3, 4), "?", seed=3))


def test_a_mask_may_be_traced() -> None:
    x = sample((3, 4), "f8")
    check_values(lambda m, x: m.sum(np.ones((3, 4)), where=x > 0), x)
    check_values(lambda m, x: m.mean(x, axis=0, where=x >= 0), x, ulps=4)


def test_python_scalars_and_lists_are_reduced() -> None:
    np.testing.assert_array_equal(ad.grad(lambda x: np.sum(x))(2.0), 1.0)
    np.testing.assert_array_equal(ad.grad(lambda x: anp.sum([x, 2 * x]))(2.0), 3.0)
    np.testing.assert_array_equal(ad.grad(lambda x: anp.max([x, 3.0]))(2.0), 0.0)


@pytest.mark.parametrize("shape", [(4,), (3, 2), (1,), ()])
def test_averages_are_numpys(shape: tuple[int, ...]) -> None:
    for dtype in ("i4", "f4", "f8", "c16"):
        x = sample(shape, dtype)
        weights = np.abs(sample(shape, "f4", seed=1)) + 1
        check_function("average", x, ulps=8)
        check_values(lambda m, x, w: m.average(x, weights=w), x, weights, ulps=8)
        check_function("average", x, weights=weights, returned=True, ulps=8)
    if len(shape) == 2:
        column = np.array([1.0, 2.0, 4.0])
        check_values(lambda m, x, w: m.average(x, axis=0, weights=w), x, column, ulps=8)
        check_derivatives(
            lambda x, w: np.average(x, axis=0, weights=w), sample(shape, "f8"), column
        )
        with pytest.raises(ValueError, match="average: weights must have the shape"):
            ad.jit(lambda x: np.average(x, weights=column))(x)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min", "ptp"])
@pytest.mark.parametrize("axis", [None, 0, (1, 2), -1])
def test_derivatives_against_differences(name: str, axis: Any) -> None:
    x = sample((2, 3, 2), "f8") / 4 + 0.1
    check_derivatives(lambda x: getattr(np, name)(x, axis=axis), x, order=2)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std"])
def test_derivatives_at_complex_numbers(name: str) -> None:
    x = sample((3, 2), "c16") / 4 + 0.1
    check_derivatives(lambda x: getattr(anp, name)(x, axis=0), x, order=2)


@pytest.mark.parametrize("function", [np.std, anp.std, np.nanstd])
def test_spread_of_constants_has_derivative_zero(function: Any) -> None:
    x = np.full((3, 2), 1.25)
    np.testing.assert_array_equal(ad.grad(function)(x), np.zeros((3, 2)))
    np.testing.assert_array_equal(ad.jvp(function, (x,), (x,))[1], 0.0)
    np.testing.assert_array_equal(ad.hessian(function)(x), np.zeros((3, 2, 3, 2)))
    one_row = np.array([[1.0, 1.0], [1.0, 3.0]])
    found = ad.grad(lambda x: function(x, axis=1).sum())(one_row)
    np.testing.assert_array_equal(found, [[0, 0], [-0.5, 0.5]])


def test_ties_of_extrema_share_the_derivative() -> None:
    x = np.array([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    third = 1 / 3
    np.testing.assert_allclose(
        ad.grad(lambda x: x.max(axis=1).sum())(x), [[0.5, 0.5, 0], [third, third, third]]
    )
    np.testing.assert_allclose(
        ad.grad(lambda x: np.min(x, axis=1).sum())(x), [[0, 0, 1], [third, third, third]]
    )
    np.testing.assert_allclose(
        ad.jvp(lambda x: anp.max(x), (x,), (np.arange(6.0).reshape(2, 3),))[1], 0.5
    )


def test_product_beside_zeros_is_exact_at_both_orders() -> None:
    for x in ([0.0, 3.0, 4.0], [0.0, 0.0, 4.0], [0.0, 0.0, 0.0], [2.0, 3.0, 4.0]):
        a, b, c = x
        np.testing.assert_array_equal(ad.grad(np.prod)(np.array(x)), [b * c, a * c, a * b])
        expected = [[0, c, b], [c, 0, a], [b, a, 0]]
        np.testing.assert_array_equal(ad.hessian(anp.prod)(np.array(x)), expected)


@pytest.mark.parametrize(
    ("name", "expected"), [("sum", [1, 0, 1]), ("mean", [0.5, 0, 0.5]), ("var", [-1, 0, 1])]
)
def test_masked_out_numbers_have_no_derivative(name: str, expected: Any) -> None:
    x = np.array([1.0, np.nan, 3.0])
    mask = np.array([True, False, True])
    found = ad.grad(lambda x: getattr(np, name)(x, where=mask))(x)
    np.testing.assert_allclose(found, expected)


# ---------------------------------------------------------------------------------------- logsumexp


@pytest.mark.parametrize("axis", [None, 0, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_is_scipys(axis: Any, keepdims: bool) -> None:
    x = sample((3, 4), "f8") * 100
    b = sample((3, 4), "f8", seed=2)
    expected = scipy.special.logsumexp(x, axis, keepdims=keepdims)
    for function in (anp.logsumexp, ad.jit(anp.logsumexp, static_argnames=("axis", "keepdims"))):
        found = function(x, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)
    expected, signs = scipy.special.logsumexp(x, axis, b, keepdims, return_sign=True)
    found = ad.jit(lambda x: anp.logsumexp(x, axis, b, keepdims, return_sign=True))(x)
    np.testing.assert_allclose(found[0], expected, rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(found[1], signs)


def test_logsumexp_keeps_the_type_of_floating_numbers() -> None:
    assert ad.jit(anp.logsumexp)(np.arange(3)).dtype == np.float64
    assert ad.jit(anp.logsumexp)(np.ones(3, "f4")).dtype == np.float32


def test_logsumexp_derivatives() -> None:
    x = sample((3, 2), "f8") / 4
    check_derivatives(lambda x: anp.logsumexp(x, axis=0), x, order=2)
    check_derivatives(lambda x, b: anp.logsumexp(x, b=b), x, np.abs(x) + 1)
    for x, expected in (
        ([-np.inf, 0.0, 0.0], [0, 0.5, 0.5]),
        ([-np.inf, -np.inf], [0, 0]),
        ([np.inf, 1.0, -np.inf], [1, 0, 0]),
        ([1000.0, 1000.0], [0.5, 0.5]),
    ):
        # The result near 1000 is rounded to 1e-13, which exp turns into a relative error.
        found = ad.grad(anp.logsumexp)(np.array(x))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------------- errors


def test_bad_arguments_are_named() -> None:
    x = np.ones((2, 3))
    with pytest.raises(np.exceptions.AxisError, match="sum: the axis must be one of the array's"):
        ad.jit(lambda x: x.sum(axis=2))(x)
    with pytest.raises(ValueError, match="mean: axes must be distinct, got axis=\\(0, -2\\)"):
        ad.jit(lambda x: np.mean(x, axis=(0, -2)))(x)
    with pytest.raises(TypeError, match="sum: out= is not supported on traced values"):
        ad.jit(lambda x: np.sum(x, out=np.zeros(())))(x)
    with pytest.raises(ValueError, match="max: a mask leaves possibly nothing"):
        ad.jit(lambda x: np.max(x, where=x > 0))(x)
    with pytest.raises(ValueError, match="var: ddof and correction are one thing"):
        ad.jit(lambda x: np.var(x, ddof=1, correction=1))(x)
