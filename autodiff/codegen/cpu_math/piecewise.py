"""One Horner scheme for several polynomials, chosen lane by lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autodiff.codegen.scalar_types import Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder


def piecewise_polynomial(
    b: VectorBuilder, x: Value, pieces: Sequence[tuple[Value | None, Sequence[float]]]
) -> Value:
    """Return the polynomial of the first piece whose mask is set; the last piece has none.

    The coefficients are selected lane by lane, constant term first: a selection costs less than a
    second multiplication. Shorter pieces are continued with zeros.
    """
    *masked, (_, rest) = pieces
    degree = max(len(coefficients) for _, coefficients in pieces) - 1

    def coefficient(k: int) -> Value:
        chosen = b.const(rest[k] if k < len(rest) else 0.0, x.type)
        for mask, coefficients in reversed(masked):
            assert mask is not None
            number = coefficients[k] if k < len(coefficients) else 0.0
            chosen = b.select(mask, b.const(number, x.type), chosen)
        return chosen

    value = coefficient(degree)
    for k in reversed(range(degree)):
        value = b.muladd(value, x, coefficient(k))
    return value
