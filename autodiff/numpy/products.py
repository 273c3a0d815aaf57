"""Products of arrays: matmul, dot, inner, outer, tensordot, kron, cross, convolve and relatives.

All of them become `dot_general`, elementwise products and operations on shape, so their derivatives
and batching follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import is_arraylike
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.numpy.contractions import contract_pair
from autodiff.numpy.dispatch import array_function, recorded_as, ufunc_on_tracers
from autodiff.numpy.operands import (
    array_of,
    axis_index,
    common_type,
    joined,
    permuted,
    reshaped,
    sliced,
    written_into,
)
from autodiff.primitives.arithmetic import conjugate, multiply, subtract
from autodiff.primitives.contraction import dot_general
from autodiff.primitives.families import broadcast_to, in_place


def _mismatch(function: str, x: Any, y: Any, requirement: str) -> ValueError:
    return ValueError(
        message(function, requirement, f"shapes={x.shape}, {y.shape}", line=user_line())
    )


def _dot(x: Any, y: Any, x_axes: Sequence[int], y_axes: Sequence[int]) -> Any:
    """Return the sum of products over paired axes; other axes of x, then of y, remain."""
    return bind_primitive(
        dot_general, (x, y), {"dimensions": ((tuple(x_axes), tuple(y_axes)), ((), ()))}
    )


# ------------------------------------------------------------------------------------------ matmul


def _matrix_product(x: Any, y: Any) -> Any:
    x, y = common_type(x, y)
    m, n = x.ndim, y.ndim
    if m == 0 or n == 0:
        raise _mismatch("matmul", x, y, "the operands must have at least one axis")
    y_axis = n - 2 if n > 1 else 0
    if x.shape[-1] != y.shape[y_axis]:
        raise _mismatch(
            "matmul",
            x,
            y,
            "the last axis of the first operand must be as long as the "
            f"{'second to last axis' if n > 1 else 'only axis'} of the second",
        )
    if n <= 2 or m == 1:
        return _dot(x, y, (m - 1,), (y_axis,))
    letters = "".join(map(chr, range(ord("a"), ord("a") + max(m, n) - 2)))
    try:
        np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        raise _mismatch("matmul", x, y, "the stacks of matrices must broadcast together") from None
    x_letters = letters[len(letters) - m + 2 :] + "XZ"
    y_letters = letters[len(letters) - n + 2 :] + "ZY"
    return contract_pair(x, x_letters, y, y_letters, letters + "XY")


@array_function(np.matmul)
def matmul(x1: Any, x2: Any, /, out: Any = None, *, dtype: Any = None, axes: Any = None) -> Any:
    """Return the matrix product of two arrays, or of two broadcast stacks of matrices.

    An operand of one axis is a row (left) or a column (right), and that axis is removed again.
    """
    if out is None and dtype is None and axes is None:
        return _matrix_product(x1, x2)
    if out is not None or dtype is not None:
        outs = out if isinstance(out, tuple) else (out,)
        options = {"out": outs, "dtype": dtype, **({} if axes is None else {"axes": axes})}
        return ufunc_on_tracers(np.matmul, "__call__", (x1, x2), options)
    return _with_axes(_matrix_product, x1, x2, axes)


def _with_axes(function: Any, x: Any, y: Any, axes: Any) -> Any:
    """Apply a product of the last axes to operands whose axes are named by `axes`, as ufuncs do."""
    x, y = array_of(x), array_of(y)
    taken = [entry if isinstance(entry, tuple) else (entry,) for entry in axes]

    def last(z: Any, axes: tuple[int, ...]) -> Any:
        places = [axis_index(axis, z.ndim) for axis in axes]
        return permuted(z, (*(i for i in range(z.ndim) if i not in places), *places))

    result = function(last(x, taken[0]), last(y, taken[1]))
    places = taken[2] if len(taken) > 2 else ()
    if not places:
        return result
    targets = [axis_index(axis, result.ndim) for axis in places]
    core = range(result.ndim - len(targets), result.ndim)
    others = iter(range(result.ndim - len(targets)))
    named = dict(zip(targets, core, strict=True))
    return permuted(
        result, tuple(named[i] if i in named else next(others) for i in range(result.ndim))
    )


def _is_operand(value: Any) -> bool:
    return is_arraylike(value) or isinstance(value, list | tuple)


def _matmul_operator(self: Tracer, other: Any) -> Any:
    return _matrix_product(self, other) if _is_operand(other) else NotImplemented


def _reflected_matmul_operator(self: Tracer, other: Any) -> Any:
    return _matrix_product(other, self) if _is_operand(other) else NotImplemented


Tracer.__matmul__ = _matmul_operator  # type: ignore[attr-defined]
Tracer.__rmatmul__ = _reflected_matmul_operator  # type: ignore[attr-defined]
Tracer.__imatmul__ = in_place(_matmul_operator, "matmul")  # type: ignore[attr-defined]


@array_function(np.dot, method="dot")
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """Return the sum of products over the last axis of `a` and the second to last of `b`.

    With a number it is the product; with vectors their inner product, without conjugation.
    """
    if out is not None:
        return written_into("dot", out, dot(a, b))
    x, y = common_type(a, b)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x, y)
    y_axis = max(y.ndim - 2, 0)
    if x.shape[-1] != y.shape[y_axis]:
        raise _mismatch(
            "dot", x, y, f"axis {x.ndim - 1} of a must be as long as axis {y_axis} of b"
        )
    return _dot(x, y, (x.ndim - 1,), (y_axis,))


# --------------------------------------------------------------- products of vectors and of arrays


def _flat(x: Any) -> Any:
    return reshaped(x, (x.size,))


@array_function(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    """Return the inner product of two flattened arrays, the first conjugated."""
    x, y = common_type(a, b)
    if x.size != y.size:
        raise _mismatch("vdot", x, y, "the operands must have the same number of elements")
    return _dot(_conjugated(_flat(x)), _flat(y), (0,), (0,))


def _conjugated(x: Any) -> Any:
    return conjugate(x) if x.dtype.kind == "c" else x


def _vector_product(function: str, x: Any, y: Any, x_core: str, y_core: str, out: str) -> Any:
    """Return a product of stacks of vectors and matrices whose last axes are named by letters."""
    x, y = common_type(x, y)
    m, n = x.ndim - len(x_core), y.ndim - len(y_core)
    if m < 0 or n < 0:
        raise _mismatch(
            function, x, y, f"the operands must have at least {len(x_core)} and {len(y_core)} axes"
        )
    if x.shape[m + x_core.index("Z")] != y.shape[n + y_core.index("Z")]:
        raise _mismatch(function, x, y, "the summed axes must be of one length")
    try:
        np.broadcast_shapes(x.shape[:m], y.shape[:n])
    except ValueError:
        raise _mismatch(function, x, y, "the stacks must broadcast together") from None
    letters = "".join(map(chr, range(ord("a"), ord("a") + max(m, n))))
    return contract_pair(
        x,
        letters[len(letters) - m :] + x_core,
        y,
        letters[len(letters) - n :] + y_core,
        letters + out,
    )


@array_function(np.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Return the inner products of vectors along `axis`, the first conjugated."""
    x, y = array_of(x1), array_of(x2)
    if axis != -1:
        x, y = _axis_last(x, axis), _axis_last(y, axis)
    return _vector_product("vecdot", _conjugated(x), y, "Z", "Z", "")


