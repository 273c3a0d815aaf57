"""custom_jvp, custom_vjp, custom_gradient, closure_convert, custom_batching.

How a call of such a function is recorded stands in `custom_calls.py`, what its equation means to
the transformations in `primitives/custom_rules.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from types import MethodType
from typing import Any

import numpy as np

from autodiff.api.custom_calls import (
    Hoisted,
    RuleCall,
    check_arrays,
    fitted,
    pair,
    positional,
)
from autodiff.api.trace import array_leaf, function_name, is_traced, run, trace_function
from autodiff.api.transforms import check_callable
from autodiff.base import pytree
from autodiff.base.errors import MissingRuleError, message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import array_type, type_of
from autodiff.ir.builder import Tracer, bind_primitive, replay, trace_of
from autodiff.ir.primitive import primitives


class CustomFunction:
    """What `custom_jvp` and `custom_vjp` return: call it as the function it wraps."""

    def __init__(
        self, kind: str, fun: Callable[..., Any], nondiff_argnums: int | Sequence[int]
    ) -> None:
        check_callable(kind, fun)
        update_wrapper(self, fun, updated=())
        self._kind = kind
        self._fun = fun
        self._name = function_name(fun)
        self._nondiff = _checked_nondiff(kind, fun, nondiff_argnums)
        self._jvp: Callable[..., Any] | None = None
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule of forward mode and return it, so that it may be used as a decorator.

        Args:
            rule: `rule(*nondiff, primals, tangents) -> (out, tangent_out)`. `primals` and
                `tangents` are tuples with one entry per differentiable argument; tangents of
                integer leaves are zeros. `tangent_out` has the structure, shapes and dtypes of
                `out`, None in it is zero; it must be linear in the tangents.

        Without a rule by `defvjp` reverse mode transposes this one.
        """
        _check_rule("defjvp", rule)
        self._jvp = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set the rule of forward mode as one for each differentiable argument.

        Args:
            rules: each `(t, out, *args) -> tangent_out`: what the tangent `t` of its argument
                contributes to the output's, None for nothing. None in place of a rule: the
                derivative is zero.

        >>> import numpy as np
        >>> from autodiff import grad
        >>> f = custom_jvp(lambda x, y: x * np.sin(y))
        >>> f.defjvps(lambda t, out, x, y: t * np.sin(y), None)
        >>> grad(f, (0, 1))(2.0, 0.0)
        (array(0.), array(0.))
        """
        for rule in rules:
            if rule is not None:
                _check_rule("defjvps", rule)

        def total(*given: Any) -> Any:
            *nondiff, primals, tangents = given
            if len(primals) != len(rules):
                raise TypeError(
                    message(
                        self._name,
                        "defjvps takes one rule for each differentiable argument, of which there "
                        f"are {len(primals)}",
                        f"{len(rules)} rules",
                        line=user_line(),
                        fix="pass None for an argument whose derivative is zero.",
                    )
                )
            args = self._joined(nondiff, primals)
            out = self(*args)
            terms = [
                rule(t, out, *args)
                for rule, t in zip(rules, tangents, strict=True)
                if rule is not None
            ]
            result: Any = None
            for term in terms:
                if term is not None:
                    result = term if result is None else pytree.map(_sum, result, term)
            return out, result

        total.__name__ = f"defjvps of {self._name}"
        self._jvp = total

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule of reverse mode.

        Args:
            fwd: called with all arguments, returns `(out, residuals)`. Residuals are any pytree;
                leaves that are not arrays are handed on as they are.
            bwd: `bwd(*nondiff, residuals, ct)`, where `ct` is the cotangent of the output (zeros
                for integer leaves); returns a tuple with one cotangent per differentiable argument.
                None, in place of one or in it, is zero.

        Without a rule by `defjvp`, forward mode transposes `bwd`, if that is linear in `ct`.
        """
        _check_rule("defvjp", fwd)
        _check_rule("defvjp", bwd)
        self._fwd, self._bwd = fwd, bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; recorded with its rules if a differentiable argument is traced."""
        args = positional(self._name, self._fun, args, kwargs)
        for i in self._nondiff:
            if i >= len(args):
                raise _out_of_range(self._kind, self._name, self._nondiff, len(args))
        positions = [i for i in range(len(args)) if i not in self._nondiff]
        leaves, _ = pytree.flatten([args[i] for i in positions])
        if not is_traced(leaves):
            return self._fun(*args)
        call = RuleCall(self._kind, self._fun, args, positions)
        return call.record(self._jvp, self._fwd, self._bwd)

    def _joined(self, nondiff: Sequence[Any], primals: Sequence[Any]) -> list[Any]:
        """Return all arguments in their order."""
        rest, moving = iter(nondiff), iter(primals)
        count = len(nondiff) + len(primals)
        return [next(rest) if i in self._nondiff else next(moving) for i in range(count)]


def _check_rule(method: str, rule: Any) -> None:
    if not callable(rule):
        raise TypeError(
            message(
                method,
                "a rule must be a function",
                f"{rule!r} of type {type(rule).__name__}",
                line=user_line(),
                fix="pass the function itself, not its result.",
            )
        )


def _sum(x: Any, y: Any) -> Any:
    return x + y


def custom_jvp(
    fun: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()
) -> CustomFunction:
    """Return `fun` with derivative rules to be given by `.defjvp`, `.defjvps` or `.defvjp`.

    Args:
        fun: a function of arrays and pytrees of arrays. It is used as it is where nothing is
            differentiated.
        nondiff_argnums: positions of arguments that have no derivative and may be anything
            (functions, text); rules get them first. Usable as a decorator, with these by
            `functools.partial(custom_jvp, nondiff_argnums=(0,))`.

    Returns:
        A `CustomFunction`. With both kinds of rules, forward mode uses that of `defjvp` and reverse
        mode that of `defvjp`; with one, the other mode transposes it. Rules are differentiated in
        turn, to any order, and may call the function itself; in the rules of a call inside a rule,
        which are traced when a further derivative asks for them, arguments have no values for
        Python to ask for. A traced value that the function or a rule closes over may not carry a
        derivative: pass it as an argument.

    Raises:
        TypeError: when called, a rule returns another structure, shape or dtype than it must.
        MissingRuleError: when differentiated, there is no rule.
        ValueError: `nondiff_argnums` names no positional argument.

    >>> import numpy as np
    >>> from autodiff import grad
    >>> @custom_jvp
    ... def log1pexp(x):
    ...     return np.log1p(np.exp(x))
    >>> @log1pexp.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), t / (1.0 + np.exp(-x))
    >>> grad(log1pexp)(1000.0)
    array(1.)
    """
    return CustomFunction("custom_jvp", fun, nondiff_argnums)


def custom_vjp(
    fun: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()
) -> CustomFunction:
    """Return `fun` with derivative rules to be given by `.defvjp(fwd, bwd)`, or `.defjvp`.

    Arguments, results and errors are those of `custom_jvp`.

    >>> import numpy as np
    >>> from autodiff import grad
    >>> @custom_vjp
    ... def clipped(x):  # the identity, with its gradient clipped to [-1, 1]
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, ct: (np.clip(ct, -1.0, 1.0),))
    >>> grad(lambda x: 10.0 * clipped(x))(3.0)
    array(1.)
    """
    return CustomFunction("custom_vjp", fun, nondiff_argnums)


# ----------------------------------------------------------------------------------- the arguments


def _checked_nondiff(kind: str, fun: Any, given: Any) -> tuple[int, ...]:
    positions = (given,) if isinstance(given, int | np.integer) else tuple(given)
    if not all(isinstance(i, int | np.integer) and i >= 0 for i in positions):
        raise ValueError(
            message(
                kind,
                "nondiff_argnums must be positions, counted from 0",
                f"nondiff_argnums={given!r}",
                line=user_line(),
                fix="give the argument's position, not its name.",
            )
        )
    limit = _positional_count(fun)
    if limit is not None and any(i >= limit for i in positions):
        raise _out_of_range(kind, function_name(fun), given, limit)
    return tuple(sorted({int(i) for i in positions}))


def _positional_count(fun: Any) -> int | None:
    """Return how many positional arguments a function takes at most, None if that is not known."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _out_of_range(kind: str, name: str, given: Any, count: int) -> ValueError:
    return ValueError(
        message(
            kind,
            f"nondiff_argnums must name positional arguments of {name}, of which there are {count}",
            f"nondiff_argnums={given!r}",
            line=user_line(),
            fix="count positions from 0.",
        )
    )


