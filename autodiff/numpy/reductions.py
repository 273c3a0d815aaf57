"""Reductions: sums, products, means, variances, extrema, truth values, positions.

Values, element types and shapes are NumPy's. On traced values `out=` is refused, and empty means
give NaN without a warning.
"""

from __future__ import annotations

from math import prod as product
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import Shape
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import Primitive
from autodiff.numpy.arguments import axis_of, reduced_axes, refuse_out, renewed
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, inexact, reshaped
from autodiff.primitives import reductions
from autodiff.primitives.arithmetic import (
    absolute,
    add,
    imag,
    maximum,
    minimum,
    multiply,
    real,
    sign,
    square,
)
from autodiff.primitives.arithmetic import where as choose
from autodiff.primitives.comparison import isfinite
from autodiff.primitives.exponential import exp, log, sqrt
from autodiff.primitives.families import broadcast_to, convert
from autodiff.primitives.rounding import rint

#: The type in which NumPy adds and multiplies the elements of a type, where it is another.
_ACCUMULATORS = {
    np.dtype(bool): np.dtype(np.int64),
    **{np.dtype(f"i{size}"): np.dtype(np.int64) for size in (1, 2, 4)},
    **{np.dtype(f"u{size}"): np.dtype(np.uint64) for size in (1, 2, 4)},
}


def accumulated_type(x: Any, dtype: Any) -> Any:
    """Return `x` in the type NumPy adds its elements in: `dtype`, or 64 bits for small integers."""
    if dtype is None:
        dtype = _ACCUMULATORS.get(x.dtype)
        return x if dtype is None else convert(x, dtype)
    return convert(x, np.dtype(dtype))


def reduced_shape(shape: Shape, axes: Shape, keepdims: Any) -> Shape:
    """Return the shape that a reduction over `axes` leaves."""
    if keepdims:
        return tuple([1 if i in axes else n for i, n in enumerate(shape)])
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def reduce_axes(primitive: Primitive, x: Any, axes: Shape, keepdims: Any = False) -> Any:
    """Return `x` reduced over `axes`, which `keepdims` leaves with size 1."""
    result = bind_primitive(primitive, (x,), {"axes": axes}) if axes else renewed(x)
    return reshaped(result, reduced_shape(x.shape, axes, True)) if keepdims else result


def masked(x: Any, where: Any, fill: Any) -> Any:
    """Return `x` where the mask `where` holds, elsewhere `fill`."""
    mask = broadcast_to(convert(array_of(where), bool), x.shape)
    return choose(mask, x, x.dtype.type(fill))


def _as_initial(value: Any, dtype: np.dtype) -> Any:
    return convert(array_of(value), dtype)


# ------------------------------------------------------------------------------- sums and products


@array_function(np.sum, method="sum")
def sum_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the sum of elements over axes, integers in 64 bits."""
    if out is not None:
        refuse_out("sum", out)
    x = accumulated_type(array_of(a), dtype)
    if where is not True:
        x = masked(x, where, 0)
    result = reduce_axes(reductions.sum_, x, reduced_axes("sum", axis, x.ndim), keepdims)
    return result if initial is None else add(result, _as_initial(initial, x.dtype))


@array_function(np.prod, method="prod")
def prod_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the product of elements over axes; its derivatives are exact beside zeros."""
    refuse_out("prod", out)
    x = accumulated_type(array_of(a), dtype)
    if where is not True:
        x = masked(x, where, 1)
    result = reduce_axes(reductions.prod, x, reduced_axes("prod", axis, x.ndim), keepdims)
    return result if initial is None else multiply(result, _as_initial(initial, x.dtype))


