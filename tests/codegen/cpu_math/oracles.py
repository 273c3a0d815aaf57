"""Exact values of the functions of the math library, by NumPy's extended precision and by mpmath.

`ORACLES` gives each function its number of operands and two independent references: `extended`, on
arrays of longdouble, for many points, and `digits`, on mpmath numbers, for few. mpmath's functions
are asked only at finite points within the domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from tests.codegen.cpu_math.harness import random_points, special_points


@dataclass(frozen=True, slots=True)
class Oracle:
    """How many operands a function has, and its references."""

    count: int
    extended: Callable[..., Any]
    digits: Callable[..., Any]


def _logistic(x: Any) -> Any:
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


def _logistic_derivative(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def _logaddexp(x: Any, y: Any) -> Any:
    return max(x, y) + mpmath.log1p(mpmath.exp(-abs(x - y)))


def _cbrt(x: Any) -> Any:
    return mpmath.sign(x) * mpmath.cbrt(abs(x))


ORACLES: dict[str, Oracle] = {
    "exp": Oracle(1, np.exp, mpmath.exp),
    "exp2": Oracle(1, np.exp2, lambda x: mpmath.mpf(2) ** x),
    "expm1": Oracle(1, np.expm1, mpmath.expm1),
    "log": Oracle(1, np.log, mpmath.log),
    "log2": Oracle(1, np.log2, lambda x: mpmath.log(x, 2)),
    "log10": Oracle(1, np.log10, mpmath.log10),
    "log1p": Oracle(1, np.log1p, mpmath.log1p),
    "logistic": Oracle(1, _logistic, lambda x: 1 / (1 + mpmath.exp(-x))),
    "tanh": Oracle(1, np.tanh, mpmath.tanh),
    "sinh": Oracle(1, np.sinh, mpmath.sinh),
    "cosh": Oracle(1, np.cosh, mpmath.cosh),
    "asinh": Oracle(1, np.arcsinh, mpmath.asinh),
    "acosh": Oracle(1, np.arccosh, mpmath.acosh),
    "atanh": Oracle(1, np.arctanh, mpmath.atanh),
    "tanh_derivative": Oracle(1, lambda x: 1 / np.cosh(x) ** 2, lambda x: mpmath.sech(x) ** 2),
    "logistic_derivative": Oracle(1, _logistic_derivative, lambda x: 1 / (2 + 2 * mpmath.cosh(x))),
    "sqrt": Oracle(1, np.sqrt, mpmath.sqrt),
    "rsqrt": Oracle(1, lambda x: 1 / np.sqrt(x), lambda x: 1 / mpmath.sqrt(x)),
    "cbrt": Oracle(1, np.cbrt, _cbrt),
    "pow": Oracle(2, np.power, mpmath.power),
    "hypot": Oracle(2, np.hypot, mpmath.hypot),
    "logaddexp": Oracle(2, np.logaddexp, _logaddexp),
}


def unit_floor(name: str, operands: tuple[np.ndarray, ...], exact: Any) -> np.ndarray | None:
    """Return the size whose last place is the least unit of error, where the result's is not it.

    logaddexp is a sum, whose terms cancel near 0: its error is counted in units of the larger term.
    """
    if name != "logaddexp":
        return None
    larger = np.maximum(*operands)
    added = (exact - larger).astype(larger.dtype)
    return np.where(np.isfinite(added), np.maximum(np.abs(larger), np.abs(added)), larger)


def points(name: str, dtype: str, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return operands for `name`: every special point (every pair of them) and `count` random ones.

    For pow, further `count` pairs whose result is a finite number of any size.
    """
    special = special_points(dtype)
    if ORACLES[name].count == 1:
        return (np.concatenate([special, random_points(dtype, count, seed)]),)
    pairs = [
        np.concatenate([part.ravel(), random_points(dtype, count, seed + k + 1)])
        for k, part in enumerate(np.meshgrid(special, special))
    ]
    if name == "pow":
        random = np.random.default_rng(seed)
        widest = np.log(float(np.finfo(dtype).max))
        base = np.exp(random.uniform(-0.9 * widest, 0.9 * widest, count)).astype(dtype)
        exponent = random.uniform(-1.05, 1, count) * widest / np.log(base.astype(np.float64))
        pairs = [
            np.concatenate([pair, more.astype(dtype)])
            for pair, more in zip(pairs, (base, exponent), strict=True)
        ]
    return tuple(pairs)
