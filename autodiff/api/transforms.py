"""grad, value_and_grad, jvp, vjp, linearize, linear_transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from autodiff.api.trace import (
    Traced,
    array_leaf,
    check_leaves,
    check_one_device,
    flatten_arguments,
    function_name,
    imported_leaf,
    leaf_paths,
    leaf_types,
    run,
    trace_function,
)
from autodiff.base import pytree
from autodiff.base.array_modules import common_module, may_mix, module_of
from autodiff.base.dtypes import is_complex, is_inexact
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType, type_of
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import primitives
from autodiff.passes.gradient import gradient
from autodiff.passes.jvp import jvp as jvp_pass
from autodiff.passes.linearize import Linearized
from autodiff.passes.linearize import linearize as linearize_pass
from autodiff.passes.transpose import transpose as transpose_pass
from autodiff.runtime.devices import beside

Argnums = int | Sequence[int]


def zeros_of(aval: ArrayType, like: Sequence[Any] = ()) -> Any:
    """Return zeros of a type, on the device of the values in `like`."""
    module = common_module(like)
    if module is np:
        return np.zeros(aval.shape, aval.dtype)
    with beside(like):
        return module.zeros(aval.shape, aval.dtype)


def result_array(value: Any) -> Any:
    """Return a result leaf as users get it: an array, or a tracer of an outer transformation."""
    if type(value) is Tracer:
        return value
    module = module_of(value)
    if module is None or module is np:
        return np.asarray(value)
    return value  # CuPy would copy it to the GPU that is current


class _Selected:
    """A call's differentiated arguments, flattened; the others stay as the caller gave them."""

    __slots__ = ("apply", "leaves", "trees")

    def __init__(
        self, function: str, fun: Any, positions: tuple[int, ...], args: Any, kwargs: Any
    ) -> None:
        leaves: list[Any] = []
        trees: list[pytree.TreeDef] = []
        for i in positions:
            flat, tree = flatten_arguments(function, args[i])
            trees.append(tree)
            leaves += flat

        def apply(*tracers: Any) -> Any:
            given = [imported_leaf(function, x) for x in args]
            start = 0
            for i, tree in zip(positions, trees, strict=True):
                given[i] = pytree.unflatten(tree, tracers[start : start + tree.num_leaves])
                start += tree.num_leaves
            return fun(*given, **kwargs)

        check_leaves(function, fun, [args[i] for i in positions], leaves, positions=positions)
        check_no_mixture(function, fun, args, kwargs)
        self.apply = apply
        self.leaves = leaves
        self.trees = trees


def checked_argnums(
    function: str, argnums: Argnums, args: Sequence[Any]
) -> tuple[tuple[int, ...], bool]:
    """Return argument positions counted from the front, and whether one bare position was given."""
    single = not isinstance(argnums, Sequence)
    positions = []
    for i in (argnums,) if single else argnums:
        if not isinstance(i, int | np.integer) or not -len(args) <= i < len(args):
            raise ValueError(
                message(
                    function,
                    "argnums must name positional arguments of the call, of which there are "
                    f"{len(args)}",
                    f"argnums={argnums!r}",
                    line=user_line(),
                    fix="pass the argument by position, not by keyword.",
                )
            )
        positions.append(int(i) % len(args))
    if len(set(positions)) != len(positions):
        raise ValueError(
            message(
                function,
                "argnums must name each argument once",
                f"argnums={argnums!r}",
                line=user_line(),
                fix="leave out the repeated position.",
            )
        )
    return tuple(positions), single


def _check_differentiable(
    function: str,
    fun: Any,
    args: Sequence[Any],
    positions: Sequence[int],
    leaves: Sequence[Any],
    holomorphic: bool,
    allow_int: bool,
) -> None:
    def named(i: int) -> str:
        return leaf_paths(fun, [args[k] for k in positions], positions=positions)[i]

    for i, leaf in enumerate(leaves):
        dtype = type_of(leaf).dtype
        if holomorphic and not is_complex(dtype):
            raise TypeError(
                message(
                    function,
                    "with holomorphic=True the inputs must be complex",
                    f"{named(i)} of type {dtype}",
                    line=user_line(),
                    fix="leave holomorphic=True out, or convert the input with .astype(complex).",
                )
            )
        if not is_inexact(dtype) and not allow_int:
            raise TypeError(
                message(
                    function,
                    "the inputs must be of a real or complex floating type",
                    f"{named(i)} of type {dtype}",
                    line=user_line(),
                    fix="convert the argument with .astype(float), or pass allow_int=True to get "
                    "zeros for it.",
                )
            )


