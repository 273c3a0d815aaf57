"""Whole Jacobians and Hessians: one linearization, mapped over a basis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from autodiff.api.trace import function_name, leaf_paths
from autodiff.api.transforms import (
    Argnums,
    Linearization,
    check_callable,
    check_no_mixture,
    checked_argnums,
    result_array,
)
from autodiff.api.vmap import vmap
from autodiff.base import pytree
from autodiff.base.array_modules import common_module
from autodiff.base.dtypes import is_complex, is_inexact
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType
from autodiff.runtime.devices import beside


def with_selected(
    fun: Callable[..., Any], positions: tuple[int, ...], args: Any, kwargs: Any
) -> Callable[..., Any]:
    """Return a call of `fun` as a function of its arguments at `positions`, the others bound."""

    @wraps(fun, updated=())
    def of_selected(*selected: Any) -> Any:
        given = list(args)
        for i, value in zip(positions, selected, strict=True):
            given[i] = value
        return fun(*given, **kwargs)

    return of_selected


def _linearized(
    function: str,
    fun: Callable[..., Any],
    argnums: Argnums,
    has_aux: bool,
    args: Any,
    kwargs: Any,
) -> tuple[Linearization, bool, Callable[[], list[str]]]:
    """Return the linearization, whether one bare position was given, and the inputs' names."""
    positions, single = checked_argnums(function, argnums, args)
    check_no_mixture(function, fun, args, kwargs)
    selected = [args[i] for i in positions]
    return (
        Linearization(
            function, with_selected(fun, positions, args, kwargs), selected, has_aux, positions
        ),
        single,
        lambda: leaf_paths(fun, selected, positions=positions),
    )


def check_real(
    function: str,
    what: str,
    names: Callable[[], list[str]],
    avals: Sequence[ArrayType],
    holomorphic: bool,
    fix: str,
) -> None:
    """Raise a TypeError naming the first leaf that is not real (with `holomorphic`: complex)."""
    check_floating(function, what, names, avals)
    for i, aval in enumerate(avals):
        if holomorphic and not is_complex(aval.dtype):
            raise TypeError(
                message(
                    function,
                    f"with holomorphic=True the {what} must be complex",
                    f"{names()[i]} of type {aval.strong()}",
                    line=user_line(),
                    fix="leave holomorphic=True out.",
                )
            )
        if not holomorphic and is_complex(aval.dtype):
            raise TypeError(
                message(
                    function,
                    f"the {what} must be real",
                    f"{names()[i]} of type {aval.strong()}",
                    line=user_line(),
                    fix=fix,
                )
            )


def _basis(avals: Sequence[ArrayType], like: Sequence[Any]) -> list[Any]:
    """Return, for each type, the rows of one common identity matrix that belong to it."""
    module = common_module(like)
    total = sum(aval.size for aval in avals)
    rows = []
    start = 0
    with beside(like):
        for aval in avals:
            block = module.zeros((total, aval.size), aval.dtype)
            block[start : start + aval.size] = module.eye(aval.size, dtype=aval.dtype)
            rows.append(block.reshape((total, *aval.shape)))
            start += aval.size
    return rows


def _split_rows(matrix: Any, avals: Sequence[ArrayType]) -> list[Any]:
    """Split the leading axis of a stack of derivatives into one block per type."""
    blocks = []
    start = 0
    for aval in avals:
        blocks.append(matrix[start : start + aval.size])
        start += aval.size
    return blocks


