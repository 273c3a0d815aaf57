"""Reductions over axes: sums, products, extrema, truth values, positions, log-sum-exp."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base import dtypes as element_types
from autodiff.ir.primitive import Samples
from autodiff.primitives.arithmetic import where
from autodiff.primitives.comparison import isinf
from autodiff.primitives.cumulative import cumprod, previous
from autodiff.primitives.exponential import exp
from autodiff.primitives.families import convert, expand_reduced, reduction
from autodiff.primitives.shapes import reshape, transpose

Axes = tuple[int, ...]

sum_ = reduction(
    "sum",
    lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
    doc="Sum over axes, in the operand's own type.",
    jvp=lambda t, out, x, *, axes: sum_(t, axes=axes),
    transpose=lambda ct, aval, *, axes: expand_reduced(ct, aval.shape, axes),
    combine=lambda o, x, y: o.add(x, y),
    identity=lambda dtype: dtype.type(-0.0 if element_types.is_float(dtype) else 0),
    dtypes="iufc",
)


def _flatten_axes(x: Any, axes: Axes) -> Any:
    """Return `x` with the reduced axes moved last and made one."""
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    moved = transpose(x, permutation=(*kept, *axes))
    return reshape(moved, shape=(*(x.shape[i] for i in kept), -1 if not axes else _count(x, axes)))


def _count(x: Any, axes: Axes) -> int:
    return int(np.prod([x.shape[i] for i in axes], dtype=np.int64)) if axes else 1


def _prod_jvp(t: Any, out: Any, x: Any, *, axes: Axes) -> Any:
    # d prod = sum_i t_i * (product of all others): left and right running products, so that
    # zeros among the factors are exact at every order.
    flat, t = _flatten_axes(x, axes), _flatten_axes(t, axes)
    last = flat.ndim - 1
    before, after = (
        cumprod(previous(flat, 1, axis=last, reverse=reverse), axis=last, reverse=reverse)
        for reverse in (False, True)
    )
    return sum_(t * (before * after), axes=(last,))


prod = reduction(
    "prod",
    lambda x, *, axes: np.prod(x, axis=axes, dtype=x.dtype),
    doc="Product over axes, in the operand's own type. Derivatives are exact beside zeros.",
    jvp=_prod_jvp,
    combine=lambda o, x, y: o.multiply(x, y),
    identity=lambda dtype: dtype.type(1),
    dtypes="iufc",
)


def _extremum_jvp(t: Any, out: Any, x: Any, *, axes: Axes) -> Any:
    winners = x == expand_reduced(out, x.shape, axes)
    count = sum_(convert(winners, x.dtype), axes=axes)
    chosen = where(winners, t, x.dtype.type(0))
    count = where(count == 0, x.dtype.type(1), count)
    return sum_(chosen, axes=axes) / count


_EXTREMA = Samples(
    shapes=(((5,),), ((3, 4),), ((2, 3, 4),)),
    params=({"axes": (0,)}, {"axes": (1,)}, {"axes": (0, 2)}),
)

max_ = reduction(
    "max",
    lambda x, *, axes: np.max(x, axis=axes),
    doc="Largest element over axes, NaN if one is NaN. Ties share the derivative equally.",
    jvp=_extremum_jvp,
    combine=lambda o, x, y: o.maximum(x, y),
    identity=lambda dtype: element_types.bound(dtype, -1),
    samples=_EXTREMA,
)

min_ = reduction(
    "min",
    lambda x, *, axes: np.min(x, axis=axes),
    doc="Smallest element over axes, NaN if one is NaN. Ties share the derivative equally.",
    jvp=_extremum_jvp,
    combine=lambda o, x, y: o.minimum(x, y),
    identity=lambda dtype: element_types.bound(dtype, 1),
    samples=_EXTREMA,
)

any_ = reduction(
    "any",
    lambda x, *, axes: np.any(x, axis=axes),
    doc="Whether some element over axes is true.",
    combine=lambda o, x, y: o.bitwise_or(x, y),
    identity=lambda dtype: dtype.type(False),
    not_differentiable="its result is bool",
    dtypes="b",
)

all_ = reduction(
    "all",
    lambda x, *, axes: np.all(x, axis=axes),
    doc="Whether every element over axes is true.",
    combine=lambda o, x, y: o.bitwise_and(x, y),
    identity=lambda dtype: dtype.type(True),
    not_differentiable="its result is bool",
    dtypes="b",
)


def _position(function: Any) -> Any:
    def reference(x: Any, *, axes: Axes) -> Any:
        (axis,) = axes
        return function(x, axis=axis).astype(np.int64)

    return reference


_ONE_AXIS = Samples(shapes=(((5,),), ((3, 4),)), params=({"axes": (0,)}, {"axes": (1,)}))

argmax = reduction(
    "argmax",
    _position(np.argmax),
    doc="Position of the first largest element along one axis (`axes` holds just it), int64.",
    not_differentiable="its result is an integer",
    result_dtype=lambda dtype: np.int64,
    samples=_ONE_AXIS,
)

argmin = reduction(
    "argmin",
    _position(np.argmin),
    doc="Position of the first smallest element along one axis (`axes` holds just it), int64.",
    not_differentiable="its result is an integer",
    result_dtype=lambda dtype: np.int64,
    samples=_ONE_AXIS,
)


def _logsumexp_reference(x: Any, *, axes: Axes) -> Any:
    real = x.real if x.dtype.kind == "c" else x
    if x.size:  # CuPy's maximum takes no initial value
        largest = np.max(real, axis=axes, keepdims=True)
    else:
        kept = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
        largest = np.full_like(real, -np.inf, shape=kept)
    shift = np.where(np.isfinite(largest), largest, largest.dtype.type(0))
    total = np.sum(np.exp(x - shift), axis=axes, dtype=x.dtype)
    return np.log(total) + np.squeeze(shift, axes)


def _logsumexp_jvp(t: Any, out: Any, x: Any, *, axes: Axes) -> Any:
    # d = sum_i t_i exp(x_i - out). Where out is -inf every weight is 0; where it is +inf the
    # infinite entries share the weight.
    spread = expand_reduced(out, x.shape, axes)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    if element_types.is_complex(x.dtype):
        return sum_(t * exp(x - spread), axes=axes)
    infinite = isinf(spread)
    weight = exp(where(infinite, zero, x - spread))
    tied = convert((x == spread) & (x > 0), x.dtype)
    share = expand_reduced(sum_(tied, axes=axes), x.shape, axes)
    at_infinity = tied / where(share == 0, one, share)
    return sum_(t * where(infinite, at_infinity, weight), axes=axes)


logsumexp = reduction(
    "logsumexp",
    _logsumexp_reference,
    doc="log(sum(exp(x))) over axes without overflow.",
    jvp=_logsumexp_jvp,
    dtypes="fc",
)
