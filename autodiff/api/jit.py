"""jit: a function traced once per combination of types, then run as a compiled program."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from itertools import zip_longest
from operator import is_
from types import MethodType, ModuleType
from typing import Any

import numpy as np

from autodiff.api.named_axes import NamedAxis, axes_at, axes_in_force, enclosing_axes
from autodiff.api.trace import (
    Traced,
    argument_name,
    array_leaf,
    check_leaves,
    flatten_arguments,
    function_name,
    is_traced,
    trace_function,
)
from autodiff.base import pytree
from autodiff.base.array_modules import common_module, gpu_of
from autodiff.base.errors import message
from autodiff.base.settings import Settings, local, process_wide, settings
from autodiff.base.source_info import user_line
from autodiff.codegen.cpu_entry import ALONE, TUPLE
from autodiff.ir.avals import PYTHON_SCALARS, type_of
from autodiff.ir.builder import Tracer, bind_primitive, postponed_effects, replay
from autodiff.ir.graph import Var
from autodiff.ir.held import has_effect
from autodiff.ir.primitive import primitives
from autodiff.runtime.devices import beside
from autodiff.runtime.executor import Executable, executable
from autodiff.runtime.kernel_calls import Entry, Guards


class _Compiled:
    """One traced combination of types: the graph, and the program made from it on first use.

    `is_open`: values of an outer trace are among the constants, so that it must be recorded there.
    The inputs after the arguments are the positions along the named axes in force, of which
    `reads_axes` tells the ones that matter. `has_effects`: if it is run while a function is traced,
    its effects belong to that. `direct` computes the outputs from NumPy's arrays; it is known after
    the first run, of what is kernels alone. `kinds` are the classes of the arguments' leaves and
    `structure` is how they are arranged, None where each argument is one. `entered_for`: the
    settings for which it was put among the function's entries.
    """

    __slots__ = (
        "constants",
        "direct",
        "entered_for",
        "form",
        "has_effects",
        "is_open",
        "kinds",
        "module",
        "program",
        "reads_axes",
        "structure",
        "traced",
    )

    def __init__(
        self,
        traced: Traced,
        module: ModuleType,
        donated: frozenset[int],
        axis_inputs: Sequence[Var],
        leaves: Sequence[Any],
        structure: Any,
    ) -> None:
        self.traced = traced
        self.structure = structure
        self.module = module
        self.kinds = tuple(map(type, leaves))
        self.reads_axes: tuple[bool, ...] = ()
        if axis_inputs:
            read = {atom for eqn in traced.graph.eqns for atom in eqn.inputs}
            read.update(traced.graph.outputs)
            self.reads_axes = tuple(var in read for var in axis_inputs)
        with beside(leaves):
            self.constants = tuple([_constant(x, module) for x in traced.constants])
        self.is_open = is_traced(self.constants)
        self.has_effects = any(map(has_effect, traced.graph.eqns))
        self.program = Executable(traced.graph, compile_now=True, donated=donated)
        self.form = _form(traced.out_tree)
        self.direct: Callable[..., Sequence[Any]] | None = None
        self.entered_for: Settings | None = None

    def run(self, inputs: Sequence[Any]) -> Any:
        """Return the function's result on arrays and array scalars."""
        program = self.program
        if self.has_effects:
            graph = postponed_effects(self.traced.graph, [*inputs, *self.constants])
            program = program if graph is self.traced.graph else executable(graph)
        outputs = program(*inputs, *self.constants)
        if not (self.has_effects or self.constants):
            self.direct = program.direct
        return pytree.unflatten(self.traced.out_tree, outputs)


def _constant(value: Any, module: ModuleType) -> Any:
    """Return a constant as a module's programs take it: arrays on the device, numbers as such."""
    if module is np or type(value) is not np.ndarray:
        return value
    return module.asarray(value) if value.ndim else value[()]


def _form(tree: Any) -> int | None:
    """Return what a call returns, if it is an array or a plain tuple of arrays."""
    if tree == pytree.structure(0):
        return ALONE
    return TUPLE if tree == pytree.structure((0,) * tree.num_leaves) else None


#: Stands for the position along a named axis where the program does not read it.
_UNREAD = np.int64(0)


