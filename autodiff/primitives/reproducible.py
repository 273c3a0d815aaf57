"""Logarithms and error functions whose float32 values are the same bits on every machine.

A library's `log` differs in the last bit from one machine to the next. Here, in float32, every
function is a sequence of additions, products, quotients, square roots and fused multiply-adds,
each of which IEEE 754 rounds in one way only: a key gives the same normal numbers on every CPU and
GPU, and they are those of JAX on the CPU, whose compiler evaluates the same polynomials in the same
order. float16 and bfloat16 are computed in float32. In float64 `log` is the array module's and
`erf` the C library's, so that numbers made with them can differ in the last bits there.

Reading order: `_fma` and `_polynomial`, then a formula and a declaration for each operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.base.array_modules import common_module
from autodiff.ir.builder import Tracer
from autodiff.ir.primitive import Samples, primitives
from autodiff.primitives.arithmetic import guarded_multiply
from autodiff.primitives.blocks import in_blocks
from autodiff.primitives.exponential import exp
from autodiff.primitives.families import FLOAT, elementwise
from autodiff.primitives.lowering import expression, operation
from autodiff.primitives.special import gaussian

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


# --------------------------------------------------------------------------- fused multiply-add


def _fma(x: Any, y: Any, z: Any) -> Any:
    """Return x*y + z rounded once; the operands are float32, or float64, and at most broadcast."""
    if any(isinstance(v, Tracer) for v in (x, y, z)):
        return fused_multiply_add(x, y, z)
    return _fma_double(x, y, z) if np.result_type(x, y, z) == _DOUBLE else _fma_single(x, y, z)


def _fma_single(x: Any, y: Any, z: Any) -> Any:
    """float32: the product is exact in float64, and so is nearly every sum.

    Rounding the sum to float64 and then to float32 differs from rounding once only where the first
    rounding ends exactly between two float32 numbers; there the float64 number is moved to the side
    on which the exact sum lies.
    """
    product = np.multiply(x, y, dtype=_DOUBLE)
    total = product + z
    bits = total.view(np.int64)
    between = (bits & 0x1FFFFFFF) == 0x10000000
    if between.any():
        _, rest = _two_sum(product, np.multiply(z, 1, dtype=_DOUBLE))
        bits += between * np.sign(rest * total).astype(np.int64)
    return total.astype(_SINGLE)


def _fma_double(x: Any, y: Any, z: Any) -> Any:
    """float64: the sum of an exact product and z, by rounding the small parts to odd.

    Boldo and Melquiond, Emulation of a FMA and correctly rounded sums: proved algorithms using
    rounding to odd, IEEE Trans. Computers 57 (2008), figure 5.
    """
    high, low = _two_product(x, y)
    middle, tail = _two_sum(z, low)
    head, middle = _two_sum(high, middle)
    return head + _sum_to_odd(middle, tail)


def _two_sum(x: Any, y: Any) -> tuple[Any, Any]:
    """Return x + y and its rounding error (Knuth, TAOCP vol. 2, section 4.2.2, theorem B)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _two_product(x: Any, y: Any) -> tuple[Any, Any]:
    """Return x * y and its rounding error (Dekker 1971, with Veltkamp's splitting, 2**27 + 1)."""
    product = x * y
    x_high, x_low = _split(x)
    y_high, y_low = _split(y)
    rest = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, rest


def _split(x: Any) -> tuple[Any, Any]:
    scaled = 134217729.0 * x
    high = scaled - (scaled - x)
    return high, x - high


def _sum_to_odd(x: Any, y: Any) -> Any:
    """Return x + y, rounded to the neighbour with odd significand unless it is exact."""
    total, rest = _two_sum(x, y)
    bits = total.view(np.int64)
    towards_rest = 1 | ((bits ^ rest.view(np.int64)) >> 63)
    bits += towards_rest * (~bits & 1 & (rest != 0))
    return bits.view(_DOUBLE)


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Return the polynomial with these coefficients, highest power first, by Horner's scheme."""
    kind = x.dtype.type
    value = kind(coefficients[0])
    for coefficient in coefficients[1:]:
        value = _fma(value, x, kind(coefficient))
    return value


def _fma_of_block(x: Any, y: Any, z: Any) -> tuple[Any]:
    if x.dtype.itemsize < 4:
        x, y, z = x.astype(_SINGLE), y.astype(_SINGLE), z.astype(_SINGLE)
    result = _fma(x, y, z)
    if x.dtype == _DOUBLE:  # splitting a factor overflows early; adding up parts loses -0.0
        result = np.where(np.isfinite(result) & (result != 0), result, x * y + z)
    return (result,)


