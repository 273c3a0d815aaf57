"""Derivatives of every operation: jvp by differences, vjp by the dot product, second order.

Differences are taken in double precision; narrower types are compared with the derivative that the
same rule gives there.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.ir.avals import type_of
from autodiff.ir.primitive import LinearOperand, primitives
from tests.primitives.numeric import derivative, direction, pairing
from tests.primitives.sampling import (
    Case,
    arity,
    can_move,
    cases,
    draw,
    generator,
    is_elementwise,
    names,
    retyped,
    supported,
)

WIDE = (np.dtype(np.float64), np.dtype(np.complex128))
DIFFERENTIABLE = names(can_move)

#: Operations whose derivative is by definition not that of their values.
NOT_OF_VALUES = {"stop_gradient"}


def _wide_cases(name: str) -> list[Case]:
    """Return the cases with derivatives in double precision; at most eight per element type."""
    primitive = primitives[name]
    found: list[Case] = []
    for dtype in WIDE:
        if dtype in supported(primitive) or dtypes.kind(dtype) in primitive.dtypes:
            found += [case for case in cases(primitive, dtype) if case.moving][:8]
    return found


def _moving(case: Case) -> tuple[list[Any], list[Any]]:
    random = generator("directions", case.primitive.name, case.label)
    operands = [case.operands[i] for i in case.moving]
    return operands, [direction(random, x) for x in operands]


def _cotangents(case: Case, outs: Any) -> tuple[Any, ...]:
    random = generator("cotangents", case.primitive.name, case.label)
    return tuple(direction(random, np.asarray(y)) for y in outs)


class _Comparison:
    """Compares derivatives with differences where those are known to six digits: nearly everywhere.

    Elsewhere a function jumps between the points used (floor) or leaves its domain.
    """

    def __init__(self) -> None:
        self.known = self.compared = 0

    def check(self, found: Any, differences: Any, where: Any) -> None:
        for value, (expected, error) in zip(found, differences, strict=True):
            scale = 1 + np.abs(expected)
            certain = error <= max(1e-6, 1e4 * _unit(value)) * scale
            self.known += int(np.sum(certain))
            self.compared += certain.size
            off = np.abs(np.asarray(value) - expected)
            near = off <= 2 * error + 1e-9 * scale
            assert np.all(near[certain]), (where, value, expected, error)

    def finish(self, name: str) -> None:
        assert self.known >= 0.8 * self.compared, (name, self.known, self.compared)


def _unit(*arrays: Any) -> float:
    """Return the rounding unit of the narrowest element type."""
    return max(float(np.finfo(np.asarray(x).dtype).eps) for x in arrays)


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if n not in NOT_OF_VALUES])
def test_forward_derivatives_agree_with_differences(name):
    comparison = _Comparison()
    for case in _wide_cases(name):
        where = (name, case.label, [type_of(x) for x in case.operands])
        function = case.of_moving()
        operands, tangents = _moving(case)
        for alone in [None, *range(len(operands))]:  # all operands move, then each by itself
            used = [t if alone in (None, i) else np.zeros_like(t) for i, t in enumerate(tangents)]
            outs, pushed = ad.jvp(function, operands, used)
            assert [type_of(t) for t in pushed] == [type_of(y) for y in outs], where
            comparison.check(pushed, derivative(function, operands, used), where)
            if len(operands) == 1:
                break
    comparison.finish(name)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_reverse_derivatives_are_the_transpose_of_forward_ones(name):
    for case in _wide_cases(name):
        where = (name, case.label, [type_of(x) for x in case.operands])
        function = case.of_moving()
        operands, tangents = _moving(case)
        _, pushed = ad.jvp(function, operands, tangents)
        outs, pull = ad.vjp(function, *operands)
        cts = _cotangents(case, outs)
        pulled = pull(cts)
        assert [type_of(ct) for ct in pulled] == [type_of(x) for x in operands], where
        scale = sum(float(np.sum(np.abs(ct * t))) for ct, t in zip(cts, pushed, strict=True))
        # Both sides are sums of the same products: 100 roundings of the largest.
        allowed = 100 * _unit(*operands, *outs) * (1 + scale)
        assert abs(pairing(cts, pushed) - pairing(pulled, tangents)) <= allowed, where


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_derivatives_agree_with_differences_and_are_symmetric(name):
    comparison = _Comparison()
    for case in _wide_cases(name):
        where = (name, case.label, [type_of(x) for x in case.operands])
        function = case.of_moving()
        operands, tangents = _moving(case)
        cts = _cotangents(case, ad.jvp(function, operands, tangents)[0])

        def gradient(*xs: Any, function: Any = function, cts: Any = cts) -> Any:
            return ad.vjp(function, *xs)[1](cts)

        _, forward_over_reverse = ad.jvp(gradient, operands, tangents)
        differences = derivative(gradient, operands, tangents)
        comparison.check(forward_over_reverse, differences, where)

        random = generator("other directions", name, case.label)
        others = [direction(random, x) for x in operands]
        _, other_product = ad.jvp(gradient, operands, others)
        reverse_over_reverse = ad.vjp(gradient, *operands)[1](tuple(others))
        scale = sum(
            float(np.sum(np.abs(h * t)))
            for h, t in zip(
                [*forward_over_reverse, *other_product], [*others, *tangents], strict=True
            )
        )
        allowed = 1000 * _unit(*operands, *cts) * (1 + scale)
        mixed = pairing(forward_over_reverse, others)
        assert abs(mixed - pairing(other_product, tangents)) <= allowed, where
        assert abs(mixed - pairing(reverse_over_reverse, tangents)) <= allowed, where
    comparison.finish(name)


def _narrow(name: str) -> list[np.dtype]:
    primitive = primitives[name]
    return [d for d in supported(primitive) if dtypes.is_inexact(d) and d not in WIDE]


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if _narrow(n)])
def test_derivatives_of_narrow_types_have_their_type_and_the_value_of_wide_ones(name):
    """Within 64 units of the narrow type, relative to the largest element: rules round a few times
    and divide by differences such as 1 - x**2.
    """
    primitive = primitives[name]
    for dtype in _narrow(name):
        unit = float(ml_dtypes.finfo(dtypes.real_dtype(dtype)).eps)
        wide = np.dtype(np.complex128 if dtypes.is_complex(dtype) else np.float64)
        for case in [case for case in cases(primitive, dtype) if case.moving][:3]:
            where = (name, case.label, dtype)
            operands, tangents = _moving(case)
            outs, pushed = ad.jvp(case.of_moving(), operands, tangents)
            assert [type_of(t) for t in pushed] == [type_of(y) for y in outs], where
            pulled = ad.vjp(case.of_moving(), *operands)[1](outs)
            assert [type_of(ct) for ct in pulled] == [type_of(x) for x in operands], where
            widened = Case(
                primitive,
                tuple(
                    x.astype(wide) if i in case.moving else x for i, x in enumerate(case.operands)
                ),
                retyped(case.params, wide),
                case.label,
            )
            if any(isinstance(v, np.dtype) for v in case.params.values()):
                continue  # the result's type is a parameter
            exact = ad.jvp(
                widened.of_moving(),
                [x.astype(wide) for x in operands],
                [t.astype(wide) for t in tangents],
            )[1]
            for t, expected in zip(pushed, exact, strict=True):
                scale = 1 + float(np.max(np.abs(expected), initial=0))
                off = np.abs(np.asarray(t).astype(expected.dtype) - expected)
                assert np.all(off <= 64 * unit * scale), (*where, t, expected)


# ---------------------------------------------------------------------- operations with a transpose


def _linear_operands(case: Case) -> list[int]:
    """Return the operands that the transpose rule, given each alone, has a cotangent for."""
    outs = case.reference()
    cts = [np.ones_like(y) for y in outs]
    found = []
    for i in case.moving:
        operands = [LinearOperand(type_of(x)) if k == i else x for k, x in enumerate(case.operands)]

        def transposed(*cts: Any, operands: Any = operands, case: Case = case) -> Any:
            results = case.primitive.transpose(cts, operands, case.params, None)
            return [ct for ct in results if ct is not None]

        try:
            if ad.eval_shape(transposed, *cts):
                found.append(i)
        except AssertionError:  # the rule states that it is not linear there
            continue
    return found


@pytest.mark.parametrize("name", names(lambda p: p.transpose is not None and can_move(p)))
def test_an_operation_with_a_transpose_is_linear_and_its_transpose_is_the_adjoint(name):
    """Linear in each operand that has a cotangent, up to what the other operands add to it."""
    tried = 0
    for case in _wide_cases(name):
        for i in _linear_operands(case):
            where = (name, case.label, i)
            tried += 1
            x = case.operands[i]
            random = generator("linear", *where)
            y = draw(random, x.shape, x.dtype, (-2.0, 2.0))

            def alone(operand: Any, case: Case = case, i: int = i) -> Any:
                operands = list(case.operands)
                operands[i] = operand
                return case(*operands)

            offset = alone(np.zeros_like(x))
            fx, fy, both = alone(x), alone(y), alone(2.0 * x - 3.0 * y)
            if not all(dtypes.is_inexact(a.dtype) for a in fx):
                continue
            for a, b, c, o in zip(fx, fy, both, offset, strict=True):
                near = 100 * _unit(c, x)
                np.testing.assert_allclose(
                    c - o, 2.0 * (a - o) - 3.0 * (b - o), rtol=near, atol=near
                )
            cts = _cotangents(case, fx)
            (pulled,) = ad.linear_transpose(alone, x)(cts)
            assert type_of(pulled) is type_of(x), where
            moved = [np.asarray(a - o) for a, o in zip(fx, offset, strict=True)]
            near = 100 * _unit(x, *moved)
            expected = pytest.approx(pairing(cts, moved), rel=near, abs=near)
            assert pairing([pulled], [x]) == expected, where
    assert tried


# -------------------------------------------------------------------------------- literal operands


@pytest.mark.parametrize(
    "name", names(lambda p: is_elementwise(p) and can_move(p) and arity(p) > 1)
)
def test_operands_that_are_literals_of_a_jitted_function_are_no_different(name):
    """A number in the source of a jitted function reaches rules as a number, not as a tracer."""
    primitive = primitives[name]
    if np.dtype(np.float64) not in supported(primitive):
        return
    (case, *_) = cases(primitive, np.dtype(np.float64))
    numbers = [x.ravel()[0] for x in case.operands]
    for i in case.moving:
        x = numbers[i]

        def alone(moved: Any, i: int = i) -> Any:
            return case(*numbers[:i], moved, *numbers[i + 1 :])[0]

        def with_arguments(moved: Any, *others: Any, i: int = i) -> Any:
            return case(*others[:i], moved, *others[i:])[0]

        others = [*numbers[:i], *numbers[i + 1 :]]
        for transform in (lambda f: f, ad.grad):
            if not dtypes.is_float(ad.eval_shape(alone, x).dtype):
                continue
            found = ad.grad(transform(ad.jit(alone)))(x)
            expected = ad.grad(transform(with_arguments))(x, *others)
            np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
            mapped = ad.vmap(ad.grad(ad.jit(transform(alone))))(np.array([x, x]))
            np.testing.assert_allclose(mapped, [found, found], rtol=1e-14, atol=1e-14)
