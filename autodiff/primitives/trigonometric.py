"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.ir.primitive import Samples
from autodiff.primitives.arithmetic import guarded_multiply, hypot, negative, real, where
from autodiff.primitives.exponential import exp, sqrt
from autodiff.primitives.families import elementwise
from autodiff.primitives.lowering import kernel_math

_CIRCLE = Samples(span=(-6.0, 6.0), points=(-0.0, 0.0, 1e-8, 0.5, np.pi, 1e5, np.inf, np.nan))
_UNIT = Samples(span=(-0.95, 0.95), points=(-1.0, -0.0, 0.0, 1e-8, 1.0, 2.0, np.nan))
_HYPERBOLIC = Samples(span=(-3.0, 3.0), points=(-0.0, 0.0, 1e-8, 20.0, 88.0, np.inf, np.nan))

sin = elementwise(
    "sin",
    np.sin,
    odd=True,
    doc="Sine; x in radians.",
    jvp=lambda t, out, x: t * cos(x),
    samples=_CIRCLE,
    lower=kernel_math("sin"),
)
cos = elementwise(
    "cos",
    np.cos,
    even=True,
    doc="Cosine; x in radians.",
    jvp=lambda t, out, x: t * negative(sin(x)),
    samples=_CIRCLE,
    lower=kernel_math("cos"),
)
tan = elementwise(
    "tan",
    np.tan,
    odd=True,
    doc="Tangent; x in radians.",
    jvp=lambda t, out, x: t * (1 + out * out),
    samples=Samples(span=(-1.4, 1.4), points=(-0.0, 0.0, 1e-8, 0.5)),
    lower=kernel_math("tan"),
)
arcsin = elementwise(
    "arcsin",
    np.arcsin,
    odd=True,
    doc="Inverse sine, in radians.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / sqrt((1 - x) * (1 + x))),
    numpy=(np.arcsin, np.asin),
    samples=_UNIT,
    lower=kernel_math("asin"),
)
arccos = elementwise(
    "arccos",
    np.arccos,
    doc="Inverse cosine, in radians.",
    jvp=lambda t, out, x: guarded_multiply(t, -1 / sqrt((1 - x) * (1 + x))),
    numpy=(np.arccos, np.acos),
    samples=_UNIT,
    lower=kernel_math("acos"),
)
arctan = elementwise(
    "arctan",
    np.arctan,
    odd=True,
    doc="Inverse tangent, in radians.",
    jvp=lambda t, out, x: t / (1 + x * x),
    numpy=(np.arctan, np.atan),
    samples=_HYPERBOLIC,
    lower=kernel_math("atan"),
)


def _arctan2_factor(numerator: Any, x: Any, y: Any) -> Any:
    """numerator / (x**2 + y**2), scaled so that the squares do not overflow; 0 at the origin."""
    radius = hypot(x, y)
    at_origin = radius == 0
    safe = where(at_origin, radius.dtype.type(1), radius)
    return where(at_origin, radius.dtype.type(0), (numerator / safe) / safe)


arctan2 = elementwise(
    "arctan2",
    np.arctan2,
    doc="Angle of the point (y, x) given as arctan2(y, x), in radians; derivative 0 at the origin.",
    jvp=(
        lambda t, out, y, x: guarded_multiply(t, _arctan2_factor(x, x, y)),
        lambda t, out, y, x: guarded_multiply(t, negative(_arctan2_factor(y, x, y))),
    ),
    dtypes="biuf",
    numpy=(np.arctan2, np.atan2),
    samples=Samples(span=(0.2, 3.0), points=(-1.0, 0.5, 2.0)),
    lower=kernel_math("atan2"),
)
sinh = elementwise(
    "sinh",
    np.sinh,
    odd=True,
    doc="Hyperbolic sine.",
    jvp=lambda t, out, x: guarded_multiply(t, cosh(x)),
    samples=_HYPERBOLIC,
    lower=kernel_math("sinh"),
)
cosh = elementwise(
    "cosh",
    np.cosh,
    even=True,
    doc="Hyperbolic cosine.",
    jvp=lambda t, out, x: guarded_multiply(t, sinh(x)),
    samples=_HYPERBOLIC,
    lower=kernel_math("cosh"),
)


