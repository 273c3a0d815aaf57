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


@pytest.mark.parametrize(
    ("mode", "read", "written"),
    [
        ("fill", [7.0, 30.0, 10.0, 7.0], [1.0, 20.0, 1.0]),
        ("drop", [7.0, 30.0, 10.0, 7.0], [1.0, 20.0, 1.0]),
        ("clip", [10.0, 30.0, 10.0, 30.0], [1.0, 20.0, 1.0]),
        ("wrap", [30.0, 30.0, 10.0, 10.0], [1.0, 20.0, 1.0]),
    ],
)
def test_modes_say_what_an_index_out_of_range_does(mode: str, read: Any, written: Any) -> None:
    x = np.array([10.0, 20.0, 30.0])
    index = np.array([-4, -1, 0, 3])

    def f(x: Any, i: Any) -> Any:
        elements = at(x)[i]
        return elements.get(mode=mode, fill_value=7.0), elements.set(1.0, mode=mode)

    for got in (f(x, index), ad.jit(f)(x, index), ad.jit(lambda x: f(x, index))(x)):
        np.testing.assert_array_equal(got[0], read)
        np.testing.assert_array_equal(got[1], written)
    assert at(x)[5].get(mode="clip") == 30.0
    np.testing.assert_array_equal(at(x)[5].set(0.0, mode="drop"), x)
    assert np.isnan(at(x)[5].get(mode="fill"))


