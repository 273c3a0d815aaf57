"""vmap: a function of one example as a function of many."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from autodiff.api.trace import (
    argument_name,
    array_leaf,
    check_one_device,
    function_name,
    run,
    trace_function,
)
from autodiff.base import pytree
from autodiff.base.array_modules import module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import array_type, is_arraylike, type_of
from autodiff.ir.builder import Tracer
from autodiff.passes.batch import batch
from autodiff.primitives.families import batch_to, move_axis


def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that maps `fun` over an axis of its arguments, by one batched program.

    Args:
        fun: a function of single examples.
        in_axes: which axis of each argument is mapped: an int (negative counts from the end), None
            for an argument shared by all examples, or a tuple or list with one entry per positional
            argument, each of them an int, None or a pytree prefix of ints and None. Keyword
            arguments are mapped over axis 0.
        out_axes: where the mapped axis goes in the output: an int, or a pytree prefix of ints and
            None (None: the output must not depend on the example).
        axis_size: number of examples, needed where nothing is mapped.
        chunk_size: at most so many examples at once, to bound memory; None takes all.

    Raises:
        ValueError: mapped axes differ in size (the message lists arguments and sizes), an axis is
            out of range, nothing is mapped.

    >>> import numpy as np
    >>> vmap(np.dot, in_axes=(0, None))(np.eye(2), np.array([1.0, 2.0]))
    array([1., 2.])
    """
    if not callable(fun):
        raise TypeError(
            message(
                "vmap",
                "the first argument must be a function",
                f"fun={fun!r}",
                line=user_line(),
                fix="write vmap(f)(x), not vmap(f(x)).",
            )
        )
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(
            message(
                "vmap",
                "chunk_size must be at least 1",
                f"chunk_size={chunk_size}",
                line=user_line(),
                fix="pass a positive chunk_size, or None to take all examples at once.",
            )
        )

    @wraps(fun, updated=())
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, axes, rebuild, names = _mapped_leaves(fun, in_axes, args, kwargs)
        size = _mapped_size(leaves, axes, names, axis_size)
        examples = [
            x if axis is None else _move(x, axis, 0) for x, axis in zip(leaves, axes, strict=True)
        ]
        if chunk_size is not None and chunk_size < size:
            parts = [
                _run_batched(
                    fun,
                    [
                        x if axis is None else x[start : start + chunk_size]
                        for x, axis in zip(examples, axes, strict=True)
                    ],
                    axes,
                    rebuild,
                    min(chunk_size, size - start),
                    0 if out_axes is not None else None,
                )
                for start in range(0, size, chunk_size)
            ]
            trees = [pytree.flatten(part) for part in parts]
            tree = trees[0][1]
            places = pytree.flatten_prefix(out_axes, tree, name="out_axes", function="vmap")
            joined = [
                pieces[0] if place is None else _move(_join(pieces), 0, place)
                for place, *pieces in zip(places, *[flat for flat, _ in trees], strict=True)
            ]
            return pytree.unflatten(tree, joined)
        return _run_batched(fun, examples, axes, rebuild, size, out_axes)

    return mapped


def _join(pieces: list[Any]) -> Any:
    traced = next((x for x in pieces if type(x) is Tracer), None)
    module = np if traced is not None else module_of(pieces[0]) or np
    return module.concatenate(pieces)


def _mapped_leaves(
    fun: Any, in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], list[int | None], Any, Callable[[], list[str]]]:
    """Flatten a call: array leaves, their axes, what puts the call together, the leaves' names."""
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise ValueError(
            message(
                "vmap",
                "in_axes must have one entry per positional argument",
                f"in_axes={in_axes!r} for {len(args)} arguments",
                line=user_line(),
                fix="add or remove entries; keyword arguments are mapped over axis 0.",
            )
        )
    leaves: list[Any] = []
    axes: list[int | None] = []
    layout: list[tuple[list[Any], pytree.TreeDef, list[int]]] = []
    for position, arg in enumerate(args):
        prefix = in_axes[position] if isinstance(in_axes, tuple) else in_axes
        flat, tree = pytree.flatten(arg)
        found = pytree.flatten_prefix(prefix, tree, name=f"in_axes[{position}]", function="vmap")
        _add_leaves(leaves, axes, layout, flat, tree, found)
    flat, kwargs_tree = pytree.flatten(kwargs)
    _add_leaves(leaves, axes, layout, flat, kwargs_tree, [0] * len(flat))
    for i, (leaf, axis) in enumerate(zip(leaves, axes, strict=True)):
        ndim = len(getattr(leaf, "shape", ()))
        if axis is not None and not (is_arraylike(leaf) and -ndim <= axis < ndim):
            raise ValueError(
                message(
                    "vmap",
                    "a mapped argument must be an array with the axis named by in_axes",
                    f"{_leaf_names(fun, args, layout)[i]} of shape {getattr(leaf, 'shape', ())} "
                    f"with axis {axis}",
                    line=user_line(),
                    fix="give it None in in_axes to share it among the examples.",
                )
            )
        if axis is not None:
            axes[i] = axis % ndim
    check_one_device("vmap", leaves, lambda: _leaf_names(fun, args, layout))

    def rebuild(tracers: Any) -> tuple[list[Any], dict[str, Any]]:
        given = iter(tracers)
        trees = []
        for flat, tree, where in layout:
            filled = list(flat)
            for k in where:
                filled[k] = next(given)
            trees.append(pytree.unflatten(tree, filled))
        return trees[:-1], trees[-1]

    return leaves, axes, rebuild, lambda: _leaf_names(fun, args, layout)