def _tanh_derivative(x: Any) -> Any:
    """1 - tanh(x)**2 as 4 e / (1 + e)**2 with e = exp(-2 |x|), which loses no digits."""
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    e = np.exp(-2 * np.abs(wide))
    return (4 * e / ((1 + e) * (1 + e))).astype(x.dtype)


tanh_derivative = elementwise(
    "tanh_derivative",
    _tanh_derivative,
    even=True,
    doc="1 - tanh(x)**2, exact to the last places where tanh(x) is almost 1.",
    jvp=lambda t, out, x: t * (out * tanh(x) * -2),
    promote=lambda operands: (operands, operands),
    dtypes="f",
    public=False,
    samples=_HYPERBOLIC,
    lower=kernel_math("tanh_derivative"),
)


def _slope_of_tanh(x: Any) -> Any:
    """The formula of `tanh_derivative`; it is even, so that for complex x either sign will do."""
    if x.dtype.kind != "c":
        return tanh_derivative(x)
    e = exp(2 * where(real(x) > 0, negative(x), x))
    return 4 * e / ((1 + e) * (1 + e))


tanh = elementwise(
    "tanh",
    np.tanh,
    odd=True,
    doc="Hyperbolic tangent.",
    jvp=lambda t, out, x: t * _slope_of_tanh(x),
    samples=_HYPERBOLIC,
    lower=kernel_math("tanh"),
)
arcsinh = elementwise(
    "arcsinh",
    np.arcsinh,
    odd=True,
    doc="Inverse hyperbolic sine.",
    jvp=lambda t, out, x: t / sqrt(x * x + 1),
    numpy=(np.arcsinh, np.asinh),
    samples=_HYPERBOLIC,
    lower=kernel_math("asinh"),
)
arccosh = elementwise(
    "arccosh",
    np.arccosh,
    doc="Inverse hyperbolic cosine.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / sqrt(x - 1) / sqrt(x + 1)),
    numpy=(np.arccosh, np.acosh),
    samples=Samples(span=(1.1, 4.0), points=(1.0, 2.0, np.inf)),
    lower=kernel_math("acosh"),
)
arctanh = elementwise(
    "arctanh",
    np.arctanh,
    odd=True,
    doc="Inverse hyperbolic tangent.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / ((1 - x) * (1 + x))),
    numpy=(np.arctanh, np.atanh),
    samples=_UNIT,
    lower=kernel_math("atanh"),
)

_PER_DEGREE = float(np.pi / 180)


def _lower_scaled(numerator: float, denominator: float) -> Any:
    """Return the rule of x times a quotient that is rounded in the type of x, as NumPy's is."""

    def rule(o: Any, x: Any) -> Any:
        wide = o.widened(x)
        number = wide.dtype.type
        factor = number(numerator) / number(denominator)
        return o.cast(o.multiply(wide, factor), x.dtype)

    return rule


deg2rad = elementwise(
    "deg2rad",
    np.deg2rad,
    doc="Degrees to radians.",
    jvp=lambda t, out, x: t * _PER_DEGREE,
    dtypes="biuf",
    numpy=(np.deg2rad, np.radians),
    samples=_CIRCLE,
    lower=_lower_scaled(np.pi, 180),
)
rad2deg = elementwise(
    "rad2deg",
    np.rad2deg,
    doc="Radians to degrees.",
    jvp=lambda t, out, x: t * (1 / _PER_DEGREE),
    dtypes="biuf",
    numpy=(np.rad2deg, np.degrees),
    samples=_CIRCLE,
    lower=_lower_scaled(180, np.pi),
)
