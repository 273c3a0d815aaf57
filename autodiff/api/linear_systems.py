"""Linear systems differentiated by the equation that their solution satisfies.

`Space` is the structure that a solution and a right-hand side share, `LinearSystem` a linear
function on it; roots and fixed points (api/implicit.py) are described with the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.api.held_functions import apply_held, constants_first, flatten_arrays, trace_held
from autodiff.api.trace import (
    Traced,
    array_leaf,
    flatten_arguments,
    function_name,
    run,
)
from autodiff.api.transforms import result_array
from autodiff.base import pytree
from autodiff.base.dtypes import is_inexact
from autodiff.base.errors import MissingRuleError, message
from autodiff.base.settings import settings
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType, is_arraylike, type_of
from autodiff.ir.graph import Graph
from autodiff.numpy.operands import inexact
from autodiff.passes.transpose import transpose as transpose_pass
from autodiff.primitives.families import convert
from autodiff.primitives.higher_order import placed
from autodiff.primitives.linear_solve import linear_solve, with_zeros
from autodiff.primitives.residuals import ResidualCheck

Function = Callable[..., Any]

#: How large a residual may be that the setting `check` lets pass, relative to the right-hand side.
RESIDUAL_TOLERANCE = 1e-4


# -------------------------------------------------------------------------- values of one structure


@dataclass(frozen=True, slots=True)
class Space:
    """The structure and the types that a solution and a right-hand side have in common.

    `name` is the argument that they come from, `function` the public function it was given to.
    """

    function: str
    name: str
    tree: pytree.TreeDef
    avals: tuple[ArrayType, ...]

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Return leaves as a tree."""
        return pytree.unflatten(self.tree, leaves)

    def flatten(self, what: str, value: Any) -> list[Any]:
        """Return a tree's leaves, numbers of weak type converted; `what` it is, for errors."""
        leaves, tree = flatten_arguments(self.function, value)
        if tree != self.tree:
            raise TypeError(
                message(
                    self.function,
                    f"{what} must have the structure of {self.name}",
                    pytree.structure_difference(tree, self.tree, what).removeprefix("got "),
                    line=user_line(),
                    fix="return the same containers, keys and lengths.",
                )
            )
        return [self._fitted(what, i, leaf) for i, leaf in enumerate(leaves)]

    def _fitted(self, what: str, i: int, leaf: Any) -> Any:
        wanted = self.avals[i]
        found = type_of(leaf) if is_arraylike(leaf) else None
        if found is not None and found.shape == wanted.shape:
            if found.dtype == wanted.dtype:
                return convert(array_leaf(leaf), wanted.dtype)
            if found.weak and np.can_cast(found.dtype, wanted.dtype, "same_kind"):
                return convert(array_leaf(leaf), wanted.dtype)
        path = pytree.path_string("", pytree.paths(self.tree)[i])
        shown = f"{type(leaf).__name__}" if found is None else f"{found}"
        raise TypeError(
            message(
                self.function,
                f"{what} must have the shapes and dtypes of {self.name}",
                f"{shown}{f' at {path}' if path else ''} where {wanted} is expected",
                line=user_line(),
                fix="convert it with .astype, or reshape it.",
            )
        )

    @property
    def tolerance(self) -> float:
        """How large a relative residual may be: 1e-4, or the root of the unit roundoff if larger.

        Of the coarsest type among the leaves.
        """
        return max(RESIDUAL_TOLERANCE, self.resolution**0.5)

    @property
    def resolution(self) -> float:
        """The unit roundoff of the coarsest type among the leaves."""
        return max(resolution(aval.dtype) for aval in self.avals)

    def check(self, relative: float, absolute: float) -> ResidualCheck | None:
        """Return the check of the residual, None where the setting does not ask for it."""
        if "residuals" not in settings().check:
            return None
        return ResidualCheck(self.function, relative, absolute, user_line())


def resolution(dtype: np.dtype) -> float:
    """Return the distance from 1 to the next number of an inexact type."""
    return float(np.finfo(dtype).eps) if dtype.kind in "fc" else 2.0**-7  # bfloat16


def unknowns(function: str, name: str, value: Any) -> tuple[list[Any], Space]:
    """Return the leaves of an argument and their space; integers become the default float."""
    leaves, tree = flatten_arrays(function, name, value)
    if not leaves:
        raise TypeError(
            message(
                function,
                f"{name} must have at least one array",
                f"{name}={value!r}",
                line=user_line(),
            )
        )
    arrays = [
        convert(leaf, leaf.dtype) if is_inexact(leaf.dtype) else inexact(leaf)
        for leaf in map(array_leaf, leaves)
    ]
    return arrays, Space(function, name, tree, tuple(type_of(x) for x in arrays))