def _type_key(leaf: Any) -> Any:
    """Return what of an argument leaf a program depends on."""
    kind = type(leaf)
    if kind is np.ndarray:
        return leaf.shape, leaf.dtype
    if kind is Tracer:
        return leaf.variable.aval
    if kind in PYTHON_SCALARS:
        return kind
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", kind), kind, gpu_of(leaf)


#: Entries of a jitted function, each for one combination of types.
MOST_ENTRIES = 8


class JittedFunction:
    """What `jit` returns: call it as the function it wraps.

    Where a combination of types has become a single kernel, calls go to an *entry*, a function that
    Python calls with nothing between (runtime/kernel_calls.py). A function with entries is of a
    subclass of its own, whose `__call__` is the first; what an entry does not take goes to the
    next, and from the last one to `__call__` as written here, which takes everything.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        static_argnums: tuple[int, ...],
        static_argnames: frozenset[str],
        donate_argnums: tuple[int, ...],
        inline: bool,
    ) -> None:
        update_wrapper(self, fun, updated=())
        self._fun = fun
        self._static_argnums = static_argnums
        self._static_argnames = static_argnames
        self._donate_argnums = donate_argnums
        self._inline = inline
        self._has_static = bool(static_argnums or static_argnames)
        self._cache: dict[Any, _Compiled] = {}
        self._traces = 0
        self._last_key: Any = None
        self._entered: list[_Compiled] = []

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function; trace it first if this combination of types is new."""
        code_key = settings().code_key
        axes = enclosing_axes()
        is_plain = not (self._has_static or kwargs or axes)
        types: list[Any] = []
        if is_plain:  # arrays only: the number of them is the whole structure
            for arg in args:
                if type(arg) is not np.ndarray:
                    is_plain = False
                    break
                types.append((arg.shape, arg.dtype))
            else:
                compiled = self._cache.get((len(args), tuple(types), (), code_key))
                if compiled is not None:
                    if compiled.direct is None:
                        return compiled.run(args)
                    if compiled.entered_for is not process_wide.cell_contents:
                        self._enter(compiled)
                    outputs = compiled.direct(*args)
                    if compiled.form == ALONE:
                        return outputs[0]
                    return pytree.unflatten(compiled.traced.out_tree, outputs)
        static = ()
        if self._has_static:
            static, args, kwargs = self._split_static(args, kwargs)
        leaves, tree = flatten_arguments("jit", (args, kwargs) if kwargs else args)
        key = (len(args) if is_plain else tree, tuple(map(_type_key, leaves)), static, code_key)
        if axes:
            key += (tuple((axis.identity, axis.size) for axis in axes),)
        compiled = self._cache.get(key)
        if compiled is None:
            compiled = self._trace(key, args, kwargs, leaves, tree, static, axes)
        inputs = [array_leaf(leaf) for leaf in leaves]
        for axis, is_read in zip(axes, compiled.reads_axes, strict=True):
            inputs.append(axis.position if is_read else _UNREAD)
        if compiled.is_open or is_traced(inputs):
            return self._record(compiled, inputs)
        result = compiled.run(inputs)
        if (
            compiled.module is not np
            and compiled.entered_for is not process_wide.cell_contents
            and not (self._has_static or kwargs or axes)
        ):
            self._enter(compiled)
        return result

    def clear_cache(self) -> None:
        """Forget every traced combination of types."""
        self._cache.clear()
        self._entered.clear()
        self.__class__ = JittedFunction  # pyright: ignore[reportAttributeAccessIssue]

    def _enter(self, compiled: _Compiled) -> None:
        """Let calls with these types, under the settings of the process, go to an entry."""
        if local.get() is not None:
            return
        compiled.entered_for = process_wide.cell_contents
        if compiled.has_effects:
            return
        others = [other for other in self._entered if other is not compiled]
        self._entered = [compiled, *others][:MOST_ENTRIES]
        guards = Guards(
            ((local, None), (axes_in_force, ())), ((process_wide, process_wide.cell_contents),)
        )
        first = by_python = MethodType(JittedFunction.__call__, self)
        for each in reversed(self._entered):
            if each.form is not None or each.module is not np:
                entry = Entry(
                    each.kinds,
                    each.structure,
                    each.constants,
                    each.form,
                    partial(pytree.unflatten, each.traced.out_tree),
                    first,
                    guards,
                )
                first = each.program.entry(entry) or first
        if first is not by_python:
            call = staticmethod(first)  # a function of Python's would be given `self`
            body = {"__slots__": (), "__call__": call, "__module__": __name__}
            own = type("JittedFunction", (JittedFunction,), body)
            self.__class__ = own  # pyright: ignore[reportAttributeAccessIssue]

    def _record(self, compiled: _Compiled, inputs: list[Any]) -> Any:
        graph = compiled.traced.graph
        operands = [*inputs, *compiled.constants]
        if self._inline:
            outputs = replay(graph, (), operands)
        else:
            outputs = bind_primitive(
                primitives["call"], operands, {"graph": graph, "name": function_name(self._fun)}
            )
        return pytree.unflatten(compiled.traced.out_tree, outputs)

    def _split_static(self, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        where = {i % len(args) for i in self._static_argnums if -len(args) <= i < len(args)}
        static: list[Any] = [(i, args[i]) for i in sorted(where)]
        static += [(name, kwargs[name]) for name in sorted(self._static_argnames & set(kwargs))]
        for name, value in static:
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    message(
                        "jit",
                        "a static argument must be hashable",
                        f"{_readable_name(self._fun, name)}={value!r} "
                        f"of type {type(value).__name__}",
                        line=user_line(),
                        fix="pass a tuple in place of a list, or do not make the argument static.",
                    )
                ) from None
        dynamic = tuple(arg for i, arg in enumerate(args) if i not in where)
        named = {k: v for k, v in kwargs.items() if k not in self._static_argnames}
        return tuple((name, type(value), value) for name, value in static), dynamic, named

    def _trace(
        self,
        key: Any,
        args: Any,
        kwargs: Any,
        leaves: list[Any],
        tree: Any,
        static: Any,
        axes: Sequence[NamedAxis],
    ) -> _Compiled:
        taken = {name for name, _, _ in static if isinstance(name, int)}
        count = len(args) + len(taken)
        positions = [i for i in range(count) if i not in taken]
        check_leaves("jit", self._fun, args, leaves, kwargs, positions)

        def apply(*tracers: Any) -> Any:
            rebuilt = pytree.unflatten(tree, tracers[: len(leaves)])
            positional, named = rebuilt if kwargs else (rebuilt, {})
            positional = list(positional)
            named = dict(named)
            for name, _, value in static:
                if isinstance(name, int):
                    positional.insert(name, value)
                else:
                    named[name] = value
            if not axes:
                return self._fun(*positional, **named)
            with axes_at(tracers[len(leaves) :]):
                return self._fun(*positional, **named)

        traced = trace_function(
            apply,
            [*map(type_of, leaves), *[axis.position.aval for axis in axes]],
            function="jit",
            name=function_name(self._fun),
            values=None,
            inline_literals=True,
        )
        module = common_module(leaves)
        donated = self._donated_leaves(args, positions, count)
        axis_inputs = traced.graph.inputs[len(leaves) :][: len(axes)]
        are_leaves = len(leaves) == len(args) and all(map(is_, leaves, args))
        structure = None if are_leaves else tree
        compiled = _Compiled(traced, module, donated, axis_inputs, leaves, structure)
        self._traces += 1
        if self._traces == settings().retrace_notice + 1:
            warnings.warn(self._difference(key), RuntimeWarning, stacklevel=3)
        self._last_key = key
        if not compiled.is_open:  # a closure over a traced value is good for one call
            self._cache[key] = compiled
        return compiled

    def _donated_leaves(
        self, args: Sequence[Any], positions: Sequence[int], count: int
    ) -> frozenset[int]:
        """Return which leaves belong to donated arguments; `args` are at `positions` of `count`."""
        given_away = {i + count if i < 0 else i for i in self._donate_argnums}
        donated: list[int] = []
        start = 0
        for arg, position in zip(args, positions, strict=True):
            stop = start + pytree.structure(arg).num_leaves
            if position in given_away:
                donated += range(start, stop)
            start = stop
        return frozenset(donated)

    def _difference(self, key: Any) -> str:
        parts = []
        names = ("structure", "types", "static arguments", "settings", "named axes")
        for name, new, old in zip_longest(names, key, self._last_key, fillvalue=()):
            if new != old:
                parts.append(f"the {name} of the call: {_readable(new)} after {_readable(old)}")
        return message(
            "jit",
            f"{function_name(self._fun)} has been traced {self._traces} times; the last time "
            f"{'; '.join(parts) or 'nothing of its key'} differed",
            line=user_line(),
            fix="pass arrays of equal shapes and types, pad them, or make fewer arguments static; "
            "jit the function once, outside of loops.",
        )


