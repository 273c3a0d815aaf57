"""The exponent of a floating-point number."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.ir.primitive import Samples
from autodiff.primitives.families import elementwise


def _promotion(operands: tuple[Any, ...]) -> Any:
    own, _, exponent = np.frexp.resolve_dtypes((operands[0], None, None))
    return (own,), (exponent,)


binary_exponent = elementwise(
    "binary_exponent",
    lambda x: np.frexp(x)[1],
    doc="The integer n such that x = m * 2**n with 0.5 <= |m| < 1; 0 of 0, NaN and infinity.",
    promote=_promotion,
    not_differentiable="its result is an integer",
    public=False,
    dtypes="f",
    samples=Samples(points=(-1.5, -0.0, 0.0, 1e-310, 1.0, 2.0, np.inf, np.nan)),
    lower=lambda o, x: o.binary_exponent(x),
)