def check_scalar_output(function: str, fun: Any, traced: Traced, holomorphic: bool) -> None:
    """Raise a TypeError unless a traced function returns one scalar that has a gradient."""
    types = traced.graph.output_types[: traced.out_count]
    name = function_name(fun)
    if traced.out_count != 1 or traced.out_tree.spec is not None:
        raise TypeError(
            message(
                function,
                f"the output of {name} must be one scalar",
                f"output={traced.out_tree}",
                line=user_line(),
                fix="return a scalar; with has_aux=True return (scalar, aux).",
            )
        )
    (aval,) = types
    if aval.shape != ():
        raise TypeError(
            message(
                function,
                f"the output of {name} must be a scalar",
                f"shape={aval.shape}",
                line=user_line(),
                fix="reduce it (for instance with .sum()), or use jacrev, or vjp with a cotangent.",
            )
        )
    if holomorphic and not is_complex(aval.dtype):
        raise TypeError(
            message(
                function,
                f"with holomorphic=True the output of {name} must be complex",
                f"dtype={aval.dtype}",
                line=user_line(),
                fix="leave holomorphic=True out.",
            )
        )
    if is_complex(aval.dtype) and not holomorphic:
        raise TypeError(
            message(
                function,
                f"the output of {name} must be real",
                f"dtype={aval.dtype}",
                line=user_line(),
                fix="pass holomorphic=True if the function is holomorphic, or return its real part "
                "or modulus.",
            )
        )
    if not is_inexact(aval.dtype):
        raise TypeError(
            message(
                function,
                f"the output of {name} must be of a floating type",
                f"dtype={aval.dtype}",
                line=user_line(),
                fix="convert it with .astype(float); note that integer steps have no derivative.",
            )
        )


