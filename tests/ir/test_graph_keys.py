"""Structural equality: what makes two graphs one program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.api.trace import Traced, trace_function
from autodiff.ir.avals import array_type, type_of
from autodiff.ir.graph import Literal, make_graph

VECTOR = np.ones(3)


def _traced(function: Any, *args: Any) -> Traced:
    """Trace as un-jitted transformations do: scalars met on the way become arguments."""
    return trace_function(
        function, [type_of(x) for x in args], function="test", name="f", values=list(args)
    )


def _structure(function: Any, *args: Any) -> Any:
    """Trace as jit does: scalars are part of the structure."""
    return ad.make_graph(function)(*args)


def test_tracing_twice_gives_equal_graphs_with_equal_hashes():
    one, other = (_structure(lambda x: anp.sin(x) * 2.0, VECTOR) for _ in range(2))
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)


def test_numbers_that_python_changes_from_call_to_call_do_not_change_the_key():
    graphs = {_traced(lambda x, k=k: x * k + k, VECTOR).graph for k in (1.5, 2.5, -0.0, np.nan)}
    assert len(graphs) == 1


def test_hoisted_numbers_become_arguments_in_order():
    traced = _traced(lambda x: x * 2.0 + 3.0, VECTOR)
    assert [float(value) for value in traced.constants] == [2.0, 3.0]
    assert len(traced.graph.inputs) == 3
    assert not traced.graph.constants


@pytest.mark.parametrize(
    ("one", "other"),
    [(0.0, -0.0), (1.0, 2.0), (np.nan, np.inf), (np.float32(1), np.float64(1)), (1, True)],
)
def test_literals_that_differ_in_bits_or_type_make_different_graphs(one, other):
    graphs = [_structure(lambda x, k=k: anp.where(x > 0, x, k), VECTOR) for k in (one, other)]
    if type_of(one).dtype == type_of(other).dtype:
        assert graphs[0] != graphs[1]
    assert Literal(np.asarray(one)[()]) != Literal(np.asarray(other)[()])


def test_nan_literals_are_equal():
    one, other = (_structure(lambda x: x + np.nan, VECTOR) for _ in range(2))
    assert one == other
    assert Literal(np.float64(np.nan)) == Literal(np.float64("nan"))


def test_array_literals_compare_by_content():
    assert Literal(np.array([1.0, 2.0])) == Literal(np.array([1.0, 2.0]))
    assert Literal(np.array([1.0, 2.0])) != Literal(np.array([1.0, 3.0]))
    assert Literal(np.broadcast_to(1.0, (3,))) == Literal(np.broadcast_to(1.0, (3,)))
    assert Literal(np.broadcast_to(1.0, (3,))) != Literal(np.broadcast_to(1.0, (4,)))
    assert Literal(np.broadcast_to(1.0, (3,))) != Literal(np.broadcast_to(-1.0, (3,)))


def _programs() -> dict[str, Any]:
    return {
        "sin": lambda x, y: anp.sin(x) + y,
        "cos": lambda x, y: anp.cos(x) + y,
        "operands exchanged": lambda x, y: y + anp.sin(x),
        "another argument": lambda x, y: anp.sin(y) + x,
        "output twice": lambda x, y: (anp.sin(x) + y,) * 2,
        "an argument returned": lambda x, y: x,
        "the other returned": lambda x, y: y,
        "a parameter": lambda x, y: anp.sum(x[:2]) + y,
        "another parameter": lambda x, y: anp.sum(x[1:]) + y,
        "unused equation": lambda x, y: (anp.sin(x), anp.sin(x) + y)[1],
    }


def test_different_programs_have_different_keys():
    graphs = {name: _structure(f, VECTOR, VECTOR) for name, f in _programs().items()}
    same = {("sin", "unused equation")}  # one more equation, but the first has it too
    for one, first in graphs.items():
        for other, second in graphs.items():
            if one != other and (one, other) not in same and (other, one) not in same:
                assert first != second, (one, other)


@pytest.mark.parametrize(
    "args",
    [(np.ones(4),), (np.ones((3, 1)),), (np.ones(3, np.float32),), (np.ones(3, int),), (1.0,)],
)
def test_types_of_arguments_are_part_of_the_key(args):
    assert _structure(anp.sin, *args) != _structure(anp.sin, VECTOR)


def test_weakness_of_an_argument_is_part_of_the_key():
    assert _structure(anp.sin, 1.0) != _structure(anp.sin, np.float64(1.0))


def test_the_users_lines_are_not_part_of_the_key():
    def one(x: Any) -> Any:
        return anp.sin(x)

    def other(x: Any) -> Any:
        return anp.sin(x)

    assert _structure(one, VECTOR) == _structure(other, VECTOR)


def test_the_key_that_the_tracer_kept_groups_as_the_recomputed_one_does():
    programs = list(_programs().values())
    traced = [_structure(f, VECTOR, VECTOR) for f in programs]
    again = [make_graph(g.inputs, g.constants, g.eqns, g.outputs) for g in traced]
    for i, one in enumerate(traced):
        for k, other in enumerate(traced):
            assert (one == other) == (again[i] == again[k])


def test_equal_types_are_one_object():
    assert array_type((2,), np.float32) is array_type((2,), "float32")
    assert array_type((2,), np.float32) is not array_type((2,), np.float32, weak=True)
