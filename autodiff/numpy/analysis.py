"""Interpolation, counting in bins, and covariance of samples."""

from __future__ import annotations

from typing import Any
from warnings import warn

import numpy as np

from autodiff.ir.builder import Tracer
from autodiff.numpy.contractions import einsum
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.indexing import at
from autodiff.numpy.operands import array_of, joined, permuted, reshaped, sliced, sum_axes
from autodiff.numpy.products import matmul
from autodiff.numpy.selection import clip
from autodiff.primitives.arithmetic import (
    absolute,
    conjugate,
    divide,
    imag,
    make_complex,
    maximum,
    minimum,
    multiply,
    real,
    remainder,
    subtract,
    where,
)
from autodiff.primitives.comparison import isfinite
from autodiff.primitives.exponential import sqrt
from autodiff.primitives.families import convert


def _taken(x: Any, index: Any) -> Any:
    """Return elements of a vector at places known to be in range."""
    return at(x)[index].get(mode="promise_in_bounds")


@array_function(np.interp)
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    """Return the values at `x` of the function that is linear between the points (xp, fp).

    `xp` must increase. Outside the points the value is `left` or `right`, by default that of the
    nearest point; with `period` the points repeat. At a point the derivative in `x` is the slope to
    its right.
    """
    xs, ys = array_of(xp), array_of(fp)
    x = convert(array_of(x), np.float64)
    xs = convert(xs, np.float64)
    ys = convert(ys, np.complex128 if ys.dtype.kind == "c" else np.float64)
    if xs.ndim != 1 or ys.ndim != 1 or xs.shape != ys.shape or not xs.size:
        raise ValueError(
            "interp: xp and fp must be vectors of one length, which is not 0, got shapes="
            f"{xs.shape}, {ys.shape}."
        )
    if period is not None:
        if not isinstance(period, Tracer) and period == 0:
            raise ValueError("interp: period must not be 0.")
        period = absolute(period)
        left = right = None
        x, xs = remainder(x, period), remainder(xs, period)
        order = np.argsort(xs)
        xs, ys = _taken(xs, order), _taken(ys, order)
        last = xs.size - 1
        xs = joined((sliced(xs, 0, last, last + 1) - period, xs, sliced(xs, 0, 0, 1) + period), 0)
        ys = joined((sliced(ys, 0, last, last + 1), ys, sliced(ys, 0, 0, 1)), 0)
    first, last = ys[0], ys[-1]
    below = first if left is None else convert(array_of(left), ys.dtype)
    above = last if right is None else convert(array_of(right), ys.dtype)
    if xs.size == 1:
        inside = first
    else:
        # the interval's left end: the last point not above x
        end = np.searchsorted(xs, x, side="right")
        low = minimum(maximum(end - 1, 0), xs.size - 2)
        inside = _on_segment(x, xs, ys, low)
    return where(x < xs[0], below, where(x > xs[-1], above, inside))


def _on_segment(x: Any, xs: Any, ys: Any, low: Any) -> Any:
    """Return the value at x of the line through points `low` and the next."""
    x_low, x_high = _taken(xs, low), _taken(xs, low + 1)
    y_low, y_high = _taken(ys, low), _taken(ys, low + 1)
    at_high = x >= x_high
    if ys.dtype.kind == "c":
        parts = [
            _line(x, x_low, x_high, part(y_low), part(y_high), at_high) for part in (real, imag)
        ]
        return make_complex(*parts)
    return _line(x, x_low, x_high, y_low, y_high, at_high)


def _line(x: Any, x_low: Any, x_high: Any, y_low: Any, y_high: Any, at_high: Any) -> Any:
    slope = divide(subtract(y_high, y_low), subtract(x_high, x_low))
    # At the last point the line is drawn from there, which gives that point's value exactly.
    from_low = slope * (x - where(at_high, x_high, x_low)) + where(at_high, y_high, y_low)
    exact = where(at_high, y_high, y_low)
    is_exact = (x == x_low) | at_high
    return where(isfinite(slope), from_low, where(is_exact, exact, from_low))


