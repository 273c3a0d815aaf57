"""Functions of complex numbers made of real ones and of a few complex ones.

`COMPLEX_FORMULAS` has each by name; `f(o, x, y) -> (real, imag)` of x + i y, with `o` the
operations on real numbers of any backend. The complex functions they use are the backend's own
(`o.complex_math`). Zeros, infinities and NaN are NumPy's.

exp2, log2, log10, expm1 and log1p are NumPy's own formulas, with what these lose: log1p is not
exact near 0. In the others nothing cancels, so that each part has few ulp of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Parts = tuple[Any, Any]

#: Every function by the name that its real namesake has in the math library.
COMPLEX_FORMULAS: dict[str, Callable[..., Parts]] = {}


def _formula(name: str) -> Callable[[Callable[..., Parts]], Callable[..., Parts]]:
    """Return the decorator that adds a function, each of its operations rounded by itself."""

    def declare(function: Callable[..., Parts]) -> Callable[..., Parts]:
        def exact(o: Any, x: Any, y: Any) -> Parts:
            with o.exactly():
                return function(o, x, y)

        COMPLEX_FORMULAS[name] = exact
        return exact

    return declare


# ---- exponentials and logarithms: npy_cexp's kin in numpy/_core/src/umath/funcs.inc.src


@_formula("exp2")
def exp2(o: Any, x: Any, y: Any) -> Parts:
    """Return exp(z log 2)."""
    factor = math.log(2)
    return o.complex_math("exp", o.multiply(x, factor), o.multiply(y, factor))


def _logarithm(factor: float) -> Callable[..., Parts]:
    def function(o: Any, x: Any, y: Any) -> Parts:
        real, imag = o.complex_math("log", x, y)
        return o.multiply(real, factor), o.multiply(imag, factor)

    return function


_formula("log2")(_logarithm(math.log2(math.e)))
_formula("log10")(_logarithm(math.log10(math.e)))


@_formula("expm1")
def expm1(o: Any, x: Any, y: Any) -> Parts:
    """Return expm1(x) cos y - 2 sin(y / 2)**2 + i exp(x) sin y."""
    half = o.math("sin", o.multiply(y, 0.5))
    grown = o.multiply(o.math("expm1", x), o.math("cos", y))
    real = o.subtract(grown, o.multiply(o.multiply(half, 2), half))
    return real, o.multiply(o.math("exp", x), o.math("sin", y))


@_formula("log1p")
def log1p(o: Any, x: Any, y: Any) -> Parts:
    """Return log |1 + z| + i arg(1 + z)."""
    above = o.add(x, 1)
    return o.math("log", o.math("hypot", above, y)), o.math("atan2", y, above)


# ---- functions that are others of a number turned by a right angle


@_formula("tan")
def tan(o: Any, x: Any, y: Any) -> Parts:
    """Return -i tanh(i z)."""
    real, imag = o.complex_math("tanh", o.negative(y), x)
    return imag, o.negative(real)


@_formula("sinh")
def sinh(o: Any, x: Any, y: Any) -> Parts:
    """Return what sin has at y + i x, its parts exchanged."""
    real, imag = o.complex_math("sin", y, x)
    return imag, real


@_formula("cosh")
def cosh(o: Any, x: Any, y: Any) -> Parts:
    """Return cos(i z); of NaN + i 0 with the sign of its imaginary part as NumPy's."""
    real, imag = o.complex_math("cos", o.negative(y), x)
    kept = o.logical_and(o.isnan(x), o.equal(y, 0))
    return real, o.where(kept, y, imag)


@_formula("asinh")
def asinh(o: Any, x: Any, y: Any) -> Parts:
    """Return what asin has at y + i x, its parts exchanged."""
    real, imag = asin(o, y, x)
    return imag, real


@_formula("atan")
def atan(o: Any, x: Any, y: Any) -> Parts:
    """Return what atanh has at y + i x, its parts exchanged."""
    real, imag = atanh(o, y, x)
    return imag, real


# ---- inverse functions

#: Bits of the fraction, the implicit one included, and the exponent from which on it is infinite.
_FORMATS = {np.dtype(np.float32): (24, 128), np.dtype(np.float64): (53, 1024)}