def _readable_name(fun: Any, name: int | str) -> str:
    return argument_name(fun, name) if isinstance(name, int) else name


def _readable(value: Any) -> str:
    return repr(value) if len(repr(value)) < 200 else repr(value)[:200] + "..."


def _positions(function: str, name: str, value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    positions = (value,) if isinstance(value, int | np.integer) else tuple(value)
    if not all(isinstance(i, int | np.integer) for i in positions):
        raise TypeError(
            message(
                function,
                f"{name} must be an int or a sequence of ints",
                f"{name}={value!r}",
                line=user_line(),
                fix="give positions, counted from 0; static_argnames takes names.",
            )
        )
    return tuple(int(i) for i in positions)


def _with_names(
    fun: Any, argnums: tuple[int, ...], argnames: frozenset[str]
) -> tuple[tuple[int, ...], frozenset[str]]:
    """Let a static argument be passed by position or by keyword, however it was named."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return argnums, argnames
    positional = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    names = set(argnames)
    positions = set(argnums)
    has_keywords = any(p.kind == p.VAR_KEYWORD for p in parameters)
    known = {p.name for p in parameters}
    for name in argnames:
        if name in positional:
            positions.add(positional.index(name))
        elif name not in known and not has_keywords:
            raise ValueError(
                message(
                    "jit",
                    f"static_argnames must name parameters of {function_name(fun)}",
                    f"{name!r} where the parameters are {', '.join(p.name for p in parameters)}",
                    line=user_line(),
                    fix="correct the name.",
                )
            )
    for i in argnums:
        if -len(positional) <= i < len(positional):
            names.add(positional[i])
    return tuple(sorted(positions)), frozenset(names)


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    inline: bool = False,
) -> Any:
    """Return `fun` compiled: traced once per combination of types, then run as a program.

    Usable as a decorator, with or without arguments. Arrays met while tracing (in globals and
    closures) are copied into the program.

    Args:
        fun: a function of arrays and pytrees of arrays, whose control flow does not depend on their
            values.
        static_argnums, static_argnames: arguments that are part of the program: any hashable
            Python values; another value traces anew. Naming one by position or by name covers both.
        donate_argnums: positions of arguments the caller will not use again: results may take
            their memory, as large ones do where a kernel reads an argument element by element; on a
            GPU, as arrays do that are updated at places.
        inline: inside another trace, record the equations one by one rather than one call.

    Raises:
        ConcretizationError: Python asked for the value of a traced argument.
        TypeError: an argument is neither array nor static; a static one is not hashable.
        ValueError: arrays are on several GPUs.

    Warns:
        RuntimeWarning: once, when a function is traced for the ninth time, with what differed.

    >>> import numpy as np
    >>> @jit
    ... def f(x):
    ...     return np.sin(x) ** 2
    >>> f(np.zeros(2))
    array([0., 0.])
    """
    if fun is None:

        def decorate(function: Callable[..., Any]) -> Any:
            return jit(
                function,
                static_argnums=static_argnums,
                static_argnames=static_argnames,
                donate_argnums=donate_argnums,
                inline=inline,
            )

        return decorate
    if not callable(fun):
        raise TypeError(
            message(
                "jit",
                "the first argument must be a function",
                f"fun={fun!r}",
                line=user_line(),
                fix="write jit(f)(x), not jit(f(x)).",
            )
        )
    names = (static_argnames,) if isinstance(static_argnames, str) else static_argnames or ()
    static = _positions("jit", "static_argnums", static_argnums)
    donated = _positions("jit", "donate_argnums", donate_argnums)
    positions, named = _with_names(fun, static, frozenset(names))
    if set(positions) & set(donated):
        raise ValueError(
            message(
                "jit",
                "an argument must not be both static and donated",
                f"static_argnums={static_argnums!r}, donate_argnums={donate_argnums!r}",
                line=user_line(),
                fix="leave it out of one of the two: a static argument has no memory to reuse.",
            )
        )
    return JittedFunction(fun, positions, named, donated, inline)
