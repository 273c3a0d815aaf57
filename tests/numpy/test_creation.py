"""Functions that make arrays, and those of element types, against NumPy's."""

from __future__ import annotations

import copy
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.base.settings import override
from tests.numpy.traced_and_plain import (
    check_derivatives,
    check_function,
    check_method,
    check_values,
    sample,
)

X = sample((2, 3), "f4")

CALLS = [
    lambda m: m.zeros(3),
    lambda m: m.zeros((2, 0), "i4"),
    lambda m: m.ones((2, 3), np.float32, order="F"),
    lambda m: m.zeros_like(m.empty((2, 3))),
    lambda m: m.full((2, 2), 7),
    lambda m: m.full(3, 7.5, "f4"),
    lambda m: m.full((2, 3), [1, 2, 3]),
    lambda m: m.arange(5),
    lambda m: m.arange(5.0),
    lambda m: m.arange(1, 7, 2),
    lambda m: m.arange(1, 2, 0.25),
    lambda m: m.arange(4, dtype="f4"),
    lambda m: m.arange(np.float32(3)),
    lambda m: m.arange(0),
    lambda m: m.linspace(0, 1, 5),
    lambda m: m.linspace(0, 1, 5, endpoint=False, retstep=True),
    lambda m: m.linspace(np.float32(0), 1, 4),
    lambda m: m.linspace([0, 1], 3, 4, axis=1),
    lambda m: m.linspace(0, 9, 4, dtype=int),
    lambda m: m.logspace(0, 2, 3),
    lambda m: m.logspace(0, 2, 3, base=2.0),
    lambda m: m.geomspace(1, 256, 9),
    lambda m: m.eye(3),
    lambda m: m.eye(2, 3, 1, "i4"),
    lambda m: m.identity(2),
    lambda m: m.tri(3, 2, -1),
    lambda m: m.indices((2, 3)),
    lambda m: m.indices((2, 3), sparse=True),
    lambda m: m.fromfunction(lambda i, j: i + 2 * j, (2, 3)),
    lambda m: m.array([1, 2]),
    lambda m: m.array([[1.0, 2], [3, 4]]),
    lambda m: m.array(2.5, ndmin=2),
    lambda m: m.array([1, 2j], dtype="c8"),
    lambda m: m.asarray((True, False)),
    lambda m: m.asarray(np.float16(2)),
    lambda m: m.zeros_like(np.ones((2, 3), "f2")),
    lambda m: m.ones_like([1, 2]),
    lambda m: m.full_like(np.ones((2, 3)), [1, 2, 3]),
    lambda m: m.meshgrid([1, 2], [3.0, 4.0, 5.0]),
]


@pytest.mark.parametrize("call", CALLS)
def test_new_arrays_are_numpys(call: Any) -> None:
    found, expected = call(anp), call(np)
    if not isinstance(expected, tuple):
        found, expected = (found,), (expected,)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, y)
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert isinstance(x, np.ndarray | np.generic)


def test_the_default_float_is_that_of_new_arrays() -> None:
    with override(default_float="float32"):
        for x in (
            anp.zeros(2),
            anp.ones(2),
            anp.empty(2),
            anp.full(2, 0.5),
            anp.arange(2.0),
            anp.linspace(0, 1, 3),
            anp.logspace(0, 1, 3),
            anp.geomspace(1, 2, 3),
            anp.eye(2),
            anp.identity(2),
            anp.tri(2),
            anp.fromfunction(lambda i: i, (2,)),
            anp.array([1.0, 2.0]),
            anp.asarray(1.5),
            ad.jit(lambda y: anp.array([y, 1.0]))(np.float32(1)),
        ):
            assert x.dtype == np.float32
        assert anp.asarray([1j]).dtype == np.complex64
        assert anp.arange(3).dtype == np.int64
        assert anp.asarray(np.ones(2)).dtype == np.float64


# ------------------------------------------------------------------- arrays of and like traced ones


@pytest.mark.parametrize("dtype", ["?", "i4", "f4", "c16"])
def test_arrays_like_traced_ones_are_numpys(dtype: str) -> None:
    x = sample((2, 3), dtype)
    for name in ("zeros_like", "ones_like"):
        check_function(name, x)
        check_function(name, x, dtype="f8")
        check_function(name, x, shape=(4, 0))
        check_function(name, sample((), dtype))
    check_function("full_like", x, fill_value=1)
    check_function("full_like", x, fill_value=[1.5, 2.5, 0.0], dtype="f4")
    check_function("full_like", x, fill_value=2, shape=(3,))


