"""Contractions: `dot_general`, on which matmul, dot, tensordot and einsum stand."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from autodiff.base.array_modules import on_one_device
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import Samples
from autodiff.primitives.families import is_linear, library_op, move_axis
from autodiff.primitives.shapes import transpose

Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def _free(ndim: int, *taken: tuple[int, ...]) -> tuple[int, ...]:
    used = {axis for axes in taken for axis in axes}
    return tuple(i for i in range(ndim) if i not in used)


def _dot_type(x: ArrayType, y: ArrayType, *, dimensions: Dimensions) -> ArrayType:
    (x_sum, y_sum), (x_batch, y_batch) = dimensions
    if x.dtype != y.dtype:
        raise TypeError(f"dot_general: operands must be of one type, got types=({x}, {y}).")
    for i, j in (*zip(x_sum, y_sum, strict=True), *zip(x_batch, y_batch, strict=True)):
        if x.shape[i] != y.shape[j]:
            raise TypeError(
                f"dot_general: paired axes must have one size, got axis {i} of {x} and {j} of {y}."
            )
    shape = (
        *(x.shape[i] for i in x_batch),
        *(x.shape[i] for i in _free(x.ndim, x_sum, x_batch)),
        *(y.shape[i] for i in _free(y.ndim, y_sum, y_batch)),
    )
    return array_type(shape, x.dtype)


def _dot_reference(x: Any, y: Any, *, dimensions: Dimensions) -> Any:
    """Bring both operands to stacks of matrices and multiply them (by BLAS where it applies)."""
    return _dot_prepared(x, y, dimensions=dimensions)(x, y)


def _dot_prepared(x: Any, y: Any, *, dimensions: Dimensions) -> Callable[[Any, Any], Any]:
    """Return the function of operands that are of the types of `x` and `y`."""
    (x_sum, y_sum), (x_batch, y_batch) = dimensions
    x_free, y_free = _free(x.ndim, x_sum, x_batch), _free(y.ndim, y_sum, y_batch)
    dtype = x.dtype
    if not x_batch and x.ndim <= 2 and y.ndim <= 2 and len(x_sum) == 1:
        turned = x_sum[0] != x.ndim - 1, y_sum[0] != 0
        if dtype.char in "fdFD":
            return _BY_BLAS[turned]

        def of_matrices(x: Any, y: Any) -> Any:
            product = np.matmul(x.T if turned[0] else x, y.T if turned[1] else y)
            return product.astype(dtype, copy=False)  # bfloat16 gives float32

        return of_matrices
    stack = tuple(x.shape[i] for i in x_batch)
    rows = tuple(x.shape[i] for i in x_free)
    columns = tuple(y.shape[i] for i in y_free)
    summed = prod(x.shape[i] for i in x_sum)
    left_order, right_order = (*x_batch, *x_free, *x_sum), (*y_batch, *y_sum, *y_free)
    left_shape, right_shape = (*stack, prod(rows), summed), (*stack, summed, prod(columns))
    shape = (*stack, *rows, *columns)

    def of_stacks(x: Any, y: Any) -> Any:
        left = np.transpose(x, left_order).reshape(left_shape)
        right = np.transpose(y, right_order).reshape(right_shape)
        left, right = on_one_device((left, right))  # a number may be on the host
        return np.matmul(left, right).astype(dtype, copy=False).reshape(shape)

    return of_stacks


#: Products of two matrices or vectors, by whether they are transposed first. The method is the
#: shortest way to BLAS, of NumPy's arrays as of CuPy's.
_BY_BLAS: dict[tuple[bool, bool], Callable[[Any, Any], Any]] = {
    (False, False): lambda x, y: x.dot(y),
    (True, False): lambda x, y: x.T.dot(y),
    (False, True): lambda x, y: x.dot(y.T),
    (True, True): lambda x, y: x.T.dot(y.T),
}


def _dot_differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    x, y = operands
    tx, ty = tangents
    total = None
    if tx is not None:
        total = bind_primitive(dot_general, (tx, y), params)
    if ty is not None:
        term = bind_primitive(dot_general, (x, ty), params)
        total = term if total is None else total + term
    return (total,)


def _transpose_left(ct: Any, x: ArrayType, y: Any, dimensions: Dimensions) -> Any:
    """Cotangent of the left operand: contract ct with y over y's free axes, then order the axes."""
    (x_sum, y_sum), (x_batch, y_batch) = dimensions
    x_free, y_free = _free(x.ndim, x_sum, x_batch), _free(y.ndim, y_sum, y_batch)
    count = len(x_batch)
    ct_free = tuple(range(count + len(x_free), ct.ndim))
    pairs = ((ct_free, y_free), (tuple(range(count)), y_batch))
    result = bind_primitive(dot_general, (ct, y), {"dimensions": pairs})
    # result axes: batch, x_free, then y's summed axes in y's order
    order_of_sum = sorted(range(len(y_sum)), key=lambda k: y_sum[k])
    return _ordered(result, (*x_batch, *x_free, *(x_sum[k] for k in order_of_sum)))


