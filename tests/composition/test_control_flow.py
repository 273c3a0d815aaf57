"""Python's own control flow on values: everywhere outside jit and vmap, inputs have them."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad


def branching(x):
    if x < 3:
        return 3.0 * x**2
    return -4.0 * x


def halving(x):
    while x > 1.0:
        x = x / 2.0
    return x**2


def raising(x):
    try:
        if float(x) < 0:
            raise ValueError("negative")
        return np.sqrt(x)
    except ValueError:
        return -x


def counting(x):
    total = 0.0
    for i in range(int(x)):
        total = total + x**i
    return total


def by_item(x):
    return x * 2.0 if np.sin(x).item() > 0 else x * 3.0


def truth_of_a_reduction(x):
    return x**2 if bool(np.any(np.array([1.0, -1.0]) * x > 1.5)) else x**3


def by_list(x):
    ascending = sorted(np.stack([x, 2.0 * x, -x]).tolist())
    return x * 2.0 if ascending[0] < -1.0 else x


CASES = [
    (branching, 2.0, 12.0),
    (branching, 4.0, -4.0),
    (halving, 5.0, 2 * 5.0 / 64),
    (raising, 4.0, 0.25),
    (raising, -4.0, -1.0),
    (counting, 3.5, 8.0),
    (by_item, 1.0, 2.0),
    (by_item, 4.0, 3.0),
    (truth_of_a_reduction, 2.0, 4.0),
    (truth_of_a_reduction, 1.0, 3.0),
    (by_list, 2.0, 2.0),
]
NAMED = [pytest.param(*case, id=f"{case[0].__name__}_at_{case[1]}") for case in CASES]


@pytest.mark.parametrize(("f", "x", "slope"), NAMED)
def test_every_derivative_follows_the_path_python_took(f, x, slope):
    expected = pytest.approx(slope, rel=1e-13)
    assert ad.grad(f)(x) == expected
    assert ad.jvp(f, (x,), (1.0,))[1] == expected
    assert ad.vjp(f, x)[1](1.0)[0] == expected
    assert ad.linearize(f, x)[1](1.0) == expected
    assert ad.jacfwd(f)(x) == expected
    assert ad.jacrev(f)(x) == expected


@pytest.mark.parametrize(("f", "x", "slope"), NAMED)
def test_values_are_known_at_every_level_of_nesting(f, x, slope):
    first, outer = [], []

    def inner(y):
        first.append(bool(y > 0))
        return f(y)

    def outside(y):
        outer.append(bool(y > 0))
        return y * ad.grad(inner)(y)

    h = 1e-6
    slopes = [float(ad.grad(f)(x + step)) for step in (h, -h)]
    expected = slope + x * (slopes[0] - slopes[1]) / (2 * h)
    assert ad.grad(outside)(x) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    assert ad.jvp(outside, (x,), (1.0,))[1] == pytest.approx(expected, rel=1e-8, abs=1e-8)
    assert first == outer == [x > 0, x > 0]


@pytest.mark.parametrize(("f", "x", "slope"), NAMED)
def test_inside_jit_and_vmap_python_cannot_ask(f, x, slope):
    for transformed in (ad.jit(f), ad.jit(ad.grad(f)), ad.grad(ad.jit(f))):
        with pytest.raises(ad.ConcretizationError):
            transformed(x)
    with pytest.raises(ad.ConcretizationError):
        ad.vmap(f)(np.array([x]))
    assert ad.grad(f)(x) == pytest.approx(slope, rel=1e-13)


def test_the_vjp_function_of_a_branching_function_can_be_jitted():
    value, pull = ad.vjp(branching, 2.0)
    assert (value, ad.jit(pull)(1.0)) == (12.0, (12.0,))


def test_values_that_do_not_depend_on_a_jitted_argument_are_known_inside_jit():
    @ad.jit
    def f(x):
        return ad.grad(branching)(2.0) * x

    assert f(3.0) == 36.0


def test_a_concrete_inner_gradient_inside_vmap_keeps_its_values():
    found = ad.vmap(lambda x: x * ad.grad(branching)(4.0))(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(found, [-4.0, -8.0])


def test_shapes_are_known_everywhere():
    def f(x):
        return np.sum(x) / len(x) if x.ndim == 1 and x.shape[0] > 2 else np.sum(x)

    x = np.arange(4.0)
    np.testing.assert_array_equal(ad.jit(ad.grad(f))(x), np.full(4, 0.25))
    np.testing.assert_array_equal(ad.vmap(ad.grad(f))(x.reshape(2, 2)), np.ones((2, 2)))


def test_printing_a_traced_value_neither_fails_nor_changes_the_result():
    texts = []

    def f(x):
        texts.extend([repr(x), f"{x}"])
        return x**2

    assert ad.grad(f)(3.0) == 6.0
    assert ad.jit(f)(3.0) == 9.0
    assert all("traced" in text for text in texts)


def test_formatting_with_a_format_needs_the_value():
    texts = []

    def f(x):
        texts.append(f"{x:.2f}")
        return x**2

    assert ad.grad(f)(3.0) == 6.0
    assert texts == ["3.00"]


def test_iterating_unpacks_rows():
    def f(x):
        a, b = x
        return a * b + sum(row for row in x)

    np.testing.assert_array_equal(ad.grad(f)(np.array([2.0, 5.0])), [6.0, 3.0])
    np.testing.assert_array_equal(ad.jit(ad.grad(f))(np.array([2.0, 5.0])), [6.0, 3.0])