def value_and_grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Return a function that computes `fun` and its gradient by one forward and one reverse sweep.

    Args:
        fun: returns a scalar (shape `()`), or `(scalar, aux)` with `has_aux`.
        argnums: position or positions of the arguments to differentiate; each may be a pytree of
            floating or complex arrays. An int gives a bare gradient, a sequence a tuple.
        has_aux: `fun` returns a pair; its second part is passed through, not differentiated.
        holomorphic: inputs and output are complex and the result is the complex derivative f'(z).
            Otherwise the gradient of a real function of a complex z is `df/dx - i df/dy`, the
            conjugate of the direction of steepest ascent (Wirtinger's 2 df/dz).
        allow_int: integer arguments get zeros instead of a TypeError.

    Returns:
        A function with the arguments of `fun` that returns `(value, gradient)`, or
        `((value, aux), gradient)`. Gradients have the arguments' structure, shapes and dtypes.

    Raises:
        TypeError: the output is not a real scalar, or an input is not of a floating type.
        ValueError: `argnums` names no positional argument of the call.

    >>> import numpy as np
    >>> value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    """
    return value_and_grad_as("value_and_grad", fun, argnums, has_aux, holomorphic, allow_int)


def value_and_grad_as(
    function: str,
    fun: Callable[..., Any],
    argnums: Argnums,
    has_aux: bool,
    holomorphic: bool,
    allow_int: bool,
) -> Callable[..., Any]:
    """Return `value_and_grad` of a function, its errors in the name of `function`."""
    check_callable(function, fun)

    @wraps(fun, updated=())
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        positions, single = checked_argnums(function, argnums, args)
        arguments = _Selected(function, fun, positions, args, kwargs)
        _check_differentiable(
            function, fun, args, positions, arguments.leaves, holomorphic, allow_int
        )
        avals = leaf_types(arguments.leaves)
        inputs = [array_leaf(leaf) for leaf in arguments.leaves]
        traced = trace_function(
            arguments.apply,
            avals,
            function=function,
            name=function_name(fun),
            values=inputs,
            has_aux=has_aux,
        )
        check_scalar_output(function, fun, traced, holomorphic)
        wanted = tuple(is_inexact(aval.dtype) for aval in avals) + (False,) * len(traced.constants)
        joined = gradient(traced.graph, wanted)
        results = run(joined.graph, [*inputs, *traced.constants])
        out_count = len(traced.graph.outputs)
        cts = iter(results[out_count:])
        gradients = [
            next(cts) if flag else zeros_of(aval, inputs)
            for flag, aval in zip(joined.nonzero, avals, strict=False)
        ]
        gradients = [result_array(ct) for ct in gradients]
        trees = []
        for tree in arguments.trees:
            trees.append(pytree.unflatten(tree, gradients[: tree.num_leaves]))
            gradients = gradients[tree.num_leaves :]
        value = result_array(results[0])
        if has_aux:
            value = (value, traced.unflatten_aux(results[1:out_count]))
        return value, trees[0] if single else tuple(trees)

    return differentiated


def grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Return a function that computes the gradient of the scalar function `fun`.

    Arguments and errors are those of `value_and_grad`; the value is left out of the result:
    `gradient`, or `(gradient, aux)` with `has_aux`.

    >>> import numpy as np
    >>> grad(np.tanh)(2.0)
    array(0.07065082)
    >>> grad(grad(np.tanh))(2.0)
    array(-0.13621869)
    """
    both = value_and_grad_as("grad", fun, argnums, has_aux, holomorphic, allow_int)

    @wraps(fun, updated=())
    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient_of


#: How a transformation that takes its primals at once is called, and how it is not.
_CALLS = {
    "jvp": "{0}(f, (x,), (t,)), not {0}(f(x), (x,), (t,))",
    "vjp": "{0}(f, x), not {0}(f(x), x)",
    "linearize": "{0}(f, x), not {0}(f(x), x)",
    "jet": "{0}(f, (x,), ([x1],)), not {0}(f(x), (x,), ([x1],))",
    "linear_transpose": "{0}(f, x), not {0}(f(x), x)",
}


def check_no_mixture(function: str, fun: Any, args: Sequence[Any], kwargs: Any) -> None:
    """Raise a TypeError where arrays of two modules are among all of a call's arguments."""
    if may_mix():
        leaves = pytree.leaves((tuple(args), kwargs))
        check_one_device(function, leaves, lambda: leaf_paths(fun, args, kwargs))


def check_callable(function: str, fun: Any) -> None:
    """Raise a TypeError where a function's result was given in place of the function."""
    if not callable(fun):
        raise TypeError(
            message(
                function,
                "the first argument must be a function",
                f"fun={fun!r}",
                line=user_line(),
                fix=f"write {_CALLS.get(function, '{0}(f)(x), not {0}(f(x))').format(function)}.",
            )
        )


def flatten_like(
    function: str,
    what: str,
    value: Any,
    tree: pytree.TreeDef,
    avals: Sequence[ArrayType],
    name: str,
) -> list[Any]:
    """Flatten tangents or cotangents and check structure, shape and dtype against `avals`."""
    leaves, found = flatten_arguments(function, value)
    if found != tree:
        raise TypeError(
            message(
                function,
                f"{what} must have the structure of {name}",
                pytree.structure_difference(found, tree, what).removeprefix("got "),
                line=user_line(),
                fix="give it the same containers, keys and lengths, with None where there is None.",
            )
        )
    for i, (leaf, aval) in enumerate(zip(leaves, avals, strict=True)):
        actual = type_of(leaf)
        wanted = aval.dtype if is_inexact(aval.dtype) else None
        scalar = actual.weak and np.can_cast(actual.dtype, aval.dtype, "same_kind")
        if actual.shape != aval.shape or (actual.dtype != wanted and not scalar and wanted):
            path = pytree.path_string(what, pytree.paths(tree)[i])
            raise TypeError(
                message(
                    function,
                    f"{what} must have the shapes and dtypes of {name}",
                    f"{path}={actual} where {aval.strong()} is expected",
                    line=user_line(),
                    fix="convert it with .astype, or reshape it.",
                )
            )
        if scalar and type(leaf) is not Tracer:
            leaves[i] = aval.dtype.type(leaf)
        elif actual.weak:
            leaves[i] = bind_primitive(primitives["cast"], (leaf,), {"dtype": aval.dtype})
    return leaves


class Primals:
    """The traced call that jvp, vjp and linearize start from: every argument is differentiated."""

    __slots__ = ("avals", "inputs", "traced", "tree", "wanted")

    def __init__(
        self,
        function: str,
        fun: Any,
        primals: Sequence[Any],
        has_aux: bool,
        positions: Sequence[int] | None = None,
    ) -> None:
        check_callable(function, fun)
        leaves, self.tree = flatten_arguments(function, tuple(primals))
        check_leaves(function, fun, primals, leaves, positions=positions)
        self.avals = leaf_types(leaves)
        self.inputs = [array_leaf(leaf) for leaf in leaves]

        def apply(*tracers: Any) -> Any:
            return fun(*pytree.unflatten(self.tree, tracers))

        self.traced = trace_function(
            apply,
            self.avals,
            function=function,
            name=function_name(fun),
            values=self.inputs,
            has_aux=has_aux,
        )
        self.wanted = tuple(is_inexact(aval.dtype) for aval in self.avals) + (False,) * len(
            self.traced.constants
        )

    @property
    def arguments(self) -> list[Any]:
        """The graph's arguments: inputs, then constants."""
        return [*self.inputs, *self.traced.constants]

    @property
    def out_types(self) -> tuple[ArrayType, ...]:
        """Types of the function's own outputs, aux left out."""
        return self.traced.graph.output_types[: self.traced.out_count]


def jvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """Return `(out, tangent_out)`: the function and its derivative in the direction `tangents`.

    Args:
        fun: any function of arrays and pytrees of arrays.
        primals: tuple or list of its arguments.
        tangents: same structure, shapes and dtypes as `primals` (anything of the right shape for
            integer leaves, whose tangent is zero).
        has_aux: `fun` returns `(out, aux)`; the result is `(out, tangent_out, aux)`.

    Raises:
        TypeError: `tangents` differs from `primals`; the message names the leaf.

    >>> import numpy as np
    >>> jvp(np.sin, (0.0,), (2.0,))
    (array(0.), array(2.))
    """
    for name, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, tuple | list):
            raise TypeError(
                message(
                    "jvp",
                    f"{name} must be a tuple or list with one entry per argument",
                    f"{name} of type {type(value).__name__}",
                    line=user_line(),
                    fix=f"write {name}=(x,).",
                )
            )
    start = Primals("jvp", fun, primals, has_aux)
    flat = flatten_like("jvp", "tangents", tuple(tangents), start.tree, start.avals, "primals")
    pushed = jvp_pass(start.traced.graph, start.wanted)
    live = [t for t, flag in zip(flat, start.wanted, strict=False) if flag]
    results = run(pushed.graph, [*start.arguments, *map(array_leaf, live)])
    total = len(start.traced.graph.outputs)
    moving = iter(results[total:])
    out_tangents = [
        next(moving) if flag else zeros_of(aval, results)
        for flag, aval in zip(pushed.nonzero_outputs, start.traced.graph.output_types, strict=True)
    ][: start.traced.out_count]
    results = [result_array(x) for x in results[:total]]
    out = start.traced.unflatten(results)
    tangent = pytree.unflatten(start.traced.out_tree, [result_array(t) for t in out_tangents])
    if has_aux:
        return out, tangent, start.traced.unflatten_aux(results[start.traced.out_count :])
    return out, tangent


