"""Order statistics (median, quantile, percentile) and reductions that ignore NaN."""

from __future__ import annotations

from math import prod as product
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import array_functions, primitives
from autodiff.numpy.arguments import reduced_axes, refuse_out
from autodiff.numpy.cumulative import cumprod, cumsum
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, inexact, permuted, reshaped, sliced
from autodiff.numpy.reductions import (
    any_,
    count_nonzero,
    flat_sqrt,
    max_,
    mean_,
    min_,
    prod_,
    reduced_shape,
    sum_,
    var,
)
from autodiff.primitives.arithmetic import minimum
from autodiff.primitives.arithmetic import where as choose
from autodiff.primitives.comparison import isnan, logical_not
from autodiff.primitives.families import broadcast_to, convert
from autodiff.primitives.rounding import floor

# ------------------------------------------------------------------------------- order statistics


def _sorted_first(function: str, x: Any, axis: Any) -> Any:
    """Return the elements over the reduced axes, taken together and sorted, as the first axis."""
    axes = reduced_axes(function, axis, x.ndim)
    kept = tuple([i for i in range(x.ndim) if i not in axes])
    count = product([x.shape[i] for i in axes])
    moved = permuted(x, (*axes, *kept))
    flat = reshaped(moved, (count, *moved.shape[len(axes) :]))
    return bind_primitive(primitives["sort"], (flat,), {"axis": 0})


