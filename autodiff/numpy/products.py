"""Products of arrays: matmul, dot, inner, outer, tensordot, kron, cross, convolve and relatives.

All of them become `dot_general`, elementwise products and operations on shape, so their derivatives
and batching follow.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    permuted,
    reshaped,
    written_into,
)
from autodiff.primitives.arithmetic import conjugate, multiply
from autodiff.primitives.contraction import dot_general
from autodiff.primitives.families import in_place


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
