"""Iterative solvers of linear systems that need only matrix-vector products: cg, gmres, bicgstab.

All are differentiated by the equation `A x = b`, as `custom_linear_solve` says: derivatives of any
order solve systems with A and its transpose by the same method and never look into the iterations.
The system solved is `A (x / s) = b / s` with s the power of two below the largest modulus in b: so
neither large nor small numbers leave the range of the type, and nothing is rounded by it.

Sources: Saad, "Iterative Methods for Sparse Linear Systems", 2nd ed. 2003 (algorithm numbers are
his); Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", 1952; van
der Vorst, "Bi-CGSTAB", SIAM J. Sci. Stat. Comput. 13, 1992.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import autodiff.numpy as anp
from autodiff.api.control import while_loop
from autodiff.api.implicit import norm
from autodiff.api.inspection import eval_shape
from autodiff.api.linear_systems import LinearSystem, Space, resolution, unknowns
from autodiff.api.stop_gradient import stop_gradient
from autodiff.base import pytree
from autodiff.base.dtypes import is_complex
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import is_arraylike, type_of
from autodiff.primitives.families import convert
from autodiff.tree.raveling import ravel

__all__ = ["bicgstab", "cg", "gmres"]

Function = Callable[..., Any]

#: A solver of systems of vectors: `(A, M, b, x0, allowed, maxiter)` gives x, the norm of its
#: residual and the number of iterations. A, M are functions, `allowed` is a norm, x0 may be None.
Iteration = Callable[..., tuple[Any, Any, Any]]


# --------------------------------------------------------------------------------- arithmetic


def _norm(x: Any) -> Any:
    return norm((x,))


def _quotient(x: Any, y: Any) -> Any:
    """Return x / y, and 0 where y is 0: a method that breaks down stands still."""
    is_zero = y == 0
    return anp.where(is_zero, 0, x / anp.where(is_zero, 1, y)).astype(x.dtype)


def _goes_on(residual: Any, allowed: Any, count: Any, maxiter: int) -> Any:
    return anp.logical_and(residual > allowed, count < maxiter)


# ------------------------------------------------------------------------------------ methods


def _conjugate_gradients(
    A: Function, M: Function, b: Any, x0: Any, allowed: Any, maxiter: int
) -> tuple[Any, Any, Any]:
    """Algorithm 9.1 of Saad, the preconditioned conjugate gradient method."""
    x = anp.zeros_like(b) if x0 is None else x0
    r = b if x0 is None else b - A(x0)
    z = M(r)
    state = x, r, z, anp.vdot(r, z), _norm(r), np.int64(0)

    def step(state: Any) -> Any:
        x, r, p, rho, _, count = state
        q = A(p)
        alpha = _quotient(rho, anp.vdot(p, q))
        x, r = x + alpha * p, r - alpha * q
        z = M(r)
        after = anp.vdot(r, z)
        return x, r, z + _quotient(after, rho) * p, after, _norm(r), count + 1

    state = while_loop(lambda s: _goes_on(s[4], allowed, s[5], maxiter), step, state)
    return state[0], state[4], state[5]


def _stabilized_biconjugate_gradients(
    A: Function, M: Function, b: Any, x0: Any, allowed: Any, maxiter: int
) -> tuple[Any, Any, Any]:
    """Algorithm 7.7 of Saad with a preconditioner on the right, as van der Vorst gives it.

    Where the residual has become orthogonal to its shadow the search starts anew from it.
    """
    x = anp.zeros_like(b) if x0 is None else x0
    r = b if x0 is None else b - A(x0)
    state = x, r, r, r, anp.vdot(r, r), _norm(r), np.int64(0)
    tiny = resolution(b.dtype)

    def step(state: Any) -> Any:
        x, r, shadow, p, rho, _, count = state
        towards = M(p)
        v = A(towards)
        alpha = _quotient(rho, anp.vdot(shadow, v))
        s = r - alpha * v
        half = M(s)
        t = A(half)
        omega = _quotient(anp.vdot(t, s), anp.vdot(t, t))
        x = x + alpha * towards + omega * half
        r = s - omega * t
        after = anp.vdot(shadow, r)
        size = _norm(r)
        is_lost = anp.abs(after) <= tiny * size * _norm(shadow)
        beta = _quotient(after, rho) * _quotient(alpha, omega)
        p = anp.where(is_lost, r, r + beta * (p - omega * v))
        shadow = anp.where(is_lost, r, shadow)
        after = anp.where(is_lost, anp.vdot(r, r), after)
        return x, r, shadow, p, after, size, count + 1

    state = while_loop(lambda s: _goes_on(s[5], allowed, s[6], maxiter), step, state)
    return state[0], state[5], state[6]


def _minimal_residuals(
    A: Function, M: Function, b: Any, x0: Any, allowed: Any, maxiter: int, *, restart: int
) -> tuple[Any, Any, Any]:
    """Algorithm 9.5 of Saad, GMRES with a preconditioner on the right, restarted.

    Each cycle continues from the solution of the last; one that brings nothing ends the search.
    """
    x = anp.zeros_like(b) if x0 is None else x0
    r = b if x0 is None else b - A(x0)
    size = _norm(r)

    def goes_on(state: Any) -> Any:
        _, _, size, before, cycles, _ = state
        return anp.logical_and(_goes_on(size, allowed, cycles, maxiter), size < before)

    def cycle(state: Any) -> Any:
        x, r, size, _, cycles, count = state
        change, steps = _krylov_step(A, M, r, size, allowed, restart)
        x = x + change
        r = b - A(x)
        return x, r, _norm(r), size, cycles + 1, count + steps

    start = x, r, size, size + 1, np.int64(0), np.int64(0)
    state = while_loop(goes_on, cycle, start)
    return state[0], state[2], state[5]


def _krylov_step(
    A: Function, M: Function, r: Any, size: Any, allowed: Any, restart: int
) -> tuple[Any, Any]:
    """Return the change of x in the Krylov space of r that leaves the smallest residual.

    Arnoldi's process (algorithm 6.2 of Saad) builds an orthonormal basis V, one row a step, with
    `A M V_m = V_{m+1} H`; every vector is orthogonalised twice, which keeps V orthogonal to working
    precision (Giraud, Langou and Rozloznik, 2005). H is brought to triangular form R column by
    column by Givens rotations (section 6.5.3), whose product Q is kept as a matrix, and `Q e_1`
    holds the residual. Columns not reached are those of the identity.
    """
    m = restart
    dtype, real = r.dtype, size.dtype
    tiny = resolution(dtype)
    rows = np.arange(m + 1)
    V = anp.where((rows == 0)[:, None], _quotient(r, size), 0).astype(dtype)
    identity = np.eye(m + 1, dtype=dtype)

    def goes_on(state: Any) -> Any:
        _, _, _, left, k = state
        return _goes_on(left, allowed, k, m)

    def step(state: Any) -> Any:
        V, R, Q, _, k = state
        w = A(M(V[k]))
        before = _norm(w)
        basis = anp.conj(V)
        h = basis @ w
        w = w - h @ V
        again = basis @ w
        w = w - again @ V
        length = _norm(w)
        length = anp.where(length <= tiny * before, 0, length).astype(real)
        h = anp.where(rows == k + 1, length, h + again).astype(dtype)
        V = V.at[k + 1].set(_quotient(w, length.astype(dtype)))
        # The rotation [[a', c], [-c, a]] / |(a, c)| takes (a, c) to (|(a, c)|, 0).
        turned = Q @ h
        a, c = turned[k], turned[k + 1]
        radius = _norm(anp.stack([a, c]))
        is_zero = radius == 0
        cosine = anp.where(is_zero, 1, _quotient(a, radius.astype(dtype)))
        sine = anp.where(is_zero, 0, _quotient(c, radius.astype(dtype)))
        first, second = Q[k], Q[k + 1]
        Q = Q.at[k].set(anp.conj(cosine) * first + anp.conj(sine) * second)
        Q = Q.at[k + 1].set(cosine * second - sine * first)
        column = anp.where(rows < k, turned, anp.where(rows == k, radius, 0)).astype(dtype)
        R = R.at[:, k].set(column[:m])
        left = (size * anp.abs(Q[k + 1, 0])).astype(real)
        return V, R, Q, left, k + 1

    start = V, identity[:m, :m], identity, size, np.int64(0)
    V, R, Q, _, k = while_loop(goes_on, step, start)
    pivots = anp.where(rows[:m] < k, anp.abs(anp.diagonal(R)), 0)
    is_free = pivots <= tiny * anp.max(pivots)  # not reached, or the matrix is singular
    side = anp.where(is_free, 0, size * Q[:m, 0]).astype(dtype)
    R = anp.where(anp.logical_and(is_free, identity[:m, :m] != 0), 1, R).astype(dtype)
    y = anp.linalg.solve_triangular(R, side, check_finite=False)
    return M(y @ V[:m]), k


# ------------------------------------------------------------------------------------- driver


def _solve(
    function: str,
    A: Any,
    b: Any,
    x0: Any,
    tol: Any,
    atol: Any,
    maxiter: Any,
    M: Any,
    method: Iteration,
    is_hermitian: bool,
) -> tuple[Any, Any]:
    tol, atol = _tolerance(function, "tol", tol), _tolerance(function, "atol", atol)
    matvec = _operator(function, "A", A)
    sides, space = unknowns(function, "b", b)
    sides, space = _widened(space, matvec, sides)
    size = sum(aval.size for aval in space.avals)
    maxiter = 10 * size if maxiter is None else _count(function, "maxiter", maxiter)
    guess = [] if x0 is None else _guess(space, x0)
    system = LinearSystem(space, matvec, [*sides, *guess])
    condition = back = None
    if M is not None:
        preconditioner = LinearSystem(space, _operator(function, "M", M), [*sides, *guess])
        condition = preconditioner.function("M")
        back = preconditioner.transposed_function("M")
    common = {"method": method, "tol": tol, "atol": atol, "maxiter": maxiter}
    is_symmetric = is_hermitian and not any(is_complex(aval.dtype) for aval in space.avals)
    x, info = system.solved(
        sides,
        partial(_iterate, M=condition, **common),
        None if is_symmetric else partial(_iterate, M=back, **common),
        symmetric=is_symmetric,
        has_aux=True,
        check=space.check(max(10 * tol, space.resolution**0.5), 10 * atol),
        guess=guess,
    )
    return x, info


def _iterate(
    A: Function,
    b: Any,
    x0: Any = None,
    *,
    method: Iteration,
    M: Function | None,
    tol: float,
    atol: float,
    maxiter: int,
) -> Any:
    """Solve a system of trees by a method for vectors, as `A (x / s) = b / s`."""
    flat, unravel = _raveled(b)

    def on_vectors(operator: Function) -> Function:
        return lambda x: _raveled(operator(unravel(x)))[0]

    largest = anp.max(anp.abs(flat), initial=0.0)
    magnitude = anp.floor(anp.log2(anp.where(largest > 0, largest, 1)))
    unit = anp.exp2(magnitude).astype(largest.dtype)
    side = flat / unit
    start = None if x0 is None else _raveled(x0)[0] / unit
    allowed = anp.maximum(tol * _norm(side), (atol / unit).astype(largest.dtype))
    x, residual, count = method(
        on_vectors(A),
        (lambda r: r) if M is None else on_vectors(M),
        side,
        start,
        allowed,
        maxiter,
    )
    return unravel((x * unit).astype(flat.dtype)), anp.where(
        residual <= allowed, 0, anp.maximum(count, 1)
    )


def _raveled(tree: Any) -> tuple[Any, Function]:
    leaves, structure = pytree.flatten(tree)
    if len(leaves) == 1 and leaves[0].ndim == 1:
        return leaves[0], lambda flat: pytree.unflatten(structure, [flat])
    return ravel(tree)


def _operator(function: str, name: str, value: Any) -> Function:
    """Return the matrix-vector product of a function or of a square matrix."""
    if callable(value):
        return value
    aval = type_of(value) if is_arraylike(value) else None
    if aval is None or aval.ndim != 2 or aval.shape[0] != aval.shape[1]:
        raise TypeError(
            message(
                function,
                f"{name} must be a function of a vector or a square matrix",
                f"{name}={value!r}" if aval is None else f"{name} of type {aval}",
                line=user_line(),
                fix="give matrices as arrays of shape (n, n), others as the function that "
                "multiplies by them.",
            )
        )
    return lambda x: anp.matmul(value, x)


def _widened(space: Space, matvec: Function, sides: list[Any]) -> tuple[list[Any], Space]:
    """Return a right-hand side in the element types of its product with the matrix.

    A real one of a complex matrix becomes complex; nothing is narrowed.
    """
    leaves, tree = pytree.flatten(eval_shape(matvec, space.unflatten(sides)))
    if tree != space.tree:
        return sides, space  # the system says what is wrong
    kinds = [np.result_type(x.dtype, y.dtype) for x, y in zip(sides, leaves, strict=True)]
    if all(x.dtype == kind for x, kind in zip(sides, kinds, strict=True)):
        return sides, space
    sides = [convert(x, kind) for x, kind in zip(sides, kinds, strict=True)]
    avals = tuple(type_of(x) for x in sides)
    return sides, Space(space.function, space.name, space.tree, avals)


def _guess(space: Space, x0: Any) -> list[Any]:
    """Return the leaves of a starting point, to which derivatives are blind."""
    leaves, tree = pytree.flatten(stop_gradient(x0))
    if tree == space.tree:
        leaves = [
            convert(anp.asarray(leaf), aval.dtype)
            if is_arraylike(leaf) and np.can_cast(type_of(leaf).dtype, aval.dtype, "same_kind")
            else leaf
            for leaf, aval in zip(leaves, space.avals, strict=True)
        ]
    return space.flatten("x0", pytree.unflatten(tree, leaves))


def _tolerance(function: str, name: str, value: Any) -> float:
    if isinstance(value, int | float | np.integer | np.floating) and value >= 0:
        return float(value)
    raise ValueError(
        message(
            function,
            f"{name} must be a number that is not negative",
            f"{name}={value!r}",
            line=user_line(),
        )
    )


def _count(function: str, name: str, value: Any) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise ValueError(
        message(
            function,
            f"{name} must be a positive integer",
            f"{name}={value!r}",
            line=user_line(),
        )
    )


# ------------------------------------------------------------------------------------- public


def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Any, Any]:
    """Return `(x, info)` with `A x = b` for a Hermitian positive definite A: conjugate gradients.

    Args:
        A: a linear function of a pytree like `b` that returns one, or an array of shape `(n, n)`.
            What it closes over is differentiated.
        b: right-hand side, a pytree of floating or complex arrays. Integers are taken as the
            default float type; a narrower type than `A b` has is widened to that.
        x0: where to start, of the structure and shapes of `b`; zeros by default. The derivative
            with respect to it is zero.
        tol, atol: numbers. The search ends when the residual, as the recurrence keeps it, is at
            most `max(tol |b|, atol)` in the Euclidean norm of all leaves together. Derivatives are
            as precise as the solution: 1e-5 leaves about five digits of a well-conditioned system.
        maxiter: largest number of iterations; ten times the number of unknowns by default.
        M: preconditioner, an approximation of the inverse of A in the same forms as `A`, Hermitian
            and positive definite. It is not differentiated.

    Returns:
        The solution, of the structure and shapes of `b`, and 0 as an integer array where the
        tolerance has been met, else the number of iterations done.

    Raises:
        TypeError: `A` or `M` is neither a function nor a square matrix, or returns something else
            than `b` is, or `x0` is not like `b`; the message names the leaf.
        ValueError: `tol` or `atol` is not a number from 0 on, `maxiter` not a positive integer.
        FloatingPointError: with `AUTODIFF_CHECK=residuals`, where `|A x - b|` exceeds ten times
            what is allowed (but no less than `|b|` times the root of the unit roundoff), also in
            the systems that derivatives solve.

    Sources: Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", J.
    Res. Nat. Bur. Standards 49, 1952; Saad, "Iterative Methods for Sparse Linear Systems", 2nd ed.
    2003, algorithm 9.1. The signature is that of `jax.scipy.sparse.linalg.cg`.

    >>> import numpy as np
    >>> x, info = cg(np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0]))
    >>> np.round(x, 6), info
    (array([0.090909, 0.636364]), array(0))
    """
    return _solve("cg", A, b, x0, tol, atol, maxiter, M, _conjugate_gradients, True)


def bicgstab(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Any, Any]:
    """Return `(x, info)` with `A x = b` for any A: the stabilized biconjugate gradient method.

    Arguments, results and errors are those of `cg`, with A and M of any kind. An iteration takes
    two products with A. In reverse mode the transpose of M preconditions the transposed system (no
    preconditioner does where M has no transpose).

    Sources: van der Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG for the
    solution of nonsymmetric linear systems", SIAM J. Sci. Stat. Comput. 13, 1992, pages 631-644;
    Saad, "Iterative Methods for Sparse Linear Systems", 2nd ed. 2003, algorithm 7.7.

    >>> import numpy as np
    >>> x, info = bicgstab(np.array([[4.0, 1.0], [2.0, 3.0]]), np.array([1.0, 2.0]))
    >>> np.round(x, 4), info
    (array([0.1, 0.6]), array(0))
    """
    method = _stabilized_biconjugate_gradients
    return _solve("bicgstab", A, b, x0, tol, atol, maxiter, M, method, False)


def gmres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    restart: int = 20,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Any, Any]:
    """Return `(x, info)` with `A x = b` for any A: the generalized minimal residual method.

    Arguments, results and errors are those of `cg`, with A and M of any kind, and

    Args:
        restart: dimension of the Krylov space after which it is built anew from the solution so
            far; no more than the number of unknowns are needed. Memory is that of so many vectors.
        maxiter: largest number of restarts. A cycle that leaves the residual as large as it was
            ends the search, too: the next would do the same.

    The preconditioner stands on the right, so that the residual is that of the system itself. In
    reverse mode the transpose of M preconditions the transposed system (no preconditioner does
    where M has no transpose).

    Sources: Saad, "Iterative Methods for Sparse Linear Systems", 2nd ed. 2003, algorithms 6.11 and
    9.5; Saad and Schultz, "GMRES", SIAM J. Sci. Stat. Comput. 7, 1986.

    >>> import numpy as np
    >>> x, info = gmres(np.array([[4.0, 1.0], [2.0, 3.0]]), np.array([1.0, 2.0]))
    >>> np.round(x, 6), info
    (array([0.1, 0.6]), array(0))
    """
    size = sum(type_of(leaf).size for leaf in pytree.leaves(b) if is_arraylike(leaf))
    dimension = min(_count("gmres", "restart", restart), max(size, 1))
    method = partial(_minimal_residuals, restart=dimension)
    return _solve("gmres", A, b, x0, tol, atol, maxiter, M, method, False)