def kept(values: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Return residuals, those the caller could still write into as copies."""
    reachable = {id(value) for value in given}
    return [
        value.copy() if id(value) in reachable and getattr(value, "shape", ()) else value
        for value in values
    ]


class Linearization:
    """A function linearized at a point: the residuals, and the linear graph they feed."""

    __slots__ = ("out", "residuals", "results", "split", "start")

    def __init__(
        self,
        function: str,
        fun: Any,
        primals: Sequence[Any],
        has_aux: bool,
        positions: Sequence[int] | None = None,
    ) -> None:
        start = self.start = Primals(function, fun, primals, has_aux, positions)
        split: Linearized = linearize_pass(start.traced.graph, start.wanted)
        arguments = start.arguments
        results = run(split.primal, arguments)
        residuals = split.gather_residuals(results[split.output_count :], arguments)
        self.split = split
        self.residuals = kept(residuals, start.inputs)
        self.results = [result_array(x) for x in results[: split.output_count]]
        self.out = start.traced.unflatten(self.results)

    @property
    def aux(self) -> Any:
        """The auxiliary output."""
        traced = self.start.traced
        return traced.unflatten_aux(self.results[traced.out_count :])

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """Return output tangents for flat input tangents, None where zero."""
        live = [t for t, flag in zip(tangents, self.start.wanted, strict=False) if flag]
        moved = iter(run(self.split.linear, [*self.residuals, *live]))
        return [next(moved) if flag else None for flag in self.split.nonzero_outputs]

    def pull(self, cts: Sequence[Any]) -> list[Any]:
        """Return input cotangents for flat output cotangents, None where zero."""
        traced = self.start.traced
        count = len(self.split.forwarded)
        linear = tuple(i >= count for i in range(len(self.split.linear.inputs)))
        given = [
            ct if i < traced.out_count else None
            for i, (ct, flag) in enumerate(
                zip(
                    [*cts, *[None] * (self.split.output_count - len(cts))],
                    self.split.nonzero_outputs,
                    strict=True,
                )
            )
            if flag
        ]
        transposed = transpose_pass(
            self.split.linear, linear, tuple(ct is not None for ct in given)
        )
        pulled = iter(
            run(transposed.graph, [*self.residuals, *[ct for ct in given if ct is not None]])
        )
        flags = iter(transposed.nonzero[count:])
        wanted = self.start.wanted[: len(self.start.avals)]
        return [next(pulled) if flag and next(flags) else None for flag in wanted]

    def filled(self, values: Sequence[Any], avals: Sequence[ArrayType]) -> list[Any]:
        """Return values with zeros of the given types in place of None."""
        like = self.results + self.start.inputs
        return [
            zeros_of(aval, like) if value is None else result_array(value)
            for value, aval in zip(values, avals, strict=True)
        ]


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Return `(out, vjp_fun)`: the output, and the function that pulls cotangents back.

    `vjp_fun(ct)` takes a cotangent with the structure, shapes and dtypes of `out`. It always
    returns a tuple, one entry per primal, and may be called repeatedly, jitted, mapped and
    differentiated.
    With `has_aux` the result is `(out, vjp_fun, aux)`.

    Raises:
        TypeError: `ct` differs from `out`; the message names the leaf.

    >>> import numpy as np
    >>> y, pull = vjp(np.multiply, 3.0, 4.0)
    >>> pull(1.0)
    (array(4.), array(3.))
    """
    at = Linearization("vjp", fun, primals, has_aux)
    start = at.start

    def vjp_fun(ct: Any) -> tuple[Any, ...]:
        cts = flatten_like("vjp", "ct", ct, start.traced.out_tree, start.out_types, "the output")
        pulled = at.pull(
            [
                array_leaf(c) if is_inexact(aval.dtype) else None
                for c, aval in zip(cts, start.out_types, strict=True)
            ]
        )
        return pytree.unflatten(start.tree, at.filled(pulled, start.avals))

    return (at.out, vjp_fun, at.aux) if has_aux else (at.out, vjp_fun)


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Return `(out, f_jvp)`: the output, and the derivative at `primals` as a linear function.

    `f_jvp(*tangents)` costs no evaluation of `fun`. With `has_aux`: `(out, f_jvp, aux)`.

    >>> import numpy as np
    >>> y, f_jvp = linearize(np.square, 3.0)
    >>> f_jvp(1.0), f_jvp(2.0)
    (array(6.), array(12.))
    """
    at = Linearization("linearize", fun, primals, has_aux)
    start = at.start

    def f_jvp(*tangents: Any) -> Any:
        flat = flatten_like("linearize", "tangents", tangents, start.tree, start.avals, "primals")
        pushed = at.push([array_leaf(t) for t in flat])[: start.traced.out_count]
        return pytree.unflatten(start.traced.out_tree, at.filled(pushed, start.out_types))

    return (at.out, f_jvp, at.aux) if has_aux else (at.out, f_jvp)


def linear_transpose(fun: Callable[..., Any], *primals: Any) -> Callable[[Any], tuple[Any, ...]]:
    """Return the transpose of a linear function: `t(ct)` is a tuple, one entry per primal.

    Only shapes and dtypes of `primals` matter (arrays, or anything with `shape` and `dtype`).

    Raises:
        MissingRuleError: the function is not linear; the message names the operation.

    >>> import numpy as np
    >>> transposed = linear_transpose(lambda x: 3.0 * x, 1.0)
    >>> transposed(2.0)
    (array(6.),)
    """
    check_callable("linear_transpose", fun)
    leaves, tree = flatten_arguments("linear_transpose", tuple(primals))
    avals = leaf_types(leaves)
    traced = trace_function(
        lambda *tracers: fun(*pytree.unflatten(tree, tracers)),
        avals,
        function="linear_transpose",
        name=function_name(fun),
        values=None,
    )
    linear = (True,) * len(avals) + (False,) * len(traced.constants)

    def transposed_fun(ct: Any) -> tuple[Any, ...]:
        types = traced.graph.output_types
        cts = flatten_like("linear_transpose", "ct", ct, traced.out_tree, types, "the output")
        flipped = transpose_pass(traced.graph, linear, (True,) * len(cts))
        arguments = [*traced.constants, *map(array_leaf, cts)]
        pulled = iter(run(flipped.graph, arguments))
        results = [
            result_array(next(pulled)) if flag else zeros_of(aval, cts)
            for aval, flag in zip(avals, flipped.nonzero, strict=False)
        ]
        return pytree.unflatten(tree, results)

    return transposed_fun