def test_empty_like_a_traced_array_has_its_shape() -> None:
    found = ad.jit(lambda x: np.empty_like(x, dtype="i2"))(X)
    assert (found.shape, found.dtype) == ((2, 3), np.int16)


def test_traced_numbers_can_be_written_into_an_array_like_a_traced_one() -> None:
    def reversed_squares(x: Any) -> Any:
        y = np.zeros_like(x)
        for i in range(3):
            y[i] = x[2 - i] ** 2
        return y

    check_derivatives(reversed_squares, np.array([1.0, 2.0, 3.0]))


def test_lists_of_traced_numbers_become_arrays() -> None:
    x = np.array([1.0, 2.0, 3.0])

    def matrix(x: Any) -> Any:
        return anp.array([[x[0], 2.0, x[1] * x[2]], [0, x.sum(), x[0]]])

    np.testing.assert_array_equal(ad.jit(matrix)(x), [[1, 2, 6], [0, 6, 1]])
    check_derivatives(matrix, x)
    check_derivatives(lambda x: anp.asarray((x, [1.0, 2.0, 3.0], 2 * x)), x)
    y = np.float32([1, 2])
    assert ad.jit(lambda y: anp.array([y[0], y[1]]))(y).dtype == np.float32
    assert ad.jit(lambda y: anp.array([y[0], 1.0]))(y).dtype == np.float64
    assert ad.jit(lambda y: anp.array([y[0], 1.0], "f4"))(y).dtype == np.float32
    with pytest.raises(ValueError, match="array: the entries of a list must have one shape"):
        ad.jit(lambda x: anp.array([x, x[:2]]))(x)


def test_full_and_asarray_of_traced_values() -> None:
    np.testing.assert_array_equal(ad.grad(lambda x: anp.full((2, 3), x).sum())(1.0), 6.0)
    assert ad.jit(lambda x: anp.full(3, x, "i4"))(1.5).dtype == np.int32
    found = ad.jit(lambda x: anp.asarray(x, dtype="f8"))(X)
    assert found.dtype == np.float64

    def same(x: Any) -> Any:
        assert anp.asarray(x) is x
        assert anp.asarray(x, copy=True) is not x
        assert anp.array(x) is not x
        assert anp.array(x, ndmin=4).shape == (1, 1, 2, 3)
        return x

    ad.jit(same)(X)


@pytest.mark.parametrize(
    "options", [{}, {"num": 7}, {"num": 5, "endpoint": False}, {"num": 1}, {"num": 0}]
)
def test_linspace_between_traced_ends_is_numpys(options: Any) -> None:
    check_values(lambda m, x: m.linspace(x, 4.0, **options), np.float64(1.5), ulps=2)
    check_values(lambda m, x: m.linspace(0, x, **options), np.float32(1.5), ulps=2)


def test_spaced_numbers_between_traced_ends_are_numpys() -> None:
    check_values(lambda m, x: m.linspace(x, 3, 4, axis=-1), sample((2, 3), "f8"), ulps=4)
    check_values(lambda m, x: m.linspace(x, 9, 4, dtype=int), np.float64(0.5))
    check_values(lambda m, x: m.linspace(x, 3, 4, retstep=True)[1], np.float64(0.5), ulps=2)
    check_values(lambda m, x: m.logspace(x, 2, 4, base=2.0), np.float64(0.5), ulps=8)
    check_values(lambda m, x: m.geomspace(x, 64.0, 4), np.float64(0.5), ulps=8)
    check_values(lambda m, x: m.geomspace(-8.0, x, 4), np.float64(-0.5), ulps=8)
    ends = (np.array(0.5), np.array(2.0))
    check_derivatives(lambda x, y: np.linspace(x, y, 5) ** 2, *ends)
    check_derivatives(lambda x, y: np.logspace(x, y, 5, base=2.0), *ends)
    check_derivatives(lambda x, y: np.geomspace(x, y, 5), *ends)


def test_ranges_to_traced_values_need_the_value() -> None:
    found = ad.vjp(lambda x: anp.arange(x) * x, 3.0)[0]
    np.testing.assert_array_equal(found, [0, 3, 6])
    with pytest.raises(ad.ConcretizationError):
        ad.jit(anp.arange)(3.0)


