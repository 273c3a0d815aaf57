"""Graphs as text: the same program prints the same text, in the grammar of ir/graph.py."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.graph import Literal
from autodiff.passes.jvp import jvp
from autodiff.passes.linearize import linearize
from autodiff.passes.pipeline import simplify
from autodiff.passes.transpose import transpose


def _text(graph: Any) -> str:
    """Return a graph's text without the users' lines."""
    return re.sub(r"\s+# .+$", "", str(graph), flags=re.MULTILINE)


def _expected(text: str) -> str:
    return dedent(text).strip()


def _loss(x: Any, y: Any) -> Any:
    return anp.sum(anp.sin(x) * y + 2.0)


VECTOR = np.ones(3)


def test_a_function_prints_one_equation_a_line():
    assert _text(ad.make_graph(_loss)(VECTOR, VECTOR)) == _expected("""
        graph (a: float64[3], b: float64[3]) {
          c: float64[3] = sin a
          d: float64[3] = multiply c b
          e: float64[3] = add d 2.0:float64
          f: float64 = sum[axes=(0,)] e
          return f
        }
    """)


def test_a_tangent_graph_stands_beside_the_values():
    graph = ad.make_graph(lambda x: anp.sin(x) * x)(VECTOR)
    assert _text(jvp(graph, (True,)).graph) == _expected("""
        graph (a: float64[3], b: float64[3]) {
          c: float64[3] = sin a
          d: float64[3] = cos a
          e: float64[3] = multiply b d
          f: float64[3] = multiply c a
          g: float64[3] = multiply e a
          h: float64[3] = multiply c b
          i: float64[3] = add g h
          return f i
        }
    """)


def test_a_linear_graph_and_its_transpose_name_residuals_first():
    graph = ad.make_graph(_loss)(VECTOR, VECTOR)
    split = linearize(graph, (True, False))
    assert _text(split.linear) == _expected("""
        graph (a: float64[3], b: float64[3], c: float64[3]) {
          d: float64[3] = multiply c a
          e: float64[3] = multiply d b
          f: float64 = sum[axes=(0,)] e
          return f
        }
    """)
    transposed = transpose(split.linear, (False, False, True), (True,))
    assert _text(simplify(transposed.graph)) == _expected("""
        graph (a: float64[3], b: float64[3], c: float64) {
          d: float64[3] = broadcast[shape=(3,) axes=()] c
          e: float64[3] = multiply d b
          f: float64[3] = multiply e a
          return f
        }
    """)


def test_a_held_graph_is_indented():
    inner = ad.jit(anp.tanh)
    assert _text(ad.make_graph(lambda x: inner(x) * 2)(VECTOR)) == _expected("""
        graph (a: float64[3]) {
          b: float64[3] = call[graph=graph (a: float64[3]) {
              b: float64[3] = tanh a
              return b
            } name='tanh'] a
          c: float64[3] = multiply b 2.0:float64
          return c
        }
    """)


def test_several_outputs_and_shapes_of_every_rank_print():
    def function(x: Any) -> Any:
        return x[0], anp.reshape(x, (1, 2, 1)), True, anp.float32(0.5)

    assert _text(ad.make_graph(function)(np.ones(2, np.float32))) == _expected("""
        graph (a: float32[2]) {
          b: float32[1] = slice[starts=(0,) stops=(1,) steps=(1,)] a
          c: float32 = reshape[shape=()] b
          d: float32[1,2,1] = reshape[shape=(1, 2, 1)] a
          return c d True:bool 0.5:float32
        }
    """)


def test_each_equation_carries_the_users_line():
    lines = str(ad.make_graph(_loss)(VECTOR, VECTOR)).splitlines()
    number = _loss.__code__.co_firstlineno + 1
    assert all(line.endswith(f"# test_printer.py:{number}") for line in lines[1:-2])


def test_names_do_not_depend_on_what_was_traced_before():
    first = _text(ad.make_graph(_loss)(VECTOR, VECTOR))
    ad.grad(_loss)(VECTOR, VECTOR)
    assert _text(ad.make_graph(_loss)(VECTOR, VECTOR)) == first


def test_the_twenty_seventh_value_is_aa():
    def function(x: Any) -> Any:
        for _ in range(27):
            x = anp.sin(x)
        return x

    text = _text(ad.make_graph(function)(VECTOR))
    assert "  aa: float64[3] = sin z\n  ab: float64[3] = sin aa\n  return ab" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(-0.0), "-0.0:float64"),
        (np.float32(0.1), "0.10000000149011612:float32"),
        (np.float64(np.nan), "nan:float64"),
        (np.float64(-np.inf), "-inf:float64"),
        (np.float64(5e-324), "5e-324:float64"),
        (np.int8(-3), "-3:int8"),
        (np.bool_(True), "True:bool"),
        (np.complex64(1 + 2j), "(1+2j):complex64"),
    ],
)
def test_a_literal_prints_its_exact_value_and_type(value, text):
    graph = ad.make_graph(lambda x: (x, value))(1.0)
    assert isinstance(graph.outputs[1], Literal)
    assert f"return a {text}\n" in str(graph)
