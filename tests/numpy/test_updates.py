"""x.at[index], assignment, masks and views of traced values, against NumPy's and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.numpy.indexing import at

# ----------------------------------------------------------------------------------------- modes


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


def test_writes_into_a_read_show_in_the_array_where_numpy_makes_a_view() -> None:
    def through_view(x: Any) -> Any:
        y = x * 1
        part = y[1:]
        part += 1
        part *= 2
        return (y * y).sum()

    np.testing.assert_array_equal(ad.grad(through_view)(np.arange(3.0)), [0, 16, 24])

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
