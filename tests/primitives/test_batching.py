"""vmap of every operation, for every combination of mapped operands, against a loop."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.ir.avals import type_of
from autodiff.ir.primitive import primitives
from tests.primitives.sampling import Case, can_move, cases, generator, names, same_bits, supported

SIZE = 3


def _chosen(name: str) -> list[Case]:
    """Return every case of the widest type of each kind."""
    primitive = primitives[name]
    by_width = sorted(supported(primitive), key=lambda dtype: dtype.itemsize)
    widest = {dtypes.kind(dtype): dtype for dtype in by_width}
    return [case for dtype in widest.values() for case in cases(primitive, dtype)]


def _examples(case: Case, operand: np.ndarray) -> np.ndarray:
    """Return examples of an operand: itself and rolled, so that each is in the declared range.

    An operand that the declaration makes itself is rolled along its first axis alone: what stands
    there may be whole matrices.
    """
    axis = 0 if case.primitive.samples.operands is not None and operand.ndim else None
    rolled = [np.roll(operand, k, axis) for k in range(SIZE)]
    return np.stack(rolled).astype(operand.dtype)


#: Kinds of operations whose sums may be made in another order for a batch.
ANY_ORDER = {"reduction", "library"}


@pytest.fixture(autouse=True, scope="module")
def _orders_of_running_sums(pytestconfig):
    """On a GPU the order of a running sum follows from how many rows there are."""
    if pytestconfig.getoption("--device") == "cpu":
        yield
        return
    ANY_ORDER.add("cumulative")
    yield
    ANY_ORDER.remove("cumulative")


def _agree(case: Case, found: Any, expected: Any) -> bool:
    """Compare bit for bit; where the order of a sum may differ, to 16 units of the largest."""
    found, expected = np.asarray(found), np.asarray(expected)
    if type_of(found) is not type_of(expected):
        return False
    if case.primitive.kind not in ANY_ORDER or not dtypes.is_inexact(found.dtype):
        return same_bits(found, expected)
    unit = np.finfo(found.dtype).eps
    return bool(np.all(np.abs(found - expected) <= 16 * unit * np.max(np.abs(expected), initial=1)))


def _check(case: Case, function: Any, operands: tuple[Any, ...]) -> None:
    for mapped in product((True, False), repeat=len(operands)):
        if not any(mapped):
            continue
        given = [
            _examples(case, x) if flag else x for x, flag in zip(operands, mapped, strict=True)
        ]
        axes = tuple(0 if flag else None for flag in mapped)
        results = ad.vmap(function, in_axes=axes)(*given)
        for i in range(SIZE):
            example = [x[i] if flag else x for x, flag in zip(given, mapped, strict=True)]
            for found, expected in zip(results, function(*example), strict=True):
                where = (case.primitive.name, case.label, mapped, i)
                assert _agree(case, found[i], expected), (*where, found[i], expected)


@pytest.mark.parametrize("name", names())
def test_vmap_is_a_loop(name):
    for case in _chosen(name):
        _check(case, case, case.operands)


@pytest.mark.parametrize("name", names(can_move))
def test_vmap_of_derivatives_is_a_loop(name):
    """Forward and reverse, mapped over all operands and all directions at once."""
    for case in _chosen(name):
        if not case.moving or not case.of_moving()(*[case.operands[i] for i in case.moving]):
            continue
        function = case.of_moving()
        random = generator("tangents", name)
        primals = [_examples(case, case.operands[i]) for i in case.moving]
        tangents = [random.uniform(-1, 1, x.shape).astype(x.dtype) for x in primals]

        def push(xs: Any, ts: Any, function: Any = function) -> Any:
            return ad.jvp(function, xs, ts)[1]

        def pull(xs: Any, ts: Any, function: Any = function) -> Any:
            outs, pulled = ad.vjp(function, *xs)
            return pulled(tuple(outs))

        for derivative in (push, pull):
            mapped = ad.vmap(derivative)(primals, tangents)
            for i in range(SIZE):
                single = derivative([x[i] for x in primals], [t[i] for t in tangents])
                for found, expected in zip(mapped, single, strict=True):
                    assert type_of(found[i]) is type_of(np.asarray(expected))
                    # Transposes of broadcasts and repeated uses are sums, whose order may differ.
                    np.testing.assert_allclose(found[i], expected, rtol=1e-13, atol=1e-13)
