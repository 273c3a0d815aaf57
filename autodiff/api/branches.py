"""Branches chosen when the program runs: cond, switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.api.held_functions import (
    apply_held,
    common_dtype,
    flatten_arrays,
    trace_held,
    with_output_types,
)
from autodiff.api.trace import Traced, imported_leaf, leaf_types
from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS, ArrayType, array_type, type_of
from autodiff.ir.builder import Tracer
from autodiff.ir.primitive import primitives
from autodiff.primitives.families import convert
from autodiff.primitives.higher_order import placed

Function = Callable[..., Any]


def cond(pred: Any, true_fun: Function, false_fun: Function, *operands: Any) -> Any:
    """Return `true_fun(*operands)` if `pred` holds, else `false_fun(*operands)`.

    One branch is run, except where `vmap` maps `pred`: then both are, and each example takes its
    own. Both are traced.

    Args:
        pred: truth value or number (true unless 0) of shape ().
        true_fun, false_fun: functions that return pytrees of equal structure, shapes and dtypes.
        operands: pytrees of arrays.

    Raises:
        TypeError: `pred` is no scalar, or the branches differ in what they return; the message
            names the leaf and both types.

    >>> cond(3.0 > 2.0, lambda x: x + 1.0, lambda x: x - 1.0, 5.0)
    array(6.)
    """
    pred = imported_leaf("cond", pred)
    aval = type_of(pred)
    if aval.shape != ():
        raise TypeError(
            message(
                "cond",
                "pred must be a scalar",
                f"pred={aval.strong()}",
                line=user_line(),
                fix="reduce it with .any() or .all(); numpy.where chooses element by element.",
            )
        )
    if type(pred) is Tracer:
        truth = pred if aval.dtype == np.bool else pred != 0
        index = convert(truth, np.int32)
    else:
        index = (
            np.int32(bool(pred)) if type(pred) in PYTHON_SCALARS else (pred != 0).astype(np.int32)
        )
    return _choose("cond", index, (false_fun, true_fun), operands, ("false_fun", "true_fun"))


def switch(index: Any, branches: Sequence[Function], *operands: Any) -> Any:
    """Return `branches[index](*operands)`, the index clamped to the branches there are.

    Args:
        index: integer of shape ().
        branches: functions that return pytrees of equal structure, shapes and dtypes.
        operands: pytrees of arrays.

    Raises:
        TypeError: `index` is no integer scalar, or the branches differ in what they return.
        ValueError: there are no branches.

    >>> switch(7, [lambda x: x, lambda x: x * 10.0], 5.0)
    array(50.)
    """
    index = imported_leaf("switch", index)
    aval = type_of(index)
    if aval.shape != () or aval.dtype.kind not in "iu":
        raise TypeError(
            message(
                "switch",
                "index must be an integer of shape ()",
                f"index={aval.strong()}",
                line=user_line(),
                fix="convert it with .astype(int); for a truth value use cond.",
            )
        )
    if not branches:
        raise ValueError(
            message("switch", "there must be a branch", "branches=()", line=user_line())
        )
    names = tuple(f"branches[{i}]" for i in range(len(branches)))
    return _choose("switch", index, tuple(branches), operands, names)


def _choose(
    function: str, index: Any, branches: Sequence[Function], operands: Any, names: Sequence[str]
) -> Any:
    leaves, tree = flatten_arrays(function, "operands", tuple(operands))
    avals = [type_of(x) for x in leaves]
    traced = [
        trace_held(
            function,
            branch,
            lambda *tracers, branch=branch: branch(*pytree.unflatten(tree, tracers)),
            avals,
            [index, *leaves],
        )
        for branch in branches
    ]
    types = _branch_types(function, traced, names)
    constants, places = _common_constants([t.constants for t in traced], len(leaves))
    given = [*avals, *leaf_types(constants)]
    held = tuple(
        with_output_types(placed(t.graph, [*range(len(leaves)), *own], given), types)
        for t, own in zip(traced, places, strict=True)
    )
    outs = apply_held(primitives["cond"], [index, *leaves, *constants], {"branches": held})
    return traced[0].unflatten(outs)


def _common_constants(
    lists: Sequence[Sequence[Any]], start: int
) -> tuple[list[Any], list[list[int]]]:
    """Return the constants of all branches, counted from `start`, and where each one's own are.

    A value that several branches close over is taken once; one that a branch has twice, twice.
    """
    constants: list[Any] = []
    known: dict[tuple[int, int], int] = {}
    places = []
    for values in lists:
        seen: dict[int, int] = {}
        own = []
        for value in values:
            times = seen[id(value)] = seen.get(id(value), 0) + 1
            if (id(value), times) not in known:
                known[id(value), times] = start + len(constants)
                constants.append(value)
            own.append(known[id(value), times])
        places.append(own)
    return constants, places


def _branch_types(function: str, traced: Sequence[Traced], names: Sequence[str]) -> list[ArrayType]:
    """Return the types of the outputs that all branches agree on, or raise naming the leaf."""
    first = traced[0]
    for t, name in zip(traced[1:], names[1:], strict=True):
        if t.out_tree != first.out_tree:
            difference = pytree.structure_difference(t.out_tree, first.out_tree, "output")
            raise TypeError(
                message(
                    function,
                    f"{name} must return the structure that {names[0]} returns",
                    difference.removeprefix("got "),
                    line=user_line(),
                    fix="return the same containers, keys and lengths from all branches.",
                )
            )
    types = list(first.graph.output_types)
    for t, name in zip(traced[1:], names[1:], strict=True):
        for i, (one, other) in enumerate(zip(types, t.graph.output_types, strict=True)):
            dtype = common_dtype(one, other) if one.shape == other.shape else None
            if dtype is None:
                path = pytree.path_string("output", pytree.paths(t.out_tree)[i])
                raise TypeError(
                    message(
                        function,
                        f"{name} must return the shapes and dtypes that {names[0]} returns",
                        f"{path}={other.strong()} where {names[0]} has {one.strong()}",
                        line=user_line(),
                        fix="convert with .astype, or reshape, in one of the branches.",
                    )
                )
            types[i] = array_type(one.shape, dtype, one.weak and other.weak)
    return types
