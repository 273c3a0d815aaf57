"""From a user's function and arguments to a graph, and from a graph to results."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.base import pytree
from autodiff.base.array_modules import common_module, exports_array, gpu_of, module_of
from autodiff.base.dtypes import default_dtype
from autodiff.base.errors import message
from autodiff.base.garbage import seldom_collected
from autodiff.base.settings import settings
from autodiff.base.source_info import is_library_code, user_line
from autodiff.ir.avals import PYTHON_SCALARS, ArrayType, is_arraylike, type_of
from autodiff.ir.builder import Trace, Tracer, postponed_effects, replay, tracing
from autodiff.ir.graph import Graph, hoisted
from autodiff.runtime.devices import imported_array
from autodiff.runtime.executor import executable


@dataclass(frozen=True, slots=True)
class Traced:
    """A function as a graph: `graph(*inputs, *constants)` gives the leaves of (output, aux).

    `aux_static` holds aux leaves that are not arrays, at their positions; None where a graph output
    belongs.
    """

    graph: Graph
    constants: list[Any]
    out_tree: pytree.TreeDef
    out_count: int
    aux_tree: pytree.TreeDef | None
    aux_static: tuple[tuple[int, Any], ...]

    def unflatten(self, outputs: Sequence[Any]) -> Any:
        """Return the function's output from the graph's first outputs."""
        return pytree.unflatten(self.out_tree, outputs[: self.out_count])

    def unflatten_aux(self, outputs: Sequence[Any]) -> Any:
        """Return aux from the graph's outputs after the function's own."""
        assert self.aux_tree is not None
        leaves = list(outputs)
        for position, value in self.aux_static:
            leaves.insert(position, value)
        return pytree.unflatten(self.aux_tree, leaves)


def function_name(fun: Any) -> str:
    """Return a callable's name for messages."""
    return getattr(fun, "__name__", None) or type(fun).__name__


def argument_name(fun: Any, position: int) -> str:
    """Return the name of a function's positional parameter, for messages."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return f"argument {position}"
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if position < len(positional):
        return positional[position].name
    variadic = [p.name for p in parameters if p.kind == p.VAR_POSITIONAL]
    return f"{variadic[0]}[{position - len(positional)}]" if variadic else f"argument {position}"


def leaf_paths(
    fun: Any,
    args: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    positions: Sequence[int] | None = None,
) -> list[str]:
    """Return each argument leaf's path in the user's notation, such as `params['w'][0]`.

    `positions` are those of `args` in the call, where they are not all of its arguments.
    """
    names = []
    for position, arg in zip(positions or range(len(args)), args, strict=True):
        found, _ = pytree.flatten_with_path(arg)
        name = argument_name(fun, position)
        names += [pytree.path_string(name, path) for path, _ in found]
    for name in sorted(keywords or ()):
        found, _ = pytree.flatten_with_path((keywords or {})[name])
        names += [pytree.path_string(name, path) for path, _ in found]
    return names


def flatten_arguments(function: str, value: Any) -> tuple[list[Any], pytree.TreeDef]:
    """Flatten arguments of a call; leaves that offer an array by DLPack or CUDA become it.

    Raises:
        TypeError: an array that is offered is neither in the memory of the CPU nor on a GPU that
            CuPy can use, or of an element type that NumPy or CuPy does not have.
    """
    leaves, tree = pytree.flatten(value)
    for i, leaf in enumerate(leaves):
        if exports_array(leaf):
            leaves[i] = _imported_leaf(function, leaf)
    return leaves, tree


def with_imported(function: str, value: Any) -> Any:
    """Return a value with the leaves that offer an array replaced by it; errors as above."""
    leaves = pytree.leaves(value)
    if not any(map(exports_array, leaves)):
        return value
    leaves, tree = flatten_arguments(function, value)
    return pytree.unflatten(tree, leaves)


def imported_leaf(function: str, value: Any) -> Any:
    """Return the array that a leaf offers, any other leaf as it is; errors as above."""
    return _imported_leaf(function, value) if exports_array(value) else value


def _imported_leaf(function: str, value: Any) -> Any:
    try:
        return imported_array(value)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        kind = type(value)
        raise TypeError(
            message(
                function,
                "an argument that offers its memory as an array must be one that NumPy or CuPy can "
                "hold",
                f"an object of type {kind.__module__}.{kind.__qualname__} ({error})",
                line=user_line(),
                fix="convert it to a numpy.ndarray or a cupy.ndarray before the call.",
            )
        ) from error


def array_leaf(value: Any) -> Any:
    """Return a leaf as graphs take it: Python scalars as NumPy scalars, arrays as they are."""
    kind = type(value)
    if kind in PYTHON_SCALARS:
        return default_dtype(kind).type(value)
    return value


def check_leaves(
    function: str,
    fun: Any,
    args: Sequence[Any],
    leaves: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    positions: Sequence[int] | None = None,
) -> None:
    """Raise a TypeError naming the first leaf that is not an array, or mixes NumPy's with CuPy's.

    A ValueError where arrays are on several GPUs.

    `keywords` and `positions` as in `leaf_paths`.
    """
    for i, leaf in enumerate(leaves):
        if not is_arraylike(leaf):
            raise TypeError(
                message(
                    function,
                    "every leaf of a traced argument must be an array or a number",
                    f"{leaf_paths(fun, args, keywords, positions)[i]}={leaf!r} "
                    f"of type {type(leaf).__name__}",
                    line=user_line(),
                    fix="make the argument static (static_argnums of jit), or bind it with "
                    "functools.partial.",
                )
            )
    check_one_device(function, leaves, lambda: leaf_paths(fun, args, keywords, positions))


def check_one_device(
    function: str, leaves: Sequence[Any], names: Callable[[], Sequence[str]]
) -> None:
    """Raise a TypeError where NumPy and CuPy arrays are mixed, a ValueError for several GPUs."""
    module = common_module(leaves)
    if module is np:
        return
    gpus = [gpu_of(leaf) for leaf in leaves]
    first = next(i for i, gpu in enumerate(gpus) if gpu is not None)
    for i, gpu in enumerate(gpus):
        if gpu is not None and gpu != gpus[first]:
            paths = names()
            raise ValueError(
                message(
                    function,
                    "the arguments must be on one GPU",
                    f"{paths[first]} on GPU {gpus[first]} and {paths[i]} on GPU {gpu}",
                    line=user_line(),
                    fix=f"copy one of them: with {module.__name__}.cuda.Device(i): "
                    f"x = {module.__name__}.asarray(x).",
                )
            )
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, np.ndarray):
            other = next(j for j, x in enumerate(leaves) if module_of(x) is module)
            paths = names()
            raise TypeError(
                message(
                    function,
                    "the arguments must be on one device",
                    f"{paths[i]} as numpy.ndarray and {paths[other]} as {module.__name__}.ndarray",
                    line=user_line(),
                    fix=f"move one of them ({module.__name__}.asarray or "
                    f"{module.__name__}.asnumpy).",
                )
            )


#: What CuPy says where it looks for arrays and does not ask for hooks.
_REFUSED_BY_CUPY = f"Unsupported type {Tracer}"


def _refused_by_cupy(error: TypeError) -> TypeError:
    """Return what to say of a kernel of the user's that got a traced value."""
    line, place = None, error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        if not is_library_code(code) and not code.co_filename.endswith(".pyx"):
            line = code, place.tb_lasti
        place = place.tb_next
    return TypeError(
        message(
            "cupy",
            "a ReductionKernel or RawKernel must get arrays, since it does not ask for hooks",
            "a traced value",
            line=line,
            fix="write it with functions of autodiff.numpy, or as a cupy.ElementwiseKernel and a "
            "sum; or make it an operation with rules of its own by ad.primitive.",
        )
    )


