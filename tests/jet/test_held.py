"""jet through operations that hold graphs: loops, branches, calls, custom rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff import tree
from autodiff.api.trace import trace_function
from autodiff.ir.avals import type_of
from autodiff.passes.jet import jet as jet_pass
from tests.jet.curves import by_jet, nested

X = np.array([0.3, -0.9, 1.4])
SERIES = [np.array([1.0, -2.0, 0.5]), np.array([0.2, 0.1, -0.4]), np.array([-1.0, 0.3, 0.7])]


def _step(carry: Any, row: Any) -> Any:
    value, count = carry
    value = np.sin(value) * row + value / (2.0 + count)
    return (value, count + 1), value * value


def scanned(x: Any) -> Any:
    (value, _), ys = ad.scan(_step, (x[0], 0), x[1:])
    return value, ys


def scanned_backwards(x: Any) -> Any:
    """A constant that moves, and a carry that begins to move in the second iteration."""
    return ad.scan(
        lambda carry, row: ((carry[1], x[0] * row), carry[0] * np.exp(row)),
        (np.float64(1.0), np.float64(2.0)),
        x,
        reverse=True,
    )


def repeated(x: Any) -> Any:
    return ad.fori_loop(0, 4, lambda i, v: np.tanh(v) + 0.1 * i * x, x)


def until_small(x: Any) -> Any:
    """Halve until the sum of squares is below 0.5; the condition depends on what moves."""
    return ad.while_loop(lambda v: np.sum(v * v) > 0.5, lambda v: v * np.cos(x) * 0.7, x)


def never_running(x: Any) -> Any:
    return ad.while_loop(lambda v: np.sum(v) > 1e9, lambda v: v * x, np.exp(x))


def chosen(x: Any) -> Any:
    return ad.cond(
        x[0] > 0, lambda x, c: (np.exp(x), c), lambda x, c: (x, np.sin(x)), x, np.ones(3)
    )


def switched(x: Any) -> Any:
    return ad.switch(1, [np.sin, lambda x: x**3, lambda x: np.zeros(3)], x)


def mapped(x: Any) -> Any:
    return ad.map(lambda a: np.sin(a) * a, x)


def associated(x: Any) -> Any:
    return ad.associative_scan(np.multiply, np.exp(x) + 1.0)


def checkpointed(x: Any) -> Any:
    return ad.checkpoint(lambda x: np.sin(x) * np.exp(np.sin(x)))(x)


def jitted(x: Any) -> Any:
    inner = ad.jit(lambda x, y: (np.sin(x) * y, y + 1.0))
    a, b = inner(x, x * x)
    return inner(a, b)[0]


def nested_loops(x: Any) -> Any:
    def row(carry: Any, a: Any) -> Any:
        inner = ad.fori_loop(0, 2, lambda i, v: v * np.cos(a) + carry, a)
        carry = ad.cond(a > 0, lambda c: c * inner, lambda c: c - inner, carry)
        return carry, inner

    return ad.scan(row, x[0], x)


FUNCTIONS = (
    scanned,
    scanned_backwards,
    repeated,
    until_small,
    never_running,
    chosen,
    switched,
    mapped,
    associated,
    checkpointed,
    jitted,
    nested_loops,
)


def _check(found: Any, expected: Any) -> None:
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_derivatives_are_those_of_nested_jvp(function):
    _check(by_jet(function, (X,), (SERIES,)), nested(function, (X,), (SERIES,)))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_jit_and_vmap_of_jet(function):
    def third(x: Any) -> Any:
        return ad.jet(function, (x,), (SERIES,))[1]

    xs = np.stack([X, X * 0.5 + 0.1])
    expected = tree.map(lambda *leaves: np.stack(leaves), *map(third, xs))
    _check(ad.vmap(third)(xs), expected)
    _check(ad.jit(third)(X), third(X))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_reverse_mode_of_jet_is_its_transpose(function):
    """<ct, d series> by vjp and by jvp, for the second derivative along the curve."""

    def second(x: Any) -> Any:
        _, series = ad.jet(function, (x,), (SERIES[:2],))
        return sum(np.sum(leaf) for leaf in tree.leaves(series))

    (pulled,) = ad.vjp(second, X)[1](1.0)
    _, pushed = ad.jvp(second, (X,), (SERIES[2],))
    np.testing.assert_allclose(np.sum(pulled * SERIES[2]), pushed, rtol=1e-10, atol=1e-10)


def test_a_loop_by_itself_against_the_unrolled_program():
    def unrolled(x):
        v = x
        for i in range(4):
            v = np.tanh(v) + 0.1 * i * x
        return v

    _check(by_jet(repeated, (X,), (SERIES,)), by_jet(unrolled, (X,), (SERIES,)))


def test_the_size_of_a_scans_jet_does_not_depend_on_its_length():
    def count(length: int) -> int:
        traced = trace_function(
            lambda x: ad.scan(lambda c, _: (np.sin(c), None), x, length=length)[0],
            [type_of(X)],
            function="jet",
            name="function",
            values=None,
        )
        (eqn,) = jet_pass(traced.graph, 3, (True,)).graph.eqns
        return len(eqn.params["body"].eqns)

    assert count(5) == count(5000)


def test_a_checkpoint_stays_one_under_jet():
    graph = ad.make_graph(lambda x: ad.jet(checkpointed, (x,), (SERIES,))[1])(X)
    assert "checkpoint" in str(graph) and "sin" not in str(graph).split("checkpoint")[0]


def test_custom_jvp_rules_are_followed():
    @ad.custom_jvp
    def f(x):
        return np.sin(x)

    @f.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), 3.0 * np.exp(x) * t  # not the derivative of sin, so as to be recognised

    _, (first, second, third) = ad.jet(f, (0.4,), ([1.0, 0.0, 0.0],))
    np.testing.assert_allclose([first, second, third], 3.0 * np.exp(0.4) * np.ones(3), rtol=1e-14)


def test_custom_vjp_rules_are_followed():
    @ad.custom_vjp
    def f(x):
        return np.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, ct: (3.0 * np.exp(x) * ct,))
    _, terms = ad.jet(f, (0.4,), ([1.0, 0.0, 0.0],))
    np.testing.assert_allclose(terms, 3.0 * np.exp(0.4) * np.ones(3), rtol=1e-14)


def test_a_root_along_a_curve():
    """x**2 = a: the derivatives of the square root."""

    def root(a):
        solve = lambda f, x: ad.fori_loop(0, 20, lambda i, x: 0.5 * (x + a / x), x)
        return ad.custom_root(lambda x: x * x - a, 1.0, solve, lambda g, y: y / g(1.0))

    out, terms = ad.jet(root, (2.0,), ([1.0, 0.0, 0.0],))
    expected = [2**0.5, 0.5 * 2**-0.5, -0.25 * 2**-1.5, 0.375 * 2**-2.5]
    np.testing.assert_allclose([out, *terms], expected, rtol=1e-12)


def test_adding_in_a_loop_moves_only_what_moves():
    """An integer and a constant carry stay as they are."""

    def f(x):
        return ad.scan(
            lambda c, r: ((c[0] + r, c[1] + 1, c[2]), c[2] * r), (x[0], 0, np.float64(2.0)), x
        )

    (carry, ys), (d_carry, d_ys) = ad.jet(f, (X,), (SERIES,))
    assert carry[1] == 3 and carry[2] == 2.0
    np.testing.assert_allclose(d_carry[0], [s[0] + np.sum(s) for s in SERIES])
    np.testing.assert_array_equal(d_carry[1], 0)
    np.testing.assert_array_equal(d_carry[2], 0)
    np.testing.assert_allclose(d_ys, [2 * s for s in SERIES])
    np.testing.assert_allclose(ys, 2 * X)


def test_complex_and_single_precision_carries():
    z = np.complex64(0.3 + 0.2j)
    _, terms = ad.jet(
        lambda z: ad.fori_loop(0, 3, lambda i, z: z * z + z, z), (z,), ([np.complex64(1j)] * 2,)
    )
    assert [t.dtype for t in terms] == [np.dtype(np.complex64)] * 2

    def unrolled(z):
        for _ in range(3):
            z = z * z + z
        return z

    _, expected = ad.jet(unrolled, (np.complex128(z),), ([1j] * 2,))
    np.testing.assert_allclose(terms, expected, rtol=1e-5)


def test_the_value_of_anp_functions_under_a_map():
    _, terms = ad.jet(ad.vmap(lambda a: anp.exp(2 * a)), (X,), ([np.ones(3), 0 * X],))
    np.testing.assert_allclose(terms, [2 * np.exp(2 * X), 4 * np.exp(2 * X)], rtol=1e-14)
