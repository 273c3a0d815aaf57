"""Writing into traced values: NumPy's result on a copy of the argument, or an error, never less."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def add_in_place(x):
    x += 2.0 * x
    return x


def all_operators(x):
    x -= 1.0
    x *= x
    x /= 3.0
    x **= 2
    return np.sin(x)


def set_row(x):
    x[0] = x[1] * 2.0
    return x * x


def set_element(x):
    x[1, 2] = np.sin(x[0, 0])
    return x**2


def set_slice_and_step(x):
    x[:, ::2] = 3.0 * x[:, ::2]
    return x * x


def set_by_mask(x):
    x[x < 0] = 0.0
    return x**2


def set_by_indices(x):
    x[[0, 1], [1, 0]] = np.array([5.0, 7.0]) * x[0, 0]
    return x * x


def add_to_element(x):
    x[0, 1] += x[1, 1] ** 2
    return x * x


def update_after_use(x):
    y = x * x
    x[0] = 0.0
    return y + x


def update_a_result(x):
    y = x * 1.0
    y[:, 0] = 10.0
    y += x
    return y * x


def through_out(x):
    y = np.zeros_like(x)
    np.multiply(x, x, out=y)
    return y + x


def loop_of_updates(x):
    for i in range(2):
        for j in range(1, 3):
            x[i, j] += 0.5 * x[i, j - 1]
    return x


FUNCTIONS = [
    add_in_place,
    all_operators,
    set_row,
    set_element,
    set_slice_and_step,
    set_by_mask,
    set_by_indices,
    add_to_element,
    update_after_use,
    update_a_result,
    through_out,
    loop_of_updates,
]
by_function = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)


def plain(f, x):
    return f(x.copy())


def directional(f, x, t):
    h = 1e-3

    def central(h):
        return (plain(f, x + h * t) - plain(f, x - h * t)) / (2 * h)

    return (4 * central(h / 2) - central(h)) / 3


@by_function
def test_the_value_is_numpys_and_the_argument_is_left_alone(f):
    x, expected = X.copy(), plain(f, X)
    np.testing.assert_allclose(ad.jit(f)(x), expected, rtol=1e-14)
    np.testing.assert_allclose(ad.vjp(f, x)[0], expected, rtol=1e-14)
    batch = np.stack([X, -X])
    mapped = ad.vmap(f)(batch)
    np.testing.assert_allclose(mapped, np.stack([plain(f, X), plain(f, -X)]), rtol=1e-14)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(batch, np.stack([X, -X]))


@by_function
def test_the_derivative_is_that_of_numpys_result(f):
    x, t = X.copy(), np.cos(np.arange(6.0)).reshape(2, 3)
    expected = directional(f, X, t)
    np.testing.assert_allclose(ad.jvp(f, (x,), (t,))[1], expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ad.linearize(f, x)[1](t), expected, rtol=1e-8, atol=1e-9)
    ct = np.sin(1.0 + np.arange(6.0)).reshape(2, 3)
    (pulled,) = ad.vjp(f, x)[1](ct)
    np.testing.assert_allclose(np.sum(pulled * t), np.sum(ct * expected), rtol=1e-8)
    np.testing.assert_array_equal(x, X)


def test_python_sees_the_value_after_the_write():
    seen = []

    def f(x):
        x[0] = 5.0
        seen.append(float(x[0]))
        if x[0] > 1.0:
            x *= 2.0
        return np.sum(x)

    np.testing.assert_array_equal(ad.grad(f)(np.array([1.0, 2.0])), [0.0, 2.0])
    assert seen == [5.0]


def test_an_outer_traced_value_written_inside_an_inner_trace_is_refused_or_right():
    def f(x):
        y = x * 1.0
        inner = ad.grad(lambda z: np.sum(y * z**2))(x)
        y[0] = 0.0
        return np.sum(inner * y)

    # sum over i > 0 of 2 x_i**2 * x_i, and 0 for the first
    np.testing.assert_allclose(ad.grad(f)(np.array([2.0, 3.0])), [0.0, 54.0])


def transformed(name, f):
    return {
        "jvp": lambda x: ad.jvp(f, (x,), (x,)),
        "vjp": lambda x: ad.vjp(f, x),
        "jit": ad.jit(f),
        "vmap": ad.vmap(f),
    }[name]


HAZARDS = {
    "a row while the array is used": lambda x: (x[0], x),
    "a transpose while the array is used": lambda x: (x.T, x),
    "a reshaped array while the array is used": lambda x: (x.reshape(-1), x),
    "an array while its row is used": lambda x: (x, x[0]),
    "a view of a view": lambda x: (x.T[0], x),
    "two overlapping views": lambda x: (x[0], x[:, 1]),
    "columns while the array is used": lambda x: (x[:, 1:], x),
    "the result of np.reshape": lambda x: (np.reshape(x, (3, 2)), x),
}


@pytest.mark.parametrize("hazard", HAZARDS)
@pytest.mark.parametrize("transformation", ["jvp", "vjp", "jit"])
def test_writing_where_a_view_would_change_too_is_right_or_refused(hazard, transformation):
    def f(x):
        y = x * 1.0
        target, other = HAZARDS[hazard](y)
        target += 1.0
        return other * 2.0

    try:
        found = transformed(transformation, f)(X)
    except ValueError as error:
        assert "must not share memory with another traced value in use" in str(error)
    else:
        np.testing.assert_array_equal(found if transformation == "jit" else found[0], f(X))


@pytest.mark.parametrize("transformation", ["jvp", "vjp", "jit"])
def test_writing_into_an_array_of_which_a_row_is_kept_is_refused(transformation):
    def f(x):
        y = x * 1.0
        row = y[0]
        y += 1.0
        return row

    with pytest.raises(ValueError, match="must not share memory with another traced value in use"):
        transformed(transformation, f)(X)


def test_writing_into_a_row_writes_into_the_array():
    def f(x):
        y = x * 1.0
        row = y[0]
        row *= row
        return np.sum(y)

    np.testing.assert_array_equal(ad.grad(f)(X), np.stack([2 * X[0], np.ones(3)]))
    np.testing.assert_array_equal(ad.jit(ad.grad(f))(X), np.stack([2 * X[0], np.ones(3)]))


def test_a_view_that_is_gone_is_no_hazard():
    def f(x):
        y = x * 1.0
        total = np.sum(y[0])
        y[0] = 0.0
        return np.sum(y) * total

    # (sum of row 0) * (sum of row 1)
    x = np.array([[0.25, 0.5, 0.75], [0.5, 0.25, 0.25]])
    np.testing.assert_allclose(ad.grad(f)(x), [[1.0] * 3, [1.5] * 3])


def test_a_copy_may_be_written_into():
    def f(x):
        row = x[0].copy()
        row[:] = 0.0
        return np.sum(x**2) + np.sum(row)

    np.testing.assert_array_equal(ad.grad(f)(X), 2 * X)


@pytest.mark.parametrize("transformation", ["jvp", "vjp", "jit", "vmap"])
def test_a_plain_array_cannot_take_a_traced_value(transformation):
    buffer = np.zeros(3)

    def assign(x):
        buffer[0] = x[0]
        return x

    def accumulate(x):
        y = buffer
        y += x
        return y

    def store(x):
        return np.add(x, x, out=buffer)

    for f in (assign, accumulate, store):
        # NumPy reports a TypeError of a conversion during assignment as a ValueError.
        with pytest.raises((TypeError, ValueError)) as caught:
            transformed(transformation, f)(np.ones((2, 3) if transformation == "vmap" else 3))
        error = caught.value.__cause__ or caught.value
        assert "a traced value cannot be written into a plain array" in str(error)
        np.testing.assert_array_equal(buffer, np.zeros(3))
