"""The verifier finds every broken invariant and shows where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.base.errors import GraphError
from autodiff.ir.avals import array_type
from autodiff.ir.graph import Eqn, Graph, Literal, Var, make_graph
from autodiff.ir.primitive import primitives
from autodiff.ir.verify import verify
from autodiff.passes.pipeline import simplify

VECTOR = array_type((3,), np.float64)
SCALAR = array_type((), np.float64)


def _sin(x: Any, out: Var) -> Eqn:
    return Eqn(primitives["sin"], (x,), {}, (out,), None)


def _graph(inputs: Any, eqns: Any, outputs: Any, constants: Any = ()) -> Graph:
    return make_graph(inputs, constants, eqns, outputs)


def _unchecked(inputs: Any, eqns: Any, outputs: Any, constants: Any = ()) -> Graph:
    """Return a graph whose structure could not be numbered."""
    key = make_graph((), (), (), ()).key
    return Graph(tuple(inputs), tuple(constants), tuple(eqns), tuple(outputs), key)


def test_a_right_graph_passes():
    a, b = Var(VECTOR), Var(VECTOR)
    verify(_graph((a,), (_sin(a, b),), (b, a, Literal(np.float64(1.0)))), "test")


def test_an_operand_used_before_its_definition_is_found():
    a, b, c = Var(VECTOR), Var(VECTOR), Var(VECTOR)
    graph = _unchecked((a,), (_sin(b, c), _sin(a, b)), (c,))
    with pytest.raises(GraphError) as caught:
        verify(graph, "reorder")
    assert str(caught.value) == (
        "reorder: an operand is used before it is defined.\n"
        "> b: float64[3] = sin c\n"
        "  c: float64[3] = sin a"
    )


def test_an_operand_of_another_graph_is_found():
    a, b, stranger = Var(VECTOR), Var(VECTOR), Var(VECTOR)
    graph = _unchecked((a,), (_sin(stranger, b),), (b,))
    with pytest.raises(GraphError, match=r"> b: float64\[3\] = sin \?"):
        verify(graph, "test")


def test_a_wrong_output_type_is_found():
    a, b = Var(VECTOR), Var(SCALAR)
    graph = _graph((a,), (_sin(a, b),), (b,))
    with pytest.raises(GraphError) as caught:
        verify(graph, "jvp")
    assert str(caught.value) == (
        "jvp: its output types must be (float64[3],), but they are (float64,).\n"
        "> b: float64 = sin a"
    )


def test_a_value_defined_twice_is_found():
    a, b = Var(VECTOR), Var(VECTOR)
    graph = _graph((a,), (_sin(a, b), _sin(a, b)), (b,))
    with pytest.raises(GraphError, match="a value is defined twice"):
        verify(graph, "test")


def test_an_input_listed_twice_is_found():
    a = Var(VECTOR)
    for graph in (_graph((a, a), (), (a,)), _graph((a,), (), (a,), constants=(a,))):
        with pytest.raises(GraphError, match="an input or constant is listed twice"):
            verify(graph, "test")


def test_an_output_without_definition_is_found():
    a, b = Var(VECTOR), Var(VECTOR)
    with pytest.raises(GraphError, match="an output is not defined"):
        verify(_unchecked((a,), (), (b,)), "test")


def test_operands_of_a_type_the_operation_does_not_take_are_found():
    a, b, c = Var(VECTOR), Var(array_type((3,), np.float32)), Var(VECTOR)
    graph = _graph((a, b), (Eqn(primitives["add"], (a, b), {}, (c,), None),), (c,))
    with pytest.raises((GraphError, TypeError), match="add"):
        verify(graph, "test")


def test_the_message_shows_five_equations_on_each_side_and_the_users_line():
    def function(x: Any) -> Any:
        for _ in range(20):
            x = np.sin(x)
        return x

    graph = ad.make_graph(function)(np.ones(3))
    eqns = list(graph.eqns)
    broken = eqns[10]
    eqns[10] = Eqn(broken.primitive, (eqns[15].outputs[0],), {}, broken.outputs, broken.source)
    with pytest.raises(GraphError) as caught:
        verify(_unchecked(graph.inputs, eqns, graph.outputs), "pass")
    first, place, *lines = str(caught.value).splitlines()
    assert first == "pass: an operand is used before it is defined."
    assert place.startswith("At ")
    assert "test_verify.py" in place
    assert place.endswith("in function: x = np.sin(x)")
    assert len(lines) == 11
    assert [line[:2] for line in lines] == ["  "] * 5 + ["> "] + ["  "] * 5


def test_a_pass_that_breaks_a_graph_is_named(monkeypatch):
    def shuffled(graph: Graph) -> Graph:
        return _unchecked(graph.inputs, tuple(reversed(graph.eqns)), graph.outputs)

    monkeypatch.setattr("autodiff.passes.pipeline.SIMPLIFY", (("shuffled", shuffled),))
    graph = ad.make_graph(lambda x: np.exp(np.sin(x)))(1.0)
    with ad.override(verify=True), pytest.raises(GraphError, match=r"^shuffled: an operand"):
        simplify(graph)
    with ad.override(verify=False):
        simplify(graph)


def test_the_suite_runs_with_verification_on():
    assert ad.base.settings.settings().verify
