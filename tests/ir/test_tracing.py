"""Tracing: traces close, leaks are named, and what was captured is as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.evaluate import evaluate, last_uses

VECTOR = np.array([1.0, 2.0, 3.0])

TRANSFORMATIONS = {
    "grad": lambda f: ad.grad(lambda x: anp.sum(f(x)))(VECTOR),
    "jvp": lambda f: ad.jvp(f, (VECTOR,), (VECTOR,)),
    "vjp": lambda f: ad.vjp(f, VECTOR),
    "jit": lambda f: ad.jit(f)(VECTOR),
    "vmap": lambda f: ad.vmap(f)(VECTOR),
    "make_graph": lambda f: ad.make_graph(f)(VECTOR),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_leaked_value_raises_when_used_and_names_the_line_that_made_it(name):
    kept = []

    def leaks(x: Any) -> Any:
        kept.append(anp.sin(x))
        return x * 2.0

    TRANSFORMATIONS[name](leaks)
    with pytest.raises(ad.LeakedTracerError) as caught:
        kept[0] + 1.0
    text = str(caught.value)
    assert "a traced value must be used while its function runs" in text
    assert "test_tracing.py" in text
    assert "in leaks: kept.append(anp.sin(x))" in text
    assert "\nTo fix: return the value" in text


def test_a_leaked_argument_is_called_an_argument():
    kept = []

    def leaks(x: Any) -> Any:
        kept.append(x)
        return x * 2.0

    ad.jit(leaks)(VECTOR)
    with pytest.raises(ad.LeakedTracerError, match="an argument of type"):
        kept[0] + 1.0


def test_a_leaked_value_raises_inside_another_trace():
    kept = []
    ad.jit(lambda x: (kept.append(anp.cos(x)), x)[1])(VECTOR)
    with pytest.raises(ad.LeakedTracerError):
        ad.grad(lambda x: anp.sum(x * kept[0]))(VECTOR)


def test_a_leaked_value_that_was_computed_still_tells_it():
    """Where inputs have values Python may have asked before the trace closed."""
    kept = []

    def leaks(x: Any) -> Any:
        y = anp.sum(x)
        kept.append(y)
        return y if y > 0 else -y

    ad.grad(leaks)(VECTOR)
    assert float(kept[0]) == 6.0
    with pytest.raises(ad.LeakedTracerError):
        kept[0] * 2.0


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_an_error_in_the_function_closes_its_trace_and_the_next_call_works(name):
    kept = []

    def fails(x: Any) -> Any:
        kept.append(anp.exp(x))
        raise RuntimeError("user")

    with pytest.raises(RuntimeError, match="user"):
        TRANSFORMATIONS[name](fails)
    with pytest.raises(ad.LeakedTracerError):
        kept[0] + 1.0
    TRANSFORMATIONS[name](anp.sin)


def test_an_array_changed_after_the_call_does_not_change_a_vjp():
    weights = np.array([1.0, 2.0, 3.0])
    _, pull = ad.vjp(lambda x: x * weights, VECTOR)
    weights[:] = 100.0
    np.testing.assert_array_equal(pull(np.ones(3))[0], [1.0, 2.0, 3.0])


def test_an_array_changed_while_its_function_runs_is_seen_as_it_was_at_each_use():
    buffer = np.zeros(3)

    def function(x: Any) -> Any:
        total = x * 0.0
        for k in range(3):
            buffer[:] = k
            total = total + x * buffer
        return anp.sum(total)

    np.testing.assert_array_equal(ad.grad(function)(VECTOR), [3.0, 3.0, 3.0])
    np.testing.assert_array_equal(ad.grad(ad.jit(function))(VECTOR), [3.0, 3.0, 3.0])


def test_an_array_that_cannot_be_written_is_not_copied():
    frozen = np.ones(1000)
    frozen.flags.writeable = False
    graph = ad.make_graph(lambda x: x + frozen)
    assert graph(np.ones(1000)) == graph(np.ones(1000))


def test_values_are_computed_once_and_only_when_asked_for():
    asked = []

    def function(x: Any) -> Any:
        y = anp.sum(x**2)
        asked.append(float(y))
        asked.append(float(y))
        if y > 10.0:
            y = y * 2.0
        asked.append(y.item())
        return y

    np.testing.assert_array_equal(ad.grad(function)(VECTOR), 4.0 * VECTOR)
    assert asked == [14.0, 14.0, 28.0]


def test_asking_for_a_value_inside_jit_names_the_line_and_the_way_out():
    def function(x: Any) -> Any:
        return x if anp.sum(x) > 0 else -x

    with pytest.raises(ad.ConcretizationError) as caught:
        ad.jit(function)(VECTOR)
    text = str(caught.value)
    assert "test_tracing.py" in text
    assert "in function: return x if anp.sum(x) > 0 else -x" in text
    assert "\nTo fix: " in text
    assert "static_argnums" in text


# ------------------------------------------------------------------------------------- evaluation


def test_the_evaluator_gives_the_functions_values():
    def function(x: Any, y: Any) -> Any:
        return anp.sum(anp.sin(x) * y), x / y

    graph = ad.make_graph(function)(VECTOR, 2 * VECTOR)
    total, ratio = evaluate(graph, (), [VECTOR, 2 * VECTOR])
    assert total == np.sum(np.sin(VECTOR) * (2 * VECTOR))
    np.testing.assert_array_equal(ratio, VECTOR / (2 * VECTOR))


def test_the_evaluator_on_tracers_records_the_same_graph():
    graph = ad.make_graph(lambda x: anp.exp(anp.sin(x)) * x)(VECTOR)
    again = ad.make_graph(lambda x: evaluate(graph, (), [x])[0])(VECTOR)
    assert again == graph


def test_each_value_is_dropped_after_its_last_use():
    graph = ad.make_graph(lambda x, y: anp.sin(x) * anp.cos(x) + anp.exp(y))(VECTOR, VECTOR)
    dying = last_uses(graph)
    x, y = graph.inputs
    sine, cosine, product, power, total = (eqn.outputs[0] for eqn in graph.eqns)
    assert [set(found) for found in dying] == [set(), {x}, {sine, cosine}, {y}, {product, power}]
    assert total is graph.outputs[0]


def test_values_nobody_reads_are_dropped_at_once():
    graph = ad.make_graph(lambda x: (anp.sin(x), x)[1])(VECTOR)
    assert last_uses(graph) == [(graph.eqns[0].outputs[0],)]
