"""Writes into traced arrays, as NumPy would do them on a copy of the argument."""

import numpy as np
import pytest

import autodiff as ad


def _augmented(y, x):
    y[1:] += 1
    y[0] += x[1]
    y[::2] *= 3
    return y


def _rows(y, x):
    z = y.reshape(3, 1) * np.ones((3, 2))
    z[0] += x[:2]
    z[:, 1] *= 2
    z[1:][:, 0]
    return z


def _whole(y, x):
    y += x
    y[...] -= 1
    return y


@pytest.mark.parametrize("program", [_augmented, _rows, _whole])
def test_augmented_assignments_to_parts_are_those_of_numpy(program):
    x = np.array([1.0, 2.0, 3.0])
    expected = program(x.copy(), x)

    def total(x):
        return np.sum(program(x * 1.0, x) ** 2)

    value, gradient = ad.value_and_grad(total)(x)
    np.testing.assert_allclose(value, np.sum(expected**2))
    for i, step in enumerate(np.eye(3) * 1e-6):
        difference = (
            np.sum(program(x + step, x + step) ** 2) - np.sum(program(x - step, x - step) ** 2)
        ) / 2e-6
        np.testing.assert_allclose(gradient[i], difference, rtol=1e-6)
    np.testing.assert_array_equal(x, [1, 2, 3])


def test_a_write_through_a_view_is_seen_by_the_array_and_refused_beside_other_views():
    def through(x):
        y = x * 1.0
        part = y[1:]
        part += 1
        del part
        return np.sum(y)

    assert ad.value_and_grad(through)(np.ones(3))[0] == 5.0

    def beside(x):
        y = x * 1.0
        part, other = y[1:], y[:2]
        part += 1
        return np.sum(y) + np.sum(other)

    with pytest.raises(ValueError, match="in-place operation: the array must not share memory"):
        ad.grad(beside)(np.ones(3))


def test_a_view_made_by_reshaping_is_not_written_through():
    def reshaped(x):
        y = x * 1.0
        flat = y.reshape(3)
        flat += 1
        return np.sum(y) + np.sum(flat)

    with pytest.raises(ValueError, match="share memory"):
        ad.grad(reshaped)(np.ones((1, 3)))


@pytest.mark.parametrize("augmented", [False, True])
def test_an_inner_transformation_cannot_write_into_an_outer_array(augmented):
    def outer(x):
        y = x * 1.0

        def inner(z):
            nonlocal y
            if augmented:
                y += z
            else:
                y[:] = z
            return z.sum()

        return ad.grad(inner)(x).sum() + y.sum()

    with pytest.raises(ValueError, match="cannot be written into an array from outside of it"):
        ad.grad(outer)(np.ones(3))
