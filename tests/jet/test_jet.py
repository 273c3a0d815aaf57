"""jet against closed forms, under the other transformations, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from math import comb, factorial
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.api.trace import trace_function
from autodiff.ir.avals import type_of
from autodiff.passes.jet import jet as jet_pass
from tests.jet.curves import by_jet, nested

ORDER = 6
X = np.array([0.3, 0.9, 1.4])
LINE = [np.ones(3), *[np.zeros(3)] * (ORDER - 1)]


def along_a_line(function: Any, x: Any = X) -> np.ndarray:
    """Return the derivatives of orders 0 to 6 with respect to x itself."""
    out, terms = ad.jet(function, (x,), (LINE,))
    return np.stack([out, *terms])


def table(derivative: Any) -> np.ndarray:
    """Return `derivative(k, X)` for the same orders."""
    return np.stack([derivative(k, X) for k in range(ORDER + 1)])


# Closed forms -------------------------------------------------------------------------------------


def _tanh_derivatives() -> list[Any]:
    """Return the derivatives of tanh as polynomials in t = tanh x: p' = dp/dt (1 - t**2)."""
    found = [np.polynomial.Polynomial([0.0, 1.0])]
    for _ in range(ORDER):
        found.append(found[-1].deriv() * np.polynomial.Polynomial([1.0, 0.0, -1.0]))
    return found


CLOSED: dict[str, tuple[Any, Any]] = {
    "sin": (np.sin, lambda k, x: np.sin(x + k * np.pi / 2)),
    "exp": (np.exp, lambda k, x: np.exp(x)),
    "log": (
        np.log,
        lambda k, x: np.log(x) if k == 0 else (-1) ** (k - 1) * factorial(k - 1) / x**k,
    ),
    "tanh": (np.tanh, lambda k, x: _tanh_derivatives()[k](np.tanh(x))),
    "reciprocal": (lambda x: 1 / x, lambda k, x: (-1) ** k * factorial(k) / x ** (k + 1)),
    "fourth power": (
        lambda x: x**4,
        lambda k, x: (factorial(4) / factorial(4 - k) * x ** (4 - k)) if k <= 4 else 0 * x,
    ),
    "square root": (
        np.sqrt,
        lambda k, x: np.prod([0.5 - i for i in range(k)]) * x ** (0.5 - k),
    ),
    "real power": (
        lambda x: x**2.5,
        lambda k, x: np.prod([2.5 - i for i in range(k)]) * x ** (2.5 - k),
    ),
    "product": (
        lambda x: np.sin(x) * np.exp(2 * x),
        lambda k, x: sum(
            comb(k, j) * np.sin(x + j * np.pi / 2) * 2.0 ** (k - j) * np.exp(2 * x)
            for j in range(k + 1)
        ),
    ),
    "quotient": (
        lambda x: np.exp(x) / x,
        lambda k, x: sum(
            comb(k, j) * np.exp(x) * (-1) ** j * factorial(j) / x ** (j + 1) for j in range(k + 1)
        ),
    ),
    "cumulative sum": (
        lambda x: np.cumsum(np.exp(x)),
        lambda k, x: np.cumsum(np.exp(x)),
    ),
    "gather": (lambda x: np.exp(x)[np.array([2, 0, 0])], lambda k, x: np.exp(x)[[2, 0, 0]]),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_to_order_six(name):
    function, derivative = CLOSED[name]
    expected = table(derivative)
    # 1e-12: the recurrences of order 6 lose three of sixteen digits at most on these points
    np.testing.assert_allclose(along_a_line(function), expected, rtol=1e-12, atol=1e-12)


def test_a_matrix_product_of_two_curves_follows_leibniz():
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(ORDER + 1, *shape)) for shape in ((2, 3), (3, 4)))
    out, terms = ad.jet(np.matmul, (a[0], b[0]), (list(a[1:]), list(b[1:])))
    for k, found in enumerate([out, *terms]):
        expected = sum(comb(k, j) * a[j] @ b[k - j] for j in range(k + 1))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_product_along_a_line_has_symmetric_polynomials_as_derivatives():
    """prod(x + s v) = sum over k of s**k e_k(x; v), e_k by multiplying out (x_i + s v_i)."""
    x, v = np.array([0.5, 0.0, -1.5, 2.0]), np.array([1.0, -2.0, 0.5, 3.0])
    coefficients = np.ones(1)
    for a, b in zip(x, v, strict=True):
        coefficients = np.convolve(coefficients, [a, b])
    out, terms = ad.jet(np.prod, (x,), ([v, *[0 * v] * 4],))
    expected = [c * factorial(k) for k, c in enumerate([*coefficients, 0.0])]
    np.testing.assert_allclose([out, *terms], expected, rtol=1e-13, atol=1e-13)


