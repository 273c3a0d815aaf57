"""Indexing of traced values against NumPy's own, values, gradients and mapped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff.numpy.indexing import at


def numbered(shape: tuple[int, ...], dtype: Any = float) -> Any:
    return np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


# ------------------------------------------------------------------------------ index expressions


@st.composite
def slices(draw: Any) -> slice:
    bound = st.none() | st.integers(-6, 6)
    return slice(draw(bound), draw(bound), draw(st.none() | st.sampled_from([1, 2, 3, -1, -2, -5])))


@st.composite
def integer_arrays(draw: Any, size: int) -> Any:
    shape = draw(st.sampled_from([(), (1,), (2,), (2,), (0,), (2, 1), (1, 2), (3, 2)]))
    low, high = (-size, size - 1) if size else (0, 0)
    dtype = draw(st.sampled_from(["i1", "i4", "i8", "u1", "u8"]))
    low = max(low, 0) if dtype[0] == "u" else low
    count = int(np.prod(shape))
    values = draw(st.lists(st.integers(low, max(high, low)), min_size=count, max_size=count))
    array = np.array(values, dtype).reshape(shape)
    return array.tolist() if shape not in ((), (0,)) and draw(st.booleans()) else array


@st.composite
def expressions(draw: Any) -> tuple[tuple[int, ...], Any]:
    """Draw a shape and an index for arrays of it, mostly one that fits."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    parts: list[Any] = []
    axis = 0
    ellipsis = False
    while True:
        kinds = ["stop", "none"]
        if not ellipsis:
            kinds.append("ellipsis")
        if axis < len(shape):
            kinds += ["int", "slice", "slice", "array", "array", "mask", "numpy int"]
        if not parts or draw(st.integers(0, 9)) == 0:
            kinds.append("bool")
        kind = draw(st.sampled_from(kinds))
        if kind == "stop" or len(parts) > 5:
            break
        if kind == "none":
            parts.append(None)
        elif kind == "ellipsis":
            ellipsis = True
            parts.append(Ellipsis)
            left = len(shape) - axis
            axis += draw(st.integers(0, left))
        elif kind == "bool":
            parts.append(draw(st.sampled_from([True, False, np.True_])))
        elif kind == "int":
            parts.append(draw(st.integers(-shape[axis] - 1, shape[axis])))
            axis += 1
        elif kind == "numpy int":
            parts.append(np.int32(draw(st.integers(-shape[axis], max(shape[axis] - 1, 0)))))
            axis += 1
        elif kind == "slice":
            parts.append(draw(slices()))
            axis += 1
        elif kind == "array":
            parts.append(draw(integer_arrays(shape[axis])))
            axis += 1
        else:
            ndim = draw(st.integers(1, min(2, len(shape) - axis)))
            sizes = shape[axis : axis + ndim]
            count = int(np.prod(sizes))
            bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
            parts.append(np.array(bits, bool).reshape(sizes))
            axis += ndim
    if len(parts) == 1 and draw(st.booleans()):
        return shape, parts[0]
    return shape, tuple(parts)


@settings(max_examples=1500, deadline=None)
@example(((3, 4, 5), (0, slice(None), [1, 2])))
@example(((3, 4, 5), (slice(None), [1, 2], Ellipsis, [0, 1])))
@example(((3, 4), ([0, 1], Ellipsis, [0, 1])))
@example(((2, 3, 4), (slice(None), 1, [[0], [2]])))
@example(((2, 3, 4), (None, [0, 1], None, [0, 2])))
@example(((), (True, None)))
@example(((), ()))
@example(((0, 3), (slice(None), [0, 2])))
@example(((0, 1), (Ellipsis, np.zeros(0, bool))))
@example(((2, 2), ([5], [])))
@example(((2, 2), (5, [])))
@example(((4,), slice(None, None, -2)))
@example(((3,), [False, True, True]))
@example(((3,), (np.True_, [0, 1])))
@given(expressions())
def test_reading_is_as_of_arrays_and_its_transpose_adds_up(case: Any) -> None:
    shape, index = case
    x = numbered(shape)
    try:
        expected = np.asarray(x[index])
    except (IndexError, ValueError) as error:
        with pytest.raises(type(error)):
            ad.vjp(lambda x: x[index], x)
        return
    out, pull = ad.vjp(lambda x: x[index], x)
    assert isinstance(out, np.ndarray)
    np.testing.assert_array_equal(out, expected)
    assert out.shape == expected.shape
    assert out.dtype == expected.dtype
    ct = numbered(expected.shape) * 10
    sums = np.zeros(shape)
    np.add.at(sums, index, ct)
    (pulled,) = pull(ct)
    np.testing.assert_array_equal(pulled, sums)
    assert pulled.shape == shape


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_reading_is_the_same_inside_jit_and_mapped(case: Any) -> None:
    shape, index = case
    x = numbered(shape)
    try:
        expected = np.asarray(x[index])
    except (IndexError, ValueError):
        return
    xs = np.stack([x, -x, 2 * x])
    mapped = ad.vmap(lambda x: x[index])(xs)
    np.testing.assert_array_equal(mapped, np.stack([expected, -expected, 2 * expected]))
    np.testing.assert_array_equal(ad.jit(lambda x: x[index])(x), expected)