def require_callable(function: str, **given: Any) -> None:
    """Raise a TypeError naming the first of the arguments that is not a function."""
    for name, value in given.items():
        if not callable(value):
            raise TypeError(
                message(
                    function,
                    f"{name} must be a function",
                    f"{name}={value!r}",
                    line=user_line(),
                    fix="pass the function itself, not its result.",
                )
            )


def function_of(space: Space, graph: Graph, constants: Sequence[Any], name: str) -> Function:
    """Return a graph `(constants, x) -> y` as a function on the space's trees."""

    def apply(x: Any) -> Any:
        leaves = space.flatten(f"the argument of {name}", x)
        return space.unflatten(run(graph, [*constants, *leaves]))

    return apply


def checked_solution(space: Space, name: str, has_aux: bool, solved: Any) -> Any:
    """Return what a user's solver returned, its solution as the list of the space's leaves."""
    if not has_aux:
        return space.flatten(f"the output of {name}", solved)
    if not isinstance(solved, tuple) or len(solved) != 2:
        raise TypeError(
            message(
                space.function,
                f"with has_aux=True {name} must return a pair (solution, aux)",
                f"an output of type {type(solved).__name__}",
                line=user_line(),
                fix="return (solution, aux), or leave has_aux out.",
            )
        )
    return space.flatten(f"the output of {name}", solved[0]), solved[1]