@array_function(np.median)
def median(
    a: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    keepdims: Any = False,
) -> Any:
    """Return the middle value over axes, of two the mean; NaN where there is one, or nothing."""
    refuse_out("median", out)
    x = array_of(a)
    axes = reduced_axes("median", axis, x.ndim)
    ordered = _sorted_first("median", x, axes)
    count = ordered.shape[0]
    result = mean_(sliced(ordered, 0, max(count - 1, 0) // 2, count // 2 + (count > 0)), 0)
    if count and dtypes.is_inexact(x.dtype):
        last = reshaped(sliced(ordered, 0, count - 1, count), result.shape)
        result = choose(isnan(last), last, result)
    return reshaped(result, reduced_shape(x.shape, axes, keepdims))


def _checked_fractions(function: str, q: Any, method: Any, weights: Any, largest: int) -> None:
    if method != "linear" or weights is not None:
        raise ValueError(
            message(
                function,
                "on traced values the method must be 'linear', without weights",
                f"method={method!r}" + ("" if weights is None else ", weights"),
                line=user_line(),
            )
        )
    if type(q) is not Tracer and not np.all((np.asarray(q) >= 0) & (np.asarray(q) <= largest)):
        raise ValueError(
            message(function, f"q must be from 0 to {largest}", f"q={q}", line=user_line())
        )


def _quantile(function: str, x: Any, q: Any, axis: Any, keepdims: Any) -> Any:
    """Return sorted elements at the fractional positions (n - 1) q, linearly interpolated."""
    whole = dtypes.is_integer(q.dtype)  # 0 or 1: an element itself, in its own type
    x = x if whole else inexact(x)
    axes = reduced_axes(function, axis, x.ndim)
    ordered = _sorted_first(function, x, axes)
    count, *rest = ordered.shape
    if count == 0:
        raise ValueError(
            message(
                function,
                "there must be an element",
                f"an array of shape {x.shape} with axis={axis}",
                line=user_line(),
            )
        )
    position = q * (count - 1)
    take = array_functions[np.take]
    if whole:
        result = take(ordered, position, axis=0)
    else:
        lower = floor(position)
        index = convert(lower, np.int64)
        below = take(ordered, index, axis=0)
        above = take(ordered, minimum(index + 1, count - 1), axis=0)
        weight = reshaped(position - lower, q.shape + (1,) * len(rest))
        # From the nearer end, so that the result at either end is exact.
        step = above - below
        result = choose(weight >= 0.5, above - step * (1 - weight), below + step * weight)
    if dtypes.is_inexact(x.dtype):
        last = reshaped(sliced(ordered, 0, count - 1, count), tuple(rest))
        result = choose(isnan(last), convert(last, result.dtype), result)
    return reshaped(result, q.shape + reduced_shape(x.shape, axes, keepdims))


def _fractions(x: Any, q: Any) -> Any:
    """Return `q` as an array; a Python number takes the type of a floating array."""
    if type(q) in (int, float) and x.dtype.kind == "f":
        return np.asarray(q, x.dtype)
    return array_of(q)


@array_function(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: Any = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
) -> Any:
    """Return the value below which a fraction `q` of the elements over axes lies, interpolated.

    The axes of `q` come first. `q` may be traced.
    """
    refuse_out("quantile", out)
    _checked_fractions("quantile", q, method, weights, 1)
    x = array_of(a)
    return _quantile("quantile", x, _fractions(x, q), axis, keepdims)


@array_function(np.percentile)
def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: Any = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
) -> Any:
    """Return the value below which `q` percent of the elements over axes lie, interpolated."""
    refuse_out("percentile", out)
    _checked_fractions("percentile", q, method, weights, 100)
    x = array_of(a)
    return _quantile("percentile", x, _fractions(x, q) / 100, axis, keepdims)


# ------------------------------------------------------------------------------------ ignoring NaN


def _without_nan(x: Any, fill: Any, where: Any = True) -> tuple[Any, Any]:
    """Return the array with `fill` in place of NaN, and the mask of what counts."""
    if not dtypes.is_inexact(x.dtype):
        return x, where
    counts = logical_not(isnan(x))
    x = choose(counts, x, x.dtype.type(fill))
    if where is not True:
        counts = counts & convert(array_of(where), bool)
    return x, counts


@array_function(np.nansum)
def nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the sum over axes of what is not NaN."""
    x, _ = _without_nan(array_of(a), 0)
    return sum_(x, axis, dtype, out, keepdims, initial, where)


@array_function(np.nanprod)
def nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the product over axes of what is not NaN."""
    x, _ = _without_nan(array_of(a), 1)
    return prod_(x, axis, dtype, out, keepdims, initial, where)


@array_function(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Return the running sum along an axis, NaN counting as 0."""
    return cumsum(_without_nan(array_of(a), 0)[0], axis, dtype, out)


@array_function(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Return the running product along an axis, NaN counting as 1."""
    return cumprod(_without_nan(array_of(a), 1)[0], axis, dtype, out)


@array_function(np.nanmean)
def nanmean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    """Return the mean over axes of what is not NaN; NaN where there is nothing else."""
    x, counts = _without_nan(array_of(a), 0, where)
    return mean_(x, axis, dtype, out, keepdims, where=counts)


@array_function(np.nanvar)
def nanvar(
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
    """Return the variance over axes of what is not NaN; NaN where no more than `ddof` is left."""
    x, counts = _without_nan(array_of(a), 0, where)
    options = {"where": counts, "mean": mean, "correction": correction}
    result = var(x, axis, dtype, out, ddof, keepdims, **options)
    if counts is True:
        return result
    number = count_nonzero(broadcast_to(counts, x.shape), axis, keepdims=keepdims)
    enough = number > (ddof if correction is None else correction)
    return choose(enough, result, result.dtype.type(np.nan))


@array_function(np.nanstd)
def nanstd(
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
    """Return the standard deviation over axes of what is not NaN, with derivative 0 at 0."""
    options = {"where": where, "mean": mean, "correction": correction}
    return flat_sqrt(nanvar(a, axis, dtype, out, ddof, keepdims, **options))


def _nan_extremum(
    function: Any, fill: Any, a: Any, axis: Any, keepdims: Any, initial: Any, where: Any
) -> Any:
    x = array_of(a)
    if not dtypes.is_inexact(x.dtype):
        return function(x, axis, None, keepdims, initial, where)
    clean, counts = _without_nan(x, fill, where)
    result = function(clean, axis, None, keepdims, initial, where)
    if initial is not None:
        return result
    something = any_(counts, axis, keepdims=keepdims)
    return choose(something, result, result.dtype.type(np.nan))


@array_function(np.nanmax)
def nanmax(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the largest element over axes that is not NaN; NaN where there is none."""
    refuse_out("nanmax", out)
    return _nan_extremum(max_, -np.inf, a, axis, keepdims, initial, where)


@array_function(np.nanmin)
def nanmin(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Return the smallest element over axes that is not NaN; NaN where there is none."""
    refuse_out("nanmin", out)
    return _nan_extremum(min_, np.inf, a, axis, keepdims, initial, where)
