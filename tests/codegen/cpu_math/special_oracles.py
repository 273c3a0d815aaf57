"""Exact values of the trigonometric functions, error functions and gamma functions.

`points_and_exact` gives operands and longdoubles: NumPy's extended precision for the trigonometric
functions and their inverses, mpmath's digits for the others. `EDGES` has the values that no formula
gives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

from tests.codegen.cpu_math.harness import random_points, special_points

_PI = np.longdouble("3.14159265358979323846264338327950288")
_INF, _NAN = float("inf"), float("nan")

#: By numbers of operands 1, but for atan2.
EXTENDED: dict[str, Callable[..., Any]] = {
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
}


def _sinc(x: Any) -> Any:
    """sin(pi x)/(pi x) of the nearest integer's distance, which mpmath's sinpi takes too."""
    return mpf(1) if x == 0 else mpmath.sinpi(x) / (mp.pi * x)


def _erfinv(x: Any) -> Any:
    """The root by Newton's method, on erfc where x is close to 1."""
    if abs(x) > 1:
        return _NAN
    if abs(x) == 1:
        return mpmath.inf * x
    size = abs(x)
    with mp.workdps(45 if size < 1e-30 else 60):
        if size < 1e-30:
            return x * mpmath.sqrt(mp.pi) / 2
        y = mpf(size) * mpmath.sqrt(mp.pi) / 2
        if size > 0.5:
            y = mpmath.sqrt(-mpmath.log(1 - size)) * mpf("0.9")
        for _ in range(60):
            lacking = (mpmath.erfc(y) - (1 - size)) if size > 0.5 else size - mpmath.erf(y)
            step = lacking * mpmath.sqrt(mp.pi) / 2 * mpmath.exp(y * y)
            # From above the root Newton's method overshoots: halve long steps.
            y += max(min(step, mpf("0.3")), mpf("-0.3"))
            if abs(step) < mpf(10) ** -32 * y:
                break
        return mpmath.sign(x) * y


def _log_gamma(x: Any) -> Any:
    if x > 0:
        return mpmath.loggamma(x)
    if x == mpmath.floor(x):
        return mpmath.inf
    return mpmath.log(mp.pi / abs(x * mpmath.sinpi(x))) - mpmath.loggamma(-x)


def _digamma(x: Any) -> Any:
    if x > 0:
        return mpmath.digamma(x)
    if x == mpmath.floor(x):
        return _NAN
    return mpmath.digamma(1 - x) - mp.pi * mpmath.cospi(x) / mpmath.sinpi(x)


DIGITS: dict[str, Callable[[Any], Any]] = {
    "sinc": _sinc,
    "erf": mpmath.erf,
    "erfc": lambda x: mpmath.erfc(min(max(x, mpf(-100)), mpf(100))),
    "ndtr": lambda x: mpmath.erfc(min(max(-x, mpf(-100)), mpf(100)) / mpmath.sqrt(2)) / 2,
    "gaussian": lambda x: mpmath.exp(-x * x),
    "half_gaussian": lambda x: mpmath.exp(-x * x / 2),
    "erfinv": _erfinv,
    "lgamma": _log_gamma,
    "digamma": _digamma,
}

#: NumPy's and SciPy's values at infinities and zeros, where they are not the formula's.
EDGES: dict[str, dict[str, float]] = {
    "sinc": {"inf": _NAN, "-inf": _NAN},
    "erf": {"inf": 1, "-inf": -1, "-0.0": -0.0},
    "erfc": {"inf": 0, "-inf": 2},
    "ndtr": {"inf": 1, "-inf": 0},
    "gaussian": {"inf": 0, "-inf": 0},
    "half_gaussian": {"inf": 0, "-inf": 0},
    "erfinv": {"inf": _NAN, "-inf": _NAN, "-0.0": -0.0},
    "lgamma": {"inf": _INF, "-inf": -_INF, "0.0": _INF, "-0.0": _INF},
    "digamma": {"inf": _INF, "-inf": _NAN, "0.0": -_INF, "-0.0": _INF},
}

NAMES = (*EXTENDED, *DIGITS)


def count(name: str) -> int:
    """Return how many operands the function has."""
    return 2 if name == "atan2" else 1


def longdouble(number: Any) -> np.longdouble:
    """Return an mpmath number rounded to the 64 bits of a longdouble."""
    if not mpmath.isfinite(number) or abs(number) < mpf(2) ** -16000:
        return np.longdouble(float(number))
    mantissa, exponent = mpmath.frexp(number)
    high: Any = mpmath.floor(mantissa * 2**32)
    low: Any = mpmath.nint((mantissa * 2**32 - high) * 2**32)
    return np.ldexp(np.longdouble(int(high)) * 2**32 + np.longdouble(int(low)), int(exponent) - 64)


def by_digits(name: str, x: float) -> np.longdouble:
    edge = EDGES[name].get(str(x))
    if edge is not None or np.isnan(x):
        return np.longdouble(_NAN if edge is None else edge)
    with mp.workdps(45):
        return longdouble(mpmath.mpmathify(DIGITS[name](mpf(x))))


@functools.cache
def points_and_exact(name: str, dtype: str, number: int) -> tuple[tuple[np.ndarray, ...], Any]:
    """Return operands, special ones and about `number` random ones, and the exact results."""
    operands = points(name, dtype, number)
    if name in EXTENDED:
        with np.errstate(all="ignore"):
            return operands, EXTENDED[name](*(x.astype(np.longdouble) for x in operands))
    return operands, np.array([by_digits(name, float(x)) for x in operands[0]], np.longdouble)


def points(name: str, dtype: str, number: int) -> tuple[np.ndarray, ...]:
    """Return every special point (every pair of them for atan2) and random ones."""
    special = special_points(dtype)
    if count(name) == 2:
        pairs = np.meshgrid(special, special)
        return tuple(
            np.concatenate([part.ravel(), random_points(dtype, number, seed)])
            for seed, part in enumerate(pairs)
        )
    random = np.random.default_rng(1)
    part = number // 4
    inside = {
        # Close to multiples of pi/2, and up to where the C library takes over.
        "sin": random.integers(0, 30000, part) * (np.pi / 2),
        "asin": random.uniform(0.3, 1, part),
        "erfc": random.uniform(0, 27, part),
        "ndtr": random.uniform(-38.5, 3, part),
        "gaussian": random.uniform(0, 27, part),
        "half_gaussian": random.uniform(0, 39, part),
        "erfinv": 1 - 10.0 ** random.uniform(-16, 0, part),
        "lgamma": np.concatenate(
            [random.uniform(0.9, 2.6, part // 2), random.uniform(2, 12, part // 2)]
        ),
    }
    inside |= {"cos": inside["sin"], "tan": inside["sin"], "acos": -inside["asin"]}
    inside |= {"digamma": inside["lgamma"], "sinc": random.uniform(-20, 20, part)}
    more = inside.get(name, random.uniform(0, 6, part)).astype(dtype)
    found = np.concatenate([special, random_points(dtype, number, seed=3), more])
    if name in ("lgamma", "digamma"):
        # Negative arguments have a test of their own, and so do numbers mpmath is slow for.
        found = found[~(found < 0) & ~(found > 1e30)]
        found = np.concatenate([found, np.array([-0.0, -np.inf, np.inf, -1, -2, -3], dtype)])
    elif name in ("asin", "acos", "erfinv"):
        found = np.concatenate([found, random.uniform(-1, 1, part).astype(dtype)])
    return (found,)
