"""Elementwise functions made of others: powers, quotients with remainder, parts of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.builder import Tracer
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, axis_index, operand_of, permuted, sliced
from autodiff.primitives.arithmetic import (
    absolute,
    copysign,
    floor_divide,
    fmod,
    negative,
    power_of,
    remainder,
    subtract,
    where,
)
from autodiff.primitives.arithmetic import angle as angle_elementwise
from autodiff.primitives.comparison import isinf
from autodiff.primitives.exponential import ldexp
from autodiff.primitives.families import convert
from autodiff.primitives.floating_parts import binary_exponent
from autodiff.primitives.rounding import trunc


def _own_type(ufunc: np.ufunc, *operands: Any) -> Any:
    """Return the element type to which a ufunc converts its operands, the largest of them."""
    kinds = []
    for x in operands:
        if type(x) is Tracer:
            kinds.append(dtypes.python_type(x.dtype) if x.aval.weak else x.dtype)
        else:
            kinds.append(x.dtype if hasattr(x, "dtype") else type(x))
    if not any(isinstance(kind, np.dtype) for kind in kinds):
        kinds = [dtypes.default_dtype(kind) for kind in kinds]
    return ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))[0]


@array_function(np.power)
def power(x1: Any, x2: Any, /) -> Any:
    """Return x1 to the power x2. An exponent given as a Python number is exact and cheap."""
    x, y = operand_of(x1), operand_of(x2)
    if type(x) is not Tracer:
        return power_of(x, y)
    if type(y) in (int, float):
        x = array_of(x)
    if type(y) is int and x.dtype == bool:
        x = convert(x, np.int64)
    return power_of(x, y)


@array_function(np.float_power)
def float_power(x1: Any, x2: Any, /) -> Any:
    """Return x1 to the power x2, computed in float64 or complex128."""
    x, y = operand_of(x1), operand_of(x2)
    dtype = _own_type(np.float_power, x, y)
    if isinstance(y, int | float):
        return power_of(convert(array_of(x), dtype), float(y))
    return power_of(convert(array_of(x), dtype), convert(array_of(y), dtype))


@array_function(np.fabs)
def fabs(x: Any, /) -> Any:
    """Return the absolute value of a real number, integers as floating point."""
    x = operand_of(x)
    return absolute(convert(array_of(x), _own_type(np.fabs, x)))


@array_function(np.divmod)
def divmod_(x1: Any, x2: Any, /) -> Any:
    """Return the quotient rounded down and the remainder."""
    x, y = operand_of(x1), operand_of(x2)
    return floor_divide(x, y), remainder(x, y)


def _divmod_operator(self: Tracer, other: Any) -> Any:
    return divmod_(self, other)


def _reflected_divmod_operator(self: Tracer, other: Any) -> Any:
    return divmod_(other, self)


Tracer.__divmod__ = _divmod_operator  # type: ignore[attr-defined]
Tracer.__rdivmod__ = _reflected_divmod_operator  # type: ignore[attr-defined]


@array_function(np.modf)
def modf(x: Any, /) -> Any:
    """Return the fractional and the integral part, both with the sign of `x`."""
    x = operand_of(x)
    x = convert(array_of(x), _own_type(np.modf, x))
    zero, one = x.dtype.type(0), x.dtype.type(1)
    infinite = isinf(x)
    fraction = where(infinite, copysign(zero, x), fmod(where(infinite, one, x), one))
    return fraction, trunc(x)


@array_function(np.frexp)
def frexp(x: Any, /) -> Any:
    """Return mantissa m and exponent n such that x = m * 2**n; the exponent has no derivative."""
    x = operand_of(x)
    x = convert(array_of(x), _own_type(np.frexp, x))
    exponent = binary_exponent(x)
    return ldexp(x, negative(exponent)), exponent


@array_function(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    """Return the argument of complex numbers, in radians or, with `deg`, in degrees."""
    x = array_of(z)
    result = angle_elementwise(convert(x, np.int64) if x.dtype == bool else x)
    return result * (180 / np.pi) if deg else result


@array_function(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * np.pi) -> Any:
    """Return angles with jumps larger than `discont` (half a period) replaced by their complement.

    The jumps are whole periods, so the derivative is that of `p`.
    """
    x = array_of(p)
    place = axis_index(axis, x.ndim)
    x = permuted(x, (*(i for i in range(x.ndim) if i != place), place))
    last, size = x.ndim - 1, x.shape[-1]
    steps = subtract(sliced(x, last, 1, max(size, 1)), sliced(x, last, 0, max(size - 1, 0)))
    discont = period / 2 if discont is None else discont
    dtype = np.result_type(steps.dtype, period)
    if dtypes.is_integer(dtype):
        half, odd = divmod(period, 2)
        is_ambiguous = odd == 0
    else:
        half, is_ambiguous = period / 2, True
    wrapped = remainder(steps + half, period) - half
    if is_ambiguous:
        wrapped = where((wrapped == -half) & (steps > 0), half, wrapped)
    correction = where(absolute(steps) < discont, steps * 0, wrapped - steps)
    first = sliced(x, last, 0, min(size, 1))
    rest = sliced(x, last, 1, max(size, 1)) + np.cumsum(correction, axis=last)
    result = np.concatenate([convert(first, dtype), convert(rest, dtype)], axis=last)
    order = list(range(last))
    order.insert(place, last)
    return permuted(result, tuple(order))
