"""vmap: a function of one example as a function of many."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from autodiff.api.named_axes import axis_identity, named_axis
from autodiff.api.trace import (
    Traced,
    argument_name,
    array_leaf,
    check_one_device,
    flatten_arguments,
    function_name,
    run,
    trace_function,
)
from autodiff.base import pytree
from autodiff.base.array_modules import common_module, module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import array_type, is_arraylike, type_of
from autodiff.ir.builder import Tracer
from autodiff.ir.graph import Graph
from autodiff.passes.batch import batch
from autodiff.primitives.families import batch_to, move_axis
from autodiff.runtime.devices import beside


def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable = None,
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
        axis_name: what `psum`, `pmean`, `axis_index` and the like call the mapped axis inside
            `fun`: any hashable that is not a tuple, mostly a string. An inner vmap of the same name
            takes its place while its own function runs.
        axis_size: number of examples, needed where nothing is mapped.
        chunk_size: at most so many examples at once, to bound memory; None takes all.

    Raises:
        ValueError: mapped axes differ in size (the message lists arguments and sizes), an axis is
            out of range, nothing is mapped; `axis_name` is given with `chunk_size`.
        TypeError: `axis_name` is a tuple or not hashable.

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

    _check_axis_name(axis_name, chunk_size)

    @wraps(fun, updated=())
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, axes, rebuild, names = _mapped_leaves(fun, in_axes, args, kwargs)
        size = _mapped_size(leaves, axes, names, axis_size)
        examples = [
            x if axis is None else _move(x, axis, 0) for x, axis in zip(leaves, axes, strict=True)
        ]
        identity = None
        if axis_name is not None:
            identity = axis_identity(axis_name)
            with beside(leaves):
                examples.append(common_module(leaves).arange(size))
            axes.append(0)
        traced = _traced_example(fun, examples, axes, rebuild, size, axis_name)
        flags = (*[axis is not None for axis in axes], *[False] * len(traced.constants))
        arguments = [*map(array_leaf, examples), *traced.constants]
        results, out_mapped = _run_in_chunks(
            traced.graph, arguments, flags, size, chunk_size, identity
        )
        return traced.unflatten(_placed(traced, results, out_mapped, size, out_axes))

    return mapped


def _run_in_chunks(
    graph: Graph,
    arguments: Sequence[Any],
    flags: tuple[bool, ...],
    size: int,
    chunk_size: int | None,
    identity: Hashable,
) -> tuple[list[Any], Sequence[bool]]:
    """Return the outputs for all examples, and which of them have the mapped axis (first).

    `flags` marks the arguments that have it, `identity` is what collectives call it.
    """
    step = size if chunk_size is None else min(chunk_size, size)
    parts: list[list[Any]] = []
    out_mapped: Sequence[bool] = ()
    for start in range(0, size, step) if step else (0,):
        stop = min(start + step, size)
        part = arguments
        if stop - start < size:
            part = [x[start:stop] if flag else x for x, flag in zip(arguments, flags, strict=True)]
        mapped, out_mapped = batch(graph, stop - start, flags, None, identity)
        parts.append(run(mapped, part))
    results = [
        _join([part[i] for part in parts]) if flag and len(parts) > 1 else parts[0][i]
        for i, flag in enumerate(out_mapped)
    ]
    return results, out_mapped


def _check_axis_name(axis_name: Any, chunk_size: int | None) -> None:
    is_hashable = True
    try:
        hash(axis_name)
    except TypeError:
        is_hashable = False
    if not is_hashable or isinstance(axis_name, tuple):
        raise TypeError(
            message(
                "vmap",
                "axis_name must be hashable, and not a tuple, which stands for several names",
                f"axis_name={axis_name!r}",
                line=user_line(),
                fix="use a string.",
            )
        )
    if axis_name is not None and chunk_size is not None:
        raise ValueError(
            message(
                "vmap",
                "an axis with a name must be mapped at once, since examples of different chunks "
                "cannot see each other",
                f"axis_name={axis_name!r} and chunk_size={chunk_size}",
                line=user_line(),
                fix="leave out one of them.",
            )
        )


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
        flat, tree = flatten_arguments("vmap", arg)
        found = pytree.flatten_prefix(prefix, tree, name=f"in_axes[{position}]", function="vmap")
        _add_leaves(leaves, axes, layout, flat, tree, found)
    flat, kwargs_tree = flatten_arguments("vmap", kwargs)
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


def _traced_example(
    fun: Any,
    examples: list[Any],
    axes: list[int | None],
    rebuild: Any,
    size: int,
    axis_name: Hashable,
) -> Traced:
    """Return the function of one example; with `axis_name` the last input is its position."""
    avals = [
        type_of(x) if axis is None else array_type(x.shape[1:], x.dtype)
        for x, axis in zip(examples, axes, strict=True)
    ]

    def apply(*tracers: Any) -> Any:
        if axis_name is None:
            args, kwargs = rebuild(tracers)
            return fun(*args, **kwargs)
        args, kwargs = rebuild(tracers[:-1])
        with named_axis(axis_name, size, tracers[-1]):
            return fun(*args, **kwargs)

    return trace_function(apply, avals, function="vmap", name=function_name(fun), values=None)


def _placed(
    traced: Traced, results: list[Any], out_mapped: Sequence[bool], size: int, out_axes: Any
) -> list[Any]:
    """Return the outputs with the mapped axis where `out_axes` wants it."""
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
    return outputs
