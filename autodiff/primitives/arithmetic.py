"""Arithmetic: sums, products, quotients, powers, absolute values, complex parts, selection."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.array_modules import common_module
from autodiff.ir.avals import array_type
from autodiff.ir.builder import Tracer
from autodiff.ir.primitive import Samples, methods
from autodiff.primitives.derivative_terms import scaled
from autodiff.primitives.families import (
    INEXACT,
    NUMERIC,
    convert,
    elementwise,
    full_like_type,
    in_place,
    neutral,
    selection_type,
    undone,
)
from autodiff.primitives.lowering import kernel_math, operation
from autodiff.primitives.powers import lower_integer_power, lower_power

_PAIRS = (-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0)

add = elementwise(
    "add",
    np.add,
    doc="Sum, element by element.",
    jvp=(lambda t, out, x, y: t, lambda t, out, x, y: t),
    transpose=(lambda ct, x, y: ct, lambda ct, x, y: ct),
    commutative=True,
    operator="add",
    simplify=neutral(left=-0.0, right=-0.0),
    samples=Samples(points=_PAIRS),
    lower=operation("add"),
)

subtract = elementwise(
    "subtract",
    np.subtract,
    doc="Difference, element by element.",
    jvp=(lambda t, out, x, y: t, lambda t, out, x, y: -t),
    transpose=(lambda ct, x, y: ct, lambda ct, x, y: -ct),
    dtypes=NUMERIC,
    operator="sub",
    simplify=neutral(right=0.0),
    samples=Samples(points=_PAIRS),
    lower=operation("subtract"),
)

negative = elementwise(
    "negative",
    np.negative,
    doc="Negation.",
    jvp=lambda t, out, x: -t,
    transpose=lambda ct, x: -ct,
    dtypes=NUMERIC,
    operator="neg",
    simplify=undone,
    samples=Samples(points=_PAIRS),
    lower=operation("negative"),
)

positive = elementwise(
    "positive",
    np.positive,
    doc="The number itself.",
    jvp=lambda t, out, x: t,
    transpose=lambda ct, x: ct,
    dtypes=NUMERIC,
    operator="pos",
    simplify=lambda eqn, made_by: eqn.inputs[0],
    samples=Samples(points=_PAIRS),
    lower=lambda o, x: x,
)

multiply = elementwise(
    "multiply",
    np.multiply,
    odd=True,
    doc="Product, element by element.",
    jvp=(lambda t, out, x, y: t * y, lambda t, out, x, y: x * t),
    transpose=(lambda ct, x, y: ct * y, lambda ct, x, y: x * ct),
    commutative=True,
    operator="mul",
    simplify=neutral(left=1.0, right=1.0),
    samples=Samples(points=_PAIRS),
    lower=operation("multiply"),
)


def _without_nan_of_zero(result: Any, vanishes: Callable[[], Any]) -> Any:
    """Return `result` with 0 where it is NaN and `vanishes()` holds (asked only if need be)."""
    unknown = result != result
    if type(unknown) is np.bool:  # of a scalar, where every call counts
        return result.dtype.type(0) if unknown and vanishes() else result
    if type(result) is np.ndarray and not unknown.any():
        return result
    zero = result.dtype.type(0)
    return np.where(unknown & vanishes(), zero, result).astype(result.dtype, copy=False)


def _guarded_product(x: Any, y: Any) -> Any:
    return _without_nan_of_zero(x * y, lambda: (x == 0) | (y == 0))


def _lower_guarded(o: Any, result: Any, vanishes: Any) -> Any:
    unknown = o.logical_and(o.isnan(result), vanishes)
    return o.where(unknown, 0, result)


def _lower_guarded_product(o: Any, x: Any, y: Any) -> Any:
    if x.is_regular or y.is_regular:
        return o.multiply(x, y)
    return _lower_guarded(o, o.multiply(x, y), o.logical_or(o.equal(x, 0), o.equal(y, 0)))


def _lower_guarded_quotient(o: Any, x: Any, y: Any) -> Any:
    if x.is_regular or y.is_regular:
        return o.divide(x, y)
    return _lower_guarded(o, o.divide(x, y), o.equal(x, 0))


guarded_multiply = elementwise(
    "guarded_multiply",
    _guarded_product,
    doc="Product that is 0 where a factor is 0 and the other infinite or NaN: derivatives that can "
    "be infinite are multiplied by it, so that an unused branch never turns into NaN.",
    promote=lambda operands: ((np.result_type(*operands),) * 2, (np.result_type(*operands),)),
    jvp=(
        lambda t, out, x, y: guarded_multiply(t, y),
        lambda t, out, x, y: guarded_multiply(x, t),
    ),
    transpose=(
        lambda ct, x, y: guarded_multiply(ct, y),
        lambda ct, x, y: guarded_multiply(x, ct),
    ),
    dtypes=INEXACT,
    public=False,
    simplify=neutral(left=1.0, right=1.0),
    samples=Samples(points=_PAIRS),
    lower=_lower_guarded_product,
)


def _guarded_quotient(x: Any, y: Any) -> Any:
    return _without_nan_of_zero(x / y, lambda: x == 0)


def _quotient_recurrence(order: int, lower: Any, series: Any, params: Any) -> Any:
    """Return the derivative of q = x / y of an order along a curve, from Leibniz' rule for q y = x.

    q_n = (x_n - sum over k < n of C(n, k) q_k y_(n-k)) / y. (The first derivative's own program has
    quotients by y in quotients by y, of which higher orders make exponentially many.)

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, table 13.1.
    """
    x, y = series
    rest = x[order]
    for k, quotient in enumerate(lower):
        if quotient is not None and y[order - k] is not None:
            term = scaled(guarded_multiply(y[order - k], quotient), comb(order, k))
            rest = negative(term) if rest is None else rest - term
    return None if rest is None else quotient_of_tangent(rest, y[0])


guarded_divide = elementwise(
    "guarded_divide",
    _guarded_quotient,
    doc="Quotient that is 0 where 0 is divided by 0 or NaN, as guarded_multiply is.",
    promote=lambda operands: ((np.result_type(*operands),) * 2, (np.result_type(*operands),)),
    jvp=(
        lambda t, out, x, y: guarded_divide(t, y),
        lambda t, out, x, y: guarded_multiply(t, guarded_divide(negative(out), y)),
    ),
    transpose=(lambda ct, x, y: guarded_divide(ct, y), None),
    recurrence=_quotient_recurrence,
    dtypes=INEXACT,
    public=False,
    samples=Samples(span=(0.5, 3.0), points=_PAIRS),
    lower=_lower_guarded_quotient,
)


def quotient_of_tangent(t: Any, y: Any) -> Any:
    """Return t / y for a tangent or cotangent t, 0 wherever that is 0.

    A divisor that is a number other than 0, known while tracing, needs no guard.
    """
    if not isinstance(y, Tracer) and y.ndim == 0 and y != 0:
        return t / y
    return guarded_divide(t, y)


divide = elementwise(
    "divide",
    np.divide,
    odd=True,
    doc="Quotient, element by element; integers give float64 as in NumPy.",
    # d/dy (x / y) = -(x / y) / y: written by the quotient, which cannot overflow where y**2 would.
    jvp=(
        lambda t, out, x, y: quotient_of_tangent(t, y),
        lambda t, out, x, y: guarded_multiply(t, negative(out / y)),
    ),
    transpose=(lambda ct, x, y: quotient_of_tangent(ct, y), None),
    recurrence=_quotient_recurrence,
    operator="truediv",
    numpy=(np.divide, np.true_divide),
    simplify=neutral(right=1.0),
    samples=Samples(span=(0.5, 3.0), points=_PAIRS),
    lower=operation("divide"),
)

absolute = elementwise(
    "absolute",
    np.absolute,
    even=True,
    doc="Absolute value; of a complex number its modulus. The derivative at 0 is 0.",
    jvp=lambda t, out, x: (
        real(t * conjugate(sign(x))) if dtypes.is_complex(x.dtype) else t * sign(x)
    ),
    operator="abs",
    samples=Samples(points=(-1.5, -0.0, 0.0, 2.0, np.inf, np.nan)),
    lower=operation("absolute"),
)

sign = elementwise(
    "sign",
    np.sign,
    doc="Sign; of a complex number x / |x|, 0 at 0.",
    # complex: d(x/|x|) = (t - s Re(conj(s) t)) / |x| with s = x/|x|
    jvp=lambda t, out, x: (
        guarded_multiply(
            t - out * convert(real(conjugate(out) * t), out.dtype),
            convert(where(absolute(x) == 0, full_like_type(real(x), 0), 1 / absolute(x)), x.dtype),
        )
        if dtypes.is_complex(x.dtype)
        else None
    ),
    dtypes=NUMERIC,
    samples=Samples(points=(-1.5, -0.0, 0.0, 2.0)),
    lower=operation("sign"),
)

reciprocal = elementwise(
    "reciprocal",
    np.reciprocal,
    odd=True,
    doc="1 / x.",
    jvp=lambda t, out, x: guarded_multiply(t, negative(out / x)),
    dtypes=NUMERIC,
    samples=Samples(span=(0.5, 3.0), points=(-2.0, 0.5, np.inf)),
    lower=operation("reciprocal"),
)

square = elementwise(
    "square",
    np.square,
    even=True,
    doc="x * x.",
    jvp=lambda t, out, x: t * (2 * x),
    dtypes=NUMERIC,
    samples=Samples(points=_PAIRS),
    lower=operation("square"),
)


def _integer_power_reference(x: Any, *, exponent: int) -> Any:
    return np.power(x, x.dtype.type(exponent))


def _integer_power_jvp(t: Any, out: Any, x: Any, *, exponent: int) -> Any:
    if exponent == 0:
        return None
    if exponent == 1:
        return t
    derivative = full_like_type(x, exponent) * integer_power(x, exponent=exponent - 1)
    return guarded_multiply(t, derivative)  # infinite at poles and beyond overflow


integer_power = elementwise(
    "integer_power",
    _integer_power_reference,
    doc="x to a fixed integer power.",
    promote=lambda operands: (operands, operands),
    jvp=_integer_power_jvp,
    public=False,
    dtypes=NUMERIC,
    samples=Samples(
        span=(0.5, 2.0),
        points=(-2.0, -0.0, 0.0, 1.0),
        params=tuple({"exponent": n} for n in (0, 1, 2, 3, 5)),
    ),
    lower=lower_integer_power,
    # one rounding for each multiplication, where the reference has one in all
    ulp={"float16": 1, "bfloat16": 1, "float32": 5, "float64": 5},
)


# The factors of the two rules are products guarded against a first factor 0: so y x**(y-1) is 0
# for y = 0 also where x = 0, log(x) x**y is 0 for x = 0, and their derivatives are guarded too.


def _power_jvp_base(t: Any, out: Any, x: Any, y: Any) -> Any:
    return guarded_multiply(t, guarded_multiply(y, power(x, y - full_like_type(y, 1))))


def _power_jvp_exponent(t: Any, out: Any, x: Any, y: Any) -> Any:
    safe = where(x == 0, full_like_type(x, 1), x)
    return guarded_multiply(t, guarded_multiply(log(safe), out))


power = elementwise(
    "power",
    np.power,
    doc="x to the power y. Derivatives at 0: of x**0 it is 0, of 0**y with respect to y it is 0.",
    jvp=(_power_jvp_base, _power_jvp_exponent),
    dtypes=NUMERIC,
    samples=Samples(span=(0.5, 2.5), points=(0.5, 1.0, 2.0)),
    lower=lower_power,
    # exp(y log x) in kernels and reference: rounding y log x costs as many units as its size, which
    # is 2.5 * 745 (in complex64 2.5 * 104) for the smallest number to the power 2.5
    ulp={"complex64": 300, "complex128": 2000},
    lower_for=dtypes.is_inexact,
)


def power_of(x: Any, y: Any) -> Any:
    """Return x ** y; a Python number with an integer value as y is a fixed integer power.

    Values and types are those of NumPy's power: a float exponent makes an integer base float64.
    """
    if type(x) is not Tracer or type(y) not in (int, float):
        return power(x, y)
    if not (float(y).is_integer() and abs(y) < 2**31):
        return power(x, y)
    dtype = x.dtype
    if type(y) is float and not dtypes.is_inexact(dtype):
        x = convert(x, dtypes.default_float())
    elif not dtypes.is_inexact(dtype) and y < 0:
        raise ValueError(
            f"power: an integer's exponent must not be negative, got exponent={y}.\n"
            "To fix: convert the base with .astype(float) first."
        )
    else:
        common = np.power.resolve_dtypes((dtype, type(y), None))[0]
        x = x if dtype == common else convert(x, common)
    exponent = int(y)
    return square(x) if exponent == 2 else integer_power(x, exponent=exponent)


def _tracer_power(self: Any, y: Any) -> Any:
    if type(y) is int and y == 2 and dtypes.is_bool(self.dtype):
        return square(self)  # as NumPy's operator, whose result is then int8
    result = power_of(self, y)
    if self.aval.weak and (
        isinstance(y, int | float | complex) or getattr(y, "aval", self.aval).weak
    ):
        result.variable.aval = array_type(result.shape, result.dtype, weak=True)
    return result


Tracer.__pow__ = _tracer_power  # type: ignore[attr-defined]
Tracer.__rpow__ = lambda self, x: power(x, self)  # type: ignore[attr-defined]
Tracer.__ipow__ = in_place(_tracer_power, "power")  # type: ignore[attr-defined]


floor_divide = elementwise(
    "floor_divide",
    np.floor_divide,
    doc="Largest integer not above x / y; its derivative is 0.",
    jvp=(None, None),
    dtypes="biuf",
    operator="floordiv",
    samples=Samples(span=(0.5, 9.0), points=(-3.0, 2.0)),
    lower=operation("floor_divide"),
)

remainder = elementwise(
    "remainder",
    np.remainder,
    doc="x - y * floor(x / y): takes the sign of y.",
    jvp=(
        lambda t, out, x, y: t,
        lambda t, out, x, y: guarded_multiply(t, negative(floor_divide(x, y))),
    ),
    dtypes="biuf",
    operator="mod",
    numpy=(np.remainder, np.mod),
    samples=Samples(span=(0.5, 9.0), points=(-3.0, 2.0)),
    lower=operation("remainder"),
)

fmod = elementwise(
    "fmod",
    np.fmod,
    doc="x - y * trunc(x / y): takes the sign of x.",
    jvp=(
        lambda t, out, x, y: t,
        lambda t, out, x, y: guarded_multiply(t, negative(trunc(x / y))),
    ),
    dtypes="biuf",
    samples=Samples(span=(0.5, 9.0), points=(-3.0, 2.0)),
    lower=operation("fmod"),
)


def _share(x: Any, y: Any, compare: Any) -> Any:
    """Return how much of a tangent operand x passes: 1 where it wins, 1/2 where it ties."""
    dtype = x.dtype
    return where(compare(x, y), dtype.type(1), where(x == y, dtype.type(0.5), dtype.type(0)))


# Not commutative: of 0.0 and -0.0 NumPy returns the second.
maximum = elementwise(
    "maximum",
    np.maximum,
    doc="The larger of two numbers, NaN if one is NaN. Ties share the derivative equally.",
    jvp=(
        lambda t, out, x, y: t * _share(x, y, greater),
        lambda t, out, x, y: t * _share(y, x, greater),
    ),
    samples=Samples(points=(-1.0, 0.0, 2.0, np.inf, -np.inf)),
    lower=operation("maximum"),
)

minimum = elementwise(
    "minimum",
    np.minimum,
    doc="The smaller of two numbers, NaN if one is NaN. Ties share the derivative equally.",
    jvp=(
        lambda t, out, x, y: t * _share(x, y, less),
        lambda t, out, x, y: t * _share(y, x, less),
    ),
    samples=Samples(points=(-1.0, 0.0, 2.0, np.inf, -np.inf)),
    lower=operation("minimum"),
)


def _share_ignoring_nan(x: Any, y: Any, compare: Any) -> Any:
    dtype = x.dtype
    one, half, zero = dtype.type(1), dtype.type(0.5), dtype.type(0)
    share = where(compare(x, y) | (y != y), one, where(x == y, half, zero))
    return where((x != x) & (y == y), zero, share)


fmax = elementwise(
    "fmax",
    np.fmax,
    doc="The larger of two numbers, ignoring a NaN beside a number.",
    jvp=(
        lambda t, out, x, y: t * _share_ignoring_nan(x, y, greater),
        lambda t, out, x, y: t * _share_ignoring_nan(y, x, greater),
    ),
    samples=Samples(points=(-1.0, 0.0, 2.0)),
    lower=operation("fmax"),
)

fmin = elementwise(
    "fmin",
    np.fmin,
    doc="The smaller of two numbers, ignoring a NaN beside a number.",
    jvp=(
        lambda t, out, x, y: t * _share_ignoring_nan(x, y, less),
        lambda t, out, x, y: t * _share_ignoring_nan(y, x, less),
    ),
    samples=Samples(points=(-1.0, 0.0, 2.0)),
    lower=operation("fmin"),
)


def _hypot_factor(x: Any, out: Any) -> Any:
    zero = out == 0
    return where(zero, full_like_type(x, 0), x / where(zero, full_like_type(x, 1), out))


hypot = elementwise(
    "hypot",
    np.hypot,
    even=True,
    doc="sqrt(x**2 + y**2) without overflow. The derivative at (0, 0) is 0.",
    jvp=(
        lambda t, out, x, y: t * _hypot_factor(x, out),
        lambda t, out, x, y: t * _hypot_factor(y, out),
    ),
    commutative=True,
    dtypes="biuf",
    samples=Samples(points=(-1.0, 0.5, 2.0)),
    lower=kernel_math("hypot"),
)

copysign = elementwise(
    "copysign",
    np.copysign,
    doc="|x| with the sign bit of y.",
    jvp=(lambda t, out, x, y: t * sign(x) * copysign(full_like_type(x, 1), y), None),
    dtypes="biuf",
    samples=Samples(points=(-1.0, 0.5, 2.0)),
    lower=operation("copysign"),
)


def _where(condition: Any, x: Any, y: Any) -> Any:
    if type(condition) is np.bool and isinstance(x, np.generic) and isinstance(y, np.generic):
        return x if condition else y
    return np.where(condition, x, y).astype(x.dtype, copy=False)  # CuPy's is float32 for bfloat16


where = elementwise(
    "where",
    _where,
    doc="x where the condition holds, else y.",
    promote=selection_type,
    jvp=(
        None,
        lambda t, out, c, x, y: where(c, t, full_like_type(out, 0)),
        lambda t, out, c, x, y: where(c, full_like_type(out, 0), t),
    ),
    transpose=(
        None,
        lambda ct, c, x, y: where(c, ct, full_like_type(ct, 0)),
        lambda ct, c, x, y: where(c, full_like_type(ct, 0), ct),
    ),
    public=False,
    samples=Samples(points=(0.0, 1.0)),
    lower=operation("where"),
)


stop_gradient = elementwise(
    "stop_gradient",
    lambda x: x,
    doc="The number itself, held constant by every derivative.",
    promote=lambda operands: (operands, operands),
    jvp=lambda t, out, x: None,
    public=False,
    simplify=lambda eqn, made_by: eqn.inputs[0],
    samples=Samples(points=(-1.0, 0.0)),
    lower=lambda o, x: x,
)
stop_gradient.view = True


def _real_of(dtype_of: Any) -> Any:
    def promote(operands: tuple[Any, ...]) -> Any:
        own = tuple(o if isinstance(o, np.dtype) else np.dtype(o) for o in operands)
        return own, (dtype_of(own[0]),)

    return promote


def _of_parts(name: str, of_real: Callable[..., Any] = lambda o, x: x) -> Callable[..., Any]:
    """Return the `lower` rule of what complex values have an operation for, real ones `of_real`."""

    def rule(o: Any, x: Any) -> Any:
        return getattr(o, name)(x) if dtypes.is_complex(x.dtype) else of_real(o, x)

    return rule


real = elementwise(
    "real",
    np.real,
    doc="Real part.",
    promote=_real_of(dtypes.real_dtype),
    jvp=lambda t, out, x: real(t),
    transpose=lambda ct, x: (
        make_complex(ct, full_like_type(ct, 0)) if dtypes.is_complex(x.aval.dtype) else ct
    ),
    numpy=(np.real,),
    samples=Samples(points=(-1.0, 0.0)),
    lower=_of_parts("real"),
)

imag = elementwise(
    "imag",
    np.imag,
    doc="Imaginary part; 0 of a real number.",
    promote=_real_of(dtypes.real_dtype),
    jvp=lambda t, out, x: imag(t) if dtypes.is_complex(x.dtype) else None,
    transpose=lambda ct, x: (
        make_complex(full_like_type(ct, 0), negative(ct))
        if dtypes.is_complex(x.aval.dtype)
        else None
    ),
    numpy=(np.imag,),
    samples=Samples(points=(-1.0, 0.0)),
    lower=_of_parts("imag", lambda o, x: o.constant(0, x.dtype)),
)


def _make_complex(x: Any, y: Any) -> Any:
    shape = np.broadcast_shapes(np.shape(x), np.shape(y))
    parts = common_module((x, y)).empty(shape, dtypes.complex_dtype(x.dtype))
    parts.real = x
    parts.imag = y
    return parts


def _complex_promotion(operands: tuple[Any, ...]) -> Any:
    common = np.result_type(np.float32, *operands)
    if dtypes.is_complex(common):
        raise TypeError("the parts must be real")
    return (common, common), (dtypes.complex_dtype(common),)


make_complex = elementwise(
    "make_complex",
    _make_complex,
    doc="The complex number x + i y of two real ones.",
    promote=_complex_promotion,
    jvp=(
        lambda t, out, x, y: make_complex(t, full_like_type(t, 0)),
        lambda t, out, x, y: make_complex(full_like_type(t, 0), t),
    ),
    transpose=(lambda ct, x, y: real(ct), lambda ct, x, y: negative(imag(ct))),
    public=False,
    dtypes="f",
    samples=Samples(points=(-1.0, 0.0)),
    lower=operation("make_complex"),
)

real.view = imag.view = True

conjugate = elementwise(
    "conjugate",
    np.conjugate,
    doc="Complex conjugate; a real number is its own.",
    jvp=lambda t, out, x: conjugate(t),
    transpose=lambda ct, x: conjugate(ct),
    dtypes=NUMERIC,
    simplify=lambda eqn, made_by: (
        undone(eqn, made_by) if dtypes.is_complex(eqn.inputs[0].aval.dtype) else eqn.inputs[0]
    ),
    samples=Samples(points=(-1.0, 0.0)),
    lower=_of_parts("conjugate"),
)


def _lower_angle(o: Any, x: Any) -> Any:
    return o.where(o.isnan(x), x, o.where(o.signbit(x), np.pi, o.constant(0, x.dtype)))


angle = elementwise(
    "angle",
    np.angle,
    doc="Argument of a complex number, in radians, in [-pi, pi].",
    promote=lambda operands: (
        (np.result_type(np.float16, *operands),),
        (dtypes.real_dtype(np.result_type(np.float16, *operands)),),
    ),
    # d arg z = Im(t / z)
    jvp=lambda t, out, x: imag(quotient_of_tangent(t, x)) if dtypes.is_complex(x.dtype) else None,
    numpy=(),
    public=False,
    dtypes=INEXACT,
    samples=Samples(points=(1.0, -2.0)),
    lower=_of_parts("angle", _lower_angle),
)

# Rules above refer to these by name when they run; the files import this one.
from autodiff.primitives.comparison import greater, less  # noqa: E402
from autodiff.primitives.exponential import log  # noqa: E402
from autodiff.primitives.rounding import trunc  # noqa: E402

methods["conj"] = methods["conjugate"] = lambda x: conjugate(x)