def _fused_multiply_add(x: Any, y: Any, z: Any) -> Any:
    dtype = np.result_type(x, y, z)
    operands = [np.asarray(v, dtype) if isinstance(v, float | np.generic) else v for v in (x, y, z)]
    return in_blocks(_fma_of_block, operands, (dtype,))[0]


fused_multiply_add = elementwise(
    "fused_multiply_add",
    _fused_multiply_add,
    doc="x * y + z, rounded once.",
    promote=lambda operands: ((np.result_type(*operands),) * 3, (np.result_type(*operands),)),
    jvp=(
        lambda t, out, x, y, z: t * y,
        lambda t, out, x, y, z: x * t,
        lambda t, out, x, y, z: t,
    ),
    dtypes=FLOAT,
    public=False,
    samples=Samples(points=(-2.0, -0.0, 0.0, 1.0, 3.0, np.inf, np.nan)),
    lower=operation("fused_multiply_add"),
    ulp={"float64": 1},  # the parts of a subnormal product have no digits left
)


def _by_blocks(formula: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return an operation's reference from its formula on one-dimensional float32 or float64."""

    def apply_to_block(x: Any) -> tuple[Any]:
        return (formula(x if x.dtype.itemsize >= 4 else x.astype(_SINGLE)),)

    def reference(x: Any) -> Any:
        return in_blocks(apply_to_block, (x,), (x.dtype,))[0]

    return reference


def _in_kernels(formula: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return an operation's rule from a formula that computes every branch and then chooses."""

    def of_one_number(x: Any) -> Any:
        return formula(x if x.dtype.itemsize >= 4 else x.astype(_SINGLE)).astype(x.dtype)

    return expression(of_one_number)


def _is_single_or_less(dtype: np.dtype) -> bool:
    """Return whether a kernel has the formula's bits: in double precision it is NumPy's own."""
    return dtype.itemsize <= 4


def _one_float(operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    return operands, operands


# ----------------------------------------------------------------------------------- logarithms

#: log(1 + m) = m - m**2/2 + m**3 P(m) on sqrt(1/2) <= 1 + m < sqrt(2), relative error 7e-8
#: (Moshier, Cephes mathematical library, 1992, logf.c).
_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1,
    -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_SQRT2_MINUS_1 = 0.41421356237309503
_LOG2_LOW, _LOG2_HIGH = np.float32(-2.12194440e-4), np.float32(0.693359375)

#: log1p(x) = x - x**2/2 + x**3 P(x)/Q(x) on sqrt(1/2) <= 1 + x < sqrt(2), relative error 2e-20
#: (Moshier, log1p of the same library, unity.c).
_LOG1P_NUMERATOR = (
    4.5270000862445199635215e-5, 4.9854102823193375972212e-1, 6.5787325942061044846969e0,
    2.9911919328553073277375e1, 6.0949667980987787057556e1, 5.7112963590585538103336e1,
    2.0039553499201281259648e1,
)  # fmt: skip
_LOG1P_DENOMINATOR = (
    1.0, 1.5062909083469192043167e1, 8.3047565967967209469434e1, 2.2176239823732856465394e2,
    3.0909872225312059774938e2, 2.1642788614495947685003e2, 6.0118660497603843919306e1,
)  # fmt: skip


def _log(x: Any) -> Any:
    """Write x = 2**e (1 + m), then log(x) = e log(2) + log(1 + m), log(2) in two parts."""
    if x.dtype == _DOUBLE:
        return np.log(x)
    bits = np.maximum(x, np.finfo(_SINGLE).tiny).view(np.uint32)
    significand = ((bits & np.uint32(0x007FFFFF)) | np.uint32(0x3F000000)).view(_SINGLE)
    exponent = (bits >> np.uint32(23)).astype(_SINGLE) - np.float32(126)
    low = significand < np.float32(np.sqrt(0.5))
    m = (significand - np.float32(1)) + np.where(low, significand, np.float32(0))
    exponent = exponent - low
    square = m * m
    cube = square * m
    groups = [_polynomial(_LOG[start : start + 3], m) for start in (0, 3, 6)]
    value = _fma(_fma(groups[0], cube, groups[1]), cube, groups[2])
    small = _fma(value, cube, exponent * _LOG2_LOW)
    large = _fma(np.float32(-0.5), square, m)
    result = _fma(exponent, _LOG2_HIGH, large + small)
    result = np.where(x > 0, result, np.where(x == 0, -np.inf, np.nan).astype(_SINGLE))
    return np.where(x == np.inf, x, result)


def _log1p(x: Any) -> Any:
    small = np.abs(x) < x.dtype.type(_SQRT2_MINUS_1)
    value = np.empty_like(x)
    value[small] = _log1p_near_zero(x[small])
    value[~small] = _log(x.dtype.type(1) + x[~small])
    return value


def _log1p_of_one_number(x: Any) -> Any:
    small = np.abs(x) < x.dtype.type(_SQRT2_MINUS_1)
    return np.where(small, _log1p_near_zero(x), _log(x.dtype.type(1) + x))


def _log1p_near_zero(x: Any) -> Any:
    square = x * x
    ratio = _polynomial(_LOG1P_NUMERATOR, x) / _polynomial(_LOG1P_DENOMINATOR, x)
    value = x + _fma(square, x.dtype.type(-0.5), (x * square) * ratio)
    return np.where(x == 0, x, value)  # -0.0 stays


reproducible_log = elementwise(
    "reproducible_log",
    _by_blocks(_log),
    doc="Natural logarithm, in float32 the same bits everywhere; subnormal numbers count as the "
    "smallest normal one.",
    promote=_one_float,
    jvp=lambda t, out, x: guarded_multiply(t, 1 / x),
    dtypes=FLOAT,
    public=False,
    samples=Samples(span=(0.1, 4.0), points=(-1.0, 0.0, 1e-30, 1.0, 1e30, np.inf, np.nan)),
    lower=_in_kernels(_log),
    lower_for=_is_single_or_less,
)
reproducible_log1p = elementwise(
    "reproducible_log1p",
    _by_blocks(_log1p),
    doc="log(1 + x), in float32 the same bits everywhere.",
    promote=_one_float,
    jvp=lambda t, out, x: guarded_multiply(t, 1 / (x + 1)),
    dtypes=FLOAT,
    public=False,
    samples=Samples(span=(-0.9, 3.0), points=(-1.0, -0.0, 0.0, 1e-30, np.inf, np.nan)),
    lower=_in_kernels(_log1p_of_one_number),
    lower_for=_is_single_or_less,
)


# ------------------------------------------------------------------------------- error functions

#: erf(x) = x P(x**2)/Q(x**2) for |x| < 3.8325, where erf rounds to 1 (Rasmus Munk Larsen's rational
#: minimax approximation in Eigen, SpecialFunctionsImpl.h, float32).
_ERF_NUMERATOR = (
    2.29050653e-4, 3.40829091e-3, 5.09556942e-2, 1.85208321e-1, 1.12837911e0,
)  # fmt: skip
_ERF_DENOMINATOR = (
    -1.17916031e-7, 2.35479656e-5, 1.01796258e-3, 1.40704699e-2, 1.10985049e-1, 4.97469246e-1, 1.0,
)  # fmt: skip
_ERF_IS_ONE = np.float32(3.832507)

#: float64: the C library's, element by element: in practice for the few bounds of a distribution.
_ERF_OF_C = np.frompyfunc(math.erf, 1, 1)

_Branch = tuple[float, bool, float, tuple[float, ...]]

#: erfinv(x) = x P(w - shift), or x P(sqrt(w) - shift), with w = -log(1 - x**2): per element type
#: the upper end of w, whether the square root is taken, the shift, and P, highest power first
#: (Giles, Approximating the erfinv function, GPU Computing Gems Jade edition, 2011, chapter 10:
#: table for single precision, listing for double precision).
_ERFINV: dict[np.dtype, tuple[_Branch, ...]] = {
    _SINGLE: (
        (5.0, False, 2.5, (
            2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
            -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
        )),
        (np.inf, True, 3.0, (
            -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
            -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
        )),
    ),
    _DOUBLE: (
        (6.25, False, 3.125, (
            -3.64441206401782e-21, -1.6850591381820166e-19, 1.28584807152564e-18,
            1.1157877678025181e-17, -1.333171662854621e-16, 2.0972767875968562e-17,
            6.637638134358324e-15, -4.054566272975207e-14, -8.151934197605472e-14,
            2.6335093153082323e-12, -1.2975133253453532e-11, -5.415412054294628e-11,
            1.0512122733215323e-09, -4.112633980346984e-09, -2.9070369957882005e-08,
            4.2347877827932404e-07, -1.3654692000834679e-06, -1.3882523362786469e-05,
            0.00018673420803405714, -0.000740702534166267, -0.006033670871430149,
            0.24015818242558962, 1.6536545626831027,
        )),
        (16.0, True, 3.25, (
            2.2137376921775787e-09, 9.075656193888539e-08, -2.7517406297064545e-07,
            1.8239629214389228e-08, 1.5027403968909828e-06, -4.013867526981546e-06,
            2.9234449089955446e-06, 1.2475304481671779e-05, -4.7318229009055734e-05,
            6.828485145957318e-05, 2.4031110387097894e-05, -0.0003550375203628475,
            0.0009532893797373805, -0.0016882755560235047, 0.002491442096107851,
            -0.003751208507569241, 0.005370914553590064, 1.0052589676941592, 3.0838856104922208,
        )),
        (np.inf, True, 5.0, (
            -2.7109920616438573e-11, -2.555641816996525e-10, 1.5076572693500548e-09,
            -3.789465440126737e-09, 7.61570120807834e-09, -1.496002662714924e-08,
            2.914795345090108e-08, -6.771199775845234e-08, 2.2900482228026655e-07,
            -9.9298272942317e-07, 4.526062597223154e-06, -1.968177810553167e-05,
            7.599527703001776e-05, -0.00021503011930044477, -0.00013871931833623122,
            1.0103004648645344, 4.849906401408584,
        )),
    ),
}  # fmt: skip


def _erf(x: Any) -> Any:
    if x.dtype == _DOUBLE:
        host = x if isinstance(x, np.ndarray) else x.get()
        return common_module((x,)).asarray(np.asarray(_ERF_OF_C(host), _DOUBLE))
    square = x * x
    ratio = (x * _polynomial(_ERF_NUMERATOR, square)) / _polynomial(_ERF_DENOMINATOR, square)
    return np.where(np.abs(x) >= _ERF_IS_ONE, np.copysign(np.float32(1), x), ratio)


def _erfinv(x: Any) -> Any:
    w = -_log1p(x * -x)
    root = np.sqrt(w)
    value = np.full_like(w, np.nan)
    lower = x.dtype.type(0)
    for upper, takes_root, shift, coefficients in _ERFINV[x.dtype]:
        here = (w >= lower) & (w < upper)
        if here.any():
            argument = (root if takes_root else w)[here] - x.dtype.type(shift)
            value[here] = _polynomial(coefficients, argument)
        lower = x.dtype.type(upper)
    return np.where(np.abs(x) == 1, x * x.dtype.type(np.inf), value * x)


def _erf_of_one_number(x: Any) -> Any:
    return primitives["erf"](x) if x.dtype == _DOUBLE else _erf(x)


def _erfinv_of_one_number(x: Any) -> Any:
    w = -_log1p_of_one_number(x * -x)
    root = np.sqrt(w)
    value = x.dtype.type(np.nan)
    for upper, takes_root, shift, coefficients in reversed(_ERFINV[x.dtype]):
        argument = (root if takes_root else w) - x.dtype.type(shift)
        value = np.where(w < x.dtype.type(upper), _polynomial(coefficients, argument), value)
    return np.where(np.abs(x) == 1, x * x.dtype.type(np.inf), value * x)


reproducible_erf = elementwise(
    "reproducible_erf",
    _by_blocks(_erf),
    doc="Error function, in float32 the same bits everywhere.",
    promote=_one_float,
    jvp=lambda t, out, x: t * (float(2 / np.sqrt(np.pi)) * exp(-(x * x))),
    dtypes=FLOAT,
    public=False,
    samples=Samples(span=(-3.0, 3.0), points=(-np.inf, -4.0, -0.0, 0.0, 1e-30, np.inf, np.nan)),
    lower=_in_kernels(_erf_of_one_number),
    lower_for=_is_single_or_less,
)
reproducible_erfinv = elementwise(
    "reproducible_erfinv",
    _by_blocks(_erfinv),
    doc="Inverse error function, in float32 the same bits everywhere.",
    promote=_one_float,
    jvp=lambda t, out, x: guarded_multiply(t, float(np.sqrt(np.pi) / 2) / gaussian(out, divisor=1)),
    dtypes=FLOAT,
    public=False,
    samples=Samples(span=(-0.99, 0.99), points=(-1.0, -0.0, 0.0, 1e-30, 1.0, 2.0, np.nan)),
    lower=_in_kernels(_erfinv_of_one_number),
    lower_for=_is_single_or_less,
)