def test_meshgrid_is_numpys() -> None:
    x, y, z = (sample((n,), d) for n, d in ((2, "f4"), (3, "i4"), (4, "f8")))
    for options in ({}, {"indexing": "ij"}, {"sparse": True}, {"copy": False}):
        check_function("meshgrid", x, y, z, **options)
        check_function("meshgrid", x, **options)
    with pytest.raises(ValueError, match="meshgrid: indexing must be"):
        ad.jit(lambda x: np.meshgrid(x, indexing="yx"))(x)


# ------------------------------------------------------------------------------------ element types


@pytest.mark.parametrize("dtype", ["?", "i2", "u4", "f2", "f4", "f8", "c8", ml_dtypes.bfloat16])
def test_astype_is_numpys(dtype: Any) -> None:
    for own in ("?", "i4", "f4", "f8"):
        x = np.abs(sample((2, 3), own)).astype(own)
        check_method("astype", x, dtype)
        check_values(lambda m, x: m.astype(x, np.dtype(dtype)), x)
    with pytest.raises(TypeError, match="astype: casting='safe' must allow the cast"):
        ad.jit(lambda x: x.astype("f4", casting="safe"))(np.ones(2))


def test_astype_of_the_same_type_is_a_copy_unless_asked() -> None:
    def function(x: Any) -> Any:
        assert x.astype(x.dtype) is not x
        assert x.astype(x.dtype, copy=False) is x
        return x.astype("f8")

    np.testing.assert_array_equal(ad.grad(lambda x: function(x).sum())(X), np.ones_like(X))


def test_copies_of_traced_values_are_traced_values() -> None:
    def function(x: Any) -> Any:
        return (copy.copy(x) + copy.deepcopy(x) + np.copy(x) + x.copy()).sum()

    np.testing.assert_array_equal(ad.grad(function)(X), np.full_like(X, 4))


@pytest.mark.parametrize("dtype", ["f4", "c8", "c16", "i4"])
def test_complex_parts_are_numpys(dtype: str) -> None:
    x = sample((2, 3), dtype)
    for name in ("real", "imag", "conj"):
        check_function(name, x)
    check_values(lambda m, x: (x.real, x.imag, x.conj()), x)
    if dtype == "c16":
        check_derivatives(lambda x: x.real * x.imag + np.real(x.conj() * x), x)


@pytest.mark.parametrize("dtype", ["i4", "f2", "f4", "f8", "c8", "c16"])
def test_rounding_is_numpys(dtype: str) -> None:
    x = sample((3, 4), dtype)
    for decimals in (0, 1, -1):
        check_function("round", x, decimals=decimals)
        check_method("round", x, decimals)
        check_function("around", x, decimals=decimals)
    if dtype == "f8":
        np.testing.assert_array_equal(ad.grad(lambda x: np.round(x, 1).sum())(x), np.zeros((3, 4)))


def test_questions_about_types_and_shapes_have_numpys_answers() -> None:
    def function(x: Any) -> Any:
        for m in (np, anp):
            assert m.shape(x) == (2, 3)
            assert m.ndim(x) == 2
            assert (m.size(x), m.size(x, 1)) == (6, 3)
            assert m.result_type(x, np.float64) == np.float64
            assert m.result_type(x, 1.0) == np.float32
            assert m.can_cast(x, np.float64)
            assert not m.can_cast(x, np.int32)
        assert x.size == 6
        return x

    ad.jit(function)(X)
    assert anp.finfo(anp.bfloat16).bits == 16
    assert anp.finfo(np.float32).eps == np.finfo(np.float32).eps
    assert anp.isdtype(anp.dtype("f4"), "real floating")
    assert (anp.pi, anp.e, anp.newaxis) == (np.pi, np.e, None)


def test_views_of_the_same_bits_are_numpys() -> None:
    check_method("view", X)
    check_method("view", X, "u4")
    check_method("view", sample((3,), "i4"), np.float32)
    with pytest.raises(ValueError, match="view: a traced value can be viewed only as a type of"):
        ad.jit(lambda x: x.view("u2"))(X)


def test_traced_values_tell_their_device_and_stay_there() -> None:
    def function(x: Any) -> Any:
        assert x.device == "cpu"
        assert x.to_device("cpu") is x
        assert anp.zeros(2, device=x.device).shape == (2,)
        with pytest.raises(ValueError, match="to_device: a traced value stays on its device"):
            x.to_device("gpu")
        return x

    ad.vjp(function, X)
    with pytest.raises(ValueError, match="device: the device must be None, 'cpu' or a CuPy device"):
        anp.zeros(2, device="tpu")
