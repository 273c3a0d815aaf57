"""Special functions: error functions, the gamma family, logistic, x log y, Bessel I.

The reference implementations are SciPy's, loaded on first use (`special`); where a derivative would
lose digits in a tail, it has an operation of its own (`gaussian`, `logistic_derivative`) instead of
a formula in others. Functions with a removable singularity are in removable_singularities.py.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from math import factorial, sqrt
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.array_modules import common_module
from autodiff.ir.avals import PYTHON_SCALARS
from autodiff.ir.primitive import Samples
from autodiff.primitives.arithmetic import guarded_multiply, negative, where
from autodiff.primitives.exponential import log, log1p
from autodiff.primitives.families import REAL, elementwise
from autodiff.primitives.lowering import kernel_math
from autodiff.primitives.trigonometric import tanh

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_SQRT_PI, _SQRT_2, _SQRT_TWO_PI = sqrt(np.pi), sqrt(2.0), sqrt(2.0 * np.pi)


# --------------------------------------------------------------------- SciPy's functions, on demand


@cache
def _loaded(module: str, name: str) -> Any:
    """Return a special function for the arrays of `module`.

    SciPy's cover NumPy's arrays. An accelerator's array module `m` brings its own in the package
    `mx.scipy.special`, as CuPy does; it is named by that rule since this layer knows no device.
    """
    package = "scipy" if module == "numpy" else f"{module}x.scipy"
    return getattr(import_module(f"{package}.special"), name)


def _float_type_of(operands: Any) -> np.dtype:
    """Return SciPy's type for real operands: integers to 16 bits are float32, others float64."""
    kinds = [x if isinstance(x, np.dtype) or type(x) is type else x.dtype for x in operands]
    common = np.result_type(*[k if isinstance(k, np.dtype) else k(0) for k in kinds])
    if dtypes.is_complex(common):
        raise TypeError("the operands must be real")
    if dtypes.is_inexact(common):
        return common
    return _SINGLE if common.itemsize <= 2 else _DOUBLE