def jacfwd(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that computes the Jacobian of `fun`, one column per input element.

    A leaf of the result has shape `out.shape + in.shape`; the result has the structure of the
    output, with the structure of the arguments inside. Forward mode: best where outputs outnumber
    inputs. Arguments as `value_and_grad`; `chunk_size` columns at once bound the memory.

    >>> import numpy as np
    >>> jacfwd(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    check_callable("jacfwd", fun)

    @wraps(fun, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        at, single, names = _linearized("jacfwd", fun, argnums, has_aux, args, kwargs)
        start = at.start
        check_real(
            "jacfwd",
            "input",
            names,
            start.avals,
            holomorphic,
            "use jacrev for complex inputs, "
            "or pass holomorphic=True if the function is holomorphic.",
        )

        def push(*tangents: Any) -> list[Any]:
            moved = at.push(tangents)[: start.traced.out_count]
            return at.filled(moved, start.out_types)

        basis = _basis(start.avals, start.inputs)
        columns = (
            vmap(push, out_axes=-1, chunk_size=chunk_size)(*basis)
            if any(aval.size for aval in start.avals)
            else [np.zeros((*aval.shape, 0), aval.dtype) for aval in start.out_types]
        )
        table = []
        for column, out in zip(columns, start.out_types, strict=True):
            blocks = []
            position = 0
            for aval in start.avals:
                block = column[..., position : position + aval.size]
                blocks.append(block.reshape((*out.shape, *aval.shape)))
                position += aval.size
            row = pytree.unflatten(start.tree, [result_array(b) for b in blocks])
            table.append(row[0] if single else row)
        jacobian = pytree.unflatten(start.traced.out_tree, table)
        return (jacobian, at.aux) if has_aux else jacobian

    return jacobian_of


def jacrev(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that computes the Jacobian of `fun`, one row per output element.

    Shapes and structure as `jacfwd`. Reverse mode: best where inputs outnumber outputs.

    >>> import numpy as np
    >>> jacrev(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    check_callable("jacrev", fun)

    @wraps(fun, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        at, single, names = _linearized("jacrev", fun, argnums, has_aux, args, kwargs)
        start = at.start
        name = function_name(fun)
        check_real(
            "jacrev",
            "output",
            lambda: [
                pytree.path_string("output", path) for path in pytree.paths(start.traced.out_tree)
            ],
            start.out_types,
            holomorphic,
            f"return real arrays from {name}, or pass holomorphic=True if it is holomorphic.",
        )
        if not holomorphic:
            check_floating("jacrev", "input", names, start.avals)

        def pull(*cts: Any) -> list[Any]:
            return at.filled(at.pull(cts), start.avals)

        basis = _basis(start.out_types, [*start.inputs, *at.results])
        rows = (
            vmap(pull, chunk_size=chunk_size)(*basis)
            if any(aval.size for aval in start.out_types)
            else [np.zeros((0, *aval.shape), aval.dtype) for aval in start.avals]
        )
        split = [_split_rows(row, start.out_types) for row in rows]
        table = []
        for k, out in enumerate(start.out_types):
            blocks = [
                result_array(blocks[k].reshape((*out.shape, *aval.shape)))
                for blocks, aval in zip(split, start.avals, strict=True)
            ]
            row = pytree.unflatten(start.tree, blocks)
            table.append(row[0] if single else row)
        jacobian = pytree.unflatten(start.traced.out_tree, table)
        return (jacobian, at.aux) if has_aux else jacobian

    return jacobian_of


def check_floating(
    function: str, what: str, names: Callable[[], list[str]], avals: Sequence[ArrayType]
) -> None:
    """Raise a TypeError naming the first leaf that is neither real nor complex."""
    for i, aval in enumerate(avals):
        if not is_inexact(aval.dtype):
            raise TypeError(
                message(
                    function,
                    f"the {what} must be of a real or complex floating type",
                    f"{names()[i]} of type {aval.strong()}",
                    line=user_line(),
                    fix="convert it with .astype(float).",
                )
            )


jacobian = jacrev


def hessian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that computes the Hessian of `fun`, forward over reverse.

    Leaf shape: `out.shape + in.shape + in.shape`.

    >>> import numpy as np
    >>> hessian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    check_callable("hessian", fun)
    return jacfwd(
        jacrev(fun, argnums, has_aux, holomorphic, chunk_size),
        argnums,
        has_aux,
        holomorphic,
        chunk_size,
    )
