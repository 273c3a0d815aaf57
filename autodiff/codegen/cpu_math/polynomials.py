"""Sums of powers and sums of products, as every function of the library needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autodiff.codegen.scalar_types import F32, ScalarType, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder


def polynomial(b: VectorBuilder, x: Value, coefficients: Sequence[float]) -> Value:
    """Return sum(coefficients[k] * x**k), by Horner's rule."""
    total = b.const(coefficients[-1], x.type)
    for coefficient in coefficients[-2::-1]:
        total = b.muladd(total, x, b.const(coefficient, x.type))
    return total


def exact_muladd(b: VectorBuilder, x: Value, y: Value, z: Value) -> Value:
    """Return x*y + z as if x*y had twice its digits, for |x*y| that does not over- or underflow.

    `fma` where the target has it, else the product in two parts: then the error may be a little
    above half a unit.
    """
    if b.has_fma:
        return b.fma(x, y, z)
    product, error = b.two_product(x, y)
    return b.fadd(product, b.fadd(error, z))


def clamp(b: VectorBuilder, x: Value, low: float, high: float) -> Value:
    """Return x within [low, high]; NaN stays NaN."""
    return b.fmax(b.fmin(x, b.const(high, x.type)), b.const(low, x.type))


def by_type(type: ScalarType, f32: float, f64: float) -> float:
    """Return the constant meant for `type`."""
    return f32 if type is F32 else f64
