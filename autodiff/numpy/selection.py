"""Choosing between values: where, clip, select, and tests and repairs of special values."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_dtypes import finfo

from autodiff.ir.avals import PYTHON_SCALARS
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import array_functions
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, operand_of, written_into
from autodiff.primitives.arithmetic import (
    absolute,
    imag,
    make_complex,
    maximum,
    minimum,
    positive,
    real,
    subtract,
)
from autodiff.primitives.arithmetic import where as where_elementwise
from autodiff.primitives.comparison import (
    equal,
    isfinite,
    isinf,
    isnan,
    logical_and,
    logical_not,
    logical_or,
    signbit,
)
from autodiff.primitives.families import broadcast_to, convert
from autodiff.primitives.reductions import all_

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
    x, y = operand_of(x), operand_of(y)
    return where_elementwise(operand_of(condition), _wrapped(x, y), _wrapped(y, x))


def _wrapped(x: Any, other: Any) -> Any:
    """Return a Python integer as NumPy's own `where` takes it beside an integer type.

    Beyond the type's range NumPy up to 2.4 wraps it around, later ones raise OverflowError.
    """
    dtype = getattr(other, "dtype", None)
    if type(x) is not int or dtype is None or dtype.kind not in "iu":
        return x
    return np.where(True, x, dtype.type(0))[()]


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


@array_function(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """Return, element by element, the choice of the first condition that holds, else `default`."""
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(
            "select: there must be one condition for each choice, got "
            f"{len(condlist)} conditions and {len(choicelist)} choices."
        )
    conditions = [array_of(condition) for condition in condlist]
    for i, condition in enumerate(conditions):
        if condition.dtype != bool:
            raise TypeError(
                f"select: conditions must be bool, got condlist[{i}] of type {condition.dtype}."
            )
    choices = [x if type(x) in PYTHON_SCALARS else array_of(x) for x in (*choicelist, default)]
    kinds = [x if type(x) in PYTHON_SCALARS else x.dtype for x in choices]
    dtype = np.result_type(*kinds)
    *choices, result = [convert(array_of(x), dtype) for x in choices]
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = where_elementwise(condition, choice, result)
    return result


def _conditions(x: Any, condlist: Any) -> list[Any]:
    is_single = type(condlist) in PYTHON_SCALARS or (
        x.ndim
        and not isinstance(condlist[0], list | tuple)
        and not getattr(condlist[0], "shape", ())
    )
    return [convert(array_of(c), np.bool_) for c in ([condlist] if is_single else condlist)]


@array_function(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """Return, element by element, the function (or number) of the last condition that holds.

    Unlike NumPy's, which calls each function with the elements it is wanted for, this calls each
    with all of `x`, so that the shapes do not depend on values.
    """
    x = array_of(x)
    conditions = _conditions(x, condlist)
    if len(funclist) not in (len(conditions), len(conditions) + 1):
        raise ValueError(
            f"piecewise: with {len(conditions)} conditions there must be {len(conditions)} or "
            f"{len(conditions) + 1} functions, got {len(funclist)}."
        )
    pieces = [f(x, *args, **kw) if callable(f) else f for f in funclist]
    pieces = [convert(array_of(piece), x.dtype) for piece in pieces]
    result = pieces.pop() if len(pieces) > len(conditions) else x.dtype.type(0)
    for condition, piece in zip(conditions, pieces, strict=True):
        result = where_elementwise(condition, piece, result)
    return broadcast_to(array_of(result), x.shape)


# ---------------------------------------------------------------------- special values, comparisons


def _repaired(x: Any, nan: Any, posinf: Any, neginf: Any) -> Any:
    limits = finfo(x.dtype)
    positive_limit = limits.max if posinf is None else posinf
    negative_limit = limits.min if neginf is None else neginf
    x = where_elementwise(isnan(x), convert(array_of(nan), x.dtype), x)
    infinite = isinf(x)
    x = where_elementwise(infinite & (x > 0), convert(array_of(positive_limit), x.dtype), x)
    return where_elementwise(infinite & (x < 0), convert(array_of(negative_limit), x.dtype), x)


@array_function(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """Return `x` with NaN as `nan` and infinities as `posinf` and `neginf` (largest numbers)."""
    z = array_of(x)
    if z.dtype.kind in "biu":
        result = positive(z) if z.dtype != bool else z
    elif z.dtype.kind == "c":
        parts = [_repaired(part, nan, posinf, neginf) for part in (real(z), imag(z))]
        result = make_complex(*parts)
    else:
        result = _repaired(z, nan, posinf, neginf)
    return result if copy or type(x) is not Tracer else written_into("nan_to_num", x, result)


@array_function(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Return where |a - b| <= atol + rtol |b|; infinities are close if equal."""
    x, y = operand_of(a), operand_of(b)
    if type(y) in PYTHON_SCALARS:
        y = float(y) if isinstance(y, int) else y
    else:
        y = convert(array_of(y), np.result_type(y.dtype, 1.0))
    near = absolute(subtract(x, y)) <= atol + rtol * absolute(y)
    result = logical_or(logical_and(near, isfinite(y)), equal(x, y))
    return logical_or(result, logical_and(isnan(x), isnan(y))) if equal_nan else result


def _every(x: Any) -> Any:
    return bind_primitive(all_, (x,), {"axes": tuple(range(x.ndim))})


@array_function(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Return whether all elements are close, as a 0-d bool (NumPy's is a Python bool)."""
    return _every(array_of(isclose(a, b, rtol, atol, equal_nan)))


@array_function(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Return whether shapes and elements are equal, as a 0-d bool."""
    x, y = array_of(a1), array_of(a2)
    if x.shape != y.shape:
        return np.bool_(False)
    same = equal(x, y)
    if equal_nan:
        same = logical_or(same, logical_and(isnan(x), isnan(y)))
    return _every(array_of(same))


@array_function(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Any:
    """Return whether all elements are equal after broadcasting, as a 0-d bool."""
    x, y = array_of(a1), array_of(a2)
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return np.bool_(False)
    return _every(array_of(equal(x, y)))


@array_function(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    """Return whether the element type is complex."""
    return array_of(x).dtype.kind == "c"


@array_function(np.isrealobj)
def isrealobj(x: Any) -> bool:
    """Return whether the element type is not complex."""
    return not iscomplexobj(x)


@array_function(np.iscomplex)
def iscomplex(x: Any) -> Any:
    """Return where the imaginary part is not 0."""
    z = array_of(x)
    return imag(z) != 0 if z.dtype.kind == "c" else np.zeros(z.shape, bool)


@array_function(np.isreal)
def isreal(x: Any) -> Any:
    """Return where the imaginary part is 0."""
    z = array_of(x)
    return imag(z) == 0 if z.dtype.kind == "c" else np.ones(z.shape, bool)


@array_function(np.isposinf)
def isposinf(x: Any, out: Any = None) -> Any:
    """Return where the element is positive infinity."""
    result = logical_and(isinf(operand_of(x)), logical_not(signbit(operand_of(x))))
    return result if out is None else written_into("isposinf", out, result)


@array_function(np.isneginf)
def isneginf(x: Any, out: Any = None) -> Any:
    """Return where the element is negative infinity."""
    result = logical_and(isinf(operand_of(x)), signbit(operand_of(x)))
    return result if out is None else written_into("isneginf", out, result)
