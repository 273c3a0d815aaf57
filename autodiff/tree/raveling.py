"""A pytree as one vector: `ravel`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import autodiff.numpy as anp
from autodiff.base import dtypes
from autodiff.base.errors import message
from autodiff.base.pytree import Path, flatten, path_string, paths, unflatten
from autodiff.ir.avals import ArrayType, is_arraylike, type_of


def ravel(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The elements of all leaves of `tree` as one vector, and the function that undoes it.

    Both directions are differentiable, and linear except where a dtype is narrowed.

    Args:
        tree: a pytree of arrays and numbers.

    Returns:
        flat: a new array of shape `(n,)`, the leaves in order, each in row-major order. Its dtype
            is the one to which NumPy promotes those of all leaves, a Python number counting as an
            array of its default dtype; without leaves, the default float dtype.
        unravel: takes a vector of shape `(n,)` to a tree with the structure, shapes and dtypes of
            `tree`; Python numbers come back as 0-d arrays. The vector may have any dtype that casts
            to that of `flat` within its kind: float64 where `flat` is float32, but not complex128.
            From a wider kind a leaf takes what it can hold: a real leaf beside complex ones the
            real part, an integer leaf beside floating ones the part before the point.

    Raises:
        TypeError: a leaf is not a number or an array of numbers, the dtypes of the leaves have none
            in common, or the dtype of the vector given to `unravel` does not fit.
        ValueError: the shape of the vector given to `unravel` is not `(n,)`.

    >>> import numpy as np
    >>> from autodiff import tree
    >>> flat, unravel = tree.ravel({"w": np.array([[1.0, 2.0]]), "b": np.float32(3)})
    >>> flat
    array([3., 1., 2.])
    >>> unravel(10 * flat)
    {'b': array(30., dtype=float32), 'w': array([[10., 20.]])}
    """
    leaves, treedef = flatten(tree)
    types = [_leaf_type(leaf, path) for leaf, path in zip(leaves, paths(treedef), strict=True)]
    bounds = list(itertools.accumulate((leaf_type.size for leaf_type in types), initial=0))
    dtype = _common_dtype([leaf_type.dtype for leaf_type in types])

    def unravel(flat: Any) -> Any:
        _check_vector(type_of(flat), bounds[-1], dtype)
        parts = [
            _cast(anp.reshape(flat[start:stop], leaf_type.shape), leaf_type.dtype)
            for (start, stop), leaf_type in zip(itertools.pairwise(bounds), types, strict=True)
        ]
        return unflatten(treedef, parts)

    if not leaves:
        return anp.zeros(0, dtype), unravel
    return anp.concatenate([_cast(anp.ravel(leaf), dtype) for leaf in leaves]), unravel


def _leaf_type(leaf: Any, path: Path) -> ArrayType:
    if not is_arraylike(leaf):
        got = f"{path_string('tree', path)}={leaf!r}"
        fix = "make it static data of a registered class, or leave it out."
        raise TypeError(
            message("tree.ravel", "the leaves must be numbers or arrays of numbers", got, fix=fix)
        )
    return type_of(leaf)


def _common_dtype(leaf_dtypes: Sequence[np.dtype]) -> np.dtype:
    if not leaf_dtypes:
        return dtypes.default_float()
    try:
        return np.result_type(*leaf_dtypes)
    except TypeError:  # NumPy knows no promotion of integers with bfloat16
        names = ", ".join(sorted({str(dtype) for dtype in leaf_dtypes}))
        requirement = "the dtypes of the leaves must have a common one"
        fix = "convert the leaves with .astype first."
        raise TypeError(message("tree.ravel", requirement, names, fix=fix)) from None


def _check_vector(given: ArrayType, size: int, dtype: np.dtype) -> None:
    """Raise unless a vector of type `given` may be taken apart as one of `size` and `dtype`."""
    if given.shape != (size,):
        requirement = f"the vector must have shape ({size},)"
        raise ValueError(message("tree.ravel: unravel", requirement, f"shape={given.shape}"))
    if not np.can_cast(given.dtype, dtype, "same_kind"):
        requirement = f"the vector must be of a dtype that casts to {dtype} within its kind"
        fix = "convert it first, with .real or .astype."
        raise TypeError(
            message("tree.ravel: unravel", requirement, f"dtype={given.dtype}", fix=fix)
        )


def _cast(array: Any, dtype: np.dtype) -> Any:
    """`array` in `dtype`; the real part where a complex array is to be real."""
    given = type_of(array).dtype
    if given == dtype:
        return array
    is_narrowed = dtypes.is_complex(given) and not dtypes.is_complex(dtype)
    return (anp.real(array) if is_narrowed else array).astype(dtype)
