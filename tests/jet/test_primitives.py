"""Every operation's derivatives to order 3 along a curve, against jvp nested three times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.ir.avals import type_of
from autodiff.ir.primitive import primitives
from tests.jet.curves import nested
from tests.primitives.numeric import direction
from tests.primitives.sampling import (
    Case,
    can_move,
    cases,
    generator,
    is_elementwise,
    names,
    supported,
)

ORDER = 3
WIDE = (np.dtype(np.float64), np.dtype(np.complex128))


def _cases(name: str) -> list[Case]:
    primitive = primitives[name]
    found: list[Case] = []
    for dtype in WIDE:
        if dtype in supported(primitive) or dtypes.kind(dtype) in primitive.dtypes:
            found += [case for case in cases(primitive, dtype) if case.moving][:3]
    return found


def _curve(case: Case) -> tuple[list[Any], list[list[Any]]]:
    random = generator("curve", case.primitive.name, case.label)
    operands = [case.operands[i] for i in case.moving]
    return operands, [[direction(random, x) for _ in range(ORDER)] for x in operands]


@pytest.mark.parametrize("name", names(can_move))
def test_derivatives_along_a_curve_are_those_of_nested_jvp(name):
    for case in _cases(name):
        function = case.of_moving()
        operands, series = _curve(case)
        outs, lists = ad.jet(function, tuple(operands), tuple(series))
        for k, expected in enumerate(nested(function, operands, series)):
            found = outs if k == 0 else [terms[k - 1] for terms in lists]
            for x, y in zip(found, expected, strict=True):
                where = (name, case.label, k)
                assert type_of(x) == type_of(y), where
                scale = np.max(np.abs(y), initial=1.0, where=np.isfinite(y))
                # The same products in another order: some thousand roundings of the largest.
                np.testing.assert_allclose(x, y, rtol=0, atol=1e-11 * scale, err_msg=str(where))


@pytest.mark.parametrize("name", names(lambda p: can_move(p) and is_elementwise(p)))
def test_each_operand_may_move_alone(name):
    for case in _cases(name)[:1]:
        operands, series = _curve(case)
        if len(operands) == 1:
            continue
        for alone in range(len(operands)):

            def function(x: Any, alone: int = alone, case: Case = case) -> Any:
                given = [case.operands[i] for i in case.moving]
                given[alone] = x
                return case.of_moving()(*given)

            _, lists = ad.jet(function, (operands[alone],), (series[alone],))
            expected = nested(function, [operands[alone]], [series[alone]])
            for k in range(ORDER):
                for terms, y in zip(lists, expected[k + 1], strict=True):
                    scale = np.max(np.abs(y), initial=1.0, where=np.isfinite(y))
                    np.testing.assert_allclose(terms[k], y, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", names(lambda p: can_move(p) and is_elementwise(p)))
def test_single_precision_stays_single(name):
    primitive = primitives[name]
    if "f" not in primitive.dtypes:
        return
    (case, *_) = cases(primitive, np.dtype(np.float32))
    operands, series = _curve(case)
    outs, lists = ad.jet(case.of_moving(), tuple(operands), tuple(series))
    for out, terms in zip(outs, lists, strict=True):
        assert [type_of(term) for term in terms] == [type_of(out)] * ORDER