@settings(max_examples=500, deadline=None)
@given(expressions(), st.sampled_from(["set", "add", "multiply", "min", "max"]), st.booleans())
def test_writing_is_as_into_arrays(case: Any, kind: str, whole: bool) -> None:
    shape, index = case
    x = np.asarray(numbered(shape) - 5)
    try:
        selected = np.asarray(x[index])
    except (IndexError, ValueError) as error:
        with pytest.raises(type(error)):
            getattr(at(x)[index], kind)(1.0)
        return
    value = numbered(selected.shape) * 1.5 - 4 if whole else np.float64(1.5)
    expected = x.copy()
    if kind == "set":
        expected[index] = value
    else:
        ufunc = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}[kind]
        ufunc.at(expected, index, value)
    np.testing.assert_array_equal(getattr(at(x)[index], kind)(value), expected)
    out, pull = ad.vjp(lambda x, v: getattr(x.at[index], kind)(v), x, value)
    np.testing.assert_array_equal(out, expected)
    if kind == "set" and whole:
        source = np.full(shape, -1)
        source[index] = np.arange(selected.size).reshape(selected.shape)
        ct = numbered(shape)
        winners = np.zeros(selected.size)
        winners[source[source >= 0]] = ct[source >= 0]
        x_ct, value_ct = pull(ct)
        np.testing.assert_array_equal(x_ct, np.where(source < 0, ct, 0))
        np.testing.assert_array_equal(value_ct, winners.reshape(selected.shape))


@settings(max_examples=200, deadline=None)
@given(expressions())
def test_assignment_is_numpys(case: Any) -> None:
    shape, index = case
    x = numbered(shape, np.int32)
    try:
        selected = np.asarray(x[index])
    except (IndexError, ValueError):
        return
    value = numbered(selected.shape) + 0.75

    def assigned(x: Any, v: Any) -> Any:
        y = x * 1
        y[index] = v
        return y

    expected = x.copy()
    expected[index] = value
    out = ad.jit(assigned)(x, value)
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == np.int32


# ------------------------------------------------------------------------------- what is traced


TRACED = [
    ((5,), lambda x, i: x[i], np.array([0, -1, 4, -5])),
    ((5, 3), lambda x, i: x[:, i], np.array([[0], [-2]])),
    ((5, 3), lambda x, i: x[i, 1], np.array([0, -1])),
    ((4, 3, 2), lambda x, i: x[1, :, i], np.array([0, -1, 1])),
    ((4, 3, 2), lambda x, i: x[i, ::-1, [0, 1, 0]], np.array([0, -1, 1])),
    ((4, 3), lambda x, i: x[i], np.array(2)),
    ((4, 3), lambda x, i: x[..., i], np.array(-1)),
    ((4, 3), lambda x, i: x[i, :, None], np.array(-4)),
    ((4, 3), lambda x, i: x[i, [0, 2]], np.array(-4)),
    ((4, 3), lambda x, i: x[[i, 0]], np.array(3)),
    ((4, 3), lambda x, i: x[[i, i + 1], [[0], [1]]], np.array(-2)),
]