@array_function(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    """Return how many elements along axes are not zero, as int64."""
    return sum_(convert(array_of(a), bool), axis, keepdims=keepdims)


# ------------------------------------------------------------------------------- means and spreads


def _counted(where: Any, shape: Shape, axes: Shape, keepdims: Any) -> Any:
    """Return how many elements a reduction takes: a number, or with a mask an array."""
    if where is True:
        return product([shape[i] for i in axes])
    mask = broadcast_to(convert(array_of(where), bool), shape)
    return reduce_axes(reductions.sum_, convert(mask, np.int64), axes, keepdims)


def divided(total: Any, count: Any) -> Any:
    """Return `total / count` in the type of `total`, also where that is an integer type."""
    if not isinstance(count, int | float):
        count = convert(count, np.float64 if total.dtype.kind in "biu" else total.dtype)
    return convert(total / count, total.dtype)


@array_function(np.mean, method="mean")
def mean_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    """Return the arithmetic mean over axes: of integers in float64, of float16 through float32."""
    if out is not None:
        refuse_out("mean", out)
    x = array_of(a)
    own = x.dtype
    if dtype is not None:
        x = convert(x, np.dtype(dtype))
    elif own.kind in "biu":
        x = convert(x, np.float64)
    elif own == np.float16:
        x = convert(x, np.float32)
    axes = reduced_axes("mean", axis, x.ndim)
    count = _counted(where, x.shape, axes, keepdims)
    if where is not True:
        x = masked(x, where, 0)
    result = divided(reduce_axes(reductions.sum_, x, axes, keepdims), count)
    return convert(result, own) if dtype is None and own == np.float16 else result


@array_function(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    """Return the average over axes, weighted or not; with `returned` also the sum of weights.

    Weights that add up to zero give NaN or infinity where NumPy raises ZeroDivisionError.
    """
    x = array_of(a)
    if weights is None:
        result = mean_(x, axis, keepdims=keepdims)
        scale = result.dtype.type(x.size / result.size if result.size else np.nan)
    else:
        w = array_of(weights)
        kinds = [x.dtype, w.dtype] + ([np.dtype(np.float64)] if x.dtype.kind in "biu" else [])
        dtype = np.result_type(*kinds)
        w = _spread_weights(x, w, axis)
        scale = sum_(w, axis, dtype=dtype, keepdims=keepdims)
        result = sum_(convert(x, dtype) * convert(w, dtype), axis, keepdims=keepdims) / scale
    if returned:
        return result, renewed(broadcast_to(scale, result.shape))
    return result


def _spread_weights(x: Any, weights: Any, axis: Any) -> Any:
    """Return weights given along `axis` (or for every element) with the axes of `x`."""
    if weights.shape == x.shape:
        return weights
    axes = None if axis is None else reduced_axes("average", axis, x.ndim)
    if axes is None or weights.shape != tuple([x.shape[i] for i in axes]):
        raise ValueError(
            message(
                "average",
                "weights must have the shape of the array, or of its axes `axis`",
                f"weights of shape {weights.shape} where a has shape {x.shape} and axis={axis}",
                line=user_line(),
            )
        )
    return reshaped(weights, tuple([n if i in axes else 1 for i, n in enumerate(x.shape)]))


def flat_sqrt(x: Any) -> Any:
    """Return the square root with derivative 0 at 0, of sums of squares."""
    zero = x == 0
    nothing = x.dtype.type(0)
    return choose(zero, nothing, sqrt(choose(zero, x.dtype.type(1), x)))


def squared_modulus(x: Any) -> Any:
    """Return |x|**2, real."""
    if x.dtype.kind != "c":
        return square(x)
    return square(real(x)) + square(imag(x))


@array_function(np.var, method="var")
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """Return the variance over axes, the sum of squares divided by the count less `ddof`.

    Of complex numbers it is the mean of |x - mean|**2, real.
    """
    refuse_out("var", out)
    if correction is not None:
        if ddof != 0:
            raise ValueError(
                message(
                    "var",
                    "ddof and correction are one thing: give one of them",
                    f"ddof={ddof}, correction={correction}",
                    line=user_line(),
                )
            )
        ddof = correction
    x = array_of(a)
    if dtype is None and x.dtype.kind in "biu":
        x = convert(x, np.float64)
    axes = reduced_axes("var", axis, x.ndim)
    if mean is None:
        total = sum_(x, axes, dtype, keepdims=True, where=where)
        mean = divided(total, _counted(where, x.shape, axes, True))
    centered = x - mean
    if where is not True:  # before squaring, so that NaN outside the mask has no derivative
        centered = masked(centered, where, 0)
    total = sum_(squared_modulus(centered), axes, dtype, keepdims=keepdims)
    count = _counted(where, x.shape, axes, keepdims)
    freedom = max(count - ddof, 0) if where is True else maximum(count - ddof, 0)
    return divided(total, freedom)


@array_function(np.std, method="std")
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """Return the standard deviation over axes; its derivative where all are equal is 0."""
    refuse_out("std", out)
    return flat_sqrt(
        var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    )


# ----------------------------------------------------------------------------------------- extrema


def lowest(dtype: np.dtype) -> Any:
    """Return the least value of an element type (-inf for floating and complex ones)."""
    if dtypes.is_inexact(dtype):
        return -np.inf
    return False if dtypes.is_bool(dtype) else np.iinfo(dtype).min


def highest(dtype: np.dtype) -> Any:
    """Return the greatest value of an element type (inf for floating and complex ones)."""
    if dtypes.is_inexact(dtype):
        return np.inf
    return True if dtypes.is_bool(dtype) else np.iinfo(dtype).max


def _extremum(
    name: str,
    primitive: Primitive,
    pair: Primitive,
    a: Any,
    axis: Any,
    keepdims: Any,
    initial: Any,
    where: Any,
) -> Any:
    x = array_of(a)
    axes = reduced_axes(name, axis, x.ndim)
    if initial is None:
        if where is not True:
            raise ValueError(
                message(
                    name,
                    "a mask leaves possibly nothing to choose from, so initial= is needed with it",
                    "where=... without initial",
                    line=user_line(),
                )
            )
        if x.size == 0 and product(reduced_shape(x.shape, axes, False)):
            raise ValueError(
                message(
                    name,
                    "there must be an element to choose",
                    f"an array of shape {x.shape} with axis={axis}",
                    line=user_line(),
                    fix="give initial=, the result for no elements.",
                )
            )
        return reduce_axes(primitive, x, axes, keepdims)
    neutral = lowest(x.dtype) if pair is maximum else highest(x.dtype)
    initial = _as_initial(initial, x.dtype)
    if product([x.shape[i] for i in axes]) == 0:
        return renewed(broadcast_to(initial, reduced_shape(x.shape, axes, keepdims)))
    if where is not True:
        x = masked(x, where, neutral)
    return pair(reduce_axes(primitive, x, axes, keepdims), initial)


@array_function(np.max, np.amax, method="max")
def max_(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the largest element over axes, NaN if one is NaN; ties share the derivative."""
    refuse_out("max", out)
    return _extremum("max", reductions.max_, maximum, a, axis, keepdims, initial, where)


@array_function(np.min, np.amin, method="min")
def min_(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the smallest element over axes, NaN if one is NaN; ties share the derivative."""
    refuse_out("min", out)
    return _extremum("min", reductions.min_, minimum, a, axis, keepdims, initial, where)


@array_function(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """Return the range of values over axes: largest less smallest."""
    refuse_out("ptp", out)
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


def _position(name: str, primitive: Primitive, a: Any, axis: Any, keepdims: Any, dtype: Any) -> Any:
    x = array_of(a)
    ndim = x.ndim
    if axis is None or ndim == 0:
        if ndim == 0 and axis is not None:
            axis_of(name, axis, 1)
        x, place = reshaped(x, (x.size,)), 0
        kept: Shape = (1,) * ndim
    else:
        place = axis_of(name, axis, ndim)
        kept = tuple([1 if i == place else n for i, n in enumerate(x.shape)])
    if x.shape[place] == 0:
        raise ValueError(
            message(
                name,
                "there must be an element to choose",
                f"an array of shape {x.shape} with axis={axis}",
                line=user_line(),
            )
        )
    result = bind_primitive(primitive, (x,), {"axes": (place,)})
    result = result if dtype is None else convert(result, dtype)
    return reshaped(result, kept) if keepdims else result


@array_function(np.argmax, method="argmax")
def argmax(
    a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False, dtype: Any = None
) -> Any:
    """Return the position of the first largest element along an axis, or in the flat array.

    `dtype`, the result's, is an argument of CuPy's.
    """
    refuse_out("argmax", out)
    return _position("argmax", reductions.argmax, a, axis, keepdims, dtype)


@array_function(np.argmin, method="argmin")
def argmin(
    a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False, dtype: Any = None
) -> Any:
    """Return the position of the first smallest element along an axis, or in the flat array.

    `dtype`, the result's, is an argument of CuPy's.
    """
    refuse_out("argmin", out)
    return _position("argmin", reductions.argmin, a, axis, keepdims, dtype)


# ------------------------------------------------------------------------------------ truth values


def _truth(
    name: str, primitive: Primitive, a: Any, axis: Any, keepdims: Any, where: Any, neutral: bool
) -> Any:
    x = convert(array_of(a), bool)
    if where is not True:
        x = masked(x, where, neutral)
    return reduce_axes(primitive, x, reduced_axes(name, axis, x.ndim), keepdims)


@array_function(np.any, method="any")
def any_(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    """Return whether some element over axes is not zero."""
    refuse_out("any", out)
    return _truth("any", reductions.any_, a, axis, keepdims, where, False)


@array_function(np.all, method="all")
def all_(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    """Return whether every element over axes is not zero."""
    refuse_out("all", out)
    return _truth("all", reductions.all_, a, axis, keepdims, where, True)


# --------------------------------------------------------------------------------- log of a sum


@array_function()
def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: Any = False, return_sign: bool = False
) -> Any:
    """Return `log(sum(b * exp(a)))` over axes without overflow.

    With `return_sign` a pair: the logarithm of the sum's absolute value, and its sign. Without it a
    negative sum gives NaN. Derivatives at infinities, without `b`, are the softmax's limits.
    """
    x = inexact(a)
    if b is None and not return_sign:
        axes = reduced_axes("logsumexp", axis, x.ndim)
        return reduce_axes(reductions.logsumexp, x, axes, keepdims)
    factor = None if b is None else inexact(b)
    if factor is not None:
        shape = np.broadcast_shapes(x.shape, factor.shape)
        x = broadcast_to(choose(factor == 0, x.dtype.type(-np.inf), x), shape)
    axes = reduced_axes("logsumexp", axis, x.ndim)
    # Any shift gives the same result; a rounded one passes no derivative.
    shift = rint(max_(real(x), axes, keepdims=True, initial=-np.inf))
    shift = choose(isfinite(shift), shift, shift.dtype.type(0))
    terms = exp(x - shift)
    total = sum_(terms if factor is None else factor * terms, axes, keepdims=keepdims)
    shift = reshaped(shift, total.shape)
    if not return_sign:
        return log(total) + shift
    size = absolute(total)
    return log(size) + shift, sign(total)
