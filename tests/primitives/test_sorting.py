"""Sorting: stability, NaN and bfloat16, and the derivative as a permutation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff.primitives.sorting import argsort, sort, take_permuted

_FLOATS = ["f2", "f4", "f8", "bfloat16"]


def _dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


@pytest.mark.parametrize("name", _FLOATS)
def test_nan_is_last_and_equal_elements_keep_their_order(name):
    x = np.array([3, np.nan, -0.0, 1, 0.0, np.nan, -np.inf, 1]).astype(_dtype(name))
    order = argsort(x, axis=0)
    assert order.dtype == np.int64
    assert order.tolist() == [6, 2, 4, 3, 7, 0, 1, 5]
    values = sort(x, axis=0)
    assert values.dtype == x.dtype
    assert values[:6].astype(float).tolist() == [-np.inf, 0, 0, 1, 1, 3]
    assert np.signbit(values[1:3].astype(float)).tolist() == [True, False]


def test_complex_numbers_are_sorted_by_real_and_then_imaginary_part():
    x = np.array([1 + 2j, 1 - 1j, 0 + 5j, complex(np.nan, 0), 1 + 0j])
    np.testing.assert_array_equal(sort(x, axis=0), np.sort(x))
    assert argsort(x, axis=0).tolist() == [2, 1, 4, 0, 3]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("mode", [ad.jacfwd, ad.jacrev])
def test_the_jacobian_is_the_stable_permutation(mode, axis):
    """Ties as well: the first of two equal elements is the first of their images."""
    x = np.random.default_rng(axis).integers(0, 3, size=(3, 4, 2)).astype(float)
    jacobian = mode(lambda x: sort(x, axis=axis))(x).reshape(x.size, x.size)
    places = np.arange(x.size).reshape(x.shape)
    sources = np.take_along_axis(places, np.argsort(x, axis=axis, kind="stable"), axis=axis)
    np.testing.assert_array_equal(jacobian, np.eye(x.size)[sources.ravel()])


def test_a_mapped_sort_sorts_every_example():
    x = np.random.default_rng(3).normal(size=(4, 5, 3))
    found = ad.vmap(lambda x: sort(x, axis=0), in_axes=2, out_axes=2)(x)
    np.testing.assert_array_equal(found, np.sort(x, axis=0))


def test_a_permutation_is_taken_along_its_axis():
    x = np.random.default_rng(4).normal(size=(3, 4, 2))
    order = np.argsort(x, axis=1)
    np.testing.assert_array_equal(
        take_permuted(x, order, axis=1), np.take_along_axis(x, order, axis=1)
    )