class Operands:
    """The operands of an operation whose graphs share them: constants in groups, then the rest."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def enter(self, values: Sequence[Any]) -> list[int]:
        """Add values and return their places."""
        start = len(self.values)
        self.values += values
        return list(range(start, len(self.values)))


# ----------------------------------------------------------------------------------- linear systems


def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    transpose_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """Return x with `matvec(x) = b`, found by `solve` and differentiated by the equation.

    With A the matrix of `matvec`, `A dx = db - dA x`, and the cotangent of b is the solution of the
    transposed system: derivatives of any order call `solve` and `transpose_solve` again and never
    look into them. What `matvec` closes over is differentiated; what only the solvers close over
    (a preconditioner, a starting point) is not.

    Args:
        matvec: a linear function of a pytree with the structure, shapes and dtypes of `b`.
        b: right-hand side, a pytree of floating or complex arrays. Integers are taken as the
            default float type.
        solve: `solve(matvec, b)` returns x. It must work for every right-hand side: in derivatives
            it is given others. It is traced, so Python control flow must not depend on values.
        transpose_solve: `transpose_solve(vecmat, b)`, given the function of the transposed matrix,
            which is worked out from `matvec`. Needed in reverse mode unless `symmetric`.
        symmetric: whether the matrix equals its transpose. Then `matvec` and `solve` serve for the
            transposed system as well. The transpose is not conjugated: of a complex Hermitian
            matrix it is the conjugate matrix, which is Hermitian too, so that a solver for
            Hermitian matrices is to be given as `transpose_solve=solve`.
        has_aux: `solve` and `transpose_solve` return pairs; the second part, any pytree, is passed
            through for the first solve and has zero derivative.

    Returns:
        x, of the structure, shapes and dtypes of `b`; `(x, aux)` with `has_aux`.

    Raises:
        TypeError: the output of `matvec` or of a solver does not have the structure, shapes and
            dtypes of `b`; the message names the leaf.
        MissingRuleError: in reverse mode, where there is no solver of the transposed system.
        FloatingPointError: with `AUTODIFF_CHECK=residuals`, where `||A x - b||` exceeds
            `1e-4 ||b||` (for float16 and bfloat16 the root of the unit roundoff), also in the
            systems that derivatives solve and in each of mapped ones.

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, section 15.1 (the
    derivative); the signature is that of `jax.lax.custom_linear_solve`.

    >>> import numpy as np
    >>> from autodiff import grad
    >>> def divide(matvec, b):
    ...     return b / matvec(1.0)
    >>> def f(a):
    ...     return custom_linear_solve(lambda x: a * x, 6.0, divide, symmetric=True)
    >>> f(2.0), grad(f)(2.0)
    (array(3.), array(-1.5))
    """
    function = "custom_linear_solve"
    require_callable(function, matvec=matvec, solve=solve)
    if transpose_solve is not None:
        require_callable(function, transpose_solve=transpose_solve)
    leaves, space = unknowns(function, "b", b)
    system = LinearSystem(space, matvec, leaves)
    return system.solved(
        leaves,
        solve,
        transpose_solve,
        symmetric=symmetric,
        has_aux=has_aux,
        check=space.check(space.tolerance, 0.0),
    )


class LinearSystem:
    """A linear function as a graph `(x, constants) -> y` on a space."""

    __slots__ = ("constants", "graph", "space")

    def __init__(self, space: Space, matvec: Any, near: Sequence[Any]) -> None:
        name = function_name(matvec)

        def apply(*tracers: Any) -> Any:
            return space.flatten(f"the output of {name}", matvec(space.unflatten(tracers)))

        traced = trace_held(space.function, matvec, apply, space.avals, near)
        self.space = space
        self.constants = traced.constants
        self.graph = constants_first(traced)

    def function(self, name: str) -> Function:
        """Return the function itself, on trees."""
        return function_of(self.space, self.graph, self.constants, name)

    def transposed_function(self, name: str) -> Function | None:
        """Return the transposed function, None where an operation has no transpose."""
        graph = transposed(self.graph, len(self.space.avals))
        return None if graph is None else function_of(self.space, graph, self.constants, name)

    def solved(
        self,
        sides: Sequence[Any],
        solve: Any,
        transpose_solve: Any,
        *,
        symmetric: bool,
        has_aux: bool,
        check: ResidualCheck | None,
        guess: Sequence[Any] = (),
    ) -> Any:
        """Return the solution for the right-hand side with leaves `sides`.

        With a `guess` (leaves of the space, all or none), `solve` and `transpose_solve` are given
        it as third argument: zeros in the systems that derivatives solve.
        """
        space, count = self.space, len(self.space.avals)
        near = [*sides, *self.constants, *guess]
        known = [type_of(x) for x in self.constants]
        starts = [space.avals[i] for i in range(len(guess))]

        def solver(user: Any, graph: Graph, name: str) -> Traced:
            def apply(*tracers: Any) -> Any:
                constants, rest = tracers[: len(known)], tracers[len(known) :]
                trees = [space.unflatten(rest[i : i + count]) for i in range(0, len(rest), count)]
                function = function_of(space, graph, constants, name)
                found = user(function, *trees)
                return checked_solution(space, function_name(user), has_aux, found)

            avals = [*known, *space.avals, *starts]
            return trace_held(space.function, user, apply, avals, near, has_aux=has_aux)

        first = solver(solve, self.graph, "matvec")
        second = None
        if transpose_solve is not None:
            matrix = self.graph if symmetric else transposed(self.graph, count)
            if matrix is not None:
                second = solver(transpose_solve, matrix, "vecmat")
        operands = Operands()
        shared = operands.enter(self.constants)
        own = operands.enter(first.constants)
        others = operands.enter(second.constants if second is not None else [])
        begun = operands.enter(guess)
        given = operands.enter(sides)
        avals = [type_of(x) for x in operands.values]
        result = apply_held(
            linear_solve,
            operands.values,
            {
                "matvec": placed(self.graph, [*shared, *given], avals),
                "solve": placed(first.graph, [*shared, *given, *begun, *own], avals),
                "transpose_solve": None
                if second is None
                else placed(second.graph, [*shared, *given, *begun, *others], avals),
                "symmetric": symmetric,
                "guess_count": len(guess),
                "check": check,
                "name": space.function,
            },
        )
        return unflattened(space, first, result, has_aux)


def unflattened(space: Space, traced: Traced, outputs: Sequence[Any], has_aux: bool) -> Any:
    """Return an operation's outputs as a solver's caller gets them, `traced` being the solver."""
    count = len(space.avals)
    outputs = [result_array(x) for x in outputs]
    solution = space.unflatten(outputs[:count])
    return (solution, traced.unflatten_aux(outputs[count:])) if has_aux else solution


def transposed(graph: Graph, count: int) -> Graph | None:
    """Transpose a graph `(constants, x) -> y` that is linear in its last `count` inputs.

    None where an operation has no transpose: reverse mode, if it is asked for, says which.
    """
    known = len(graph.inputs) - count
    linear = (False,) * known + (True,) * count
    try:
        flipped = transpose_pass(graph, linear, (True,) * count)
    except MissingRuleError:
        return None
    return with_zeros(flipped.graph, flipped.nonzero[known:], graph.input_types[known:])