def _axis_last(x: Any, axis: int) -> Any:
    place = axis_index(axis, x.ndim)
    return permuted(x, (*(i for i in range(x.ndim) if i != place), place))


if hasattr(np, "matvec"):  # NumPy 2.2 and later

    @array_function(np.matvec)
    def matvec(x1: Any, x2: Any, /) -> Any:
        """Return the products of stacks of matrices with stacks of vectors."""
        return _vector_product("matvec", x1, x2, "XZ", "Z", "X")

    @array_function(np.vecmat)
    def vecmat(x1: Any, x2: Any, /) -> Any:
        """Return the products of stacks of conjugated vectors with stacks of matrices."""
        return _vector_product("vecmat", _conjugated(array_of(x1)), x2, "Z", "ZX", "X")


@array_function(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    """Return the sums of products over the last axes of two arrays, without conjugation."""
    x, y = common_type(a, b)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x, y)
    if x.shape[-1] != y.shape[-1]:
        raise _mismatch("inner", x, y, "the last axes must be of one length")
    return _dot(x, y, (x.ndim - 1,), (y.ndim - 1,))


@array_function(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """Return the matrix of all products of the elements of two flattened arrays."""
    if out is not None:
        return written_into("outer", out, outer(a, b))
    x, y = array_of(a), array_of(b)
    return multiply(reshaped(x, (x.size, 1)), reshaped(y, (1, y.size)))


def _outer_of_vectors(x1: Any, x2: Any, /) -> Any:
    x, y = array_of(x1), array_of(x2)
    if x.ndim != 1 or y.ndim != 1:
        raise _mismatch("linalg.outer", x, y, "the operands must have one axis")
    return outer(x, y)


def _outer_of_ufunc(x: Any, y: Any) -> Any:
    x, y = array_of(x), array_of(y)
    return multiply(reshaped(x, x.shape + (1,) * y.ndim), y)


recorded_as((np.multiply, "outer"), _outer_of_ufunc)
recorded_as(np.linalg.outer, _outer_of_vectors)


def _axes_of(axes: Any, ndim: int) -> tuple[int, ...]:
    return tuple(axis_index(i, ndim) for i in (axes if hasattr(axes, "__iter__") else (axes,)))


@array_function(np.tensordot, np.linalg.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Return the sum of products over paired axes; other axes of `a`, then of `b`, remain.

    `axes` is a number n (the last n of `a`, the first n of `b`), or two (lists of) axes.
    """
    x, y = common_type(a, b)
    if hasattr(axes, "__iter__"):
        first, second = axes
        pairs = [
            tuple(
                axis_index(i, z.ndim) for i in (given if hasattr(given, "__iter__") else (given,))
            )
            for given, z in ((first, x), (second, y))
        ]
    else:
        count = axes.__index__()
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise _mismatch("tensordot", x, y, f"axes={count} must not exceed the operands' axes")
        pairs = [tuple(range(x.ndim - count, x.ndim)), tuple(range(count))]
    x_axes, y_axes = pairs
    if [x.shape[i] for i in x_axes] != [y.shape[j] for j in y_axes]:
        raise _mismatch(
            "tensordot", x, y, f"the axes {x_axes} of a must be as long as the axes {y_axes} of b"
        )
    return _dot(x, y, x_axes, y_axes)


@array_function(np.kron)
def kron(a: Any, b: Any) -> Any:
    """Return the Kronecker product: every element of `a` times the whole of `b`, as blocks."""
    x, y = array_of(a), array_of(b)
    ndim = max(x.ndim, y.ndim)
    rows = (1,) * (ndim - x.ndim) + x.shape
    columns = (1,) * (ndim - y.ndim) + y.shape
    spread = reshaped(x, tuple(size for n in rows for size in (n, 1)))
    repeated = reshaped(y, tuple(size for n in columns for size in (1, n)))
    product = multiply(spread, repeated)
    return reshaped(product, tuple(m * n for m, n in zip(rows, columns, strict=True)))


def _rotated(x: Any) -> Any:
    """Return x[1], x[2], x[0] along the last axis."""
    last = x.ndim - 1
    return joined((sliced(x, last, 1, 3), sliced(x, last, 0, 1)), last)


@array_function(np.cross)
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    """Return the cross product of vectors of three components.

    Vectors of two, which NumPy has deprecated and then refused, are refused.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = common_type(a, b)
    if x.ndim == 0 or y.ndim == 0:
        raise _mismatch("cross", x, y, "the operands must have at least one axis")
    x, y = _axis_last(x, axisa), _axis_last(y, axisb)
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise _mismatch("cross", x, y, "vectors must have 3 components")
    # c_i = x_i y_(i+1) - x_(i+1) y_i is the component i + 2 of the product
    components = subtract(multiply(x, _rotated(y)), multiply(_rotated(x), y))
    last = components.ndim - 1
    product = _rotated(components)
    place = axis_index(axisc, product.ndim)
    order = list(range(last))
    order.insert(place, last)
    return permuted(product, tuple(order))


# ----------------------------------------------------------------------------- chains of matrices


@lru_cache(maxsize=1024)
def _cheapest_splits(sizes: tuple[int, ...]) -> dict[tuple[int, int], int]:
    """Return where to split each part i..j of a chain of matrices, sizes[k] by sizes[k + 1].

    Cormen, Leiserson, Rivest, Stein, "Introduction to Algorithms", 3rd ed. 2009, section 15.2.
    """
    count = len(sizes) - 1
    cost = dict.fromkeys(((i, i) for i in range(count)), 0)
    split: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = {
                k: cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
                for k in range(i, j)
            }
            split[i, j] = min(options, key=options.__getitem__)
            cost[i, j] = options[split[i, j]]
    return split


def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """Return the product of a chain of matrices, multiplied in the cheapest order.

    The first and last may be vectors: a row and a column.
    """
    chain = [array_of(x) for x in arrays]
    if len(chain) < 2:
        raise ValueError(f"multi_dot: there must be at least two arrays, got {len(chain)}.")
    result_shape = (chain[0].shape[:-1] if chain[0].ndim else ()) + chain[-1].shape[1:]
    if chain[0].ndim == 1:
        chain[0] = reshaped(chain[0], (1, chain[0].size))
    if chain[-1].ndim == 1:
        chain[-1] = reshaped(chain[-1], (chain[-1].size, 1))
    for x in chain:
        if x.ndim != 2:
            raise np.linalg.LinAlgError(
                f"multi_dot: the arrays must be matrices, got an array of shape {x.shape}."
            )
    split = _cheapest_splits((chain[0].shape[0], *(x.shape[1] for x in chain)))

    def product(i: int, j: int) -> Any:
        if i == j:
            return chain[i]
        return dot(product(i, split[i, j]), product(split[i, j] + 1, j))

    result = reshaped(product(0, len(chain) - 1), result_shape)
    return result if out is None else written_into("multi_dot", out, result)


def matrix_power(a: Any, n: int) -> Any:
    """Return a square matrix (or a stack of them) to an integer power, by repeated squaring."""
    x = array_of(a)
    exponent = n.__index__()
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError(
            f"matrix_power: the last two axes must be of one length, got shape={x.shape}."
        )
    if exponent < 0:
        x, exponent = np.linalg.inv(x), -exponent
    if exponent == 0:
        return broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape)
    result = None
    while exponent:
        if exponent % 2:
            result = x if result is None else _matrix_product(result, x)
        exponent //= 2
        if exponent:
            x = _matrix_product(x, x)
    return result


def _cross_in_space(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    x, y = array_of(x1), array_of(x2)
    if x.shape[axis] != 3 or y.shape[axis] != 3:
        raise _mismatch("linalg.cross", x, y, "vectors must have 3 components")
    return cross(x, y, axis=axis)


recorded_as(np.linalg.multi_dot, multi_dot)
recorded_as(np.linalg.matrix_power, matrix_power)
recorded_as(np.linalg.cross, _cross_in_space)
recorded_as(np.linalg.matmul, _matrix_product)
recorded_as(np.linalg.vecdot, vecdot)
