"""Exponentials, logarithms and roots. Rules whose derivative can be infinite are guarded."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.primitive import Samples, primitives
from autodiff.primitives.arithmetic import guarded_multiply, reciprocal, where
from autodiff.primitives.families import elementwise
from autodiff.primitives.lowering import kernel_math, operation

_LN2 = float(np.log(2.0))
_LN10 = float(np.log(10.0))
_GROWTH = Samples(span=(-3.0, 3.0), points=(-1000.0, -0.0, 0.0, 1e-8, 1.0, 700.0, np.inf, np.nan))
_POSITIVE = Samples(span=(0.1, 4.0), points=(0.0, 1e-300, 1.0, 1e300, np.inf, np.nan))

exp = elementwise(
    "exp",
    np.exp,
    doc="e to the power x.",
    jvp=lambda t, out, x: guarded_multiply(t, out),
    samples=_GROWTH,
    lower=kernel_math("exp"),
)
exp2 = elementwise(
    "exp2",
    np.exp2,
    doc="2 to the power x.",
    jvp=lambda t, out, x: guarded_multiply(t, out * _LN2),
    samples=_GROWTH,
    lower=kernel_math("exp2"),
)
expm1 = elementwise(
    "expm1",
    np.expm1,
    doc="exp(x) - 1, exact near 0.",
    jvp=lambda t, out, x: guarded_multiply(t, exp(x)),
    samples=_GROWTH,
    lower=kernel_math("expm1"),
)
log = elementwise(
    "log",
    np.log,
    doc="Natural logarithm.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / x),
    samples=_POSITIVE,
    lower=kernel_math("log"),
)
log2 = elementwise(
    "log2",
    np.log2,
    doc="Logarithm to base 2.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / (x * _LN2)),
    samples=_POSITIVE,
    lower=kernel_math("log2"),
)
log10 = elementwise(
    "log10",
    np.log10,
    doc="Logarithm to base 10.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / (x * _LN10)),
    samples=_POSITIVE,
    lower=kernel_math("log10"),
)
log1p = elementwise(
    "log1p",
    np.log1p,
    doc="log(1 + x), exact near 0.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / (x + 1)),
    samples=Samples(span=(-0.9, 3.0), points=(-1.0, -0.0, 0.0, 1e-300, np.inf, np.nan)),
    lower=kernel_math("log1p"),
    # of complex numbers NumPy's formula, log |1 + x|, which loses digits near |1 + x| = 1
    ulp={"complex64": 64, "complex128": 64},
)
sqrt = elementwise(
    "sqrt",
    np.sqrt,
    doc="Square root. The derivative at 0 is inf.",
    jvp=lambda t, out, x: guarded_multiply(t, 0.5 / out),
    samples=_POSITIVE,
    lower=operation("sqrt"),
)
cbrt = elementwise(
    "cbrt",
    np.cbrt,
    odd=True,
    doc="Cube root. The derivative at 0 is inf.",
    jvp=lambda t, out, x: guarded_multiply(t, 1 / (3 * (out * out))),
    dtypes="biuf",
    samples=Samples(span=(0.1, 4.0), points=(-8.0, 0.0, 27.0)),
    lower=kernel_math("cbrt"),
)


def _rsqrt(x: Any) -> Any:
    return reciprocal.reference(np.sqrt(x))


def _lower_rsqrt(o: Any, x: Any) -> Any:
    return o.reciprocal(o.sqrt(x)) if dtypes.is_complex(x.dtype) else o.math("rsqrt", x)


rsqrt = elementwise(
    "rsqrt",
    _rsqrt,
    doc="1 / sqrt(x).",
    promote=lambda operands: (
        (np.sqrt.resolve_dtypes((operands[0], None))[1],),
        (np.sqrt.resolve_dtypes((operands[0], None))[1],),
    ),
    jvp=lambda t, out, x: guarded_multiply(t, -0.5 * (out / x)),
    samples=_POSITIVE,
    lower=_lower_rsqrt,
)


def _softmax_weight(x: Any, y: Any, scale: float = 1.0) -> Any:
    """exp(x - logaddexp(x, y)), 1/2 where x and y are the same infinity.

    It is the logistic function of x - y, of which no derivative overflows. `scale` is the logarithm
    of the base.
    """
    dtype = x.dtype.type
    # Only there, so that at other ties the weight still has a derivative.
    same_infinity = (x == y) & primitives["isinf"](x)
    return primitives["logistic"](where(same_infinity, dtype(0), x - y) * dtype(scale))


logaddexp = elementwise(
    "logaddexp",
    np.logaddexp,
    doc="log(exp(x) + exp(y)) without overflow.",
    jvp=(
        lambda t, out, x, y: t * _softmax_weight(x, y),
        lambda t, out, x, y: t * _softmax_weight(y, x),
    ),
    commutative=True,
    dtypes="biuf",
    samples=Samples(points=(-np.inf, -1000.0, 0.0, 1000.0)),
    lower=kernel_math("logaddexp"),
)


def _lower_logaddexp2(o: Any, x: Any, y: Any) -> Any:
    """As NumPy's: the larger + log2(1 + 2**-distance); of equal numbers, infinities too, + 1.

    A NaN in one operand is one in their distance.
    """
    wide, other = o.widened(x), o.widened(y)
    decay = o.math("exp2", o.negative(o.absolute(o.subtract(wide, other))))
    rest = o.multiply(o.math("log1p", decay), 1 / _LN2)
    equal = o.equal(wide, other)
    result = o.add(o.maximum(wide, other), rest)
    return o.cast(o.where(equal, o.add(wide, 1), result), x.dtype)


logaddexp2 = elementwise(
    "logaddexp2",
    np.logaddexp2,
    doc="log2(2**x + 2**y) without overflow.",
    jvp=(
        lambda t, out, x, y: t * _softmax_weight(x, y, _LN2),
        lambda t, out, x, y: t * _softmax_weight(y, x, _LN2),
    ),
    commutative=True,
    dtypes="biuf",
    samples=Samples(points=(-np.inf, -1000.0, 0.0, 1000.0)),
    lower=_lower_logaddexp2,
)


ldexp = elementwise(
    "ldexp",
    np.ldexp,
    doc="x times 2 to the integer power n.",
    jvp=(lambda t, out, x, n: ldexp(t, n), None),
    transpose=(lambda ct, x, n: ldexp(ct, n), None),
    dtypes="f",
    samples=Samples(
        operands=lambda dtype, random: (
            random.normal(size=5).astype(dtype),
            random.integers(-4, 5, size=5).astype(np.int32),
        )
    ),
    lower=lambda o, x, n: o.scale_by_power(x, n),
)
