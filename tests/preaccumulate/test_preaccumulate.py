"""preaccumulate: derivatives as without it, counts of multiplications, other transformations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.api.trace import trace_function
from autodiff.base.dtypes import is_inexact
from autodiff.ir.avals import type_of
from autodiff.ir.graph import Graph, Literal
from autodiff.passes.linearize import linearize
from autodiff.passes.preaccumulate import preaccumulate as preaccumulate_pass
from tests.composition.transformations import COMPUTED, check_composition, difference
from tests.primitives.numeric import pairing


def lighthouse(p: Any) -> Any:
    """Where the beam meets the quay (Griewank and Walther 2008, section 2.1)."""
    nu, gamma, omega, t = p[0], p[1], p[2], p[3]
    tangent = np.tan(omega * t)
    y = nu * tangent / (gamma - tangent)
    return anp.stack([y, gamma * y])


def speelpenning(p: Any) -> Any:
    product = p[0]
    for i in range(1, p.shape[0]):
        product = product * p[i]
    return product


def bow_tie(p: Any) -> Any:
    waist = np.sin(p[0]) * np.exp(p[1]) * np.cos(p[2])
    return anp.stack([np.sin(waist), np.exp(waist), np.tanh(waist)])


def chain(p: Any) -> Any:
    x = p[0]
    for _ in range(5):
        x = np.sin(x) + 2.0
    return x


def lion(p: Any) -> Any:
    first = p[0] * p[1]
    second = np.sin(first)
    return anp.stack([first * second, np.exp(second), np.cos(second), np.tanh(second)])


def reused(p: Any) -> Any:
    """Every value is used twice, so that elimination pays at once."""
    a = np.sin(p[0])
    b = np.exp(a) * a
    c = b * np.cos(b)
    return c * c + p[1]


def elementwise_on_arrays(p: Any) -> Any:
    a = np.tanh(p)
    b = a * np.exp(a)
    return np.sum(anp.where(b > 0.1, b / (1.0 + a * a), -b) * b)


FUNCTIONS = (lighthouse, speelpenning, bow_tie, chain, lion, reused, elementwise_on_arrays)
P = np.array([0.4, 1.7, 0.6, 0.8])


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_values_are_unchanged_and_derivatives_agree(function):
    fast = ad.preaccumulate(function)
    np.testing.assert_array_equal(fast(P), function(P))
    for transformation in (ad.jacrev, ad.jacfwd):
        expected = COMPUTED["jacfwd"](lambda p: np.asarray(function(p)))(P)
        np.testing.assert_allclose(transformation(fast)(P), expected, rtol=0, atol=1e-8)
    # bit for bit apart from the order of multiplication: some roundings of the largest term
    np.testing.assert_allclose(ad.jacrev(fast)(P), ad.jacrev(function)(P), rtol=1e-13, atol=1e-15)


def test_the_lighthouses_jacobian_in_closed_form():
    nu, gamma, omega, t = P
    tangent = np.tan(omega * t)
    below = gamma - tangent
    slope = nu * gamma / below**2 * (1 + tangent**2)
    row = np.array([tangent / below, -nu * tangent / below**2, slope * t, slope * omega])
    other = gamma * row + np.array([0.0, nu * tangent / below, 0.0, 0.0])
    found = ad.jacrev(ad.preaccumulate(lighthouse))(P)
    np.testing.assert_allclose(found, [row, other], rtol=1e-13)


# Counts -------------------------------------------------------------------------------------------


def test_counts_of_the_lighthouse():
    """Edges: omega t 2, tan 1, nu tan 2, the quotient 2, gamma y 2, and gamma - tan two units.
    The first output is used by the second, so it stays."""
    cost = ad.preaccumulation_cost(lighthouse, P)
    assert (cost.plain, cost.total, cost.rules) == (9, 9, ("none",))
    # The quotient's partial 1 / (gamma - tan) is a division: 1 in either order. Reverse:
    # gamma - tan 0, nu tan 2*1, tan 1*1 (both paths have met), omega t 2*1.
    assert cost.jacobian["reverse"] == cost.jacobian["exhaustive"] == 1 + 0 + 2 + 1 + 2
    # Forward: omega t 2*1, tan 2*1 (the other edge is -1), nu tan 3*1, gamma - tan 2*1.
    assert cost.jacobian["forward"] == 1 + 2 + 2 + 3 + 2


def test_counts_of_speelpennings_product():
    cost = ad.preaccumulation_cost(speelpenning, np.arange(1.0, 7.0))
    # reverse 2*1 for each of four inner products, forward 2 + 3 + 4 + 5
    assert (cost.plain, cost.jacobian["reverse"], cost.jacobian["forward"]) == (10, 8, 14)
    assert (cost.jacobian["markowitz"], cost.jacobian["exhaustive"]) == (12, 8)
    assert cost.total <= cost.plain


def test_counts_of_a_narrow_waist():
    """Three inputs, each with a sine, and two products: what leads to the waist is a tree."""
    cost = ad.preaccumulation_cost(bow_tie, P)
    # sin, exp, cos 3; two products 4; three outputs 3
    assert cost.plain == 10
    assert cost.total <= 10
    # whole: 3 + 2 for the tree into the waist, of 3 inputs, and 3 * 3 through it
    assert cost.jacobian["exhaustive"] == 3 + 2 + 9


def test_counts_of_a_chain():
    cost = ad.preaccumulation_cost(chain, P)
    assert (cost.plain, cost.beforehand, cost.each_pass) == (5, 4, 1)
    assert set(cost.jacobian.values()) == {4}


def test_counts_of_the_lion():
    cost = ad.preaccumulation_cost(lion, P)
    # 2 of the first product, 1 of sin, 2 of the other product, 3 of the other outputs
    assert (cost.plain, cost.total, cost.rules) == (8, 8, ("none",))
    assert set(cost.jacobian.values()) == {12}


def test_counts_are_per_element():
    one = ad.preaccumulation_cost(lambda x: np.sin(x) * np.exp(x), np.ones(()))
    many = ad.preaccumulation_cost(lambda x: np.sin(x) * np.exp(x), np.ones((3, 5)))
    assert (one.plain, one.beforehand, one.each_pass) == (4, 2, 1)
    assert (many.plain, many.beforehand, many.each_pass) == (60, 30, 15)


def _products(graph: Graph) -> int:
    """Return the multiplications and divisions in a graph, those by -1 left out."""

    def is_unit(atom: Any) -> bool:
        return type(atom) is Literal and atom.is_scalar and abs(float(atom.value)) == 1

    names = {"multiply", "guarded_multiply", "divide", "guarded_divide"}
    return sum(
        eqn.primitive.name in names and not any(map(is_unit, eqn.inputs)) for eqn in graph.eqns
    )


@pytest.mark.parametrize("function", FUNCTIONS[:-1], ids=lambda f: f.__name__)
def test_the_graphs_hold_as_many_multiplications_as_is_said(function):
    traced = trace_function(
        function, [type_of(P)], function="f", name="f", values=None, inline_literals=True
    )
    plain = linearize(traced.graph, (True,))
    found = preaccumulate_pass(plain)
    cost = ad.preaccumulation_cost(function, P)
    assert _products(plain.linear) == cost.plain
    assert _products(found.parts.linear) == cost.each_pass
    assert _products(found.parts.primal) <= _products(plain.primal) + cost.beforehand
    assert cost.total <= cost.plain


def test_fewer_residuals_are_kept():
    def residuals(function: Any) -> tuple[int, int]:
        traced = trace_function(function, [type_of(P)], function="f", name="f", values=None)
        wanted = tuple(
            is_inexact(a.dtype) and i == 0 for i, a in enumerate(traced.graph.input_types)
        )
        plain = linearize(traced.graph, wanted)
        return len(plain.forwarded), len(preaccumulate_pass(plain).parts.forwarded)

    before, after = residuals(chain)
    assert (before, after) == (5, 1)


# Composition --------------------------------------------------------------------------------------


def small(x: Any) -> Any:
    a = np.sin(x)
    b = a * np.exp(a)
    return ad.preaccumulate(lambda b, a: {"p": b * np.cos(b), "q": (a * b, b + a)})(b, a)["p"] * b


@pytest.mark.parametrize(
    "names",
    [
        ("grad",),
        ("vjp",),
        ("jvp",),
        ("linearize",),
        ("vmap",),
        ("jit",),
        ("hessian",),
        ("grad", "vjp"),
        ("jvp", "vjp"),
        ("vjp", "jvp"),
        ("vmap", "vjp"),
        ("vjp", "vmap"),
        ("jit", "vjp"),
        ("vjp", "jit"),
        ("vjp", "jvp", "vmap"),
        ("jvp", "vjp", "vjp"),
    ],
    ids=" of ".join,
)
def test_it_composes_with_other_transformations(names):
    check_composition(names, small, np.array([0.3, 0.8, 1.2]))


def test_reverse_is_the_transpose_of_forward():
    fast = ad.preaccumulate(lion)
    t, ct = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.3, 1.0, -1.0, 2.0])
    _, pushed = ad.jvp(fast, (P,), (t,))
    _, pull = ad.vjp(fast, P)
    np.testing.assert_allclose(pairing([ct], [pushed]), pairing(pull(ct), [t]), rtol=1e-13)
    _, push = ad.linearize(fast, P)
    np.testing.assert_allclose(push(t), pushed, rtol=1e-13)


def test_jet_of_it():
    _, terms = ad.jet(ad.preaccumulate(np.exp), (0.5,), ([1.0, 0.0],))
    np.testing.assert_allclose(terms, np.exp(0.5) * np.ones(2), rtol=1e-15)


def test_third_derivatives():
    third = ad.grad(ad.grad(ad.grad(ad.preaccumulate(lambda x: np.sin(x) * np.sin(x)))))
    np.testing.assert_allclose(third(0.7), -4 * np.sin(1.4), rtol=1e-13)


def test_closures_keywords_and_further_kinds_of_leaves():
    weights = np.array([2.0, 3.0])

    @ad.preaccumulate
    def f(p, *, scale):
        return {"y": np.sin(p["x"] * scale) * weights, "n": p["n"] + 1, "x": p["x"]}

    p = {"x": np.array([0.2, 0.5]), "n": np.arange(2)}
    out, pull = ad.vjp(lambda x, s: f({**p, "x": x}, scale=s), p["x"], 1.5)
    np.testing.assert_array_equal(out["n"], [1, 2])
    ct, ct_scale = pull({"y": np.ones(2), "n": out["n"], "x": np.zeros(2)})
    slope = np.cos(p["x"] * 1.5) * weights
    np.testing.assert_allclose(ct, slope * 1.5, rtol=1e-14)
    np.testing.assert_allclose(ct_scale, np.sum(slope * p["x"]), rtol=1e-14)


def test_closures_over_traced_values():
    found = ad.grad(lambda a: ad.preaccumulate(lambda x: np.sin(a * x) * a)(0.5))(0.8)
    np.testing.assert_allclose(found, np.cos(0.4) * 0.4 + np.sin(0.4), rtol=1e-14)


def test_control_flow_on_values():
    f = ad.preaccumulate(lambda x: x * x * x if x > 0 else -x)
    assert ad.grad(f)(2.0) == 12.0
    assert ad.grad(f)(-2.0) == -1.0


def test_complex_parts_stay_as_they_are():
    def f(z):
        w = np.sin(z) * z
        return np.abs(w * np.conj(w)) + np.real(z)

    z = 0.4 + 0.3j
    found, expected = ad.grad(ad.preaccumulate(f))(z), ad.grad(f)(z)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_allclose(
        ad.jvp(ad.preaccumulate(f), (z,), (1j,))[1], difference(f, z, 1j), atol=1e-8
    )


def test_single_precision_stays_single():
    x = np.float32(0.7)
    assert ad.grad(ad.preaccumulate(reused))(np.ones(2, np.float32)).dtype == np.float32
    out, pull = ad.vjp(ad.preaccumulate(lambda x: np.sin(x) * np.exp(x) / x), x)
    assert (out.dtype, pull(np.float32(1))[0].dtype) == (np.float32, np.float32)


def test_integer_and_constant_parts():
    f = ad.preaccumulate(lambda x, n: (x * n, n * 2, 3.0))
    out, pull = ad.vjp(f, 1.5, 4)
    assert [float(x) for x in out] == [6.0, 8.0, 3.0]
    np.testing.assert_array_equal(pull((1.0, out[1], 1.0))[0], 4.0)


def test_empty_arrays():
    found = ad.grad(ad.preaccumulate(elementwise_on_arrays))(np.ones((0, 3)))
    assert found.shape == (0, 3)
    assert ad.preaccumulation_cost(elementwise_on_arrays, np.ones((0, 3))).plain == 0


def test_an_unselected_singularity_gives_zero():
    """Both branches' partials are multiplied beforehand, 0 by infinity among them."""

    def f(x):
        root = np.sqrt(x)
        return np.sum(anp.where(x > 0, root * np.exp(root), 2.0 * x))

    x = np.array([0.0, 4.0])
    expected = [2.0, (np.exp(2.0) + 2 * np.exp(2.0)) / 4]
    np.testing.assert_allclose(ad.grad(ad.preaccumulate(f))(x), expected, rtol=1e-14)