def test_the_curve_may_bend():
    """exp along x(s) with derivatives a, b, c: Faa di Bruno's formula by hand."""
    x, (a, b, c) = 0.4, (0.7, -1.1, 2.0)
    out, terms = ad.jet(np.exp, (x,), ([a, b, c],))
    e = np.exp(x)
    np.testing.assert_allclose(out, e, rtol=1e-15)
    expected = [e * a, e * (b + a * a), e * (c + 3 * a * b + a**3)]
    np.testing.assert_allclose(terms, expected, rtol=1e-14)


def test_a_holomorphic_function_of_a_complex_curve():
    z, a, b = 0.3 + 0.5j, 1.0 - 2.0j, 0.5j
    _, terms = ad.jet(np.sin, (z,), ([a, b],))
    expected = [np.cos(z) * a, np.cos(z) * b - np.sin(z) * a * a]
    np.testing.assert_allclose(terms, expected, rtol=1e-14)


def test_the_squared_modulus_of_a_complex_curve():
    z, a, b = 0.3 + 0.5j, 1.0 - 2.0j, 0.5j
    _, terms = ad.jet(lambda z: np.abs(z) ** 2, (z,), ([a, b],))
    expected = [2 * (a * np.conj(z)).real, 2 * (b * np.conj(z)).real + 2 * abs(a) ** 2]
    np.testing.assert_allclose(terms, expected, rtol=1e-14)
    assert terms[0].dtype == np.float64


# Arguments and results ----------------------------------------------------------------------------


def test_short_lists_are_filled_with_zeros():
    full = ad.jet(np.multiply, (X, X), ([X, 0 * X, 0 * X], [X, X, X]))
    short = ad.jet(np.multiply, (X, X), ([X], [X, X, X]))
    np.testing.assert_array_equal(np.stack(full[1]), np.stack(short[1]))


def test_no_derivatives_give_the_value_alone():
    out, terms = ad.jet(np.exp, (X,), ([],))
    np.testing.assert_array_equal(out, np.exp(X))
    assert terms == []


def test_constant_arguments_have_zero_derivatives():
    out, (first, second) = ad.jet(lambda x, y: np.exp(y), (X, X), ([X, X], []))
    np.testing.assert_array_equal(out, np.exp(X))
    for term in (first, second):
        assert type_of(term) == type_of(X)
        np.testing.assert_array_equal(term, 0)


def test_trees_of_arrays_go_in_and_out():
    def function(p, y):
        return {"a": p["w"] * y, "b": (np.sum(p["w"] ** 2), p["n"] + 1)}

    p = {"w": X, "n": np.arange(2)}
    step = {"w": np.ones(3), "n": np.zeros(2, int)}
    out, series = ad.jet(function, (p, 2.0), ([step, step], [1.0, 0.0]))
    np.testing.assert_array_equal(out["b"][1], [1, 2])
    np.testing.assert_allclose(series["a"], [X + 2, 2 * np.ones(3) + 2], rtol=1e-15)
    np.testing.assert_allclose(series["b"][0], [np.sum(2 * X), np.sum(2 * X + 2)], rtol=1e-15)
    np.testing.assert_array_equal(series["b"][1], np.zeros((2, 2)))
    assert [x.dtype for x in series["b"][1]] == [np.dtype(int)] * 2


def test_results_are_fresh_arrays():
    term = np.ones(3)
    out, (first,) = ad.jet(lambda x: x, (X,), ([term],))
    assert type(out) is type(first) is np.ndarray
    assert not np.shares_memory(out, X) and not np.shares_memory(first, term)


def test_empty_and_zero_dimensional_arrays():
    _, terms = ad.jet(np.sin, (np.ones((0, 2)),), ([np.ones((0, 2))] * 2,))
    assert [t.shape for t in terms] == [(0, 2)] * 2
    _, terms = ad.jet(np.sin, (np.float32(0.5),), ([np.float32(1)] * 2,))
    assert [type_of(t) for t in terms] == [type_of(np.float32(1))] * 2


def test_a_held_constant_stays_constant():
    _, terms = ad.jet(lambda x: ad.stop_gradient(x) * x, (X,), ([X, X],))
    np.testing.assert_allclose(terms, [X * X, X * X])


