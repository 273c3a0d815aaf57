"""Derivatives at singular points: an unselected branch never spoils them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.ir.primitive import primitives
from tests.primitives.sampling import Case, can_move, is_elementwise, names, point_case

ELEMENTWISE = names(lambda primitive: is_elementwise(primitive) and can_move(primitive))
EXTRA = (0.0, -0.0, 1.0, -1.0, 5e-324, 1e-200, 1e200)


def _point_cases(name: str) -> list[Case]:
    primitive = primitives[name]
    return [
        point_case(primitive, np.dtype(dtype), params, EXTRA)
        for dtype in (np.float64, np.complex128)
        if dtypes.kind(np.dtype(dtype)) in primitive.dtypes
        for params in primitive.samples.params
    ]


def _with_finite_operands(case: Case) -> Case:
    kept = np.all([np.isfinite(x) for x in case.operands], axis=0)
    return Case(
        case.primitive, tuple(x[kept] for x in case.operands), case.params, f"{case.label}, finite"
    )


def _unselected(case: Case) -> Any:
    """Return the sum of where(mask, f(x), 0) for a mask that selects no point, as a function."""
    function = case.of_moving()

    def guarded(*moving: Any) -> Any:
        total = 0.0
        for y in function(*moving):
            chosen = ad.numpy.where(np.zeros(y.shape, bool), y, np.zeros((), y.dtype))
            total = total + ad.numpy.sum(ad.numpy.real(chosen))
        return total

    return guarded


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_unselected_branch_has_a_zero_gradient_at_every_point(name):
    for case in _point_cases(name):
        case = _with_finite_operands(case)
        operands = [case.operands[i] for i in case.moving]
        if not operands or not operands[0].size:
            continue
        positions = tuple(range(len(operands)))
        for gradient in ad.grad(_unselected(case), positions)(*operands):
            wrong = gradient != 0
            where = [x[wrong] for x in case.operands]
            assert not wrong.any(), (name, case.label, where, gradient[wrong])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_gradient_of_an_unselected_gradient_is_zero_at_every_point(name):
    for case in _point_cases(name):
        case = _with_finite_operands(case)
        operands = [case.operands[i] for i in case.moving]
        if not operands or not operands[0].size:
            continue
        positions = tuple(range(len(operands)))
        guarded = _unselected(case)

        def weighed(*moving: Any, guarded: Any = guarded, positions: Any = positions) -> Any:
            gradients = ad.grad(guarded, positions)(*moving)
            return sum(ad.numpy.sum(ad.numpy.real(g) * 1.5) for g in gradients)

        for gradient in ad.grad(weighed, positions)(*operands):
            wrong = gradient != 0
            where = [x[wrong] for x in case.operands]
            assert not wrong.any(), (name, case.label, where, gradient[wrong])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_forward_and_reverse_agree_at_every_point_nans_included(name):
    """Each point by itself, so that what is infinite at one does not hide another."""
    for case in _point_cases(name):
        operands = [case.operands[i] for i in case.moving]
        if any(dtypes.is_complex(x.dtype) for x in operands) or not case.of_moving()(*operands):
            continue  # complex products make NaN out of infinite parts in their own ways
        for i, x in enumerate(operands):

            def alone(
                moved: Any, i: int = i, case: Case = case, operands: list[Any] = operands
            ) -> Any:
                return case.of_moving()(*operands[:i], moved, *operands[i + 1 :])

            outs, pushed = ad.jvp(alone, (x,), (np.ones_like(x),))
            cts = tuple(np.ones_like(y) for y in outs)
            (pulled,) = ad.vjp(alone, x)[1](cts)
            found = sum(np.real(t) for t in pushed)
            np.testing.assert_allclose(found, pulled, rtol=1e-15, err_msg=name)
