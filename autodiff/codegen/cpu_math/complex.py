"""Functions of complex numbers, as pairs (real part, imaginary part) of `Value`s.

`COMPLEX_FUNCTIONS` has each by name; `f(builder, re, im) -> (re, im)`. They are built from the real
functions of the library by formulas in which nothing cancels, so each part has few ulp of its own:
at most 2.5 (sqrt, log), 3 (exp), 4.5 (sin, cos) or 7 (tanh). Zeros, infinities and NaN are NumPy's,
which are those of ISO C, annex G. Other functions are made of these (codegen/complex_functions.py).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from autodiff.codegen.scalar_types import Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder

Pair = tuple[Value, Value]

#: Every function of complex numbers by its name.
COMPLEX_FUNCTIONS: dict[str, Callable[..., Pair]] = {}


def _complex_function(name: str) -> Callable[[Callable[..., Pair]], Callable[..., Pair]]:
    """Return the decorator that adds a function, its operations never fused by `contract`."""

    def declare(function: Callable[..., Pair]) -> Callable[..., Pair]:
        @functools.wraps(function)
        def emit(b: VectorBuilder, *values: Value) -> Pair:
            contract, b.contract = b.contract, False
            try:
                return function(b, *values)
            finally:
                b.contract = contract

        COMPLEX_FUNCTIONS[name] = emit
        return emit

    return declare


class _Masks:
    """Masks of zero, infinite and not finite numbers of one type."""

    def __init__(self, b: VectorBuilder, x: Value) -> None:
        size, infinity = b.fabs(x), b.const(np.inf, x.type)
        self.zero = b.fcmp("oeq", x, b.const(0.0, x.type))
        self.infinite = b.fcmp("oeq", size, infinity)
        self.strange = b.fcmp("uge", size, infinity)


def _halved_exponential(b: VectorBuilder, x: Value) -> tuple[Value, Callable[[Value], Value]]:
    """Return e and a function that multiplies by exp(x) with e = exp(x), or exp(x/2) where large.

    So a product with a small number is finite although exp(x) alone would overflow.
    """
    large = b.fcmp("ogt", x, b.const(math.log(np.finfo(_dtype(x)).max) - 1.0, x.type))
    e = b.call("exp", b.select(large, b.fmul(x, b.const(0.5, x.type)), x))

    def times(y: Value) -> Value:
        once = b.fmul(y, e)
        return b.select(large, b.fmul(once, e), once)

    return e, times


def _dtype(x: Value) -> Any:
    return np.float32 if x.type.bits == 32 else np.float64


@_complex_function("exp")
def exp(b: VectorBuilder, x: Value, y: Value) -> Pair:
    """Return exp(x) (cos y + i sin y)."""
    zero, infinity = b.const(0.0, x.type), b.const(np.inf, x.type)
    _, times = _halved_exponential(b, x)
    of_y = _Masks(b, y)
    real = times(b.call("cos", y))
    imaginary = b.select(of_y.zero, y, times(b.call("sin", y)))
    # exp(inf) and exp(-inf) at an angle that does not exist: inf + i NaN, and 0.
    up = b.and_(b.fcmp("oeq", x, infinity), of_y.strange)
    down = b.and_(b.fcmp("oeq", x, b.const(-np.inf, x.type)), of_y.strange)
    real = b.select(down, zero, b.select(up, infinity, real))
    return real, b.select(down, b.copysign(zero, y), imaginary)


def _hyperbolic_parts(b: VectorBuilder, s: Value, c: Value, y: Value) -> Pair:
    """Return s cosh y and c sinh y, finite where they are although cosh y overflows."""
    size, half = b.fabs(y), b.const(0.5, y.type)
    large = b.fcmp("ogt", size, b.const(40.0, y.type))
    _, times = _halved_exponential(b, size)
    # Beyond 40 both are exp(|y|)/2 to the last place.
    cosh, sinh = b.call("cosh", y), b.call("sinh", y)
    first = b.select(large, times(b.fmul(s, half)), b.fmul(s, cosh))
    second = b.select(large, times(b.fmul(c, b.copysign(half, y))), b.fmul(c, sinh))
    return first, second


@_complex_function("sin")
def sin(b: VectorBuilder, x: Value, y: Value) -> Pair:
    """Return sin x cosh y + i cos x sinh y."""
    real, imaginary = _hyperbolic_parts(b, b.call("sin", x), b.call("cos", x), y)
    of_x, of_y = _Masks(b, x), _Masks(b, y)
    # At an angle that does not exist a zero imaginary part is kept, an infinite one is infinity.
    kept = b.and_(of_x.strange, of_y.zero)
    endless = b.and_(of_x.strange, of_y.infinite)
    imaginary = b.select(endless, b.const(np.inf, x.type), b.select(kept, y, imaginary))
    return b.select(of_x.zero, x, real), imaginary


@_complex_function("cos")
def cos(b: VectorBuilder, x: Value, y: Value) -> Pair:
    """Return cos x cosh y - i sin x sinh y."""
    real, imaginary = _hyperbolic_parts(b, b.call("cos", x), b.call("sin", x), y)
    zero, one = b.const(0.0, x.type), b.const(1.0, x.type)
    of_x, of_y = _Masks(b, x), _Masks(b, y)
    # Real and imaginary arguments have a real cosine: its zero imaginary part has C's sign.
    signed = b.select(b.fcmp("uno", y, y), x, b.fneg(b.fmul(x, b.copysign(one, y))))
    imaginary = b.select(of_x.zero, signed, b.fneg(imaginary))
    imaginary = b.select(b.and_(of_x.strange, of_y.zero), zero, imaginary)
    endless = b.and_(of_x.strange, of_y.infinite)
    return b.select(endless, b.const(np.inf, x.type), real), imaginary


@_complex_function("tanh")
def tanh(b: VectorBuilder, x: Value, y: Value) -> Pair:
    """Return (sinh x cosh x + i sin y cos y)/(sinh(x)**2 + cos(y)**2).

    The denominator is a sum of squares: nothing cancels. For |x| > 20 the value is
    sign x + 4 i sin y cos y exp(-2|x|) to the last place of each part.
    """
    type = x.type
    zero, one, limit = b.const(0.0, type), b.const(1.0, type), b.const(20.0, type)
    size = b.fabs(x)
    inside = b.fmin(size, limit)
    sinh, cosh = b.call("sinh", inside), b.call("cosh", inside)
    sine, cosine = b.call("sin", y), b.call("cos", y)
    denominator = b.muladd(sinh, sinh, b.fmul(cosine, cosine))
    product = b.fmul(sine, cosine)
    large = b.fcmp("ogt", size, limit)
    decay = b.call("exp", b.fmul(size, b.const(-2.0, type)))
    real = b.select(large, one, b.fdiv(b.fmul(sinh, cosh), denominator))
    far = b.fmul(b.fmul(product, b.const(4.0, type)), decay)
    imaginary = b.select(large, far, b.fdiv(product, denominator))
    of_x, of_y = _Masks(b, x), _Masks(b, y)
    endless = b.and_(of_x.infinite, of_y.strange)
    imaginary = b.select(endless, b.copysign(zero, y), imaginary)
    # NaN, but where the formula's limit is known: at infinite x above, and on the axes.
    strange = b.and_(of_y.strange, b.not_(b.or_(of_x.infinite, of_x.zero)))
    real = b.select(strange, b.const(np.nan, type), real)
    real = b.select(of_x.zero, zero, real)
    return b.copysign(real, x), b.select(of_y.zero, y, imaginary)


def _scaled(b: VectorBuilder, x: Value, y: Value) -> tuple[Value, Value, Value]:
    """Return x and y times one power of two that keeps squares in range, and minus its exponent."""
    type = x.type
    larger = b.fmax(b.fabs(x), b.fabs(y))
    third = type.bias // 3 // 2 * 2
    large, small = b.const(2.0**third, type), b.const(2.0**-third, type)
    above, below = b.fcmp("ogt", larger, large), b.fcmp("olt", larger, small)
    zero, shift = b.const(0.0, type), b.const(float(2 * third), type)
    factor = b.select(
        above,
        b.const(2.0 ** (-2 * third), type),
        b.select(below, b.const(2.0 ** (2 * third), type), b.const(1.0, type)),
    )
    exponent = b.select(above, shift, b.select(below, b.fneg(shift), zero))
    return b.fmul(x, factor), b.fmul(y, factor), exponent


@_complex_function("log")
def log(b: VectorBuilder, x: Value, y: Value) -> Pair:
    """Return log |z| + i arg z.

    Near |z| = 1 the real part is log1p(|z|**2 - 1)/2, the difference summed from exact products
    (Muller et al., Handbook of floating-point arithmetic, 2nd edition, 2018, section 4.4).
    """
    type = x.type
    one, half = b.const(1.0, type), b.const(0.5, type)
    size, size_i = b.fabs(x), b.fabs(y)
    larger, smaller = b.fmax(size, size_i), b.fmin(size_i, size)
    # `fmin` with the operands exchanged: where the larger is x the smaller is y.
    scaled, scaled_i, exponent = _scaled(b, larger, smaller)
    magnitude = b.call("hypot", scaled, scaled_i)
    ln2 = math.log(2)
    high = float(np.float32(ln2)) if type.bits == 32 else ln2
    shifted = b.muladd(exponent, b.const(high, type), b.call("log", magnitude))
    near = b.and_(
        b.fcmp("ogt", magnitude, b.const(0.5, type)), b.fcmp("olt", magnitude, b.const(2.0, type))
    )
    near = b.and_(near, b.fcmp("oeq", exponent, b.const(0.0, type)))
    inner = b.select(near, larger, one)
    inner_i = b.select(near, smaller, b.const(0.0, type))
    square, lost = b.two_product(inner, inner)
    square_i, lost_i = b.two_product(inner_i, inner_i)
    first, first_lost = b.two_sum(square, b.const(-1.0, type))
    total, total_lost = b.two_sum(first, square_i)
    # What the products lost may cancel what their sum is.
    rest, rest_lost = b.two_sum(lost, lost_i)
    total, lost = b.two_sum(total, rest)
    rest = b.fadd(lost, b.fadd(rest_lost, b.fadd(total_lost, first_lost)))
    close = b.fmul(half, b.call("log1p", b.fadd(total, rest)))
    real = b.select(near, close, shifted)
    infinite = b.or_(_Masks(b, x).infinite, _Masks(b, y).infinite)
    real = b.select(infinite, b.const(np.inf, type), real)
    return real, b.call("atan2", y, x)


@_complex_function("sqrt")
def sqrt(b: VectorBuilder, x: Value, y: Value) -> Pair:
    """Return the square root with a real part not below zero.

    t = sqrt((|x| + |z|)/2): t + i y/(2t) for x >= 0, else |y|/(2t) + i t with the sign of y (Kahan,
    Branch cuts for complex elementary functions, 1987). t is scaled by an even power of two.
    """
    type = x.type
    zero, half, infinity = b.const(0.0, type), b.const(0.5, type), b.const(np.inf, type)
    scaled, scaled_i, exponent = _scaled(b, x, y)
    size = b.fabs(scaled)
    t = b.sqrt(b.fmul(half, b.fadd(size, b.call("hypot", scaled, scaled_i))))
    t = b.scale_by_power(t, b.fmul(exponent, half))
    other = b.fdiv(b.fabs(y), b.fadd(t, t))
    of_x, of_y = _Masks(b, x), _Masks(b, y)
    other = b.select(b.and_(of_x.zero, of_y.zero), zero, other)
    # An infinite x, with y finite or NaN: the other part is 0 or NaN.
    beside = b.select(of_y.strange, b.const(np.nan, type), zero)
    t = b.select(of_x.infinite, infinity, t)
    other = b.select(of_x.infinite, beside, other)
    left = b.fcmp("olt", x, zero)
    real, imaginary = b.select(left, other, t), b.select(left, t, other)
    real = b.select(of_y.infinite, infinity, real)
    imaginary = b.select(of_y.infinite, infinity, imaginary)
    return real, b.copysign(imaginary, y)
