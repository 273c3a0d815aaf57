"""checkpoint: a function whose reverse sweep computes again instead of keeping."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any

from autodiff.api.checkpoint_policies import nothing_saveable
from autodiff.api.trace import (
    check_one_device,
    flatten_arguments,
    function_name,
    leaf_paths,
    run,
    trace_function,
)
from autodiff.base import pytree
from autodiff.base.array_modules import module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import type_of
from autodiff.ir.builder import Tracer, bind_primitive, trace_of
from autodiff.ir.primitive import primitives


def checkpoint(fun: Callable[..., Any] | None = None, *, policy: Any = None) -> Any:
    """Return `fun` with a reverse sweep that keeps its arguments and computes the rest again.

    Memory of a derivative falls from that of all intermediate values to that of the arguments and
    of what the policy saves, at the price of one more evaluation of `fun` (less what is saved).
    Values and derivatives are those of `fun`, bit for bit. Usable as a decorator, with or without
    arguments; `remat` is another name of it.

    Args:
        fun: a function of pytrees that returns a pytree of arrays. What of its arguments is an
            array is differentiated and kept; everything else, Python numbers included, is passed
            as it is. Arrays it closes over are treated as further arguments.
        policy: which values are saved rather than computed again: one of `checkpoint_policies`, or
            a function `(primitive, avals, params) -> bool` asked for each operation of the forward
            computation. Default: `checkpoint_policies.nothing_saveable`.

    Raises:
        TypeError: `fun` or `policy` is not callable, a policy answers neither True nor False, an
            output is not an array.

    >>> import numpy as np
    >>> from autodiff import grad
    >>> @checkpoint
    ... def f(x):
    ...     return np.sin(np.sin(x))
    >>> grad(f)(1.0)
    array(0.36003949)

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, chapter 12; the policies
    are modelled on those of JAX's `jax.checkpoint`.
    """
    if policy is not None and not (callable(policy) and isinstance(policy, Hashable)):
        raise TypeError(
            message(
                "checkpoint",
                "policy must be a hashable function (primitive, avals, params) -> bool",
                f"policy={policy!r}",
                line=user_line(),
                fix="take one of autodiff.checkpoint_policies.",
            )
        )
    if fun is None:
        return lambda function: checkpoint(function, policy=policy)
    if not callable(fun):
        raise TypeError(
            message(
                "checkpoint",
                "the first argument must be a function",
                f"fun={fun!r}",
                line=user_line(),
                fix="write checkpoint(f)(x), not checkpoint(f(x)).",
            )
        )
    function, chosen = fun, nothing_saveable if policy is None else policy

    @wraps(function, updated=())
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return _apply(function, chosen, args, kwargs)

    return checkpointed


def _apply(fun: Callable[..., Any], policy: Any, args: Any, kwargs: Any) -> Any:
    leaves, tree = flatten_arguments("checkpoint", (args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if _is_array(leaf)]
    arrays = [leaves[i] for i in places]
    check_one_device("checkpoint", leaves, lambda: leaf_paths(fun, args, kwargs))

    def apply(*tracers: Any) -> Any:
        given = list(leaves)
        for place, tracer in zip(places, tracers, strict=True):
            given[place] = tracer
        positional, named = pytree.unflatten(tree, given)
        return fun(*positional, **named)

    outer = trace_of(arrays)
    traced = trace_function(
        apply,
        [type_of(leaf) for leaf in arrays],
        function="checkpoint",
        name=function_name(fun),
        values=arrays,
        inline_literals=outer is not None and outer.inline_literals,
    )
    operands = [*arrays, *traced.constants]
    if trace_of(operands) is None:
        return traced.unflatten(run(traced.graph, operands))
    params = {
        "graph": traced.graph,
        "policy": policy,
        "recompute": False,
        "name": function_name(fun),
    }
    return traced.unflatten(bind_primitive(primitives["checkpoint"], operands, params))


def _is_array(leaf: Any) -> bool:
    return type(leaf) is Tracer or module_of(leaf) is not None


def checkpoint_name(tree: Any, name: str) -> Any:
    """Return a pytree of the same values under a name that policies of `checkpoint` know them by.

    See `checkpoint_policies.save_only_these_names`. Elsewhere it does nothing.

    Raises:
        TypeError: `name` is not a string.

    >>> checkpoint_name(2.0, "two")
    2.0
    """
    if not isinstance(name, str):
        raise TypeError(
            message(
                "checkpoint_name",
                "the name must be a string",
                f"name={name!r}",
                line=user_line(),
                fix='write checkpoint_name(x, "name").',
            )
        )
    primitive = primitives["checkpoint_name"]
    return pytree.map(
        lambda leaf: primitive(leaf, label=name) if type(leaf) is Tracer else leaf, tree
    )