def float_type(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Promotion of SciPy's real functions: one floating type for all operands and the result."""
    common = _float_type_of(operands)
    return (common,) * len(operands), (common,)


def _prepared(operands: tuple[Any, ...]) -> tuple[list[Any], np.dtype]:
    """Return operands in the type to compute in (float32 for 16 bits), and the result's type."""
    kinds = tuple(type(x) if type(x) in PYTHON_SCALARS else x.dtype for x in operands)
    dtype = _float_type_of(kinds)
    working = _SINGLE if dtype.itemsize < 4 else dtype
    prepared = [
        working.type(x) if type(x) in PYTHON_SCALARS else x.astype(working) for x in operands
    ]
    return prepared, dtype


def special(name: str, *operands: Any) -> Any:
    """Return SciPy's function `name` of real operands, in their common floating type.

    float16 and bfloat16 are computed in float32. SciPy is imported by the first call.
    """
    prepared, dtype = _prepared(operands)
    result = _loaded(common_module(operands).__name__, name)(*prepared)
    return result.astype(dtype)


# --------------------------------------------------------------------------------- error functions

_TAILS = Samples(span=(-3.0, 3.0), points=(-np.inf, -30.0, -6.0, -0.0, 0.0, 1e-30, 26.0, np.nan))


def _gaussian(x: Any, *, divisor: int) -> Any:
    """exp(-x**2 / divisor) with x = c + r, c a multiple of 1/16, so that c**2 is exact.

    x**2 = c**2 + r (x + c). Rounding x**2 itself would cost x**2 / 2 units in the last place. Both
    exponentials are those of numbers exact to half a unit: measured error below 3 ULP in float64
    and float32 wherever the result is normal. Beyond |x| = 64 the result is 0 in every type.
    """
    (x,), dtype = _prepared((x,))
    x = np.minimum(np.abs(x), 64)
    coarse = np.rint(x * 16) / 16
    fine = (x - coarse) * (x + coarse)
    return (np.exp(-coarse * coarse / divisor) * np.exp(-fine / divisor)).astype(dtype)


gaussian = elementwise(
    "gaussian",
    _gaussian,
    even=True,
    doc="exp(-x**2 / divisor), exact to the last places in the tails.",
    promote=float_type,
    # 0 where the exponential has vanished, at infinity too
    jvp=lambda t, out, x, *, divisor: guarded_multiply(
        t, guarded_multiply(out, x) * (-2 / divisor)
    ),
    dtypes=REAL,
    public=False,
    samples=Samples(
        span=(-6.0, 6.0), points=_TAILS.points, params=({"divisor": 1}, {"divisor": 2})
    ),
    ulp={"float32": 4, "float64": 4},
    lower=lambda o, x, *, divisor: o.math("gaussian" if divisor == 1 else "half_gaussian", x),
)

erf = elementwise(
    "erf",
    lambda x: special("erf", x),
    odd=True,
    doc="Error function, 2 / sqrt(pi) times the integral of exp(-u**2) from 0 to x.",
    promote=float_type,
    jvp=lambda t, out, x: t * (gaussian(x, divisor=1) * (2 / _SQRT_PI)),
    dtypes=REAL,
    public=False,
    samples=_TAILS,
    lower=kernel_math("erf"),
)

erfc = elementwise(
    "erfc",
    lambda x: special("erfc", x),
    doc="1 - erf(x), accurate where that is small.",
    promote=float_type,
    jvp=lambda t, out, x: t * (gaussian(x, divisor=1) * (-2 / _SQRT_PI)),
    dtypes=REAL,
    public=False,
    samples=_TAILS,
    # x**2 is rounded inside: x**2 / 2 units near the end of the range, 27**2 / 2 and 9**2 / 2
    ulp={"float32": 60, "float64": 400},
    lower=kernel_math("erfc"),
)

erfinv = elementwise(
    "erfinv",
    lambda x: special("erfinv", x),
    doc="The number whose error function is x; -1 and 1 give -inf and inf.",
    promote=float_type,
    # d erfinv(x) = 1 / erf'(erfinv(x))
    jvp=lambda t, out, x: guarded_multiply(t, (_SQRT_PI / 2) / gaussian(out, divisor=1)),
    dtypes=REAL,
    public=False,
    samples=Samples(span=(-0.99, 0.99), points=(-1.0, -0.5, -0.0, 0.0, 1e-30, 1.0, 2.0, np.nan)),
    lower=lambda o, x: o.math("erfinv", o.add(x, 0)),  # of -0.0 it is 0.0, as SciPy's
)

# ------------------------------------------------------------------ the normal distribution's tails


ndtr = elementwise(
    "ndtr",
    lambda x: special("ndtr", x),
    doc="Cumulative distribution function of the standard normal distribution.",
    promote=float_type,
    jvp=lambda t, out, x: t * (gaussian(x, divisor=2) * (1 / _SQRT_TWO_PI)),
    dtypes=REAL,
    public=False,
    samples=_TAILS,
    # SciPy's, as its erfc, of x / sqrt(2), whose rounding is stretched in the same way
    ulp={"float32": 200, "float64": 1600},
    lower=kernel_math("ndtr"),
)


def _inverse_mills_ratio(x: Any) -> Any:
    """phi(x) / Phi(x): for x <= 0 as sqrt(2/pi) / erfcx(-x/sqrt(2)), which never underflows.

    Phi(x) = exp(-x**2 / 2) erfcx(-x / sqrt(2)) / 2, Abramowitz and Stegun 1964, 7.1.2 and 26.2.29.
    """
    (x,), dtype = _prepared((x,))
    lower = np.minimum(x, 0)
    below = sqrt(2 / np.pi) / special("erfcx", lower * (-1 / _SQRT_2))
    upper = np.maximum(x, 0)
    above = _gaussian(upper, divisor=2) / (_SQRT_TWO_PI * special("ndtr", upper))
    return np.where(x < 0, below, above).astype(dtype)


inverse_mills_ratio = elementwise(
    "inverse_mills_ratio",
    _inverse_mills_ratio,
    doc="The standard normal density divided by its cumulative distribution function.",
    promote=float_type,
    # r = phi / Phi: r' = (-x phi) / Phi - phi**2 / Phi**2 = -r (x + r)
    jvp=lambda t, out, x: t * -guarded_multiply(out, x + out),
    dtypes=REAL,
    public=False,
    samples=Samples(span=(-6.0, 6.0), points=(-1e4, -30.0, -0.0, 0.0, 38.0, np.inf, np.nan)),
)

log_ndtr = elementwise(
    "log_ndtr",
    lambda x: special("log_ndtr", x),
    doc="Logarithm of the standard normal cumulative distribution function.",
    promote=float_type,
    jvp=lambda t, out, x: t * inverse_mills_ratio(x),
    dtypes=REAL,
    public=False,
    samples=Samples(span=(-6.0, 6.0), points=(-1e4, -30.0, -0.0, 0.0, 38.0, np.inf, np.nan)),
)

ndtri = elementwise(
    "ndtri",
    lambda x: special("ndtri", x),
    doc="The number below which the standard normal distribution has probability x.",
    promote=float_type,
    jvp=lambda t, out, x: guarded_multiply(t, _SQRT_TWO_PI / gaussian(out, divisor=2)),
    dtypes=REAL,
    public=False,
    samples=Samples(span=(0.01, 0.99), points=(-0.5, 0.0, 1e-30, 0.5, 1.0, 2.0, np.nan)),
)

# --------------------------------------------------------------------------------- the gamma family

_POSITIVE_AND_POLES = Samples(
    span=(0.1, 6.0), points=(-2.5, -1.0, -0.5, 0.0, 1.0, 2.0, 100.0, np.inf, np.nan)
)

gammaln = elementwise(
    "gammaln",
    lambda x: special("gammaln", x),
    doc="Logarithm of the absolute value of the gamma function.",
    promote=float_type,
    jvp=lambda t, out, x: guarded_multiply(t, digamma(x)),
    dtypes=REAL,
    public=False,
    samples=_POSITIVE_AND_POLES,
    # absolute rounding near the zeros at 1 and 2 and between the poles
    ulp={"float32": 16, "float64": 64},
    lower=kernel_math("lgamma"),
)

digamma = elementwise(
    "digamma",
    lambda x: special("digamma", x),
    doc="Derivative of gammaln.",
    promote=float_type,
    jvp=lambda t, out, x: guarded_multiply(t, digamma_derivative(x, order=1)),
    dtypes=REAL,
    public=False,
    samples=_POSITIVE_AND_POLES,
    ulp={"float32": 16, "float64": 64},
    lower=kernel_math("digamma"),
)


def _digamma_derivative(x: Any, *, order: int) -> Any:
    """(-1)**(n+1) n! zeta(n+1, x) (Abramowitz and Stegun 1964, 6.4.10)."""
    sign = 1 if order % 2 else -1
    (x,), dtype = _prepared((x,))
    value = special("zeta", float(order + 1), x) * (sign * float(factorial(order)))
    return value.astype(dtype)


digamma_derivative = elementwise(
    "digamma_derivative",
    _digamma_derivative,
    doc="Derivative of digamma of a fixed order from 1: the polygamma function of that order.",
    promote=float_type,
    jvp=lambda t, out, x, *, order: guarded_multiply(t, digamma_derivative(x, order=order + 1)),
    dtypes=REAL,
    public=False,
    samples=Samples(
        span=(0.3, 6.0),
        points=(-2.5, -0.5, 0.0, 1.0, 100.0, np.inf, np.nan),
        params=tuple({"order": n} for n in (1, 2, 3)),
    ),
)

# ---------------------------------------------------------------------------- logistic, x log y

_STEP = Samples(span=(-6.0, 6.0), points=(-745.0, -40.0, -0.0, 0.0, 40.0, 800.0, np.inf, np.nan))


def _logistic(x: Any) -> Any:
    """1 / (1 + exp(-x)), from the exponential that does not overflow: exact in both tails."""
    if type(x) in PYTHON_SCALARS:
        x = dtypes.default_dtype(type(x)).type(x)
    dtype = _logistic_type((x.dtype,))[1][0]
    x = x.astype(_SINGLE if dtype.itemsize < 4 else dtype)
    falls = x.real < 0
    e = np.exp(np.where(falls, x, -x))
    return (np.where(falls, e, dtype.type(1)) / (1 + e)).astype(dtype)


def _logistic_type(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    (kind,) = operands
    dtype = kind if isinstance(kind, np.dtype) else dtypes.default_dtype(kind)
    return float_type(operands) if not dtypes.is_complex(dtype) else ((dtype,), (dtype,))


def _logistic_derivative(x: Any) -> Any:
    """e / (1 + e)**2 with e = exp(-|x|): no digits are lost where the logistic rounds to 1."""
    (x,), dtype = _prepared((x,))
    e = np.exp(-np.abs(x))
    return (e / ((1 + e) * (1 + e))).astype(dtype)


logistic_derivative = elementwise(
    "logistic_derivative",
    _logistic_derivative,
    even=True,
    doc="logistic(x) * (1 - logistic(x)), exact to the last places in both tails.",
    promote=float_type,
    jvp=lambda t, out, x: t * (out * negative(tanh(x * 0.5))),
    dtypes=REAL,
    public=False,
    samples=_STEP,
    lower=kernel_math("logistic_derivative"),
)


def _lower_logistic(o: Any, x: Any) -> Any:
    """As the reference for complex numbers, of which the library has none."""
    if not dtypes.is_complex(x.dtype):
        return o.math("logistic", x)
    falls = o.less(o.real(x), 0)
    e = o.math("exp", o.where(falls, x, o.negative(x)))
    return o.divide(o.where(falls, e, 1), o.add(1, e))


logistic = elementwise(
    "logistic",
    _logistic,
    doc="1 / (1 + exp(-x)).",
    promote=_logistic_type,
    jvp=lambda t, out, x: (
        t * (out * logistic(-x) if dtypes.is_complex(x.dtype) else logistic_derivative(x))
    ),
    public=False,
    samples=_STEP,
    lower=_lower_logistic,
)


def _lower_logit(o: Any, x: Any) -> Any:
    """As SciPy's: near 1/2, where log(x / (1 - x)) is small, by log1p of 2x - 1 and 1 - 2x."""
    wide = o.widened(x)
    s = o.subtract(o.add(wide, wide), 1)
    near = o.subtract(o.math("log1p", s), o.math("log1p", o.negative(s)))
    far = o.math("log", o.divide(wide, o.subtract(1, wide)))
    middle = o.less(o.absolute(s), 0.4)
    return o.cast(o.where(middle, near, far), x.dtype)


logit = elementwise(
    "logit",
    lambda x: special("logit", x),
    doc="log(x / (1 - x)), the inverse of the logistic function.",
    promote=float_type,
    jvp=lambda t, out, x: guarded_multiply(t, 1 / (x * (1 - x))),
    dtypes=REAL,
    public=False,
    samples=Samples(span=(0.05, 0.95), points=(-1.0, 0.0, 1e-30, 0.5, 1.0, np.nan)),
    lower=_lower_logit,
)


_FIRST_ANY = ((-2.0, 2.0), (0.2, 3.0))


def _lower_product_with(logarithm: str) -> Any:
    """Return the rule of x log(y), 0 where x is 0 unless y is NaN."""

    def rule(o: Any, x: Any, y: Any) -> Any:
        wide, other = o.widened(x), o.widened(y)
        product = o.multiply(wide, o.math(logarithm, other))
        vanishes = o.logical_and(o.equal(wide, 0), o.logical_not(o.isnan(other)))
        return o.cast(o.where(vanishes, 0, product), x.dtype)

    return rule


# The derivative with respect to y is x / y, as a product that is 0 wherever x is.
xlogy = elementwise(
    "xlogy",
    lambda x, y: special("xlogy", x, y),
    doc="x log(y), 0 where x is 0 even if y is.",
    promote=float_type,
    jvp=(
        lambda t, out, x, y: guarded_multiply(t, log(y)),
        lambda t, out, x, y: guarded_multiply(t, guarded_multiply(x, 1 / y)),
    ),
    dtypes=REAL,
    public=False,
    samples=Samples(span=_FIRST_ANY, points=(0.0, 0.5, 1.0, 1e-30)),
    lower=_lower_product_with("log"),
)

xlog1py = elementwise(
    "xlog1py",
    lambda x, y: special("xlog1py", x, y),
    doc="x log(1 + y), 0 where x is 0 even if y is -1.",
    promote=float_type,
    jvp=(
        lambda t, out, x, y: guarded_multiply(t, log1p(y)),
        lambda t, out, x, y: guarded_multiply(t, guarded_multiply(x, 1 / (1 + y))),
    ),
    dtypes=REAL,
    public=False,
    samples=Samples(span=((-2.0, 2.0), (-0.8, 3.0)), points=(-1.0, 0.0, 0.5, 1e-30)),
    lower=_lower_product_with("log1p"),
)

# ------------------------------------------------------------------ Bessel functions, the unit step


def _i0_type(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """NumPy's: float16, float32 and float64 stay, everything else real is float64."""
    _, (common,) = float_type(operands)
    kept = operands[0] == common and common.kind == "f"
    own = common if kept else _DOUBLE
    return (own,), (own,)


i0 = elementwise(
    "i0",
    lambda x: np.i0(x),
    doc="Modified Bessel function of the first kind, order 0.",
    promote=_i0_type,
    jvp=lambda t, out, x: guarded_multiply(t, bessel_i(x, order=1)),
    dtypes=REAL,
    numpy=(np.i0,),
    samples=Samples(span=(-9.0, 9.0), points=(-20.0, -0.0, 0.0, 8.0, 700.0, np.nan)),
)


def _bessel_i(x: Any, *, order: int) -> Any:
    """I_n(x) in float64, n = `order`.

    |x| up to max(20, n**2): the power series sum (x/2)**(n+2k) / (k! (n+k)!), whose terms have one
    sign (Abramowitz and Stegun 1964, 9.6.10). Beyond: I_(k+1) = I_(k-1) - (2k/x) I_k upwards from
    exp(-x) I_0 and exp(-x) I_1 (9.6.26), where its rounding errors grow by exp(n**2 / x) at most.
    """
    if order == 0 or order == 1:
        return special(f"i{order}", x)
    (x,), dtype = _prepared((x,))
    size = np.abs(x.astype(_DOUBLE))
    limit = float(max(20, order * order))
    near = np.where(size <= limit, size, 0) / 2
    square = near * near
    term = near**order / float(factorial(order))
    total, bound, k = term, 1.0, 0
    while bound > 1e-18:
        k += 1
        term = term * (square / (k * (order + k)))
        total = total + term
        factor = limit * limit / (4 * k * (order + k))
        bound = bound * factor if factor < 1 else 1.0
    far = np.where(size > limit, size, limit)
    before, value = special("i0e", far), special("i1e", far)
    for n in range(1, order):
        before, value = value, before - value * (2 * n / far)
    scale = np.exp(far)
    value = np.where(np.isinf(scale), scale, value * scale)
    value = np.where(size <= limit, total, np.where(np.isnan(size), size, value))
    return (np.where(x < 0, -value, value) if order % 2 else value).astype(dtype)


bessel_i = elementwise(
    "bessel_i",
    _bessel_i,
    doc="Modified Bessel function of the first kind, of a fixed integer order from 0.",
    promote=float_type,
    # I_n' = (I_(n-1) + I_(n+1)) / 2, with I_(-1) = I_1 (Abramowitz and Stegun 1964, 9.6.26)
    jvp=lambda t, out, x, *, order: guarded_multiply(
        t,
        0.5 * (bessel_i(x, order=order - 1) + bessel_i(x, order=order + 1))
        if order
        else bessel_i(x, order=1),
    ),
    dtypes=REAL,
    public=False,
    samples=Samples(
        span=(-9.0, 9.0),
        points=(-30.0, -0.0, 0.0, 20.0, 600.0, np.inf, np.nan),
        params=tuple({"order": n} for n in (0, 1, 2, 5)),
    ),
    ulp={"float32": 4, "float64": 16},
)


def _lower_heaviside(o: Any, x: Any, y: Any) -> Any:
    one, zero = o.constant(1, x.dtype), o.constant(0, x.dtype)
    step = o.where(o.greater(x, 0), one, o.where(o.less(x, 0), zero, x))  # NaN stays
    return o.where(o.equal(x, 0), y, step)


heaviside = elementwise(
    "heaviside",
    np.heaviside,
    doc="0 for negative x, 1 for positive x, y at 0. Its derivative with respect to x is 0.",
    jvp=(None, lambda t, out, x, y: where(x == 0, t, t.dtype.type(0))),
    transpose=(None, lambda ct, x, y: where(x == 0, ct, ct.dtype.type(0))),
    dtypes=REAL,
    samples=Samples(points=(-1.0, -0.0, 0.0, 0.5, np.inf, np.nan)),
    lower=_lower_heaviside,
)
