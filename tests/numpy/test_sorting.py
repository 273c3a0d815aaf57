"""Sorting on traced arrays against NumPy."""

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp

ARRAYS = [
    np.array([3.0, -1.0, np.nan, 2.0, -1.0, -0.0, np.inf]),
    np.arange(12.0).reshape(3, 4)[::-1, ::-1],
    np.array([[2, 1, 2], [0, 5, 5]], np.int8),
    np.array([1 + 2j, 1 - 2j, 0.5 + 9j]),
    np.zeros((0, 3), np.float32),
    np.array([True, False, True]),
]


@pytest.mark.parametrize("module", [np, anp], ids=["numpy", "autodiff.numpy"])
@pytest.mark.parametrize("x", ARRAYS, ids=lambda x: f"{x.dtype}{x.shape}")
@pytest.mark.parametrize("axis", [-1, 0, None])
def test_sort_and_argsort_are_those_of_numpy(module, x, axis):
    traced = ad.jit(lambda a: (module.sort(a, axis), module.argsort(a, axis, stable=True)))(x)
    for ours, theirs in zip(
        traced, (np.sort(x, axis), np.argsort(x, axis, kind="stable")), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_lexsort_orders_by_the_last_key_first():
    random = np.random.default_rng(0)
    keys = random.integers(0, 3, size=(3, 40))
    np.testing.assert_array_equal(ad.jit(np.lexsort)(keys), np.lexsort(keys))


def test_partitions_have_the_kth_element_in_its_place():
    x = np.random.default_rng(1).normal(size=(4, 9))
    ours = ad.jit(lambda a: np.partition(a, 3, axis=1))(x)
    np.testing.assert_array_equal(ours[:, 3], np.partition(x, 3, axis=1)[:, 3])
    positions = ad.jit(lambda a: np.argpartition(a, 3, axis=1))(x)
    np.testing.assert_array_equal(np.take_along_axis(x, positions, 1)[:, 3], ours[:, 3])


def test_cotangents_go_to_the_elements_that_came_there():
    x = np.array([3.0, -1.0, 2.0])
    np.testing.assert_array_equal(
        ad.grad(lambda a: np.dot(np.sort(a), np.array([1.0, 10.0, 100.0])))(x), [100, 1, 10]
    )


def test_the_method_sorts_in_place():
    def in_place(x):
        y = x * 1.0
        y.sort()
        return y[0]

    np.testing.assert_array_equal(ad.grad(in_place)(np.array([3.0, -1.0, 2.0])), [0, 1, 0])


def test_fields_are_refused():
    with pytest.raises(TypeError, match=r"^sort: traced arrays have no fields to sort by, got"):
        ad.jit(lambda a: np.sort(a, order="x"))(np.ones(2))