def test_python_code_on_values_indexes_with_what_is_traced() -> None:
    table = np.array([1.0, 10.0, 100.0])

    def f(x: Any) -> Any:
        which = (x > 0).sum()
        return x[which] * table[int(which)]

    x = np.array([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(ad.grad(f)(x), [0.0, 0.0, 100.0])


# ----------------------------------------------------------------------------------------- masks


def test_a_mask_that_has_a_value_selects() -> None:
    x = np.array([1.0, -2.0, 3.0])

    def f(x: Any) -> Any:
        return (x[x > 0] ** 2).sum()

    np.testing.assert_array_equal(ad.grad(f)(x), [2.0, 0.0, 6.0])
    out, pull = ad.vjp(lambda x: x.reshape(3, 1)[x > 0, 0], x)
    np.testing.assert_array_equal(out, [1.0, 3.0])
    np.testing.assert_array_equal(pull(np.ones(2))[0], [1.0, 0.0, 1.0])


@pytest.mark.parametrize("kind", ["set", "add", "multiply", "min", "max", "divide", "power"])
def test_writes_by_a_traced_mask_need_no_value(kind: str) -> None:
    x = np.array([[1.0, -2.0, 3.0], [-1.0, 0.0, 2.0]])

    def f(x: Any, v: Any) -> Any:
        return getattr(at(x)[x > 0.5], kind)(v)

    selected = x > 0.5
    operation = {
        "set": lambda a, b: b,
        "add": np.add,
        "multiply": np.multiply,
        "min": np.minimum,
        "max": np.maximum,
        "divide": np.divide,
        "power": np.power,
    }[kind]
    expected = x.copy()
    expected[selected] = operation(x[selected], 3.0)
    for g in (f, ad.jit(f)):
        np.testing.assert_array_equal(g(x, 3.0), expected)
    mapped = ad.vmap(f, (0, None))(x, 3.0)
    np.testing.assert_array_equal(mapped, expected)
    rows = np.array([True, False])
    by_row = ad.jit(lambda x, m: getattr(x.at[m], kind)([1.0, 2.0, 3.0]))(x, rows)
    expected = x.copy()
    expected[0] = operation(x[0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(by_row, expected)


def test_assignment_by_mask_inside_jit() -> None:
    def relu(x: Any) -> Any:
        y = x.copy()
        y[y < 0] = 0
        return y

    x = np.array([1.0, -2.0, 3.0, -0.5])
    np.testing.assert_array_equal(ad.jit(relu)(x), [1, 0, 3, 0])
    np.testing.assert_array_equal(ad.grad(lambda x: relu(x).sum())(x), [1, 0, 1, 0])


def test_what_a_mask_leaves_alone_does_not_spoil_the_derivative() -> None:
    x = np.array([0.0, 4.0])
    gradient = ad.grad(lambda x: x.at[x > 0].apply(np.sqrt).sum())(x)
    np.testing.assert_array_equal(gradient, [1.0, 0.25])
    gradient = ad.grad(lambda x, v: x.at[np.array([False, True])].divide(v).sum(), (0, 1))
    np.testing.assert_array_equal(gradient(x, 2.0)[0], [1.0, 0.5])


def test_values_per_selected_element_are_written_by_a_known_mask() -> None:
    x = np.arange(4.0)
    mask = np.array([True, False, True, False])
    out, pull = ad.vjp(lambda x, v: x.at[mask].set(v), x, np.array([10.0, 20.0]))
    np.testing.assert_array_equal(out, [10, 1, 20, 3])
    x_ct, value_ct = pull(np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(x_ct, [0, 2, 0, 4])
    np.testing.assert_array_equal(value_ct, [1, 3])


# ------------------------------------------------------------------------------------ more of .at


def test_repeated_elements_are_divided_and_raised_by_every_value() -> None:
    x = np.array([8.0, 3.0])
    index = np.array([0, 0, 1])
    values = np.array([2.0, 4.0, 3.0])
    np.testing.assert_array_equal(at(x)[index].divide(values), [1.0, 1.0])
    np.testing.assert_array_equal(at(x)[index].power(np.array([2, 1, 3])), [64.0, 27.0])
    np.testing.assert_array_equal(at(x)[index].subtract(values), [2.0, 0.0])
    np.testing.assert_array_equal(at(x)[0:1].divide(2), [4.0, 3.0])
    np.testing.assert_array_equal(at(x)[1].power(2), [8.0, 9.0])
    gradient = ad.grad(lambda v: at(x)[index].divide(v).sum())(values)
    np.testing.assert_allclose(gradient, [-1 / 2, -1 / 4, -1 / 3], rtol=1e-15)


def test_plain_arrays_stay_as_they_are_and_results_are_new() -> None:
    x = np.arange(3.0)
    kept = x.copy()
    for result in (
        at(x)[0].set(5.0),
        at(x)[:].set(0.0),
        at(x)[[0, 0]].add(1.0),
        at(x)[x > 0].multiply(2.0),
        at(x)[:].get(),
        at(x)[1:].get(),
        at(x)[...].get(),
    ):
        assert isinstance(result, np.ndarray)
        assert result.flags.writeable
        result[...] = -1
        np.testing.assert_array_equal(x, kept)
    assert isinstance(at(x)[0].get(), np.ndarray)
    np.testing.assert_array_equal(at([1, 2])[0].set(7), [7, 2])


def test_traced_values_are_written_into_plain_arrays() -> None:
    table = np.zeros(3)
    out, moved = ad.jvp(lambda v: at(table)[1].set(v) * 2, (4.0,), (1.0,))
    np.testing.assert_array_equal(out, [0, 8, 0])
    np.testing.assert_array_equal(moved, [0, 2, 0])
    looked_up = ad.jit(lambda i: at(np.array([5.0, 6.0]))[i].get())(1)
    assert looked_up == 6.0


def test_values_are_converted_as_numpy_converts_them() -> None:
    assert at(np.zeros(2, np.int8))[0].set(2.9).dtype == np.int8
    assert at(np.zeros(2, np.float32))[0].set(np.float64(0.1))[0] == np.float32(0.1)
    assert at(np.zeros(2, np.float32))[0].add(np.float64(0.1))[0] == np.float32(0.1)
    assert at(np.zeros(2, bool))[0].set(3)[0]
    assert at(np.zeros(2, complex))[0].add(1j)[0] == 1j
    with pytest.raises(OverflowError):
        at(np.zeros(2, np.uint8))[0].set(300)


def test_minus_zero_and_nan_beside_the_written_elements_stay_bit_for_bit() -> None:
    x = np.array([-0.0, np.nan, 1.0])
    for result in (
        at(x)[2:].add(1.0),
        at(x)[[2]].add(1.0),
        at(x)[2].multiply(3.0),
        at(x)[x == 1].add(1.0),
        at(x)[[2]].divide(3.0),
    ):
        assert result[:2].tobytes() == x[:2].tobytes()


def test_gradients_of_updates_are_those_of_differences() -> None:
    x = np.array([0.7, 1.9, 3.1, 4.3])
    v = np.array([1.3, 2.7, 0.4])
    index = np.array([3, 1, 3])
    for kind in ("set", "add", "subtract", "multiply", "divide", "min", "max", "power"):
        for where in (index, slice(1, None), slice(None, None, -2), (None, index)):
            count = x[where].size
            value = v if count == 3 else v[:count]

            def f(x: Any, v: Any, kind: str = kind, where: Any = where) -> Any:
                return (getattr(at(x)[where], kind)(v) ** 2).sum()

            gradients = ad.grad(f, (0, 1))(x, value)
            for i, argument in enumerate((x, value)):
                for place in range(argument.size):
                    step = np.zeros_like(argument)
                    step[place] = 1e-6
                    ahead, behind = (
                        f(*[a + s * step if j == i else a for j, a in enumerate((x, value))])
                        for s in (1, -1)
                    )
                    difference = (ahead - behind) / 2e-6
                    np.testing.assert_allclose(
                        gradients[i][place], difference, rtol=1e-6, atol=1e-6, err_msg=kind
                    )


# ------------------------------------------------------------------------------------------ views


def test_reads_that_are_views_may_not_be_written_to_while_the_array_is_in_use() -> None:
    def through_view(x: Any) -> Any:
        y = x * 1
        part = y[1:]
        part += 1
        return y.sum()

    with pytest.raises(ValueError, match="must not share memory"):
        ad.grad(through_view)(np.arange(3.0))

    def through_copy(x: Any) -> Any:
        y = x * 1
        part = y[[1, 2]]
        part += 1
        return (part * y[1:]).sum()

    np.testing.assert_array_equal(ad.grad(through_copy)(np.arange(3.0)), [0, 3, 5])


def test_assignment_of_elements_one_by_one() -> None:
    def f(x: Any) -> Any:
        y = np.zeros_like(x)
        y[0] = x[0]
        for i in range(1, 4):
            y[i] = y[i - 1] * x[i]
            y[i] += 1
        return y[-1]

    x = np.array([2.0, 3.0, 4.0, 5.0])
    np.testing.assert_array_equal(ad.grad(f)(x), [60.0, 40.0, 35.0, 29.0])


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
