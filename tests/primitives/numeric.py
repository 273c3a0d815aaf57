"""Derivatives by differences, with an estimate of their own error.

The derivative of `f` at x in the direction t is taken as a real-linear map also where x is
complex: (f(x + h t) - f(x - h t)) / 2h for real h. That is f_z t + f_zbar conj(t), what `jvp`
returns, whether f is holomorphic or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.base import dtypes

#: With differences extrapolated from h, h/2 and h/4 the error is about h**6 + epsilon / h.
_STEP = 4e-3


def direction(random: np.random.Generator, like: Any) -> Any:
    """Return normally distributed numbers of an array's type and shape."""
    numbers = random.normal(size=like.shape)
    if dtypes.is_complex(like.dtype):
        numbers = numbers + 1j * random.normal(size=like.shape)
    return np.asarray(numbers).astype(like.dtype)


def derivative(
    function: Callable[..., Sequence[Any]], operands: Sequence[Any], tangents: Sequence[Any]
) -> list[tuple[Any, Any]]:
    """Return, per output, the derivative along `tangents` and a bound on its error, per element.

    Romberg's scheme on central differences; the bound is the change of the last extrapolation plus
    rounding. It is infinite where a difference is not finite and large where the function jumps.
    """

    def central(h: float) -> list[Any]:
        with np.errstate(all="ignore"):
            ahead = function(*[x + h * t for x, t in zip(operands, tangents, strict=True)])
            behind = function(*[x - h * t for x, t in zip(operands, tangents, strict=True)])
            return [
                (np.asarray(a) - np.asarray(b)) / (2 * h)
                for a, b in zip(ahead, behind, strict=True)
            ]

    with np.errstate(all="ignore"):
        values = function(*operands)
    results = []
    columns = zip(values, central(_STEP), central(_STEP / 2), central(_STEP / 4), strict=True)
    for value, *(first, second, third) in columns:
        with np.errstate(all="ignore"):
            coarse, fine = (4 * second - first) / 3, (4 * third - second) / 3
            best = (16 * fine - coarse) / 15
            rounding = 8 * np.finfo(np.asarray(value).dtype).eps * np.abs(value) / _STEP
            error = np.abs(fine - coarse) + rounding
        results.append((best, np.where(np.isfinite(error), error, np.inf)))
    return results


def pairing(cts: Sequence[Any], tangents: Sequence[Any]) -> float:
    """Return `Re(sum(ct * t))`, under which `J^T` is the transpose of `J`.

    J t = f_z t + f_zbar conj(t) and J^T ct = ct f_z + conj(ct) conj(f_zbar), so that
    Re(ct J t) = Re(ct f_z t) + Re(ct f_zbar conj(t)) = Re(ct f_z t) + Re(conj(ct f_zbar) t)
    = Re((J^T ct) t).
    """
    total = 0.0
    for ct, t in zip(cts, tangents, strict=True):
        total += float(np.sum(np.asarray(ct, complex) * np.asarray(t, complex)).real)
    return total
