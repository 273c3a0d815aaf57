"""Results defined by equations: roots and fixed points.

What a solver returns satisfies an equation, and the equation alone determines the derivatives: the
implicit function theorem gives them as solutions of a linear system. Nothing is differentiated
through a solver's iterations, whose number and order do not matter, and nothing of them is kept.
Everything that the functions given close over is differentiated, traced values included.

Sources: Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022; Griewank
and Walther, "Evaluating Derivatives", 2nd ed. 2008, chapter 15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import autodiff.numpy as anp
from autodiff.api.control import while_loop
from autodiff.api.held_functions import apply_held, constants_first, trace_held
from autodiff.api.linear_systems import (
    Operands,
    Space,
    checked_solution,
    function_of,
    require_callable,
    transposed,
    unflattened,
    unknowns,
)
from autodiff.api.trace import Traced, array_leaf, function_name, is_traced, run
from autodiff.api.transforms import result_array
from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import is_arraylike, type_of
from autodiff.ir.builder import replay
from autodiff.ir.graph import Graph, make_graph
from autodiff.passes.dead_code import dead_code
from autodiff.passes.linearize import linearize as linearize_pass
from autodiff.primitives.higher_order import build_graph, placed
from autodiff.primitives.implicit import root
from autodiff.primitives.linear_solve import with_zeros
from autodiff.primitives.residuals import ResidualCheck

Function = Callable[..., Any]


# -------------------------------------------------------------------------------------------- roots


def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
    has_aux: bool = False,
) -> Any:
    """Return x with `f(x) = 0`, found by `solve` and differentiated by the equation.

    By the implicit function theorem `f_x dx = -f_c dc` for all that `f` closes over: derivatives of
    any order, in both modes, solve linear systems with the derivative of `f` at the root.

    Args:
        f: a function of a pytree with the structure, shapes and dtypes of `initial_guess` that
            returns the same. The values it closes over are differentiated.
        initial_guess: where `solve` starts, a pytree of floating or complex arrays. The derivative
            with respect to it is zero.
        solve: `solve(f, initial_guess)` returns the root, to the precision of the type if
            derivatives are to be precise. Where it is allowed at all (not in `jit` or `vmap`),
            its Python control flow may depend on values.
        tangent_solve: `tangent_solve(g, y)` returns x with `g(x) = y` for a linear function g: the
            derivative of `f` at the root, or (in reverse mode) the transpose of it. For numbers
            `lambda g, y: y / g(1.0)`; else a dense solve with `jacobian(g)(y)`, or an iterative
            one such as `lambda g, y: gmres(g, y)[0]`.
        has_aux: `solve` returns `(root, aux)`; aux, any pytree, is passed through with zero
            derivative.

    Returns:
        The root, of the structure, shapes and dtypes of `initial_guess`; `(root, aux)` with
        `has_aux`.

    Raises:
        TypeError: an output does not have the structure, shapes and dtypes of `initial_guess`; the
            message names the leaf.
        MissingRuleError: in reverse mode, where `f` has no transposable derivative.
        FloatingPointError: with `AUTODIFF_CHECK=residuals`, where `||f(x)||` exceeds
            `1e-4 (1 + ||f(initial_guess)||)`, or a linear system of a derivative has a residual
            above `1e-4 ||y||` (for float16 and bfloat16 the root of the unit roundoff).

    Source: Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022,
    equation 2; the signature is that of `jax.lax.custom_root`.

    >>> import numpy as np
    >>> from autodiff import grad
    >>> def newton(f, x):
    ...     for _ in range(6):
    ...         x = x - f(x) / grad(f)(x)
    ...     return x
    >>> def square_root(a):
    ...     return custom_root(lambda x: x**2 - a, 2.0, newton, lambda g, y: y / g(1.0))
    >>> square_root(9.0), grad(square_root)(9.0)
    (array(3.), array(0.16666667))
    """
    return _root("custom_root", f, initial_guess, solve, tangent_solve, has_aux)


def _root(
    function: str,
    f: Any,
    initial_guess: Any,
    solve: Any,
    tangent_solve: Any,
    has_aux: bool,
    is_fixed_point: bool = False,
) -> Any:
    """Return a root of `f`, or a fixed point, which is a root of `x - f(x)`."""
    require_callable(function, f=f, solve=solve, tangent_solve=tangent_solve)
    guess, space = unknowns(function, "initial_guess", initial_guess)
    count = len(guess)
    name = function_name(f)

    def on_leaves(*tracers: Any) -> Any:
        return space.flatten(f"the output of {name}", f(space.unflatten(tracers)))

    traced = trace_held(space.function, f, on_leaves, space.avals, guess)
    fixed = traced.constants
    equation = traced.graph
    if is_fixed_point:
        equation = build_graph(function, equation.input_types, partial(_change, equation, count))
    check = space.check(space.tolerance, space.tolerance)

    def search(start: Sequence[Any], constants: Sequence[Any]) -> Any:
        again = function_of(space, constants_first(traced), constants, name)
        found = solve(again, space.unflatten(start))
        return checked_solution(space, function_name(solve), has_aux, found)

    if not is_traced([*guess, *fixed]):
        found = search(guess, fixed)
        if not is_traced(pytree.leaves(found)):
            return _computed(space, found, has_aux, check, equation, [*guess, *fixed])
    found = trace_held(
        space.function,
        solve,
        lambda *tracers: search(tracers[:count], tracers[count:]),
        equation.input_types,
        guess,
        values=[*guess, *fixed],
        has_aux=has_aux,
    )
    split = linearize_pass(equation, (True,) * count + (False,) * len(fixed))
    before, computed = split.primal.inputs, split.primal.outputs[count:]
    kept = split.gather_residuals(computed, before)
    residuals = dead_code(make_graph(before, (), split.primal.eqns, kept))
    linear = with_zeros(split.linear, split.nonzero_outputs, space.avals)
    matrix = [aval.strong() for aval in residuals.output_types]

    def tangent(graph: Graph) -> Traced:
        def apply(*tracers: Any) -> Any:
            at, side = tracers[: len(matrix)], tracers[len(matrix) :]
            g = function_of(space, graph, at, "the linear function")
            found = tangent_solve(g, space.unflatten(side))
            return space.flatten(f"the output of {function_name(tangent_solve)}", found)

        return trace_held(
            space.function, tangent_solve, apply, [*matrix, *space.avals], [*guess, *fixed]
        )

    forward = tangent(linear)
    flipped = transposed(linear, count)
    backward = None if flipped is None else tangent(flipped)
    operands = Operands()
    of_f = operands.enter(fixed)
    of_search = operands.enter(found.constants)
    of_forward = operands.enter(forward.constants)
    of_backward = operands.enter(backward.constants if backward is not None else [])
    begun = operands.enter(guess)
    types = [type_of(x) for x in operands.values]
    # A tangent solve takes the constants, then the residuals, then the right-hand side.
    start = len(types) - count
    at_root = [*types[:start], *matrix, *space.avals]
    at = list(range(start, start + len(matrix)))
    side = list(range(start + len(matrix), len(at_root)))
    result = apply_held(
        root,
        operands.values,
        {
            "function": placed(equation, [*begun, *of_f], types),
            "solve": placed(found.graph, [*begun, *of_f, *of_search], types),
            "residuals": placed(residuals, [*begun, *of_f], types),
            "linear": placed(linear, [*at, *side], at_root),
            "tangent_solve": placed(forward.graph, [*at, *side, *of_forward], at_root),
            "transpose_tangent_solve": None
            if backward is None
            else placed(backward.graph, [*at, *side, *of_backward], at_root),
            "check": check,
            "name": function,
        },
    )
    return unflattened(space, found, result, has_aux)


def _change(graph: Graph, count: int, *inputs: Any) -> list[Any]:
    """Return `x - f(x)` for a graph `(x, constants) -> f(x)` of `count` leaves x."""
    after = replay(graph, (), inputs)
    return [x - y for x, y in zip(inputs[:count], after, strict=True)]


def _computed(
    space: Space,
    found: Any,
    has_aux: bool,
    check: ResidualCheck | None,
    equation: Graph,
    given: Sequence[Any],
) -> Any:
    """Return what a solver found of plain arrays, as arrays that share memory with none of them."""
    leaves, aux = found if has_aux else (found, None)
    if check is not None:
        fixed = given[len(leaves) :]
        check.of_root(run(equation, [*leaves, *fixed]), run(equation, given))
    solution = space.unflatten([_fresh(x) for x in leaves])
    return (solution, pytree.map(_fresh, aux)) if has_aux else solution


def _fresh(value: Any) -> Any:
    return result_array(array_leaf(value)).copy() if is_arraylike(value) else value


# ------------------------------------------------------------------------------------- fixed points


def custom_fixed_point(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    has_aux: bool = False,
    *,
    tol: float | None = None,
    maxiter: int = 10_000,
) -> Any:
    """Return x with `x = f(x)`, differentiated by the equation.

    With J the derivative of `f` at x, `(I - J) dx = f_c dc` for all that `f` closes over.

    Args:
        f: a function of a pytree with the structure, shapes and dtypes of `initial_guess` that
            returns the same. The values it closes over are differentiated.
        initial_guess: where the iteration starts; the derivative with respect to it is zero.
        solve: `solve(f, initial_guess)` returns the fixed point; by default `f` is applied until x
            changes by no more than `tol (1 + |x|)` in the Euclidean norm of all leaves.
        tangent_solve: `tangent_solve(g, y)` returns x with `g(x) = y` for the linear function
            `g(v) = v - J v` or its transpose; by default `v -> y + J v` is repeated until the
            residual is at most `tol |y|`. That converges wherever the iteration of `f` itself
            converges linearly, at the same rate.
        has_aux: `solve` returns `(fixed point, aux)`; needs `solve`.
        tol: tolerance of the defaults, a number. By default the unit roundoff of the type to the
            power 3/4, 1.8e-12 for float64.
        maxiter: number of iterations after which the defaults give up and return what they have
            (with `AUTODIFF_CHECK=residuals` an error then).

    Returns:
        The fixed point, of the structure, shapes and dtypes of `initial_guess`; `(x, aux)` with
        `has_aux`.

    Raises:
        TypeError, MissingRuleError, FloatingPointError: as `custom_root` for `x - f(x)`.

    Source: Christianson, "Reverse accumulation and attractive fixed points", Optimization Methods
    and Software 3, 1994, pages 311-326 (the iteration for the derivative).

    >>> import numpy as np
    >>> from autodiff import grad
    >>> def square_root(a):
    ...     return custom_fixed_point(lambda x: 0.5 * (x + a / x), a)
    >>> square_root(9.0), grad(square_root)(9.0)
    (array(3.), array(0.16666667))
    """
    function = "custom_fixed_point"
    require_callable(function, f=f)
    if has_aux and solve is None:
        raise TypeError(
            message(
                function,
                "has_aux=True needs a solver that returns aux",
                "solve=None",
                line=user_line(),
                fix="pass solve=, or leave has_aux out.",
            )
        )
    _, space = unknowns(function, "initial_guess", initial_guess)
    enough = space.resolution**0.75 if tol is None else tol
    if solve is None:
        solve = partial(_iterated, tol=enough, maxiter=maxiter)
    if tangent_solve is None:
        tangent_solve = partial(_summed, tol=enough, maxiter=maxiter)
    return _root(function, f, initial_guess, solve, tangent_solve, has_aux, is_fixed_point=True)


def norm(tree: Any) -> Any:
    """Return the Euclidean norm of all leaves together, as a real 0-d value.

    Leaves are divided by their largest modulus first, so that squares neither overflow nor vanish.
    """
    leaves = [anp.abs(leaf) for leaf in pytree.leaves(tree)]
    largest = anp.max(anp.stack([anp.max(leaf, initial=0.0) for leaf in leaves]))
    unit = anp.where(largest > 0, largest, 1.0)
    return unit * anp.sqrt(sum(anp.sum((leaf / unit) ** 2) for leaf in leaves))


def _iterated(f: Function, start: Any, *, tol: float, maxiter: int) -> Any:
    """Apply `f` until what it is applied to hardly changes."""

    def goes_on(state: Any) -> Any:
        x, change, count = state
        return anp.logical_and(change > tol * (1.0 + norm(x)), count < maxiter)

    def step(state: Any) -> Any:
        x, _, count = state
        after = f(x)
        return after, norm(pytree.map(lambda a, b: a - b, after, x)), count + 1

    first = f(start)
    change = norm(pytree.map(lambda a, b: a - b, first, start))
    return while_loop(goes_on, step, (first, change, np.int64(1)))[0]


def _summed(g: Function, y: Any, *, tol: float, maxiter: int) -> Any:
    """Return x with `g(x) = y` by `x <- x + (y - g(x))`, for g(v) = v - J v the sum of J^k y."""
    allowed = tol * norm(y)

    def goes_on(state: Any) -> Any:
        _, residual, count = state
        return anp.logical_and(norm(residual) > allowed, count < maxiter)

    def step(state: Any) -> Any:
        x, residual, count = state
        x = pytree.map(lambda a, r: a + r, x, residual)
        return x, pytree.map(lambda b, a: b - a, y, g(x)), count + 1

    start = pytree.map(lambda leaf: leaf * 0, y)
    return while_loop(goes_on, step, (start, y, np.int64(0)))[0]
