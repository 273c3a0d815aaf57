"""Cholesky factor and triangular systems, of single matrices and of stacks of them.

Matrices are the last two axes; leading axes are a stack. A' is the conjugate transpose of A, op(A)
one of A, its transpose, its conjugate, and A'.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from math import prod
from typing import Any

import numpy as np

from autodiff.base.array_modules import common_module
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Params
from autodiff.ir.primitive import Primitive, Samples
from autodiff.primitives.arithmetic import conjugate, where
from autodiff.primitives.contraction import dot_general
from autodiff.primitives.families import INEXACT, batch_to, is_linear, library_op, move_axis
from autodiff.primitives.shapes import reshape

# ------------------------------------------------------------------------------- matrices as values


def matrix_transpose(x: Any) -> Any:
    """Return `x` with its last two axes exchanged."""
    return move_axis(x, x.ndim - 1, x.ndim - 2)


def hermitian_part(x: Any) -> Any:
    """Return (x + x') / 2."""
    return (x + conjugate(matrix_transpose(x))) * x.dtype.type(0.5)


def matrix_product(x: Any, y: Any) -> Any:
    """Return the product of two matrices, or of two stacks of one shape."""
    stack = tuple(range(x.ndim - 2))
    dimensions = (((x.ndim - 1,), (x.ndim - 2,)), (stack, stack))
    return bind_primitive(dot_general, (x, y), {"dimensions": dimensions})


def _matrix_sizes(x: ArrayType, name: str) -> int:
    assert x.ndim >= 2 and x.shape[-1] == x.shape[-2], (name, x)
    return x.shape[-1]


def _widened(x: Any) -> Any:
    """Return `x` in a type that LAPACK knows."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


# ------------------------------------------------------------------------------- triangular systems


def _system_type(
    a: ArrayType,
    b: ArrayType,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> ArrayType:
    size = _matrix_sizes(a, "triangular_solve")
    assert a.ndim == b.ndim and a.shape[:-2] == b.shape[:-2], (a, b)
    assert b.shape[-2 if left_side else -1] == size, (a, b, left_side)
    if a.dtype != b.dtype:
        raise TypeError(f"triangular_solve: operands must be of one type, got types=({a}, {b}).")
    return array_type(b.shape, b.dtype)


@cache
def _solver_of(module: str) -> Any:
    """Return an accelerator's own solver: the array module `m` has it in `mx.scipy.linalg`."""
    return import_module(f"{module}x.scipy.linalg").solve_triangular


def _solve_one(a: Any, b: Any, lower: bool, unit_diagonal: bool) -> Any:
    """Solve a x = b for one matrix by the BLAS routine trsm."""
    module = common_module((a, b))
    if module is not np:
        solve = _solver_of(module.__name__)
        return solve(a, b, lower=lower, unit_diagonal=unit_diagonal, check_finite=False)
    from scipy.linalg.blas import get_blas_funcs

    (solve,) = get_blas_funcs(("trsm",), (a, b))
    return solve(1.0, a, b, lower=lower, diag=unit_diagonal)


def _solve_stack(a: Any, b: Any, lower: bool, unit_diagonal: bool) -> Any:
    """Solve a x = b for a stack, one row of all its matrices at a time, by substitution."""
    size = a.shape[-1]
    x = b.copy()
    for i in range(size) if lower else range(size - 1, -1, -1):
        known = slice(0, i) if lower else slice(i + 1, size)
        row = x[:, i : i + 1] - np.matmul(a[:, i : i + 1, known], x[:, known])
        x[:, i : i + 1] = row if unit_diagonal else row / a[:, i : i + 1, i : i + 1]
    return x


def _solve_reference(
    a: Any,
    b: Any,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Any:
    """Return the solution; a zero on the diagonal is a LinAlgError on the CPU, as in SciPy.

    Of a stack, the matrices are solved one by one if they are fewer than their rows, else row by
    row.
    """
    dtype = b.dtype
    a, b = _widened(a), _widened(b)
    if b.size == 0:
        return b.astype(dtype)
    if not unit_diagonal and common_module((a, b)) is np:
        _refuse_singular(a)
    if not left_side:  # x op(a) = b  <=>  op(a)^T x^T = b^T
        b, transpose_a = np.swapaxes(b, -1, -2), not transpose_a
    if conjugate_a:
        a = np.conj(a)
    if transpose_a:
        a, lower = np.swapaxes(a, -1, -2), not lower
    size, stack = a.shape[-1], b.shape[:-2]
    count = prod(stack)
    matrices, sides = a.reshape(count, size, size), b.reshape(count, *b.shape[-2:])
    if count < size:
        x = np.empty_like(sides)
        for i in range(count):
            x[i] = _solve_one(matrices[i], sides[i], lower, unit_diagonal)
    else:
        x = _solve_stack(matrices, sides, lower, unit_diagonal)
    x = x.reshape(b.shape)
    return (x if left_side else np.swapaxes(x, -1, -2)).astype(dtype)


def _refuse_singular(a: Any) -> None:
    zeros = np.argwhere(np.diagonal(a, axis1=-2, axis2=-1) == 0)
    if zeros.size:
        raise np.linalg.LinAlgError(
            "solve_triangular: the matrix must have no zero on its diagonal, "
            f"got a zero at index {int(zeros[0, -1])}."
        )


def _triangle(x: Any, *, lower: bool, unit_diagonal: bool) -> Any:
    """Return `x` with zeros where a triangular solve does not read it."""
    ones = np.ones(x.shape[-2:], bool)
    inner = int(unit_diagonal)
    mask = np.tril(ones, -inner) if lower else np.triu(ones, inner)
    return where(mask, x, x.dtype.type(0))


def _solve_differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    # op(A) X = B  =>  op(A) dX = dB - op(dA) X       X op(A) = B  =>  dX op(A) = dB - X op(dA)
    # with dA zero outside the triangle (Giles, "An extended collection of matrix derivative results
    # for forward and reverse mode algorithmic differentiation", 2008, section 2.3.1).
    a, _ = operands
    a_tangent, side = tangents
    if a_tangent is not None:
        change = _triangle(a_tangent, lower=params["lower"], unit_diagonal=params["unit_diagonal"])
        change = matrix_transpose(change) if params["transpose_a"] else change
        change = conjugate(change) if params["conjugate_a"] else change
        (x,) = outs
        pair = (change, x) if params["left_side"] else (x, change)
        term = -matrix_product(*pair)
        side = term if side is None else side + term
    return (bind_primitive(triangular_solve, (a, side), params),)


def _solve_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    # X = op(A)^-1 B is linear in B, and its transpose (without conjugation) is op(A)^-T.
    a, _ = operands
    assert not is_linear(a), "the solution is linear in b alone"
    opposite = {**params, "transpose_a": not params["transpose_a"]}
    return (None, bind_primitive(triangular_solve, (a, cts[0]), opposite))


def _solve_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    a, b = operands
    if batched[0]:
        b = batch_to(b, batched[1], size)
        return (bind_primitive(triangular_solve, (a, b), params),), (True,)
    # One matrix for all: the right-hand sides of the examples stand beside each other.
    kept = b.ndim - 2 if params["left_side"] else b.ndim - 1
    other = b.ndim - 1 if params["left_side"] else b.ndim - 2
    beside = move_axis(b, 0, other - 1)  # ..., then the mapped axis before that of the sides
    count = b.shape[other]
    wide = [*beside.shape[: other - 1], size * count, *beside.shape[other + 1 :]]
    assert b.shape[kept] == a.shape[-1]
    solved = bind_primitive(triangular_solve, (a, reshape(beside, shape=tuple(wide))), params)
    return (move_axis(reshape(solved, shape=beside.shape), other - 1, 0),), (True,)


def _choices(*names: str) -> dict[str, bool]:
    flags = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    return {flag: flag in names for flag in flags}


_SYSTEMS = (
    _choices("left_side", "lower"),
    _choices("left_side"),
    _choices("left_side", "lower", "transpose_a"),
    _choices("left_side", "transpose_a", "conjugate_a", "unit_diagonal"),
    _choices("lower"),
    _choices("transpose_a"),
    _choices("lower", "transpose_a", "conjugate_a"),
    _choices("lower", "conjugate_a", "unit_diagonal"),
)


def _random(random: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    numbers = random.uniform(-1, 1, size=shape)
    if dtype.kind == "c":
        numbers = numbers + 1j * random.uniform(-1, 1, size=shape)
    return numbers.astype(dtype)


def _system_operands(dtype: np.dtype, random: Any, **params: Any) -> tuple[Any, Any]:
    """Return a stack of three well-conditioned systems, the other triangle filled as well."""
    a = _random(random, (3, 4, 4), dtype) + 3 * np.eye(4).astype(dtype)
    shape = (3, 4, 2) if params["left_side"] else (3, 2, 4)
    return a.astype(dtype), _random(random, shape, dtype)


triangular_solve = library_op(
    "triangular_solve",
    _solve_reference,
    doc="X with op(A) X = B, or X op(A) = B; of A one triangle is read. Linear in B.",
    type_rule=_system_type,
    differentiate=_solve_differentiate,
    transpose=_solve_transpose,
    batch=_solve_batch,
    dtypes=INEXACT,
    samples=Samples(params=_SYSTEMS, operands=_system_operands),
)

# ---------------------------------------------------------------------------------------- Cholesky


def _cholesky_type(a: ArrayType) -> ArrayType:
    _matrix_sizes(a, "cholesky")
    return array_type(a.shape, a.dtype)


def _cholesky_differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
    # Problem: A = L L' with A Hermitian, L lower triangular with a positive diagonal; dA -> dL.
    #   dA = dL L' + L dL'                                      multiply by L^-1 and L^-1'
    #   S := L^-1 dA L^-1' = L^-1 dL + (L^-1 dL)'               a lower triangle plus its adjoint
    #   L^-1 dL = P(S), P: lower triangle, the diagonal halved  [1]
    #   dL = L P(S)                                             [2]
    # Murray, "Differentiation of the Cholesky decomposition", 2016, equations (8) and (9).
    # dA is replaced by its Hermitian part, so that entries (i, j) and (j, i) share a derivative and
    # <dL, u> = <dA, adjoint of u> whatever dA is [3].
    (factor,) = outs
    change = hermitian_part(tangents[0])  # [3]
    half = _choices("left_side", "lower")
    inner = bind_primitive(triangular_solve, (factor, change), half)
    inner = bind_primitive(
        triangular_solve, (factor, inner), _choices("lower", "transpose_a", "conjugate_a")
    )
    size = factor.shape[-1]
    weights = np.tril(np.ones((size, size))) - 0.5 * np.eye(size)
    return (matrix_product(factor, inner * weights.astype(factor.dtype)),)  # [1], [2]


def _cholesky_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    return (bind_primitive(cholesky, operands, params),), (True,)


def _positive_definite(dtype: np.dtype, random: Any, **params: Any) -> tuple[Any]:
    """Return a stack of three Hermitian matrices with eigenvalues from 1 on."""
    x = _random(random, (3, 4, 4), np.dtype(np.complex128 if dtype.kind == "c" else np.float64))
    a = x @ np.conj(np.swapaxes(x, -1, -2)) + np.eye(4)
    a = a.astype(dtype)
    return (np.tril(a) + np.conj(np.swapaxes(np.tril(a, -1), -1, -2)),)


cholesky = library_op(
    "cholesky",
    lambda a: np.linalg.cholesky(_widened(a)).astype(a.dtype),
    doc="Lower triangular L with L L' = A, read from A's lower triangle; the derivative is that "
    "with respect to A's Hermitian part.",
    type_rule=_cholesky_type,
    differentiate=_cholesky_differentiate,
    batch=_cholesky_batch,
    dtypes=INEXACT,
    samples=Samples(operands=_positive_definite),
)


def _of_hermitian_part(primitive: Primitive, operands: Sequence[Any], params: Params) -> Any:
    """Apply the factorization to the Hermitian part: the same for Hermitian matrices.

    As a function of all entries of A this has the derivative that the rule states. What reads the
    lower triangle alone, as NumPy does, binds the primitive itself.
    """
    return bind_primitive(primitive, (hermitian_part(*operands),), params)


cholesky.call = _of_hermitian_part