def _add_leaves(
    leaves: list[Any], axes: list[Any], layout: list[Any], flat: list[Any], tree: Any, found: Any
) -> None:
    where = [
        k
        for k, (leaf, axis) in enumerate(zip(flat, found, strict=True))
        if axis is not None or type(leaf) is Tracer or module_of(leaf) is not None
    ]
    leaves += [flat[k] for k in where]
    axes += [found[k] for k in where]
    layout.append((flat, tree, where))


def _leaf_names(fun: Any, args: Any, layout: list[Any]) -> list[str]:
    names = []
    for position, (_, tree, where) in enumerate(layout):
        found = pytree.paths(tree)
        if position < len(args):
            name = argument_name(fun, position)
            names += [pytree.path_string(name, found[k]) for k in where]
        else:  # the keyword arguments, whose dict is the root
            names += [pytree.path_string(found[k][0].key, found[k][1:]) for k in where]
    return names


def _mapped_size(
    leaves: list[Any],
    axes: list[int | None],
    names: Callable[[], list[str]],
    axis_size: int | None,
) -> int:
    sizes = [leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None]
    if axis_size is not None:
        sizes.append(axis_size)
    if not sizes:
        raise ValueError(
            message(
                "vmap",
                "one argument must be mapped, or axis_size given",
                "in_axes of None only",
                line=user_line(),
                fix="pass axis_size=n.",
            )
        )
    if len(set(sizes)) > 1:
        listed = [
            f"{name} has axis {axis} of size {leaf.shape[axis]}"
            for name, leaf, axis in zip(names(), leaves, axes, strict=True)
            if axis is not None
        ]
        if axis_size is not None:
            listed.append(f"axis_size={axis_size}")
        raise ValueError(
            message(
                "vmap",
                "the mapped axes must have one size",
                "; ".join(listed),
                line=user_line(),
                fix="map equal axes, or give None in in_axes to what all examples share.",
            )
        )
    return sizes[0]


def _move(x: Any, source: int, destination: int) -> Any:
    source, destination = source % x.ndim, destination % x.ndim
    if source == destination:
        return x
    return (
        move_axis(x, source, destination)
        if type(x) is Tracer
        else np.moveaxis(x, source, destination)
    )


def _run_batched(
    fun: Any, examples: list[Any], axes: list[int | None], rebuild: Any, size: int, out_axes: Any
) -> Any:
    avals = [
        type_of(x) if axis is None else array_type(x.shape[1:], x.dtype)
        for x, axis in zip(examples, axes, strict=True)
    ]

    def apply(*tracers: Any) -> Any:
        args, kwargs = rebuild(tracers)
        return fun(*args, **kwargs)

    traced = trace_function(apply, avals, function="vmap", name=function_name(fun), values=None)
    flags = (*[axis is not None for axis in axes], *[False] * len(traced.constants))
    graph, out_mapped = batch(traced.graph, size, flags)
    results = run(graph, [*map(array_leaf, examples), *traced.constants])
    places = pytree.flatten_prefix(out_axes, traced.out_tree, name="out_axes", function="vmap")
    outputs = []
    for i, (x, mapped, place) in enumerate(zip(results, out_mapped, places, strict=True)):
        if place is None:
            if mapped:
                path = pytree.path_string("output", pytree.paths(traced.out_tree)[i])
                raise ValueError(
                    message(
                        "vmap",
                        "an output with None in out_axes must not depend on the example",
                        f"{path}, which is mapped",
                        line=user_line(),
                        fix="give it an axis in out_axes.",
                    )
                )
            outputs.append(x)
            continue
        if not mapped:
            x = (
                batch_to(x, False, size)
                if type(x) is Tracer
                else np.broadcast_to(x, (size, *x.shape)).copy()
            )
        if not -x.ndim <= place < x.ndim:
            raise ValueError(
                message(
                    "vmap",
                    f"out_axes must name an axis of the output, which has {x.ndim}",
                    f"out_axes={place}",
                    line=user_line(),
                    fix="name one of its axes; the mapped axis is one of them.",
                )
            )
        outputs.append(_move(x, 0, place))
    return traced.unflatten(outputs)
