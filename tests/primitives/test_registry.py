"""Every declaration is complete: no rule is missing without a reason, no sample either."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from autodiff import passes
from autodiff.base import dtypes
from autodiff.ir.primitive import array_functions, primitives
from tests.primitives.sampling import cases, is_elementwise, names, own_types, supported

ALL = names()


@pytest.mark.parametrize("name", ALL)
def test_an_operation_on_floating_numbers_has_a_derivative_or_says_why_not(name):
    primitive = primitives[name]
    has_rule = primitive.differentiate is not None or primitive.derivative is not None
    if set(primitive.dtypes) & set("fc"):
        assert has_rule or primitive.not_differentiable
    assert not (has_rule and primitive.not_differentiable)


@pytest.mark.parametrize("name", ALL)
def test_an_operation_can_be_batched(name):
    assert primitives[name].batch is not None


@pytest.mark.parametrize("name", ALL)
def test_an_operation_says_in_a_sentence_what_it_does(name):
    assert primitives[name].doc.strip().endswith(".")


@pytest.mark.parametrize("name", ALL)
def test_an_operation_has_samples_of_every_kind_of_type_it_is_declared_for(name):
    primitive = primitives[name]
    if is_elementwise(primitive):  # of element types with equal own operand types one is kept
        assert all(cases(primitive, dtype) for dtype in supported(primitive))
        tried = [d for d in dtypes.SUPPORTED if own_types(primitive, d) is not None]
    else:
        tried = [d for d in supported(primitive) if cases(primitive, d)]
    assert {dtypes.kind(dtype) for dtype in tried} == set(primitive.dtypes)


@pytest.mark.parametrize("name", names(is_elementwise))
def test_an_elementwise_operation_has_points_to_try(name):
    assert primitives[name].samples.points


@pytest.mark.parametrize("name", names(lambda p: bool(p.numpy)))
def test_numpy_functions_reach_the_operation_they_stand_for(name):
    assert all(function in array_functions for function in primitives[name].numpy)


def test_operations_that_hold_graphs_offer_what_every_pass_needs():
    holding = [p for p in primitives.values() if p.kind == "higher_order"]
    assert holding
    for primitive in holding:
        assert primitive.derivative is not None
        assert primitive.transpose is not None
        assert primitive.batch is not None


def test_no_pass_names_an_operation_that_holds_graphs():
    """No text in a pass is the name of one of them, by which the registry would give it.

    (Its import is refused by the layering test. An operation may be named after a pass.)
    """
    folder = Path(passes.__file__).parent
    files = sorted(folder.glob("*.py"))
    holding = {p.name for p in primitives.values() if p.holds_graphs}
    holding -= {path.stem for path in files}
    assert {"scan", "while_loop", "cond", "call"} <= holding
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert named & holding == set(), path.name
