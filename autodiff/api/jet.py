"""jet: derivatives of every order along a curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autodiff.api.trace import array_leaf, run
from autodiff.api.transforms import Primals, flatten_like, result_array, zeros_of
from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.passes.jet import jet as jet_pass


def jet(
    fun: Callable[..., Any], primals: Sequence[Any], series: Sequence[Sequence[Any]]
) -> tuple[Any, Any]:
    """Return `(primal_out, series_out)`: a function's value and derivatives along a curve.

    The arguments of `fun` are taken as functions x_i(s) of one real variable, given by their values
    and derivatives at one s; the result is `fun(x_1(s), x_2(s), ...)` given likewise. With K
    derivatives this costs about K**2 evaluations of `fun`, where K nested `jvp` cost 2**K.

    Args:
        fun: any function of arrays and pytrees of arrays.
        primals: tuple or list of its arguments.
        series: for each argument the list of its derivatives: `series[i][k]` is the derivative of
            order k + 1 of `primals[i]` (not the Taylor coefficient: that times (k + 1)!), with its
            structure, shapes and dtypes (anything of the right shape for integer leaves, which are
            constant). Where a list is shorter than the longest, the rest is zero.

    Returns:
        The value, and the structure of the value with a list of K derivatives for each leaf, K the
        length of the longest list. Integer leaves have zeros of their own type.

    Raises:
        TypeError: a derivative differs from its argument; the message names the leaf.
        ValueError: `series` has not one list for each argument.

    The signature is that of `jax.experimental.jet`, whose arguments are single arrays.

    >>> import numpy as np
    >>> jet(np.exp, (0.0,), ([2.0, 0.0, 0.0],))
    (array(1.), [array(2.), array(4.), array(8.)])

    With two arguments, x = 1 + s and y = 3 s at s = 0: x y = 3 s + 3 s**2.

    >>> jet(np.multiply, (1.0, 0.0), ([1.0, 0.0], [3.0, 0.0]))
    (array(0.), [array(3.), array(6.)])
    """
    _check_series(primals, series)
    start = Primals("jet", fun, primals, False)
    order = max(map(len, series), default=0)
    columns = _columns(start, primals, series, order)
    carried = jet_pass(start.traced.graph, order, start.wanted)
    moving = [x for flag, terms in zip(start.wanted, columns, strict=False) if flag for x in terms]
    results = run(carried.graph, [*start.arguments, *moving])
    count = start.traced.out_count
    rest = iter(results[count:])
    lists = []
    for aval, flag in zip(start.out_types, carried.nonzero_outputs, strict=True):
        terms = [next(rest) if flag else zeros_of(aval, results) for _ in range(order)]
        lists.append([result_array(term) for term in terms])
    out = start.traced.unflatten([result_array(x) for x in results[:count]])
    return out, pytree.unflatten(start.traced.out_tree, lists)


def _columns(
    start: Primals, primals: Sequence[Any], series: Sequence[Sequence[Any]], order: int
) -> list[list[Any]]:
    """Return, for each argument leaf, its `order` derivatives."""
    columns: list[list[Any]] = [[] for _ in start.avals]
    first = 0
    for i, (primal, terms) in enumerate(zip(primals, series, strict=True)):
        tree = pytree.structure(primal)
        last = first + tree.num_leaves
        avals = start.avals[first:last]
        for k in range(order):
            if k < len(terms):
                what = f"series[{i}][{k}]"
                flat = flatten_like("jet", what, terms[k], tree, avals, f"primals[{i}]")
            else:
                flat = [zeros_of(aval, start.inputs) for aval in avals]
            for column, leaf in zip(columns[first:last], flat, strict=True):
                column.append(array_leaf(leaf))
        first = last
    return columns


def _check_series(primals: Any, series: Any) -> None:
    for name, value in (("primals", primals), ("series", series)):
        if not isinstance(value, tuple | list):
            raise TypeError(
                message(
                    "jet",
                    f"{name} must be a tuple or list with one entry per argument",
                    f"{name} of type {type(value).__name__}",
                    line=user_line(),
                    fix="write primals=(x,), series=([x1, x2],).",
                )
            )
    if len(primals) != len(series):
        raise ValueError(
            message(
                "jet",
                "series must have one list of derivatives for each argument, of which there are "
                f"{len(primals)}",
                f"len(series)={len(series)}",
                line=user_line(),
                fix="give an empty list for an argument that is constant.",
            )
        )
    for i, terms in enumerate(series):
        if not isinstance(terms, tuple | list):
            raise TypeError(
                message(
                    "jet",
                    "each entry of series must be a tuple or list of derivatives",
                    f"series[{i}] of type {type(terms).__name__}",
                    line=user_line(),
                    fix=f"write [x1, x2] for the first two derivatives of primals[{i}].",
                )
            )
