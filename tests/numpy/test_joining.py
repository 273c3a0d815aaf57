"""Joining, splitting, repeating and padding arrays against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from tests.numpy.traced_and_plain import (
    check_derivatives,
    check_function,
    check_method,
    check_values,
    layouts,
    sample,
)

X = sample((2, 3), "f4")
Y = sample((2, 3), "f8", seed=1)
INTEGERS = sample((2, 3), "i4")


@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize("other", [X, Y, INTEGERS, X > 0, X[:, ::-1], X * 1j])
def test_concatenate_is_numpys(other: Any, axis: Any) -> None:
    check_values(lambda m, x, y: m.concatenate([x, y, x], axis=axis), X, other)
    check_values(lambda m, x: m.concatenate((x, np.ones((2, 3))), axis), other)
    check_values(lambda m, x, y: m.concat([x, y[:0], y], axis=0), X, other)


def test_concatenate_takes_the_first_axis_of_an_array() -> None:
    check_values(lambda m, x: m.concatenate(x), sample((2, 3, 4), "f8"))
    check_values(lambda m, x: m.stack(x, 1), sample((2, 3, 4), "f8"))
    check_values(lambda m, x: m.concatenate([x], dtype="f8"), X)
    check_values(lambda m, x: m.concatenate([x, [1, 2, 3]]), X[0])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_stack_is_numpys(axis: int) -> None:
    check_values(lambda m, x, y: m.stack([x, y], axis), X, Y)
    check_values(lambda m, x: m.stack([x], axis=axis), INTEGERS)


def test_stack_of_numbers_is_numpys() -> None:
    check_values(lambda m, x: m.stack([x[0, 0], 1.0, x.sum()]), Y)
    np.testing.assert_array_equal(ad.grad(lambda x: np.stack([x, 2 * x]).sum())(1.0), 3.0)


@pytest.mark.parametrize("name", ["vstack", "hstack", "dstack", "column_stack"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4)])
def test_stacks_are_numpys(name: str, shape: Any) -> None:
    if name == "column_stack" and not shape:
        shape = (1,)
    x, y = sample(shape, "f8"), sample(shape, "i4")
    check_values(lambda m, x, y: getattr(m, name)([x, y]), x, y)
    check_values(lambda m, x, y: getattr(m, name)((x, y, x)), y, x)


def test_block_is_numpys() -> None:
    check_values(lambda m, x, y: m.block([[x, y], [y, x]]), X, Y)
    check_values(lambda m, x, y: m.block([x, y]), X, Y)
    check_values(lambda m, x: m.block([[x, np.ones((2, 1))], [np.zeros((1, 4))]]), X)
    check_values(lambda m, x: m.block([x, 2.0, x]), X[0])
    check_values(lambda m, x: m.block(x), X)


def test_append_is_numpys() -> None:
    check_values(lambda m, x: m.append(x, [1.0, 2.0]), X)
    check_values(lambda m, x, y: m.append(x, y, axis=1), X, Y)


# ---------------------------------------------------------------------------------------- splitting


@pytest.mark.parametrize("name", ["split", "array_split"])
@pytest.mark.parametrize("sections", [1, 3, [2, 4], [0, 4, 3], [-2, 9], np.array([1]), []])
def test_splits_are_numpys(name: str, sections: Any) -> None:
    for x in layouts(sample((6, 3), "f8")):
        check_values(lambda m, x: getattr(m, name)(x, sections), x)
    check_values(lambda m, x: getattr(m, name)(x, sections, axis=-1), sample((2, 6), "i4"))


def test_uneven_splits_are_numpys() -> None:
    for count in (1, 2, 4, 7):
        check_function("array_split", sample((5,), "f8"), indices_or_sections=count)
    x = sample((2, 4, 6), "f8")
    check_function("hsplit", x, indices_or_sections=2)
    check_function("hsplit", x[0, 0], indices_or_sections=3)
    check_function("vsplit", x, indices_or_sections=2)
    check_function("dsplit", x, indices_or_sections=[1, 3])
    for axis in (0, 1, -1):
        check_function("unstack", x, axis=axis)


# ---------------------------------------------------------------------------------------- repeating


@pytest.mark.parametrize("reps", [1, 3, 0, (2, 1), (1, 3), (2, 2, 2), (2,), ()])
def test_tile_is_numpys(reps: Any) -> None:
    for x in (X, sample((), "f8"), sample((0, 2), "i4")):
        check_function("tile", x, reps=reps)


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_repeat_is_numpys(axis: Any) -> None:
    for repeats in (0, 1, 3, [2]):
        check_function("repeat", X, repeats=repeats, axis=axis)
        check_method("repeat", X, repeats, axis=axis)
    size = X.size if axis is None else X.shape[axis]
    check_function("repeat", X, repeats=np.arange(size), axis=axis)
    check_function("repeat", sample((), "f8"), repeats=3)


@pytest.mark.parametrize("shape", [(), 4, (3, 5), (0, 2), (2, 3)])
def test_resize_is_numpys(shape: Any) -> None:
    check_function("resize", X, new_shape=shape)


# ------------------------------------------------------------------------------------------ padding


WIDTHS = [0, 1, (1, 2), ((0, 2), (3, 0)), ((1,), (2,)), {1: 2}, {0: (1, 0), -1: 4}]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "mode",
    ["constant", "edge", "reflect", "symmetric", "wrap", "maximum", "minimum", "linear_ramp"],
)
def test_pad_is_numpys(mode: str, width: Any) -> None:
    for x in (X, INTEGERS, X[:, ::-1]):
        # A ramp is computed by two products whose order is free.
        ulps = 4 if mode == "linear_ramp" else 0
        check_function("pad", x, pad_width=width, mode=mode, ulps=ulps)


@pytest.mark.parametrize("width", WIDTHS)
def test_pad_by_means_and_reflected_differences_is_numpys(width: Any) -> None:
    check_function("pad", Y, pad_width=width, mode="mean", ulps=4)
    check_function("pad", INTEGERS, pad_width=width, mode="mean")
    check_function("pad", Y, pad_width=width, mode="mean", stat_length=(1, 2), ulps=4)
    for mode in ("reflect", "symmetric"):
        check_function("pad", Y, pad_width=width, mode=mode, reflect_type="odd", ulps=16)
        check_function("pad", INTEGERS, pad_width=width, mode=mode, reflect_type="odd")


def test_pad_by_given_values_is_numpys() -> None:
    for values in (2.5, (1, 2), ((1, 2), (3, 4))):
        check_function("pad", X, pad_width=2, constant_values=values)
        check_function("pad", Y, pad_width=2, mode="linear_ramp", end_values=values, ulps=4)
    check_function("pad", X, pad_width=1, mode="maximum", stat_length=2)
    check_function("pad", sample((0,), "f8"), pad_width=2)
    np.testing.assert_array_equal(
        ad.grad(lambda x: np.pad(x, 1, constant_values=x[0]).sum())(np.ones(2)), [3, 1]
    )
    np.testing.assert_array_equal(
        np.signbit(ad.jit(lambda x: np.pad(x, 1, constant_values=-0.0))(X[0])),
        [True, *np.signbit(X[0]), True],
    )


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "constant"},
        {"mode": "constant", "constant_values": 2.0},
        {"mode": "edge"},
        {"mode": "reflect"},
        {"mode": "reflect", "reflect_type": "odd"},
        {"mode": "symmetric"},
        {"mode": "wrap"},
        {"mode": "mean"},
        {"mode": "maximum"},
        {"mode": "linear_ramp"},
    ],
)
def test_derivatives_of_pad(options: Any) -> None:
    check_derivatives(lambda x: np.pad(x, ((1, 2), (4, 0)), **options) ** 2, Y)


# ------------------------------------------------------------------------------- insert and delete


@pytest.mark.parametrize("places", [0, 2, -1, [0, 2], [1, 1], slice(0, 2), [], "mask"])
@pytest.mark.parametrize("axis", [None, 1])
def test_insert_and_delete_are_numpys(places: Any, axis: Any) -> None:
    if places == "mask":
        places = np.array([True, False, True] * (2 if axis is None else 1))
    check_values(lambda m, x: m.delete(x, places, axis), Y)
    check_values(lambda m, x: m.insert(x, places, 7.5, axis), Y)
    check_values(lambda m, x: m.insert(x, places, 7.5, axis), INTEGERS)


def test_insert_of_several_values_is_numpys() -> None:
    check_values(lambda m, x: m.insert(x, 1, x[0] * 2, axis=0), Y)
    check_values(lambda m, x: m.insert(x, 1, [1.0, 2.0], axis=1), Y)
    check_values(lambda m, x: m.insert(x, [1], [[1.0], [2.0]], axis=1), Y)
    check_values(lambda m, x: m.insert(x, [0, 3], [[1.0, 5.0], [2.0, 6.0]], axis=1), Y)
    check_values(lambda m, x: m.insert(x, [2, 2], x[0, :2]), Y)
    check_derivatives(lambda x: np.insert(x, [1, 2], x[:, :2], axis=1) ** 2, Y)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: np.concatenate([x, x[:, :2]]), "concatenate: the arrays' shapes must be equal"),
        (lambda x: np.concatenate([x, x[0]]), "concatenate: the arrays' shapes must be equal"),
        (lambda x: np.concatenate([x, x], axis=2), "concatenate: the axis must be one of"),
        (lambda x: np.stack([x, x[0]]), "stack: the arrays must have one shape"),
        (lambda x: np.split(x, 2, axis=1), "split: the number of pieces must be positive and"),
        (lambda x: np.array_split(x, 0), "array_split: the number of pieces must be positive"),
        (lambda x: np.pad(x, -1), "pad: pad_width must not be negative"),
        (lambda x: np.pad(x, 1, mode="median"), "pad: on traced values mode must be one of"),
        (lambda x: np.pad(x, 1, mode="edge", end_values=1), "pad: on traced values mode must be"),
    ],
)
def test_bad_arguments_are_named(function: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ad.jit(function)(np.ones((2, 3)))


def test_casting_is_checked() -> None:
    with pytest.raises(TypeError, match="concatenate: the arrays must be castable to dtype=int32"):
        ad.jit(lambda x: np.concatenate([x], dtype="i4"))(X)