def test_calls_and_loops_inside():
    inner = ad.jit(lambda x: np.sin(x) * x)

    def f(x):
        y = ad.fori_loop(0, 3, lambda i, v: np.sin(v) + 0.1 * v, inner(x))
        return ad.checkpoint(lambda y: np.cos(y) * y)(y)

    np.testing.assert_allclose(ad.grad(ad.preaccumulate(f))(0.6), ad.grad(f)(0.6), rtol=1e-13)
    np.testing.assert_allclose(ad.grad(f)(0.6), difference(f, 0.6, 1.0), atol=1e-8)


def test_custom_rules_inside_are_followed():
    @ad.custom_vjp
    def double(x):
        return 2.0 * x

    double.defvjp(lambda x: (double(x), x), lambda x, ct: (7.0 * ct,))  # recognisably not 2
    found = ad.grad(ad.preaccumulate(lambda x: np.sin(double(x) * x) * 3.0))(0.5)
    np.testing.assert_allclose(found, np.cos(0.5) * (7.0 * 0.5 + 1.0) * 3.0, rtol=1e-14)


def test_inside_a_loop():
    f = lambda x: ad.scan(lambda c, _: (ad.preaccumulate(small)(c), None), x, length=3)[0]
    g = lambda x: ad.scan(lambda c, _: (small(c), None), x, length=3)[0]
    np.testing.assert_allclose(ad.grad(f)(0.6), ad.grad(g)(0.6), rtol=1e-12)


def test_long_programs_take_time_in_proportion():
    def f(x):
        for _ in range(1500):
            x = np.sin(x) * 0.9 + x * 0.1
        return x

    np.testing.assert_allclose(ad.grad(ad.preaccumulate(f))(0.6), ad.grad(f)(0.6), rtol=1e-10)


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="preaccumulate: the first argument must be a function"):
        ad.preaccumulate(np.ones(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"preaccumulate: every leaf .* x\['a'\]='text'"):
        ad.preaccumulate(lambda x: x)({"a": "text"})
    with pytest.raises(TypeError, match="preaccumulate: every leaf of the output"):
        ad.preaccumulate(lambda x: "text")(1.0)
    with pytest.raises(TypeError, match="preaccumulation_cost: every leaf of the output"):
        ad.preaccumulation_cost(lambda x: "text", 1.0)
