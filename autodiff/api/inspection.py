"""Looking at what a function becomes: its graph, its types, the text of each stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from autodiff.api.trace import (
    check_leaves,
    flatten_arguments,
    function_name,
    leaf_types,
    trace_function,
)
from autodiff.base import pytree
from autodiff.base.array_modules import common_module
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.graph import Graph
from autodiff.passes.pipeline import simplification_steps, simplify
from autodiff.runtime.cpu_kernels import schedule_for_cpu
from autodiff.runtime.cuda_kernels import cuda_sources, schedule_for_cuda
from autodiff.runtime.devices import beside
from autodiff.runtime.executor import sources
from autodiff.schedule.target import Target, cuda_target

STAGES = ("graph", "passes", "kernels", "source")


def make_graph(fun: Callable[..., Any]) -> Callable[..., Graph]:
    """Return a function that, called as `fun`, gives its graph instead of its result.

    Arguments may be arrays or types (`eval_shape`'s results). Printing the graph shows it.

    >>> import numpy as np
    >>> print(make_graph(lambda x: x * 2.0 + 1.0)(np.zeros(3)))  # doctest: +ELLIPSIS
    graph (a: float64[3]) {
      b: float64[3] = multiply a 2.0:float64 ...
      c: float64[3] = add b 1.0:float64 ...
      return c
    }
    """

    @wraps(fun, updated=())
    def graph_of(*args: Any, **kwargs: Any) -> Graph:
        leaves, tree = flatten_arguments("make_graph", (args, kwargs))
        check_leaves("make_graph", fun, args, leaves, kwargs)

        def apply(*tracers: Any) -> Any:
            positional, named = pytree.unflatten(tree, tracers)
            return fun(*positional, **named)

        return trace_function(
            apply,
            leaf_types(leaves),
            function="make_graph",
            name=function_name(fun),
            values=None,
            inline_literals=True,
        ).graph

    return graph_of


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the types of `fun`'s output, as a pytree of `ArrayType`, without computing anything.

    >>> import numpy as np
    >>> eval_shape(np.dot, np.zeros((2, 3)), np.zeros(3))
    float64[2]
    """
    leaves, tree = flatten_arguments("eval_shape", (args, kwargs))
    check_leaves("eval_shape", fun, args, leaves, kwargs)

    def apply(*tracers: Any) -> Any:
        positional, named = pytree.unflatten(tree, tracers)
        return fun(*positional, **named)

    traced = trace_function(
        apply, leaf_types(leaves), function="eval_shape", name=function_name(fun), values=None
    )
    return traced.unflatten([aval.strong() for aval in traced.graph.output_types])


def show(
    fun: Callable[..., Any],
    *args: Any,
    stage: str = "graph",
    device: str | None = None,
    **kwargs: Any,
) -> None:
    """Print what `fun` becomes for these arguments.

    Args:
        stage: "graph" as traced; "passes", the graph after each simplifying pass that changed it;
            "kernels", which operations become one kernel, and why others do not; "source", the
            program that runs, and the text of its kernels where the setting `kernels` is on.
        device: what "kernels" and "source" are for: "cpu", or a GPU of an architecture, such as
            "cuda:sm_90", which need not be there. Default: where the arguments are.

    Raises:
        ValueError: `stage` or `device` is none of these.
    """
    gpu = None if device is None else _gpu(device)
    if stage not in STAGES:
        raise ValueError(
            message(
                "show",
                f"stage must be one of {', '.join(STAGES)}",
                f"stage={stage!r}",
                line=user_line(),
                fix="choose one of these.",
            )
        )
    graph = make_graph(fun)(*args, **kwargs)
    leaves = pytree.leaves((args, kwargs))
    module = np if device is not None else common_module(leaves)
    if stage == "graph":
        print(graph)
    elif stage == "kernels":
        is_cpu = gpu is None and module is np
        print((schedule_for_cpu if is_cpu else schedule_for_cuda)(simplify(graph)))
    elif stage == "source":
        simplified = simplify(graph)
        with beside(leaves):
            texts = sources(simplified, module) if gpu is None else cuda_sources(simplified, gpu)
        print("\n".join(texts), end="")
    else:
        print(f"traced:\n{graph}")
        before = graph
        for name, after in simplification_steps(graph):
            if after is not before:
                print(f"after {name}:\n{after}")
            before = after


def _gpu(device: str) -> Target | None:
    """Return the GPU that a device names, None if it is the CPU."""
    if device == "cpu":
        return None
    kind, _, architecture = device.partition(":")
    try:
        return cuda_target(architecture if kind == "cuda" else device)
    except ValueError:
        raise ValueError(
            message(
                "show",
                "device must be cpu, or a GPU of an architecture from sm_75 on",
                f"device={device!r}",
                line=user_line(),
                fix='name it like "cuda:sm_90".',
            )
        ) from None
