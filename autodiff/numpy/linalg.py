"""`numpy.linalg` for traced values and plain arrays: the Cholesky factor and triangular systems."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import array_functions
from autodiff.numpy.dispatch import serving_both
from autodiff.numpy.operands import common_type, inexact, reshaped
from autodiff.primitives.arithmetic import conjugate
from autodiff.primitives.families import broadcast_to
from autodiff.primitives.linear_algebra import cholesky as _cholesky
from autodiff.primitives.linear_algebra import matrix_transpose, triangular_solve

__all__ = ["cholesky", "solve_triangular"]


def __getattr__(name: str) -> Any:
    """Return the function of `numpy.linalg` that other modules record under its name."""
    plain = getattr(np.linalg, name, None)
    definition = array_functions.get(plain) if callable(plain) else None
    if definition is None:
        raise AttributeError(f"autodiff.numpy.linalg has no function {name!r}.")
    return serving_both(definition, plain, name)


def _square(function: str, name: str, value: Any) -> Any:
    x = inexact(value)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError(
            message(
                function,
                f"{name} must be a square matrix, or a stack of them in its last two axes",
                f"{name} of shape {x.shape}",
                line=user_line(),
            )
        )
    return x


def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """Return the lower triangular L with L L' = a, or with `upper` the U with U' U = a.

    Args:
        a: Hermitian positive definite matrix of shape `(..., n, n)`. Only its lower triangle is
            read (its upper one with `upper`). The derivative is that with respect to the Hermitian
            part, so that entries (i, j) and (j, i) get the same share.
        upper: which factor to return.

    Returns:
        The factor, of the shape of `a`; integers are taken as float64.

    Raises:
        numpy.linalg.LinAlgError: `a` is not square, or (on the CPU) not positive definite.

    >>> cholesky(np.array([[4.0, 2.0], [2.0, 2.0]]))
    array([[2., 0.],
           [1., 1.]])
    """
    x = _square("cholesky", "a", a)
    if upper:
        x = conjugate(matrix_transpose(x))
    factor = bind_primitive(_cholesky, (x,), {})
    return conjugate(matrix_transpose(factor)) if upper else factor


_TRANSPOSITIONS = {
    0: (False, False),
    "N": (False, False),
    1: (True, False),
    "T": (True, False),
    2: (True, True),
    "C": (True, True),
}


def solve_triangular(
    a: Any,
    b: Any,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """Return x with op(a) x = b for a triangular `a`, as `scipy.linalg.solve_triangular` does.

    Args:
        a: matrix of shape `(..., n, n)`, of which one triangle is read.
        b: right-hand sides of shape `(..., n, k)`, or `(n,)` for one. Stacks broadcast.
        trans: op(a): 0 or "N" a itself, 1 or "T" its transpose, 2 or "C" the conjugate transpose.
        lower: whether the lower triangle is read.
        unit_diagonal: whether the diagonal is taken as ones and not read.
        overwrite_b: accepted for SciPy's sake; `b` is never written to.
        check_finite: whether to look for infinities and NaN in plain arrays, as SciPy does; a
            traced value is not looked at.

    Raises:
        ValueError: shapes do not fit, or `trans` is none of the above, or a number is not finite.
        numpy.linalg.LinAlgError: `a` is not square, or (on the CPU) its diagonal holds a zero.

    >>> solve_triangular(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([2.0, 3.0]), lower=True)
    array([1., 2.])
    """
    if trans not in _TRANSPOSITIONS:
        raise ValueError(
            message(
                "solve_triangular",
                "trans must be one of 0, 1, 2, 'N', 'T', 'C'",
                f"trans={trans!r}",
                line=user_line(),
            )
        )
    x = _square("solve_triangular", "a", a)
    sides = inexact(b)
    one = sides.ndim == 1
    if (sides.shape[-1:] if one else sides.shape[-2:-1]) != x.shape[-1:]:
        raise ValueError(
            message(
                "solve_triangular",
                "a and b must have equally many rows",
                f"a of shape {x.shape} and b of shape {sides.shape}",
                line=user_line(),
            )
        )
    if check_finite:
        _refuse_infinities(x, sides)
    x, sides = common_type(x, sides)
    sides = reshaped(sides, (*sides.shape, 1)) if one else sides
    stack = np.broadcast_shapes(x.shape[:-2], sides.shape[:-2])
    x = broadcast_to(x, (*stack, *x.shape[-2:]))
    sides = broadcast_to(sides, (*stack, *sides.shape[-2:]))
    transposed, conjugated = _TRANSPOSITIONS[trans]
    params = {
        "left_side": True,
        "lower": bool(lower),
        "transpose_a": transposed,
        "conjugate_a": conjugated,
        "unit_diagonal": bool(unit_diagonal),
    }
    result = bind_primitive(triangular_solve, (x, sides), params)
    return reshaped(result, result.shape[:-1]) if one else result


def _refuse_infinities(*operands: Any) -> None:
    """Raise as SciPy does if a plain array holds a number that is not finite."""
    for x in operands:
        if isinstance(x, np.ndarray) and not np.isfinite(x).all():
            raise ValueError(
                message(
                    "solve_triangular",
                    "all numbers must be finite",
                    "an infinity or NaN",
                    line=user_line(),
                    fix="pass check_finite=False to have them computed with.",
                )
            )


array_functions[np.linalg.cholesky] = cholesky
