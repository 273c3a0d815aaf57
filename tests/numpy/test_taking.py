"""take, take_along_axis, compress, nonzero, searchsorted and choose against NumPy's."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp

RNG = np.random.default_rng(11)


def check_linear_read(f: Any, x: Any) -> None:
    """Compare a read that is linear in x with NumPy's, its transpose with the read of positions."""
    expected = np.asarray(f(x))
    positions = np.asarray(f(np.arange(x.size).reshape(x.shape)))
    out, pull = ad.vjp(f, x)
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == expected.dtype
    ct = RNG.normal(size=expected.shape)
    sums = np.zeros(x.size)
    np.add.at(sums, positions, ct)
    np.testing.assert_allclose(pull(ct)[0], sums.reshape(x.shape), rtol=1e-15)
    np.testing.assert_array_equal(ad.jit(f)(x), expected)
    xs = np.stack([x, 2 * x])
    np.testing.assert_array_equal(ad.vmap(f)(xs), [f(x), f(2 * x)])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("indices", [2, [0, -1], np.array([[0, 1], [2, 2]], np.int8), []])
@pytest.mark.parametrize("module", [np, anp])
def test_take_is_numpys(axis: Any, indices: Any, module: Any) -> None:
    x = RNG.normal(size=(4, 3, 5))
    check_linear_read(lambda x: module.take(x, indices, axis), x)
    check_linear_read(lambda x: x.take(indices, axis), x)


@pytest.mark.parametrize("mode", ["clip", "wrap"])
def test_take_out_of_range_is_numpys(mode: str) -> None:
    x = RNG.normal(size=(4, 3))
    indices = np.array([-7, -1, 0, 3, 9])
    check_linear_read(lambda x: np.take(x, indices, 0, mode=mode), x)
    traced = ad.jit(lambda x, i: np.take(x, i, 0, mode=mode))(x, indices)
    np.testing.assert_array_equal(traced, np.take(x, indices, 0, mode=mode))


def test_take_fills_on_request_and_by_default_where_traced() -> None:
    x = np.array([1.0, 2.0])
    indices = np.array([5, -1])
    np.testing.assert_array_equal(anp.take(x, indices, mode="fill"), [np.nan, 2.0])
    np.testing.assert_array_equal(anp.take(x, indices, mode="fill", fill_value=0), [0.0, 2.0])
    np.testing.assert_array_equal(ad.jit(anp.take)(x, indices), [np.nan, 2.0])
    with pytest.raises(IndexError):
        ad.jit(lambda x: anp.take(x, indices))(x)
    np.testing.assert_array_equal(anp.take([1, 2], 1), 2)


def test_take_reads_a_plain_table_at_a_traced_place() -> None:
    table = np.array([1.0, 4.0, 9.0])
    np.testing.assert_array_equal(ad.jit(lambda i: anp.take(table, i))(2), 9.0)
    np.testing.assert_array_equal(ad.vmap(lambda i: anp.take(table, i))(np.array([1, 0])), [4, 1])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_take_along_axis_is_numpys(axis: Any) -> None:
    x = RNG.normal(size=(3, 4))
    shape = {None: (7,), 0: (5, 4), 1: (3, 2), -1: (1, 6)}[axis]
    size = x.size if axis is None else x.shape[axis]
    indices = RNG.integers(-size, size, shape)
    check_linear_read(lambda x: np.take_along_axis(x, indices, axis), x)
    check_linear_read(lambda x: anp.take_along_axis(x, indices, axis), x)
    expected = np.take_along_axis(x, indices, axis)
    traced = ad.jit(lambda x, i: np.take_along_axis(x, i, axis))(x, indices)
    np.testing.assert_array_equal(traced, expected)
    mapped = ad.vmap(lambda x, i: anp.take_along_axis(x, i, axis))(
        np.stack([x, -x]), np.stack([indices, indices])
    )
    np.testing.assert_array_equal(mapped, [expected, -expected])


def test_take_along_axis_stretches_axes_of_size_1() -> None:
    x = RNG.normal(size=(3, 1, 2))
    indices = RNG.integers(0, 3, (2, 4, 1))
    check_linear_read(lambda x: np.take_along_axis(x, indices, 0), x)


def test_conditions_select_as_numpys() -> None:
    x = RNG.normal(size=(3, 4))
    for axis, condition in ((None, [True, False, True]), (0, [0, 1, 1]), (1, [True, False])):
        check_linear_read(lambda x, c=condition, a=axis: np.compress(c, x, a), x)
        check_linear_read(lambda x, c=condition, a=axis: x.compress(c, a), x)
    mask = x > 0
    check_linear_read(lambda x: np.extract(mask, x), x)
    gradient = ad.grad(lambda x: np.extract(x > 0, x).sum())(x)
    np.testing.assert_array_equal(gradient, mask)


def test_positions_of_nonzero_elements_are_numpys() -> None:
    x = np.array([[0.0, 1.0], [2.0, 0.0]])

    def f(x: Any) -> Any:
        rows, columns = np.nonzero(x)
        methods = x.nonzero()
        assert np.array_equal(rows, methods[0]) and np.array_equal(columns, methods[1])
        np.testing.assert_array_equal(np.argwhere(x > 0), [[0, 1], [1, 0]])
        np.testing.assert_array_equal(np.flatnonzero(x), [1, 2])
        np.testing.assert_array_equal(np.where(x > 1)[0], [1])
        return x[rows, columns].sum()

    np.testing.assert_array_equal(ad.grad(f)(x), [[0, 1], [1, 0]])


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_is_numpys(side: Any) -> None:
    ordered = np.array([0.0, 1.0, 1.0, 2.0, 5.0])
    values = np.array([[-1.0, 1.0, 1.5], [2.0, 5.0, np.nan]])
    expected = np.searchsorted(ordered, values, side)

    def f(a: Any, v: Any) -> Any:
        return np.searchsorted(a, v, side)

    np.testing.assert_array_equal(ad.jit(f)(ordered, values), expected)
    for axes in product((0, None), repeat=2):
        if axes == (None, None):
            continue
        operands = [
            np.stack([x, x + 1]) if axis == 0 else x
            for x, axis in zip((ordered, values), axes, strict=True)
        ]
        rows = [
            f(*(x[i] if axis == 0 else x for x, axis in zip(operands, axes, strict=True)))
            for i in range(2)
        ]
        np.testing.assert_array_equal(ad.vmap(f, axes)(*operands), rows)
    mixed = ad.jit(lambda a: np.searchsorted(a, 1.5, side))(np.array([1, 2]))
    assert mixed == 1
    order = np.array([1, 0, 2])
    found = ad.jit(lambda a: np.searchsorted(a, 2.0, side, sorter=order))(np.array([2.0, 1.0, 3.0]))
    assert found == np.searchsorted(np.array([2.0, 1.0, 3.0]), 2.0, side, sorter=order)


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_choose_is_numpys(mode: Any) -> None:
    which = np.array([[0, 2, 1], [1, 0, 2]])
    which = which if mode == "raise" else which * 3 - 2
    choices = [RNG.normal(size=(2, 3)), np.float32(4.0), np.arange(3)]
    expected = np.choose(which, choices, mode=mode)
    out, pull = ad.vjp(lambda x: np.choose(which, [x, *choices[1:]], mode=mode), choices[0])
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == expected.dtype
    chosen = np.choose(which, [np.ones((2, 3)), 0, 0], mode=mode)
    np.testing.assert_array_equal(pull(np.ones((2, 3)))[0], chosen)
    traced = ad.jit(lambda w: w.choose(choices, mode=mode))(which)
    np.testing.assert_array_equal(traced, expected)
