"""Norms of vectors and matrices: `numpy.linalg.norm`, `vector_norm`, `matrix_norm`.

The derivative of a norm at 0 is 0, also of a row among others. Matrix norms made of singular values
(2, -2, "nuc") are not recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import Shape
from autodiff.ir.primitive import array_functions
from autodiff.numpy.arguments import axes_of, axis_of
from autodiff.numpy.dispatch import has_tracer, plain_module
from autodiff.numpy.operands import inexact, reshaped
from autodiff.numpy.reductions import (
    flat_sqrt,
    max_,
    min_,
    reduced_shape,
    squared_modulus,
    sum_,
)
from autodiff.primitives.arithmetic import absolute, power_of
from autodiff.primitives.arithmetic import where as choose
from autodiff.primitives.families import convert


def _euclidean(x: Any, axes: Shape, keepdims: Any) -> Any:
    return flat_sqrt(sum_(squared_modulus(x), axes, keepdims=keepdims))


def _vector_norm(x: Any, order: Any, axes: Shape, keepdims: Any) -> Any:
    """Return the p-norm over axes taken together."""
    if order is None or order == 2:
        return _euclidean(x, axes, keepdims)
    size = absolute(x)
    if order == np.inf:
        return max_(size, axes, keepdims=keepdims)
    if order == -np.inf:
        return min_(size, axes, keepdims=keepdims)
    if order == 0:
        return sum_(convert(x != 0, size.dtype), axes, keepdims=keepdims)
    if order == 1:
        return sum_(size, axes, keepdims=keepdims)
    if isinstance(order, str):
        raise _unknown_order("vectors", order)
    total = sum_(power_of(size, order), axes, keepdims=keepdims)
    # The root's derivative at 0 is infinite; that of the norm is 0.
    zero = total == 0
    safe = choose(zero, total.dtype.type(1), total)
    return choose(zero, power_of(total.dtype.type(0), 1 / order), power_of(safe, 1 / order))


def _matrix_norm(x: Any, order: Any, axes: Shape, keepdims: Any) -> Any:
    rows, columns = axes
    if order is None or order == "fro":
        return _euclidean(x, axes, keepdims)
    summed, chosen = (rows, columns) if order in (1, -1) else (columns, rows)
    if order not in (1, -1, np.inf, -np.inf):
        raise _unknown_order("matrices", order)
    totals = sum_(absolute(x), summed, keepdims=True)
    result = (
        max_(totals, chosen, keepdims=True) if order > 0 else min_(totals, chosen, keepdims=True)
    )
    return result if keepdims else reshaped(result, reduced_shape(x.shape, axes, False))


def _unknown_order(what: str, order: Any) -> ValueError:
    known = "a number or None" if what == "vectors" else "None, 'fro', 1, -1, inf or -inf"
    return ValueError(
        message(
            "norm",
            f"the order of a norm of traced {what} must be {known}",
            f"ord={order!r}",
            line=user_line(),
        )
    )


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    """Return the norm of vectors along one axis, or of matrices along two.

    Without an axis: of the whole array as a vector if `ord` is None, else by its number of axes.
    """
    if not has_tracer((x,)):
        return plain_module((x,)).linalg.norm(x, ord, axis, keepdims)
    x = inexact(x)
    if axis is None:
        axes: Shape = tuple(range(x.ndim))
        if ord is None or (x.ndim == 2 and ord == "fro") or (x.ndim == 1 and ord == 2):
            return _euclidean(x, axes, keepdims)
    else:
        axes = axes_of("norm", axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, axes, keepdims)
    raise ValueError(
        message(
            "norm",
            "the norm is taken over one axis or two",
            f"axis={axis} of an array of shape {x.shape} with ord={ord!r}",
            line=user_line(),
        )
    )


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Any:
    """Return the p-norm over axes taken together, over all of them for None."""
    if not has_tracer((x,)):
        return plain_module((x,)).linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    x = inexact(x)
    axes = tuple(range(x.ndim)) if axis is None else axes_of("vector_norm", axis, x.ndim)
    return _vector_norm(x, ord, axes, keepdims)


def matrix_norm(x: Any, /, *, keepdims: Any = False, ord: Any = "fro") -> Any:
    """Return the norm of the matrices in the last two axes."""
    if not has_tracer((x,)):
        return plain_module((x,)).linalg.matrix_norm(x, keepdims=keepdims, ord=ord)
    x = inexact(x)
    axes = (axis_of("matrix_norm", -2, x.ndim), axis_of("matrix_norm", -1, x.ndim))
    return _matrix_norm(x, ord, axes, keepdims)


array_functions[np.linalg.norm] = norm
array_functions[np.linalg.vector_norm] = vector_norm
array_functions[np.linalg.matrix_norm] = matrix_norm