@pytest.mark.parametrize("index_dtype", ["i1", "i4", "i8", "u1", "u8"])
@pytest.mark.parametrize("number", range(len(TRACED)))
def test_traced_indices_read_as_known_ones(number: int, index_dtype: str) -> None:
    shape, f, index = TRACED[number]
    if number >= 9:  # a list of a uint64 and an integer is no index in NumPy
        index_dtype = "i4" if index_dtype == "u8" else index_dtype
    index = np.abs(index) % 2 if index_dtype[0] == "u" else index
    index = np.asarray(index, index_dtype)
    x = numbered(shape)
    expected = f(x, index)
    for traced in (ad.jit(f), lambda x, i: ad.vjp(lambda x: f(x, i), x)[0]):
        np.testing.assert_array_equal(traced(x, index), expected)
    out, pull = ad.vjp(f, x, index)
    np.testing.assert_array_equal(out, expected)
    ct = numbered(out.shape)
    expected_ct = ad.vjp(lambda x: f(x, index), x)[1](ct)[0]
    np.testing.assert_array_equal(pull(ct)[0], expected_ct)
    indices = np.stack([index, index * 0, index])
    mapped = ad.vmap(f, (None, 0))(x, indices)
    np.testing.assert_array_equal(mapped, [f(x, i) for i in indices])
    xs = np.stack([x, -x, 2 * x])
    np.testing.assert_array_equal(
        ad.vmap(f)(xs, indices), [f(x, i) for x, i in zip(xs, indices, strict=True)]
    )


def test_traced_indices_out_of_range_read_nan_and_write_nothing() -> None:
    x = np.arange(3.0)
    index = np.array([-4, -3, 2, 3])
    read = ad.jit(lambda x, i: x[i])(x, index)
    np.testing.assert_array_equal(read, [np.nan, 0, 2, np.nan])
    written = ad.jit(lambda x, i: x.at[i].set(9.0))(x, index)
    np.testing.assert_array_equal(written, [9, 1, 9])
    gradient = ad.grad(lambda x: ad.jit(lambda x, i: x[i])(x, index)[1:3].sum())(x)
    np.testing.assert_array_equal(gradient, [1, 0, 1])


@pytest.mark.parametrize(
    ("dtype", "fill"), [("i4", -(2**31)), ("u2", 2**16 - 1), ("?", True), ("f4", np.nan)]
)
def test_reads_outside_give_the_types_fill(dtype: str, fill: Any) -> None:
    out = ad.jit(lambda x, i: x[i])(np.zeros(2, dtype), np.array([5]))
    np.testing.assert_array_equal(out, np.array([fill], dtype))
    assert out.dtype == np.dtype(dtype)


def test_python_code_on_values_indexes_with_what_is_traced() -> None:
    table = np.array([1.0, 10.0, 100.0])

    def f(x: Any) -> Any:
        which = (x > 0).sum()
        return x[which] * table[int(which)]

    x = np.array([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(ad.grad(f)(x), [0.0, 0.0, 100.0])


@settings(max_examples=400, deadline=None)
@given(expressions())
def test_any_expression_may_have_traced_arrays_in_it(case: Any) -> None:
    shape, index = case
    x = numbered(shape)
    try:
        expected = np.asarray(x[index])
    except (IndexError, ValueError):
        return
    parts = index if isinstance(index, tuple) else (index,)
    traced = [
        isinstance(part, np.integer)
        or (isinstance(part, int) and not isinstance(part, bool))
        or (isinstance(part, np.ndarray) and part.dtype != bool)
        for part in parts
    ]
    arrays = [np.asarray(part) for part, flag in zip(parts, traced, strict=True) if flag]

    def read(x: Any, *arrays: Any) -> Any:
        given = iter(arrays)
        return x[tuple(next(given) if t else part for part, t in zip(parts, traced, strict=True))]

    np.testing.assert_array_equal(ad.jit(read)(x, *arrays), expected)
    ct = numbered(expected.shape)
    sums = np.zeros(shape)
    np.add.at(sums, index, ct)
    np.testing.assert_array_equal(ad.vjp(read, x, *arrays)[1](ct)[0], sums)

    def write(x: Any, v: Any, *arrays: Any) -> Any:
        given = iter(arrays)
        where = tuple(next(given) if t else part for part, t in zip(parts, traced, strict=True))
        return x.at[where].set(v)

    written = x.copy()
    written[index] = -ct
    np.testing.assert_array_equal(ad.jit(write)(x, -ct, *arrays), written)
    if arrays:
        axes = (None, *[0] * len(arrays))
        mapped = ad.vmap(read, axes)(x, *[np.stack([a, a]) for a in arrays])
        np.testing.assert_array_equal(mapped, [expected, expected])