# --------------------------------------------------------------------------- rules made from these


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function whose output and vjp `fun` gives together.

    Args:
        fun: `fun(*args) -> (out, vjp_function)`, where `vjp_function(ct)` returns the cotangent of
            the argument, or a tuple of one for each if there are several; None is zero. What it
            closes over is kept for it.

    Returns:
        A function of the same arguments that returns `out` alone.

    >>> import numpy as np
    >>> from autodiff import grad
    >>> @custom_gradient
    ... def log1pexp(x):
    ...     return np.log1p(np.exp(x)), lambda ct: ct / (1.0 + np.exp(-x))
    >>> grad(log1pexp)(1000.0)
    array(1.)
    """
    check_callable("custom_gradient", fun)
    name = function_name(fun)

    def output(*args: Any) -> Any:
        return pair(name, fun, fun(*args), "(out, vjp_function)")[0]

    update_wrapper(output, fun, updated=())

    def fwd(*args: Any) -> Any:
        out, pull = pair(name, fun, fun(*args), "(out, vjp_function)")
        _check_rule("custom_gradient", pull)
        converted, closed_over = closure_convert(pull, out)
        return out, (converted, closed_over, len(args))

    def bwd(residuals: Any, ct: Any) -> Any:
        converted, closed_over, count = residuals
        cts = converted(ct, *closed_over)
        return (cts,) if count == 1 and not isinstance(cts, tuple) else cts

    bwd.__name__ = f"vjp_function of {name}"
    with_rules = CustomFunction("custom_gradient", output, ())
    with_rules.defvjp(fwd, bwd)
    return with_rules


def closure_convert(
    fun: Callable[..., Any], *example_args: Any
) -> tuple[Callable[..., Any], list[Any]]:
    """Return `fun` with the traced values it closes over as further arguments, and these values.

    So a function with rules of its own can take another function whose closure is differentiated.

    Args:
        fun: a function of arrays and pytrees of arrays.
        example_args: arguments of the structure, shapes and dtypes it will be called with.

    Returns:
        `(converted, consts)`: `converted(*args, *consts)` equals `fun(*args)`, and depends on
        nothing traced but its arguments. Arrays that are not traced stay part of it.

    Raises:
        TypeError: `converted` is called with other structures, shapes or dtypes.

    >>> from autodiff import grad
    >>> def scaled(s):
    ...     converted, consts = closure_convert(lambda x: s * x, 1.0)
    ...     return converted(3.0, *consts)
    >>> grad(scaled)(2.0)
    array(3.)
    """
    check_callable("closure_convert", fun)
    name = function_name(fun)
    leaves, tree, paths = check_arrays(
        name, fun, example_args, range(len(example_args)), "bind it with functools.partial."
    )
    avals = [type_of(leaf) for leaf in leaves]
    outer = trace_of(leaves)
    traced = trace_function(
        lambda *tracers: fun(*pytree.unflatten(tree, tracers)),
        avals,
        function="closure_convert",
        name=name,
        values=None,
        inline_literals=outer is not None and outer.inline_literals,
    )
    constants = list(traced.constants)
    hoisted = [i for i, value in enumerate(constants) if type(value) is Tracer]

    def converted(*args: Any) -> Any:
        count = len(args) - len(hoisted)
        given, found = pytree.flatten(args[: max(count, 0)])
        if found != tree:
            difference = pytree.structure_difference(found, tree, "args").removeprefix("got ")
            raise _mismatch(name, "the structure of the example arguments, then consts", difference)
        operands = []
        for leaf, aval, path in zip(given, avals, paths(), strict=True):
            operand = fitted(leaf, aval.strong())
            if operand is None:
                raise _mismatch(name, f"{aval.strong()} for {path}", f"{leaf!r}")
            operands.append(operand)
        values = list(constants)
        for i, value in zip(hoisted, args[count:], strict=True):
            values[i] = value
        return traced.unflatten(run(traced.graph, [*operands, *map(array_leaf, values)]))

    converted.__name__ = name
    return converted, [constants[i] for i in hoisted]


def _mismatch(name: str, wanted: str, got: str) -> TypeError:
    return TypeError(
        message(
            "closure_convert",
            f"the converted {name} must be called with {wanted}",
            got,
            line=user_line(),
            fix="give closure_convert example arguments like those of the call.",
        )
    )


# ---------------------------------------------------------------------------------------- batching


class CustomBatching:
    """What `custom_batching` returns: call it as the function it wraps."""

    def __init__(self, fun: Callable[..., Any]) -> None:
        check_callable("custom_batching", fun)
        update_wrapper(self, fun, updated=())
        self._fun = fun
        self._name = function_name(fun)
        self._rule: Callable[..., Any] | None = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def defbatch(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule by which `vmap` maps the function, and return it (usable as a decorator).

        Args:
            rule: `rule(axis_size, in_batched, *args) -> (out, out_batched)`. `in_batched` has one
                tree of flags per argument, like the argument; where a flag is set the array has the
                mapped axis, as its first. `out_batched` is like `out`, or one flag for all of it.
        """
        _check_rule("defbatch", rule)
        self._rule = rule
        return rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; recorded with its rule if an argument is traced."""
        args = positional(self._name, self._fun, args, kwargs)
        if not is_traced(pytree.leaves(args)):
            return self._fun(*args)
        leaves, tree, _ = check_arrays(
            self._name, self._fun, args, range(len(args)), "bind it with functools.partial."
        )
        avals = [type_of(leaf) for leaf in leaves]
        operands = [array_leaf(leaf) for leaf in leaves]
        outer = trace_of(operands)
        traced = trace_function(
            lambda *tracers: self._fun(*pytree.unflatten(tree, tracers)),
            avals,
            function="custom_batching",
            name=self._name,
            values=operands,
            inline_literals=outer is not None and outer.inline_literals,
        )
        hoisted = Hoisted(operands)
        graph = hoisted.graph(traced)()
        rule = _BatchRule(self._name, self._rule, tree, traced.out_tree, graph, hoisted.constants)
        params = {"graph": graph, "name": self._name, "rule": rule}
        outs = bind_primitive(primitives["custom_batched"], hoisted.operands, params)
        return pytree.unflatten(traced.out_tree, outs)


def custom_batching(fun: Callable[..., Any]) -> CustomBatching:
    """Return `fun` with a batching rule to be given by `.defbatch`, which `vmap` uses for it.

    Derivatives are those of `fun` itself. A mapped derivative of the function is the derivative,
    mapped as any other; the derivative of the mapped function is that of the rule.

    Raises:
        MissingRuleError: mapped, without a rule.
        TypeError: when mapped, the rule returns another structure, shape or dtype than it must.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> @custom_batching
    ... def total(x):
    ...     return np.sum(x)
    >>> @total.defbatch
    ... def rule(axis_size, in_batched, x):
    ...     return np.sum(x, axis=1), True
    >>> vmap(total)(np.ones((2, 3)))
    array([3., 3.])
    """
    return CustomBatching(fun)


class _BatchRule:
    """A call's batching rule: `rule(size, operands, batched) -> outputs, flags`.

    Equal only to itself: what the author's function does cannot be told from its structure.
    """

    transient = True

    def __init__(
        self, name: str, rule: Any, tree: Any, out_tree: Any, graph: Any, constants: list[Any]
    ) -> None:
        self.name = name
        self.rule = rule
        self.tree = tree
        self.out_tree = out_tree
        self.graph = graph
        self.constants = constants

    def __repr__(self) -> str:
        return f"rule of {self.name}"

    def __call__(
        self, size: int, operands: Sequence[Any], batched: tuple[bool, ...]
    ) -> tuple[list[Any], tuple[bool, ...]]:
        innermost = trace_of(operands)
        line = None if innermost is None else innermost.source
        if self.rule is None:
            raise MissingRuleError(
                message(
                    self.name,
                    "it is mapped, but has no batching rule",
                    line=line,
                    fix=f"define one: {self.name}.defbatch(rule).",
                )
            )
        count = self.tree.num_leaves
        if any(batched[count:]):
            raise MissingRuleError(
                message(
                    self.name,
                    "a traced value that a function with a batching rule closes over cannot be "
                    "mapped",
                    line=line,
                    fix="make it an argument.",
                )
            )
        leaves = list(operands[:count])
        flags: list[bool] = []

        def apply(*tracers: Any) -> list[Any]:
            for value, operand in zip(self.constants, tracers[count:], strict=True):
                if type(value) is Tracer:
                    operand.recording.expect(value, operand.variable)
            args = pytree.unflatten(self.tree, tracers[:count])
            marks = pytree.unflatten(self.tree, batched[:count])
            got = self.rule(size, marks, *args)
            outs, flags[:] = self._checked(got, size)
            return outs

        traced = trace_function(
            apply,
            [type_of(x) for x in operands],
            function="custom_batching",
            name=function_name(self.rule),
            values=None,
            inline_literals=True,
        )
        if is_traced(traced.constants):
            raise TypeError(
                message(
                    self.name,
                    "a batching rule may close over no traced values but those of its function",
                    line=line,
                    fix="make it an argument.",
                )
            )
        outs = replay(traced.graph, (), [*leaves, *operands[count:], *traced.constants])
        return outs, tuple(flags)

    def _checked(self, got: Any, size: int) -> tuple[list[Any], list[bool]]:
        """Return the leaves and flags of what the rule returned, or raise a TypeError."""
        out, marks = pair(self.name, self.rule, got, "(out, out_batched)")
        leaves, found = pytree.flatten(out)
        rule = function_name(self.rule)
        if found != self.out_tree:
            difference = pytree.structure_difference(found, self.out_tree, "out")
            raise self._refused(
                f"the output returned by the rule {rule} must have the structure of the function's",
                difference.removeprefix("got "),
            )
        flags = pytree.flatten_prefix(
            marks, self.out_tree, name="out_batched", function=self.name, of="the output"
        )
        results = []
        paths = [pytree.path_string("out", path) for path in pytree.paths(self.out_tree)]
        types = self.graph.output_types
        for leaf, flag, aval, path in zip(leaves, flags, types, paths, strict=True):
            if not isinstance(flag, bool | np.bool_):
                raise self._refused(
                    f"out_batched returned by the rule {rule} must hold True or False", f"{flag!r}"
                )
            wanted = array_type((size, *aval.shape) if flag else aval.shape, aval.dtype)
            result = fitted(leaf, wanted)
            if result is None:
                raise self._refused(
                    f"{path} returned by the rule {rule} must be of type {wanted}"
                    f"{', the mapped axis first' if flag else ''}",
                    f"{type_of(leaf).strong()}",
                )
            results.append(result)
        return results, [bool(flag) for flag in flags]

    def _refused(self, requirement: str, got: str) -> TypeError:
        return TypeError(
            message(
                self.name,
                requirement,
                got,
                line=user_line(),
                fix="return what the function returns for each example, and which of it has the "
                "mapped axis.",
            )
        )
