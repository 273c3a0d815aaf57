"""Partial results of an associative operation, by rounds over whole arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.api.held_functions import flatten_arrays
from autodiff.api.trace import function_name
from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import type_of
from autodiff.ir.builder import Tracer

Function = Callable[..., Any]


def associative_scan(fn: Function, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Return all partial results of an associative operation, in logarithmically many steps.

    Row i of the result is `fn(...fn(fn(x0, x1), x2)..., xi)`, computed in about 2 log2(n) rounds,
    each of which applies `fn` to whole arrays.

    Args:
        fn: associative function of two pytrees like `elems`, that acts on the rows of its arguments
            independently, however many there are (elementwise, or batched along `axis`).
        elems: pytree of arrays of one length along `axis`.
        reverse: begin at the end: row i is `fn(...fn(xn, xn-1)..., xi)`.
        axis: the axis to go along.

    Raises:
        ValueError: the arrays differ in length along `axis`, or have no such axis.

    Source: Blelloch, "Prefix sums and their applications", 1990, section 1.4.

    >>> import numpy as np
    >>> associative_scan(np.multiply, np.array([1.0, 2.0, 3.0, 4.0]))
    array([ 1.,  2.,  6., 24.])
    """
    leaves, tree = flatten_arrays("associative_scan", "elems", elems)
    sizes = []
    for path, x in zip(pytree.paths(tree), leaves, strict=True):
        if not -np.ndim(x) <= axis < np.ndim(x):
            name = pytree.path_string("elems", path)
            raise ValueError(
                message(
                    "associative_scan",
                    f"elems must have axis {axis}",
                    f"{name} of shape {np.shape(x)}",
                    line=user_line(),
                    fix="pass axis= of an axis that all arrays have.",
                )
            )
        sizes.append(x.shape[axis])
    if len(set(sizes)) > 1:
        named = zip(pytree.paths(tree), sizes, strict=True)
        listed = "; ".join(f"{pytree.path_string('elems', path)}: {n}" for path, n in named)
        raise ValueError(
            message(
                "associative_scan",
                f"elems must have one length along axis {axis}",
                listed,
                line=user_line(),
                fix="slice them to equal lengths.",
            )
        )

    def cut(xs: Sequence[Any], part: slice) -> list[Any]:
        return [x[_along(x, axis, part)] for x in xs]

    def combine(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
        out = fn(pytree.unflatten(tree, one), pytree.unflatten(tree, other))
        _check_combined(fn, out, tree, one)
        return pytree.leaves(out)

    def partial_results(xs: list[Any], n: int) -> list[Any]:
        """Row 2i+1 from a scan over pairs; row 2i from row 2i-1 and element 2i."""
        if n < 2:
            return xs
        pairs = combine(cut(xs, slice(0, n - 1, 2)), cut(xs, slice(1, n, 2)))
        odd = partial_results(pairs, n // 2)
        before = odd if n % 2 else cut(odd, slice(0, n // 2 - 1))
        later = combine(before, cut(xs, slice(2, n, 2))) if n > 2 else None
        first = cut(xs, slice(0, 1))
        if later is None:
            even = first
        else:
            pairs_of_rows = zip(first, later, strict=True)
            even = [np.concatenate([a, b], axis=axis) for a, b in pairs_of_rows]
        return [_interleaved(a, b, axis) for a, b in zip(even, odd, strict=True)]

    if reverse:
        leaves = cut(leaves, slice(None, None, -1))
    results = partial_results(leaves, sizes[0] if sizes else 0)
    if leaves and sizes[0] < 2:
        results = [x if type(x) is Tracer else x.copy() for x in results]
    if reverse:
        results = cut(results, slice(None, None, -1))
    return pytree.unflatten(tree, results)


def _along(x: Any, axis: int, part: slice) -> tuple[Any, ...]:
    """Return the index that takes `part` along an axis."""
    index: list[Any] = [slice(None)] * x.ndim
    index[axis] = part
    return tuple(index)


def _interleaved(even: Any, odd: Any, axis: int) -> Any:
    """Return rows taken by turns from two arrays, the first of which may have one more."""
    axis %= even.ndim
    n = odd.shape[axis]
    paired = np.stack([even[_along(even, axis, slice(0, n))], odd], axis=axis + 1)
    shape = paired.shape
    joined = paired.reshape((*shape[:axis], 2 * n, *shape[axis + 2 :]))
    if even.shape[axis] == n:
        return joined
    return np.concatenate([joined, even[_along(even, axis, slice(n, n + 1))]], axis=axis)


def _check_combined(fn: Function, out: Any, tree: pytree.TreeDef, like: Sequence[Any]) -> None:
    found = pytree.structure(out)
    if found != tree:
        raise TypeError(
            message(
                "associative_scan",
                f"{function_name(fn)} must return the structure of elems",
                pytree.structure_difference(found, tree, "output").removeprefix("got "),
                line=user_line(),
                fix="return the same containers, keys and lengths that it is given.",
            )
        )
    for i, (x, y) in enumerate(zip(pytree.leaves(out), like, strict=True)):
        if np.shape(x) != np.shape(y) or type_of(x).dtype != y.dtype:
            path = pytree.path_string("output", pytree.paths(tree)[i])
            raise TypeError(
                message(
                    "associative_scan",
                    f"{function_name(fn)} must return the shapes and dtypes of its arguments",
                    f"{path}={type_of(x).strong()} where they have {type_of(y).strong()}",
                    line=user_line(),
                    fix="make it act on each row by itself, and keep its type.",
                )
            )
