"""Distributions of real numbers: uniform, normal, truncated normal, exponential, Gumbel."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

import autodiff.numpy as anp
from autodiff.base.array_modules import common_module
from autodiff.base.dtypes import default_float, is_complex, real_dtype
from autodiff.primitives.reproducible import (
    fused_multiply_add,
    reproducible_erf,
    reproducible_erfinv,
    reproducible_log,
    reproducible_log1p,
)
from autodiff.random.arguments import (
    Shape,
    checked_broadcast,
    checked_choice,
    checked_dtype,
    checked_key,
    checked_number,
    checked_shape,
)
from autodiff.random.keys import split
from autodiff.random.layout import as_array, random_bits

#: Stored bits of the significand, by element type.
SIGNIFICAND = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}


def unit_interval(key: Any, shape: Shape, dtype: np.dtype) -> Any:
    """Return uniform numbers in [0, 1): as many random bits as the significand has, scaled.

    The same numbers result from writing the bits into the significand of a number in [1, 2) and
    subtracting 1, as JAX does. bfloat16 draws 8 bits an element, the others as many as they have.
    """
    significand = SIGNIFICAND[dtype.name]
    width = 8 if significand < 8 else 8 * dtype.itemsize
    chosen = random_bits(key, shape, width) >> np.dtype(f"uint{width}").type(width - significand)
    return chosen.astype(dtype) * dtype.type(2.0**-significand)


def _as_parameter(value: Any, dtype: np.dtype, key: Any) -> Any:
    """Return a parameter as an array (or traced value) of the result's element type."""
    if hasattr(value, "astype"):
        return value.astype(dtype)
    return common_module((key,)).asarray(value, dtype=dtype)


def scaled_to(unit: Any, lower: Any, upper: Any) -> Any:
    """Return numbers of [0, 1) mapped to [lower, upper)."""
    span = upper - lower
    if unit.dtype.itemsize >= 4:  # the compilers behind JAX fuse this product into the sum
        return anp.maximum(lower, fused_multiply_add(unit, span, lower))
    return anp.maximum(lower, unit * span + lower)


def uniform(
    key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0
) -> Any:
    """Return numbers distributed uniformly in [minval, maxval).

    >>> from autodiff.random import key
    >>> uniform(key(0), (2,), "float32")
    array([0.947667 , 0.9785799], dtype=float32)

    Args:
        key: a key, `uint32[2]`.
        shape: the shape of the result.
        dtype: a real floating type; default the default float.
        minval, maxval: numbers, or arrays that broadcast to `shape`; derivatives flow through them.

    Returns:
        An array of `shape` and `dtype`, multiples of `2**-23 (maxval - minval)` in float32 (52, 10
        and 7 in float64, float16 and bfloat16) above `minval`. Where `maxval` is not above `minval`
        the result is `minval` or a number between them.

    Raises:
        TypeError: `key` is not a key, `dtype` not floating, or a bound not a real number.
        ValueError: several keys, a negative size, or bounds that do not broadcast to `shape`.

    The numbers are JAX's bit for bit, for all four element types.
    """
    checked_key("uniform", key)
    dtype = checked_dtype("uniform", dtype, "f", default_float())
    shape = checked_shape("uniform", shape)
    if type(minval) in (int, float) and type(maxval) in (int, float) and (minval, maxval) == (0, 1):
        return as_array(unit_interval(key, shape, dtype))
    minval = checked_number("uniform", "minval", minval, "biuf")
    maxval = checked_number("uniform", "maxval", maxval, "biuf")
    shape = checked_broadcast("uniform", shape, {"minval": minval, "maxval": maxval})
    lower, upper = _as_parameter(minval, dtype, key), _as_parameter(maxval, dtype, key)
    return as_array(scaled_to(unit_interval(key, shape, dtype), lower, upper))