def trace_function(
    apply: Callable[..., Any],
    avals: Sequence[ArrayType],
    *,
    function: str,
    name: str,
    values: Sequence[Any] | None,
    has_aux: bool = False,
    inline_literals: bool = False,
) -> Traced:
    """Trace `apply(*tracers)` and return its graph, constants as last inputs.

    `values`: the inputs' values where Python may ask for them. Whatever goes wrong in the user's
    function closes the trace.
    """
    trace = Trace(
        f"{function} of {name}",
        concrete=values is not None,
        inline_literals=inline_literals,
        with_source=True,
    )
    tracers = [
        trace.input(aval, None if values is None else values[i]) for i, aval in enumerate(avals)
    ]
    try:
        with seldom_collected(), tracing(trace):
            out = apply(*tracers)
            aux: Any = None
            if has_aux:
                out, aux = _output_and_aux(function, out)
            leaves, out_tree = pytree.flatten(out)
            for position, leaf in enumerate(leaves):
                if not is_arraylike(leaf):
                    raise _bad_output(function, name, out, position)
            outputs = [array_leaf(leaf) for leaf in leaves]
            aux_tree = None
            aux_static: list[tuple[int, Any]] = []
            if has_aux:
                aux_leaves, aux_tree = pytree.flatten(aux)
                for position, leaf in enumerate(aux_leaves):
                    if is_arraylike(leaf):
                        outputs.append(array_leaf(leaf))
                    else:
                        aux_static.append((position, leaf))
            graph, constants = trace.finish(outputs)
    except BaseException as error:
        trace.abandon()
        if type(error) is TypeError and str(error) == _REFUSED_BY_CUPY:
            raise _refused_by_cupy(error) from error
        raise
    if "trace" in settings().debug:
        print(f"{trace.name}:\n{graph}", file=sys.stderr)
    return Traced(hoisted(graph), constants, out_tree, len(leaves), aux_tree, tuple(aux_static))


def _output_and_aux(function: str, out: Any) -> tuple[Any, Any]:
    """Return the two parts of what a function with has_aux=True has returned."""
    if isinstance(out, tuple) and len(out) == 2:
        return out
    raise TypeError(
        message(
            function,
            "with has_aux=True the function must return a pair (output, aux)",
            f"output of type {type(out).__name__}",
            line=user_line(),
            fix="return (output, aux), or leave has_aux out.",
        )
    )


def _bad_output(function: str, name: str, out: Any, position: int) -> TypeError:
    path, leaf = pytree.flatten_with_path(out)[0][position]
    return TypeError(
        message(
            function,
            f"every leaf of the output of {name} must be an array or a number",
            f"{pytree.path_string('output', path)}={leaf!r} of type {type(leaf).__name__}",
            line=user_line(),
            fix="return arrays only; with has_aux=True other values may go into aux.",
        )
    )


def is_traced(values: Sequence[Any]) -> bool:
    """Return whether one of the values is a tracer."""
    return any(type(value) is Tracer for value in values)


def run(graph: Graph, arguments: Sequence[Any]) -> list[Any]:
    """Return a graph's outputs: recorded if an argument is traced, else computed."""
    for value in arguments:
        if type(value) is Tracer:
            return replay(graph, (), arguments)
    return executable(postponed_effects(graph, arguments))(*arguments)


def leaf_types(leaves: Sequence[Any]) -> list[ArrayType]:
    """Return the types of argument leaves; Python scalars are weak."""
    return [type_of(leaf) for leaf in leaves]
