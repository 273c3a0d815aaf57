"""Each simplifying pass: its law on random programs, and an example of what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.evaluate import evaluate
from autodiff.ir.graph import Graph, Literal
from autodiff.ir.parser import parse_graph
from autodiff.ir.verify import verify
from autodiff.passes.algebra import algebra
from autodiff.passes.common_subexpressions import common_subexpressions
from autodiff.passes.dead_code import dead_code
from autodiff.passes.fold import fold
from autodiff.passes.inline import inline
from autodiff.passes.pipeline import SIMPLIFY, simplification_steps, simplify
from tests.passes.programs import random_graph
from tests.primitives.sampling import same_bits

X = np.array([0.5, -0.0, np.nan])


def _operations(graph: Graph) -> list[str]:
    return [eqn.primitive.name for eqn in graph.eqns]


def _graph(function: Any, *args: Any) -> Graph:
    return ad.make_graph(function)(*(args or (X,)))


PASSES = {**dict(SIMPLIFY), "simplify": simplify}


@pytest.mark.parametrize("name", PASSES)
def test_every_bit_of_random_programs_is_kept(name):
    run = PASSES[name]
    shortened = 0
    for seed in range(90):
        graph, arguments = random_graph(seed)
        if name == "fold":  # literals alone meet in an equation where a body was inlined
            graph = inline(graph)
        after = run(graph)
        verify(after, name)
        assert after.input_types == graph.input_types
        assert [t.strong() for t in after.output_types] == [t.strong() for t in graph.output_types]
        with np.errstate(all="ignore"):
            expected = evaluate(graph, (), arguments)
            found = evaluate(after, (), arguments)
        for one, other in zip(found, expected, strict=True):
            assert same_bits(one, other), (seed, str(graph), str(after))
        shortened += len(after.eqns) < len(graph.eqns)
    assert shortened or name in ("inline", "held")  # these leave as many equations, or more


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_leaves_its_input_as_it_was_and_is_deterministic(name):
    for seed in range(6):
        graph, _ = random_graph(seed)
        before = str(graph)
        first, second = PASSES[name](graph), PASSES[name](graph)
        assert str(graph) == before
        assert str(first) == str(second)
        assert first == second


@pytest.mark.parametrize("name", PASSES)
def test_a_graph_with_nothing_to_do_is_returned_as_it_is(name):
    graph = _graph(lambda x: anp.sin(x) * x)
    assert PASSES[name](graph) is graph


def test_simplifying_again_changes_nothing():
    for seed in range(30):
        once = simplify(random_graph(seed)[0])
        assert simplify(once) == once


def test_the_steps_are_the_named_passes_in_order():
    graph, _ = random_graph(1)
    steps = simplification_steps(graph)
    assert [name for name, _ in steps] == [name for name, _ in SIMPLIFY]
    assert steps[-1][1] == simplify(graph)


# ------------------------------------------------------------------------------------- inline


def test_inline_puts_the_body_in_place_of_the_call_at_any_depth():
    inner = ad.jit(anp.sin)
    outer = ad.jit(lambda x: anp.exp(inner(x)))
    graph = _graph(lambda x: outer(x) + inner(x))
    assert "call" in _operations(graph)
    assert _operations(inline(graph)) == ["sin", "exp", "sin", "add"]
    assert _operations(simplify(graph)) == ["sin", "exp", "add"]


def test_inline_keeps_the_users_lines():
    called = ad.jit(lambda x: anp.sin(x))
    graph = _graph(lambda x: called(x) * 2.0)
    assert all(eqn.source is not None for eqn in inline(graph).eqns)


def test_inline_of_a_body_that_returns_its_argument_and_a_number():
    called = ad.jit(lambda x: (x, 3.0, x))
    graph = inline(_graph(lambda x: called(x)))
    assert not graph.eqns
    assert graph.outputs[0] is graph.outputs[2] is graph.inputs[0]
    assert isinstance(graph.outputs[1], Literal)


def test_a_python_number_given_to_a_jitted_function_stays_weak_in_its_body():
    called = ad.jit(lambda x, k: x * k)
    x = np.ones(3, np.float32)
    for function in (lambda x: called(x, 2.0), lambda x: called(x, 2), lambda x: called(2.0, x)):
        assert _graph(function, x).output_types[0].dtype == np.float32
        gradient = ad.grad(lambda x, function=function: anp.sum(function(x)))(x)
        np.testing.assert_array_equal(gradient, 2 * x)
        assert gradient.dtype == np.float32
        np.testing.assert_array_equal(ad.vmap(function)(x), 2 * x)
    assert ad.grad(ad.grad(lambda x: called(x, 2.0) * called(3.0, x)))(1.0) == 12.0


# ---------------------------------------------------------------------------------- dead code


def test_dead_code_drops_what_no_output_needs_and_keeps_inputs():
    graph = _graph(lambda x, y: (anp.cos(anp.exp(y)), anp.sin(x))[1], X, X)
    after = dead_code(graph)
    assert _operations(after) == ["sin"]
    assert len(after.inputs) == 2


# --------------------------------------------------------------------------------------- fold


def _parsed(*lines: str) -> Graph:
    return parse_graph("\n".join(lines))


def test_fold_computes_what_is_known():
    graph = _parsed(
        "graph (a: float64[3]) {",
        "  b: float64 = sqrt 4.0:float64",
        "  c: float64 = add b 1.0:float64",
        "  d: float64[3] = multiply a c",
        "  return d c",
        "}",
    )
    (product,) = fold(graph).eqns
    assert product.inputs[1] == Literal(np.float64(3.0))
    assert fold(graph).outputs[1] == Literal(np.float64(3.0))


def test_fold_keeps_types_signs_of_zero_and_nan():
    graph = _parsed(
        "graph () {",
        "  a: float32 = negative 0.0:float32",
        "  b: float64 = log -1.0:float64",
        "  c: bool = less 1.0:float64 2.0:float64",
        "  d: float64 = divide -1.0:float64 0.0:float64",
        "  return a b c d",
        "}",
    )
    after = fold(graph)
    assert not after.eqns
    assert after.outputs == tuple(
        Literal(x) for x in (np.float32(-0.0), np.log(-1.0), np.True_, np.float64(-np.inf))
    )


# ------------------------------------------------------------------------------------- algebra


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x * 1.0, []),
        (lambda x: 1.0 * x, []),
        (lambda x: x / 1.0, []),
        (lambda x: x - 0.0, []),
        (lambda x: x + -0.0, []),
        (lambda x: +x, []),
        (lambda x: anp.negative(anp.negative(x)), []),
        (lambda x: anp.reshape(x, (3,)), []),
        (lambda x: x + 0.0, ["add"]),
        (lambda x: 0.0 + x, ["add"]),
        (lambda x: 0.0 - x, ["subtract"]),
        (lambda x: x - -0.0, ["subtract"]),
        (lambda x: x * 0.0, ["multiply"]),
        (lambda x: x * -1.0, ["multiply"]),
        (lambda x: 1.0 / x, ["divide"]),
        (lambda x: x - x, ["subtract"]),
        (lambda x: x / x, ["divide"]),
        (lambda x: anp.exp(anp.log(x)), ["log", "exp"]),
        (lambda x: anp.conjugate(x), []),
    ],
)
def test_algebra_removes_what_changes_no_bit_and_nothing_else(function, expected):
    assert _operations(dead_code(algebra(_graph(function)))) == expected


def test_algebra_takes_a_repeated_number_for_that_number():
    ones, halves = np.broadcast_to(1.0, (3,)), np.broadcast_to(0.5, (3,))
    graph = _graph(lambda x: x * ones * halves)
    assert _operations(algebra(graph)) == ["multiply"]


def test_algebra_knows_that_complex_numbers_are_not_their_own_conjugates():
    z = np.array([1j, 2.0])
    assert _operations(algebra(_graph(anp.conjugate, z))) == ["conjugate"]
    twice = dead_code(algebra(_graph(lambda z: anp.conjugate(anp.conjugate(z)), z)))
    assert not twice.eqns


# ----------------------------------------------------------------------- common subexpressions


def test_common_subexpressions_computes_equal_things_once():
    graph = _graph(lambda x: anp.sin(x) * anp.sin(x))
    after = common_subexpressions(graph)
    assert _operations(after) == ["sin", "multiply"]
    assert after.eqns[1].inputs == (after.eqns[0].outputs[0],) * 2


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x, y: x * y + y * x, 2),
        (lambda x, y: (x - y) + (y - x), 3),
        (lambda x, y: anp.maximum(x, y) + anp.maximum(y, x), 3),  # zeros' signs differ
        (lambda x, y: x * 2.0 + 2.0 * x, 2),
        (lambda x, y: (x + 0.0) * (x + -0.0), 3),
        (lambda x, y: (x + np.nan) * (x + np.nan), 2),
        (lambda x, y: anp.sum(x) + anp.sum(x), 2),
        (lambda x, y: x[:2] + x[1:], 3),
        (lambda x, y: anp.sin(anp.exp(x)) + anp.sin(anp.exp(x)), 3),
    ],
)
def test_common_subexpressions_compares_operands_parameters_and_literals(function, count):
    assert len(common_subexpressions(_graph(function, X, X)).eqns) == count


def test_complex_products_are_compared_in_order():
    z = np.array([1 + 2j])
    after = common_subexpressions(_graph(lambda x, y: x * y + y * x, z, z))
    assert _operations(after) == ["multiply", "multiply", "add"]


def test_what_is_equal_but_for_its_sign_is_computed_once():
    def f(x, y):
        z = x * y
        return (
            np.sin(z),
            np.sin(-z),
            np.cos(-z),
            np.cos(z),
            np.tanh((-x) * y / 3.0),
            np.tanh(z / -3.0),
        )

    x, y = np.linspace(-2.0, 3.0, 6), np.linspace(0.5, 1.5, 6)
    graph = simplify(ad.make_graph(f)(x, y))
    names = [eqn.primitive.name for eqn in graph.eqns]
    assert [names.count(n) for n in ("sin", "cos", "multiply")] == [1, 1, 1]
    for found, expected in zip(ad.jit(f)(x, y), f(x, y), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_signs_count_for_integers_and_for_what_is_neither_odd_nor_even():
    def f(x, n):
        return np.exp(x), np.exp(-x), np.abs(n), np.abs(-n), np.arccos(x), np.arccos(-x)

    arguments = np.linspace(-0.5, 0.5, 5), np.array([1, -128, 3], np.int8)
    graph = simplify(ad.make_graph(f)(*arguments))
    names = [eqn.primitive.name for eqn in graph.eqns]
    assert [names.count(n) for n in ("exp", "absolute", "arccos")] == [2, 2, 2]
