"""Comparisons, logic and tests of single numbers: bool results, no derivative."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from autodiff.ir.primitive import Samples
from autodiff.primitives.families import ANY, elementwise
from autodiff.primitives.lowering import operation

_WHY = "its result is bool"
_compare = partial(
    elementwise,
    not_differentiable=_WHY,
    samples=Samples(points=(-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan)),
)

equal = _compare(
    "equal", np.equal, doc="x == y.", operator="eq", commutative=True, lower=operation("equal")
)
not_equal = _compare(
    "not_equal",
    np.not_equal,
    doc="x != y.",
    operator="ne",
    commutative=True,
    lower=operation("not_equal"),
)
less = _compare("less", np.less, doc="x < y.", operator="lt", lower=operation("less"))
less_equal = _compare(
    "less_equal", np.less_equal, doc="x <= y.", operator="le", lower=operation("less_equal")
)
greater = _compare("greater", np.greater, doc="x > y.", operator="gt", lower=operation("greater"))
greater_equal = _compare(
    "greater_equal",
    np.greater_equal,
    doc="x >= y.",
    operator="ge",
    lower=operation("greater_equal"),
)


def _on_truth_values(operands: tuple[Any, ...]) -> Any:
    return (np.dtype(bool),) * len(operands), (np.dtype(bool),)


_logic = partial(_compare, promote=_on_truth_values)
logical_and = _logic(
    "logical_and",
    np.logical_and,
    doc="Both are nonzero.",
    commutative=True,
    lower=operation("logical_and"),
)
logical_or = _logic(
    "logical_or",
    np.logical_or,
    doc="One is nonzero.",
    commutative=True,
    lower=operation("logical_or"),
)
logical_xor = _logic(
    "logical_xor",
    np.logical_xor,
    doc="Exactly one is nonzero.",
    commutative=True,
    lower=operation("logical_xor"),
)
logical_not = _logic(
    "logical_not", np.logical_not, doc="It is zero.", lower=operation("logical_not")
)

isnan = _compare("isnan", np.isnan, doc="It is not a number.", dtypes=ANY, lower=operation("isnan"))
isinf = _compare("isinf", np.isinf, doc="It is infinite.", dtypes=ANY, lower=operation("isinf"))
isfinite = _compare(
    "isfinite",
    np.isfinite,
    doc="It is neither infinite nor NaN.",
    dtypes=ANY,
    lower=operation("isfinite"),
)
signbit = _compare(
    "signbit", np.signbit, doc="Its sign bit is set.", dtypes="iuf", lower=operation("signbit")
)