@array_function(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """Return the number of the bin that each element falls into; `bins` must be monotonic."""
    edges = array_of(bins)
    if edges.ndim != 1:
        raise ValueError(f"digitize: bins must have one axis, got shape={edges.shape}.")
    side = "left" if right else "right"
    falls = edges.shape[0] > 1 and bool(edges[0] > edges[-1])
    steps = subtract(edges[1:], edges[:-1])
    if not bool(np.all(steps <= 0 if falls else steps >= 0)):
        raise ValueError("digitize: bins must be monotonically increasing or decreasing.")
    if falls:
        return edges.shape[0] - np.searchsorted(edges[::-1], array_of(x), side=side)
    return np.searchsorted(edges, array_of(x), side=side)


@array_function(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """Return how often each number occurs, or the sum of the weights at its occurrences.

    The length of the result follows from the largest number, so `x` must have values: inside `jit`
    it must not be traced.
    """
    index = array_of(x)
    if index.ndim != 1 or index.dtype.kind not in "biu":
        raise TypeError(
            "bincount: x must be a vector of non-negative integers, got "
            f"{index.dtype} of shape {index.shape}."
        )
    size = int(minlength)
    if index.shape[0]:
        if int(np.min(index)) < 0:
            raise ValueError("bincount: x must not have negative elements.")
        size = max(size, int(np.max(index)) + 1)
    if weights is None:
        counts, each = np.zeros(size, np.int64), 1
    else:
        counts, each = np.zeros(size), convert(array_of(weights), np.float64)
        if each.shape != index.shape:
            raise ValueError(
                f"bincount: weights must have the shape of x {index.shape}, got {each.shape}."
            )
    return at(counts)[convert(index, np.int64)].add(each)


# -------------------------------------------------------------------------------------- covariance


@array_function(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """Return the covariance matrix of variables, one a row (a column if not `rowvar`)."""
    if ddof is not None and ddof != int(ddof):
        raise ValueError(f"cov: ddof must be an integer, got ddof={ddof}.")
    samples = array_of(m)
    if samples.ndim > 2:
        raise ValueError(f"cov: m must have at most two axes, got shape={samples.shape}.")
    others = None if y is None else array_of(y)
    if dtype is None:
        kinds = [samples.dtype, np.dtype(np.float64)] + ([] if others is None else [others.dtype])
        dtype = np.result_type(*kinds)
    rows = _rows(samples, rowvar, dtype)
    if rows.shape[0] == 0:
        return np.zeros((0, 0), dtype)
    if others is not None:
        rows = joined((rows, _rows(others, rowvar, dtype)), 0)
    ddof = (0 if bias else 1) if ddof is None else int(ddof)
    weights = _weights(fweights, aweights, rows.shape[1])
    if weights is None:
        count: Any = rows.shape[1]
        mean = divide(sum_axes(rows, (1,)), count)
        norm = count - ddof
    else:
        count = sum_axes(weights, (0,))
        mean = divide(sum_axes(multiply(rows, weights), (1,)), count)
        if ddof == 0 or aweights is None:
            norm = count - ddof
        else:
            norm = (
                count - ddof * sum_axes(weights * convert(array_of(aweights), float), (0,)) / count
            )
    if not isinstance(norm, Tracer) and norm <= 0:
        warn("cov: the degrees of freedom are 0 or fewer.", RuntimeWarning, stacklevel=3)
        norm = 0.0
    centred = subtract(rows, reshaped(mean, (rows.shape[0], 1)))
    weighted = centred if weights is None else multiply(centred, weights)
    turned = permuted(weighted, (1, 0))
    if rows.dtype.kind == "c":
        turned = conjugate(turned)
    product = multiply(matmul(centred, turned), divide(1, norm))
    size = rows.shape[0]
    return reshaped(product, ()) if size == 1 else product


def _rows(x: Any, rowvar: bool, dtype: Any) -> Any:
    """Return samples as a matrix with a row for each variable."""
    matrix = convert(x, dtype)
    if matrix.ndim < 2:
        return reshaped(matrix, (1, matrix.size))
    return matrix if rowvar else permuted(matrix, (1, 0))


def _weights(fweights: Any, aweights: Any, count: int) -> Any:
    total = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        weight = array_of(given)
        if weight.shape != (count,):
            raise ValueError(
                f"cov: {name} must be a vector with one weight for each of {count} observations, "
                f"got shape={weight.shape}."
            )
        weight = convert(weight, np.float64)
        total = weight if total is None else total * weight
    return total


@array_function(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """Return the matrix of correlation coefficients of variables (see `cov`)."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return divide(c, c)
    spread = sqrt(real(einsum("ii->i", c)))
    size = spread.shape[0]
    c = divide(divide(c, reshaped(spread, (size, 1))), reshaped(spread, (1, size)))
    if c.dtype.kind == "c":
        return make_complex(clip(real(c), -1, 1), clip(imag(c), -1, 1))
    return clip(c, -1, 1)