def test_kinks_and_selections_follow_the_branch_taken():
    x = np.array([-1.0, 2.0])

    def function(x):
        return anp.where(x > 0, np.abs(x) * np.sin(x), np.maximum(x, -3.0) ** 3)

    found = by_jet(function, (x,), ([x, x + 1, x - 1],))
    expected = by_jet(
        lambda x: anp.stack([x[0] ** 3, x[1] * np.sin(x[1])]), (x,), ([x, x + 1, x - 1],)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# Under the other transformations ------------------------------------------------------------------


def model(x):
    return np.sum(np.tanh(x) / (1 + x * x)) * np.exp(x[0])


def third(x: Any) -> Any:
    """Return the third derivative of `model` at x along a fixed direction."""
    return ad.jet(model, (x,), ([np.array([1.0, -2.0, 0.5]), 0 * X, 0 * X],))[1][2]


def test_jit_of_jet():
    np.testing.assert_allclose(ad.jit(third)(X), third(X), rtol=1e-13)


def test_vmap_of_jet():
    xs = np.stack([X, 2 * X, -X])
    np.testing.assert_allclose(ad.vmap(third)(xs), [third(x) for x in xs], rtol=1e-12)


def test_gradient_of_jet_by_differences():
    found = ad.grad(third)(X)
    for i in range(3):
        h = 1e-3 * np.eye(3)[i]
        far, near = third(X + h) - third(X - h), third(X + h / 2) - third(X - h / 2)
        # Richardson's extrapolation of two central differences: error of order h**4
        np.testing.assert_allclose(found[i], (8 * near - far) / 6e-3, rtol=1e-6, atol=1e-6)


def test_jet_of_grad():
    direction = np.array([1.0, -2.0, 0.5])
    found = by_jet(ad.grad(model), (X,), ([direction, 0 * X],))
    expected = nested(ad.grad(model), (X,), ([direction, 0 * X],))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_jet_of_jet_is_a_mixed_derivative():
    """d/ds d2/dt2 of sin(x + t + s) is -cos(x)."""
    inner = lambda x: ad.jet(np.sin, (x,), ([np.ones(3), 0 * X],))[1][1]
    _, (found,) = ad.jet(inner, (X,), ([np.ones(3)],))
    np.testing.assert_allclose(found, -np.cos(X), rtol=1e-13)


def test_jet_of_a_jitted_and_mapped_function():
    function = ad.jit(lambda x: ad.vmap(lambda a: np.sin(a) * a)(x))
    found = by_jet(function, (X,), ([X, X + 1],))
    np.testing.assert_allclose(found, nested(function, (X,), ([X, X + 1],)), rtol=1e-12)


def test_closures_over_traced_values():
    def outer(a):
        return ad.jet(lambda x: np.sin(a * x), (1.0,), ([1.0, 0.0],))[1][1]

    # d/da of -a**2 sin a
    found = ad.grad(outer)(0.7)
    np.testing.assert_allclose(found, -2 * 0.7 * np.sin(0.7) - 0.7**2 * np.cos(0.7), rtol=1e-13)


# What it costs ------------------------------------------------------------------------------------


def equation_counts(function: Any, orders: Iterable[int]) -> np.ndarray:
    """Return the number of equations for each order."""
    traced = trace_function(
        function,
        [type_of(np.float64(0.7))],
        function="jet",
        name="function",
        values=None,
        inline_literals=True,
    )
    moving = (True,) + (False,) * len(traced.constants)
    graphs = [jet_pass(traced.graph, order, moving).graph for order in orders]
    return np.array([len(graph.eqns) for graph in graphs], float)


COSTS = {
    "exp": np.exp,
    "sin": np.sin,
    "log": np.log,
    "tanh": np.tanh,
    "square root": np.sqrt,
    "arctan": np.arctan,
    "quotient": lambda x: np.exp(x) / (1 + x * x),
    "power": lambda x: x**x,
    "product": lambda x: x * np.sin(x) * np.exp(x),
    "logistic": ad.nn.sigmoid,
    "running product": lambda x: np.cumprod(np.sin(x) + np.arange(1.0, 4.0)),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_number_of_equations_is_at_most_cubic_in_the_order(name):
    half, whole = equation_counts(COSTS[name], (8, 16))
    assert whole <= 2**3 * half  # nested jvp: 2**8


def test_exp_costs_one_product_and_one_sum_for_each_pair_of_orders():
    """b_k = sum of C(k-1, j) a_(j+1) b_(k-1-j): k products, k - 1 sums, k - 2 binomials not 1."""
    orders = range(1, 9)
    expected = [1 + sum(k + (k - 1) + max(k - 2, 0) for k in range(1, n + 1)) for n in orders]
    np.testing.assert_array_equal(equation_counts(np.exp, orders), expected)


def test_long_programs_need_no_deep_stack():
    def function(x):
        for _ in range(2000):
            x = np.sin(x) + 1.0
        return x

    _, terms = ad.jet(function, (0.3,), ([1.0, 0.0],))
    expected = ad.jvp(lambda x: ad.jvp(function, (x,), (1.0,))[1], (0.3,), (1.0,))
    np.testing.assert_allclose(terms, expected, rtol=1e-9, atol=1e-300)


def test_high_orders_need_no_deep_stack():
    _, terms = ad.jet(np.tanh, (0.0,), ([1.0, *[0.0] * 20],))
    # the tangent numbers, with alternating signs
    np.testing.assert_allclose(terms[:9:2], [1, -2, 16, -272, 7936], rtol=1e-12)
    np.testing.assert_allclose(terms[1::2], 0, atol=1e-3)