def _transpose_right(ct: Any, x: Any, y: ArrayType, dimensions: Dimensions) -> Any:
    """Cotangent of the right operand: contract x with ct over x's free axes, order the axes.

    The operands stand in the order in which the result needs no transposition. For a right operand
    without free axes either does, and ct comes first: there a batch of cotangents stays in front.
    """
    (x_sum, y_sum), (x_batch, y_batch) = dimensions
    x_free, y_free = _free(x.ndim, x_sum, x_batch), _free(y.ndim, y_sum, y_batch)
    count = len(x_batch)
    ct_free = tuple(range(count, count + len(x_free)))
    pairs = ((x_free, ct_free), (x_batch, tuple(range(count))))
    operands = x, ct
    if not y_free:
        pairs, operands = tuple([pair[::-1] for pair in pairs]), (ct, x)
    result = bind_primitive(dot_general, operands, {"dimensions": pairs})
    # result axes: batch, x's summed axes in x's order, then y_free
    order_of_sum = sorted(range(len(x_sum)), key=lambda k: x_sum[k])
    return _ordered(result, (*y_batch, *(y_sum[k] for k in order_of_sum), *y_free))


def _ordered(x: Any, axes: tuple[int, ...]) -> Any:
    """Return an array whose axes are those of these numbers with its axes in order."""
    permutation = tuple(sorted(range(len(axes)), key=lambda k: axes[k]))
    if permutation == tuple(range(len(axes))):
        return x
    return transpose(x, permutation=permutation)


def _dot_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    (ct,) = cts
    x, y = operands
    dimensions = params["dimensions"]
    if is_linear(x):
        return (_transpose_left(ct, x.aval, y, dimensions), None)
    return (None, _transpose_right(ct, x, y.aval, dimensions))


def _dot_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    x, y = operands
    x_mapped, y_mapped = batched
    (x_sum, y_sum), (x_batch, y_batch) = params["dimensions"]

    def shift(axes: tuple[int, ...], mapped: bool) -> tuple[int, ...]:
        return tuple(axis + 1 for axis in axes) if mapped else axes

    x_sum, x_batch = shift(x_sum, x_mapped), shift(x_batch, x_mapped)
    y_sum, y_batch = shift(y_sum, y_mapped), shift(y_batch, y_mapped)
    if x_mapped and y_mapped:
        dimensions = ((x_sum, y_sum), ((0, *x_batch), (0, *y_batch)))
        return (bind_primitive(dot_general, (x, y), {"dimensions": dimensions}),), (True,)
    dimensions = ((x_sum, y_sum), (x_batch, y_batch))
    result = bind_primitive(dot_general, (x, y), {"dimensions": dimensions})
    position = len(x_batch)
    if y_mapped:
        position += len(_free(x.ndim, x_sum, x_batch))
    return (move_axis(result, position, 0),), (True,)


dot_general = library_op(
    "dot_general",
    _dot_reference,
    prepared=_dot_prepared,
    doc="Sum of products over paired axes. `dimensions` is ((x summed, y summed), (x batch, "
    "y batch)); result axes: batch, x's free, y's free.",
    type_rule=_dot_type,
    differentiate=_dot_differentiate,
    transpose=_dot_transpose,
    batch=_dot_batch,
    samples=Samples(
        shapes=(
            ((3, 4), (4, 2)),
            ((4,), (4,)),
            ((2, 3, 4), (2, 4, 5)),
            ((3, 2, 4), (4, 5, 3)),
            ((2,), (3,)),
            ((2, 3), (3, 2)),
        ),
        params=(
            {"dimensions": (((1,), (0,)), ((), ()))},
            {"dimensions": (((0,), (0,)), ((), ()))},
            {"dimensions": (((2,), (1,)), ((0,), (0,)))},
            {"dimensions": (((0, 2), (2, 0)), ((), ()))},
            {"dimensions": (((), ()), ((), ()))},
            {"dimensions": (((0, 1), (1, 0)), ((), ()))},
        ),
    ),
    ulp={"float16": 8, "bfloat16": 8, "float32": 16, "float64": 16},
)