def _in_first_quadrant(o: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Return t and v, for u = |x| + i |y|, with Re asin u = atan2(|x|, t) and Im asin u = v.

    With r = |u + 1|, s = |u - 1| and a = (r + s) / 2: v = log(a + sqrt(a**2 - 1)), and t is
    sqrt((a + |x|) (a - |x|)). a - 1 and a - |x| are sums of positive terms, of which there are two
    forms, for |x| up to 1 and beyond. A number too large to be squared is not distinguished from u
    +- 1: t = |y| and v = log(2 |u|).

    Source: Hull, Fairgrieve and Tang, Implementing the complex arcsine and arccosine functions
    using exception handling, ACM TOMS 23, 1997, equations (2.7) to (2.11).
    """
    digits, _ = _FORMATS[x.dtype]
    x, y = o.absolute(x), o.absolute(y)
    inside = o.less_equal(x, 1)
    beyond = o.subtract(x, 1)
    r, s = o.math("hypot", o.add(x, 1), y), o.math("hypot", beyond, y)
    a = o.multiply(o.add(r, s), 0.5)
    first = o.add(o.add(r, x), 1)
    second = o.add(s, o.absolute(beyond))  # 0 only at 1, where the first form is not divided by it
    total = o.add(a, x)
    square = o.multiply(y, y)
    near = o.multiply(o.multiply(total, 0.5), o.add(o.divide(square, first), second))
    far = o.multiply(o.add(o.divide(total, first), o.divide(total, second)), 0.5)
    t = o.where(inside, o.sqrt(near), o.multiply(y, o.sqrt(far)))
    # a - 1, and the square root of (a - 1) (a + 1): y is taken out of the root where it may be tiny
    terms = o.multiply(o.add(o.divide(1, first), o.divide(1, second)), 0.5)
    below = o.less(x, 1)
    excess = o.multiply(o.add(o.divide(square, first), second), 0.5)
    excess = o.where(below, o.multiply(o.multiply(y, terms), y), excess)
    excess = o.where(o.less(a, 1.5), excess, o.subtract(a, 1))
    above = o.add(a, 1)
    root = o.sqrt(o.multiply(excess, above))
    small = o.multiply(y, o.sqrt(o.multiply(terms, above)))
    root = o.where(o.logical_and(below, o.less(a, 1.5)), small, root)
    # log1p(w - 1) is log w for the large ones too, taken down by a power of two
    limit, steps = 2.0 ** (digits // 2 + 2), digits // 3
    large = o.logical_or(o.greater(x, limit), o.greater(y, limit))
    down = 2.0**-steps
    size = o.math("hypot", o.multiply(x, down), o.multiply(y, down))
    v = o.math("log1p", o.where(large, o.subtract(size, 1), o.add(excess, root)))
    v = o.where(large, o.add(v, (steps + 1) * math.log(2)), v)
    return o.where(large, y, t), v


@_formula("asin")
def asin(o: Any, x: Any, y: Any) -> Parts:
    """Return the inverse sine, its real part between -pi/2 and pi/2."""
    t, v = _in_first_quadrant(o, x, y)
    real = o.math("atan2", x, t)
    kept = o.logical_and(o.equal(x, 0), o.isnan(y))
    return o.where(kept, x, real), o.copysign(v, y)


@_formula("acos")
def acos(o: Any, x: Any, y: Any) -> Parts:
    """Return the inverse cosine, its real part between 0 and pi."""
    t, v = _in_first_quadrant(o, x, y)
    real = o.math("atan2", t, x)
    on_axis = o.logical_and(o.equal(x, 0), o.isnan(y))
    return o.where(on_axis, np.pi / 2, real), o.negative(o.copysign(v, y))


@_formula("acosh")
def acosh(o: Any, x: Any, y: Any) -> Parts:
    """Return the inverse hyperbolic cosine with a real part not below 0: acos turned."""
    real, imag = acos(o, x, y)
    return o.absolute(imag), o.copysign(real, y)


@_formula("atanh")
def atanh(o: Any, x: Any, y: Any) -> Parts:
    """Return log1p(4 x / d**2) / 4 + i atan2(2 y, (1 - x) (1 + x) - y**2) / 2, d = |1 - z|.

    For x >= 0; it is odd. Close to 1 the logarithm is log(2 / d) / 2. Of a number too large to be
    squared the real part is that of 1 / z, and the imaginary part pi / 2.
    """
    digits, bias = _FORMATS[x.dtype]
    size, size_i = o.absolute(x), o.absolute(y)
    rest = o.subtract(1, size)
    d = o.math("hypot", rest, y)
    shift = bias // 4
    close = o.less(d, 2.0**-shift)
    grown = o.divide(o.divide(o.multiply(size, 4), d), d)
    # log(2 / d) = log w + shift log 2 with w from 2 up, which does not overflow
    w = o.divide(2.0 ** (1 - shift), d)
    logarithm = o.math("log1p", o.where(close, o.subtract(w, 1), grown))
    real = o.multiply(logarithm, 0.25)
    real = o.where(close, o.multiply(o.add(logarithm, shift * math.log(2)), 0.5), real)
    cross = o.subtract(o.multiply(rest, o.add(size, 1)), o.multiply(y, y))
    imag = o.multiply(o.math("atan2", o.add(y, y), cross), 0.5)
    limit = 2.0 ** (digits + 2)
    large = o.logical_or(o.greater(size, limit), o.greater(size_i, limit))
    whole = o.math("hypot", x, y)
    real = o.where(large, o.divide(o.divide(size, whole), whole), real)
    imag = o.where(large, o.copysign(np.pi / 2, y), imag)
    # An infinite part makes the real part 0 whatever the other is, as a real part 0 stays; the
    # imaginary part is unknown if either part is, unless it is infinite.
    vanishes = o.logical_or(o.logical_or(o.isinf(x), o.isinf(y)), o.equal(x, 0))
    real = o.where(vanishes, 0, real)
    unknown = o.logical_and(o.isnan(x), o.logical_not(o.isinf(y)))
    imag = o.where(o.logical_or(unknown, o.isnan(y)), np.nan, imag)
    return o.copysign(real, x), imag