def normal(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Return numbers of the normal distribution with mean 0 and variance 1.

    `mean + deviation * normal(key, shape)` has any other, and derivatives flow through it.

    >>> from autodiff.random import key
    >>> normal(key(0), (2,), "float32")
    array([1.6226422, 2.0252647], dtype=float32)

    Args:
        key: a key, `uint32[2]`.
        shape: the shape of the result.
        dtype: a real floating type, or a complex one, for which the real and the imaginary part
            have variance 1/2 each; default the default float.

    Returns:
        An array of `shape` and `dtype`: `sqrt(2) erfinv(u)`, u uniform in (-1, 1). In float32 no
        number is beyond 5.42 in absolute value, in float64 none beyond 8.21.

    Raises:
        TypeError: `key` is not a key, or `dtype` neither floating nor complex.
        ValueError: several keys, or a negative size.

    The numbers are JAX's bit for bit in float32, float16, bfloat16 and complex64. In float64 and
    complex128 one in 40,000 differs, by at most 2 ULP, because NumPy's and JAX's float64 logarithms
    do (measured on 786,432 draws, x86-64).
    Source of erfinv: Giles, Approximating the erfinv function, GPU Computing Gems, 2011.
    """
    checked_key("normal", key)
    dtype = checked_dtype("normal", dtype, "fc", default_float())
    shape = checked_shape("normal", shape)
    if not is_complex(dtype):
        return as_array(_real_normal(key, shape, dtype))
    part = real_dtype(dtype)
    real_key, imaginary_key = split(key)
    real = _real_normal(real_key, shape, part) * _reciprocal_root(part)
    imaginary = _real_normal(imaginary_key, shape, part) * _reciprocal_root(part)
    return as_array(real + dtype.type(1j) * imaginary)


def _reciprocal_root(dtype: np.dtype) -> Any:
    """Return 1/sqrt(2), rounded as JAX's compiler does when it replaces a division by sqrt(2)."""
    return dtype.type(1) / dtype.type(np.sqrt(2))


def _real_normal(key: Any, shape: Shape, dtype: np.dtype) -> Any:
    one = dtype.type(1)
    lower = np.nextafter(-one, dtype.type(0))
    between = scaled_to(unit_interval(key, shape, dtype), lower, one)
    return dtype.type(np.sqrt(2)) * reproducible_erfinv(between)


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Return numbers of the standard normal distribution, given that they are in (lower, upper).

    >>> from autodiff.random import key
    >>> truncated_normal(key(0), -1.0, 1.0, (2,), "float32")
    array([0.8618594, 0.9412883], dtype=float32)

    Args:
        key: a key, `uint32[2]`.
        lower, upper: bounds, numbers or arrays that broadcast together; derivatives flow through
            them.
        shape: the shape of the result, to which the bounds broadcast; default theirs.
        dtype: a real floating type; default the default float.

    Returns:
        An array of `shape` and `dtype`, every number strictly between the bounds.

    Raises:
        TypeError: `key` is not a key, `dtype` not floating, or a bound not a real number.
        ValueError: several keys, a negative size, or bounds that do not broadcast to `shape`.

    The numbers are JAX's bit for bit in float32, float16 and bfloat16. In float64 one in 8,000
    differs, by at most 2 ULP of `max(1, |x|)` (measured as for `normal`).
    """
    checked_key("truncated_normal", key)
    dtype = checked_dtype("truncated_normal", dtype, "f", default_float())
    lower = checked_number("truncated_normal", "lower", lower, "biuf")
    upper = checked_number("truncated_normal", "upper", upper, "biuf")
    shape = checked_broadcast("truncated_normal", shape, {"lower": lower, "upper": upper})
    lower, upper = _as_parameter(lower, dtype, key), _as_parameter(upper, dtype, key)
    unit = unit_interval(key, shape, dtype)
    scale = _reciprocal_root(dtype)
    between = scaled_to(unit, reproducible_erf(lower * scale), reproducible_erf(upper * scale))
    inside = dtype.type(np.sqrt(2)) * reproducible_erfinv(between)
    # The bounds themselves, which rounding can reach, are moved inwards; there the derivative is 0.
    least = anp.nextafter(lower, dtype.type(np.inf))
    greatest = anp.nextafter(upper, dtype.type(-np.inf))
    return as_array(anp.minimum(anp.maximum(inside, least), greatest))


def exponential(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Return numbers of the exponential distribution with mean 1.

    >>> from autodiff.random import key
    >>> exponential(key(0), (2,), "float32")
    array([2.950128 , 3.8434246], dtype=float32)

    Args:
        key: a key, `uint32[2]`.
        shape: the shape of the result.
        dtype: a real floating type; default the default float.

    Returns:
        An array of `shape` and `dtype`: `-log(1 - u)`, u uniform in [0, 1).

    Raises:
        TypeError: `key` is not a key, or `dtype` not floating.
        ValueError: several keys, or a negative size.

    The numbers are JAX's bit for bit in float32, float16 and bfloat16. In float64 one in 3,000
    differs, by 1 ULP (measured as for `normal`).
    """
    checked_key("exponential", key)
    dtype = checked_dtype("exponential", dtype, "f", default_float())
    shape = checked_shape("exponential", shape)
    return as_array(-reproducible_log1p(-unit_interval(key, shape, dtype)))


def gumbel(key: Any, shape: Any = (), dtype: Any = None, mode: str | None = None) -> Any:
    """Return numbers of the Gumbel distribution, whose distribution function is exp(-exp(-x)).

    >>> from autodiff.random import key
    >>> gumbel(key(0), (2,), "float32")
    array([2.9233725, 3.8326178], dtype=float32)

    Args:
        key: a key, `uint32[2]`.
        shape: the shape of the result.
        dtype: a real floating type; default the default float.
        mode: "low" (also None) draws as many bits as the significand has, so that float32 numbers
            end at about 16; "high" draws twice as many, and they end at about 32.

    Returns:
        An array of `shape` and `dtype`: `-log(-log(u))`, u uniform in (0, 1).

    Raises:
        TypeError: `key` is not a key, or `dtype` not floating.
        ValueError: several keys, a negative size, or an unknown mode.

    The numbers are JAX's bit for bit in float32, float16 and bfloat16. In float64 one in 200
    differs, by at most 1 ULP of `max(1, |x|)` (measured as for `normal`).
    """
    checked_key("gumbel", key)
    dtype = checked_dtype("gumbel", dtype, "f", default_float())
    shape = checked_shape("gumbel", shape)
    mode = checked_choice("gumbel", "mode", mode or "low", ("low", "high"))
    tiny = dtype.type(ml_dtypes.finfo(dtype).smallest_normal)
    if mode == "low":
        unit = anp.maximum(unit_interval(key, shape, dtype), tiny)
        return as_array(-reproducible_log(-reproducible_log(unit)))
    pair = unit_interval(key, (2, *shape), dtype)
    high, low = pair[0], pair[1]
    # Above 1/2, more bits could round up to 1.
    refined = high + dtype.type(2.0 ** -SIGNIFICAND[dtype.name]) * low + tiny
    unit = anp.where(high >= dtype.type(0.5), high, refined)
    return as_array(-reproducible_log(-reproducible_log1p(-unit)))
