"""Choosing between values: where, clip, select, and tests and repairs of special values."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.ir.primitive import array_functions
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, operand_of, written_into
from autodiff.primitives.arithmetic import maximum, minimum, positive
from autodiff.primitives.arithmetic import where as where_elementwise

_ABSENT = object()


@array_function(np.where)
def where(condition: Any, x: Any = _ABSENT, y: Any = _ABSENT, /) -> Any:
    """Return `x` where the condition holds, else `y`; with one argument, the positions it holds at.

    The positions need the condition's value, so the one-argument form does not work inside `jit`.
    """
    if x is _ABSENT and y is _ABSENT:
        return array_functions[np.nonzero](condition)
    if x is _ABSENT or y is _ABSENT:
        raise ValueError("where: either both or neither of x and y must be given, got one.")
    return where_elementwise(operand_of(condition), operand_of(x), operand_of(y))


@array_function(np.clip, method="clip")
def clip(
    a: Any,
    a_min: Any = _ABSENT,
    a_max: Any = _ABSENT,
    out: Any = None,
    *,
    min: Any = _ABSENT,
    max: Any = _ABSENT,
    dtype: Any = None,
) -> Any:
    """Return `a` limited to the interval from `min` to `max`; None is no limit.

    At a limit half of the derivative goes to `a`, half to the limit.
    """
    if min is not _ABSENT or max is not _ABSENT:
        if a_min is not _ABSENT or a_max is not _ABSENT:
            raise ValueError("clip: min and max cannot be given beside a_min and a_max.")
        a_min, a_max = min, max
    low = None if a_min is _ABSENT else operand_of(a_min)
    high = None if a_max is _ABSENT else operand_of(a_max)
    x = array_of(a)
    if dtype is not None:
        x = x.astype(dtype)
    if x.dtype.kind in "iu":  # a Python integer that no element can pass is no limit
        if type(low) is int and low <= np.iinfo(x.dtype).min:
            low = None
        if type(high) is int and high >= np.iinfo(x.dtype).max:
            high = None
    result = x
    if low is not None:
        result = maximum(result, low)
    if high is not None:
        result = minimum(result, high)
    if result is x:
        result = positive(x)
    return result if out is None else written_into("clip", out, result)
