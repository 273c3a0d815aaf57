"""Every elementwise operation on every element type kernels hold, its operands lying in all ways.

An operation is applied to views of its operands in one kernel, which reads each in place, and to
numbers and empty arrays; results are compared with the reference's, element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from autodiff.base import dtypes
from autodiff.ir.primitive import Primitive, primitives
from autodiff.passes.pipeline import simplify
from autodiff.primitives.lowering import missing_rule
from tests.codegen.array_programs import lines_of
from tests.codegen.program_checks import stored_values
from tests.primitives.sampling import (
    SPECIAL,
    draw,
    generator,
    is_elementwise,
    names,
    own_types,
    spans,
    supported,
)

ROWS, POINTS = 2, 21  # more points than a vector has lanes, and not a multiple of them
COUNT = ROWS * POINTS

#: Lines of a kernel's text beyond which fewer views are tried.
LONG = 60

#: Name to view of an array of 2 COUNT + 1 elements, each of ROWS rows of POINTS.
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda v: v[:COUNT].reshape(ROWS, POINTS),
    "offset by one": lambda v: v[1 : COUNT + 1].reshape(ROWS, POINTS),
    "strided": lambda v: v[: 2 * COUNT : 2].reshape(ROWS, POINTS),
    "negative": lambda v: v[COUNT::-1][:COUNT].reshape(ROWS, POINTS),
    "transposed": lambda v: v[:COUNT].reshape(POINTS, ROWS).T,
    "rows turned": lambda v: v[:COUNT].reshape(ROWS, POINTS)[::-1, ::-1],
    "one row repeated": lambda v: np.broadcast_to(v[5 : 5 + POINTS], (ROWS, POINTS)),
    "one column repeated": lambda v: np.broadcast_to(v[:ROWS].reshape(ROWS, 1), (ROWS, POINTS)),
    "one number repeated": lambda v: np.broadcast_to(v[3], (ROWS, POINTS)),
}


def _operands(primitive: Primitive, own: tuple[np.dtype, ...]) -> list[np.ndarray]:
    """Return arrays of numbers where the operation is tried, special ones among them."""
    operands = []
    for k, (dtype, span) in enumerate(zip(own, spans(primitive, len(own)), strict=True)):
        random = generator("layouts", primitive.name, dtype.name, k)
        x = draw(random, (2 * COUNT + 1,), dtype, span)
        if dtypes.is_inexact(dtype):
            points = np.array([*SPECIAL, *primitive.samples.points], np.float64)
            with np.errstate(over="ignore"):
                chosen = random.choice(points, x.size).astype(dtype)
            x = np.where(random.integers(0, 3, x.size) == 0, chosen, x)
        elif dtypes.is_integer(dtype):
            limits = np.iinfo(dtype)
            chosen = random.choice(np.array([limits.min, limits.max, 0, 1], dtype), x.size)
            x = np.where(random.integers(0, 4, x.size) == 0, chosen, x)
        operands.append(x)
    return operands


def _lowered_types(primitive: Primitive, params: dict) -> list[tuple[np.dtype, ...]]:
    found = [own_types(primitive, dtype) for dtype in supported(primitive)]
    return [
        own for own in found if own is not None and missing_rule(primitive, own, params) is None
    ]


def _views_for(primitive: Primitive, target: str) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Return all views; some, others for each operation, for narrow vectors and where it is long.

    How memory is read does not depend on what is computed, and compiling takes the time.
    """
    views = list(VIEWS.values())
    is_long = (lines_of(primitive) or 0) > LONG
    count = (1 if is_long else 3) if target != "auto" else (3 if is_long else len(views))
    start = crc32(f"{target} {primitive.name}".encode())
    return [views[(start + 2 * k) % len(views)] for k in range(count)]


@pytest.mark.parametrize("target", ["auto", "avx2", "sse2"])
@pytest.mark.parametrize("name", names(is_elementwise))
def test_every_operation_on_operands_that_lie_in_all_ways(name, target):
    primitive = primitives[name]
    params = primitive.samples.params[-1]
    views = _views_for(primitive, target)
    wrong = []
    for own in _lowered_types(primitive, params):
        operands = _operands(primitive, own)

        def on_views(*xs: np.ndarray) -> tuple:
            results = [primitive(*[view(x) for x in xs], **params) for view in views]
            return tuple(tree.leaves(results))

        def on_numbers(*xs: np.ndarray) -> np.ndarray:
            return primitive(*[x[7] for x in xs], **params)

        def on_nothing(*xs: np.ndarray) -> np.ndarray:
            return primitive(*[x[:0] for x in xs], **params)

        for function in (on_views, on_numbers, on_nothing)[: 3 if target == "auto" else 1]:
            graph = simplify(ad.make_graph(function)(*operands))
            with ad.override(cpu_target=target, contract=False):
                trial = stored_values(graph, operands)
            if function is not on_nothing and "elementwise" in trial.left:
                wrong.append(f"{function.__name__} of {own}: no kernel computes it")
            wrong += [f"{function.__name__}: {text}" for text in trial.wrong]
            assert all(
                y.dtype == v.aval.dtype for y, v in zip(trial.outputs, graph.outputs, strict=True)
            )
    assert not wrong, "\n".join(wrong)
