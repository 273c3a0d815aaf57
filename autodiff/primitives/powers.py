"""How powers are computed in kernels, as rules of the declarations in arithmetic.py.

Complex numbers to whole powers below 100 are NumPy's products, in NumPy's order (`npy_cpow` in
numpy/_core/src/npymath/npy_math_complex.c.src), so that signs of zeros and infinities are its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base import dtypes

#: Whole powers of complex numbers below this are products.
_MOST = 100


def lower_power(o: Any, x: Any, y: Any) -> Any:
    """Return x ** y of inexact numbers."""
    if not dtypes.is_complex(x.dtype):
        return o.math("pow", x, y)
    result = o.math("exp", _product_of_infinities(o, y, o.math("log", x)))
    if y.number is None or _is_product(y.number):
        result = _where_whole(o, x, y, result)
    grows = o.greater(o.real(y), 0)
    of_zero = o.where(grows, o.constant(0, x.dtype), complex(np.nan, np.nan))
    result = o.where(o.equal(x, 0), of_zero, result)
    return o.where(o.equal(y, 0), 1, result)


def _product_of_infinities(o: Any, x: Any, y: Any) -> Any:
    """Return x * y, infinite where a factor or a partial product is although a part is unknown.

    As the C library's, on which NumPy's power rests (ISO C 2011, annex G.5.1, the example).
    """
    product = o.multiply(x, y)
    a, b, c, d = o.real(x), o.imag(x), o.real(y), o.imag(y)
    x_infinite, y_infinite = o.isinf(x), o.isinf(y)
    partial = [o.isinf(o.multiply(u, v)) for u, v in ((a, c), (b, d), (a, d), (b, c))]
    any_infinite = o.logical_or(x_infinite, y_infinite)
    for mask in partial:
        any_infinite = o.logical_or(any_infinite, mask)

    def signs(part: Any, is_infinite: Any) -> Any:
        """Return a part with NaN as 0, and of an infinite number 1 for infinity, else 0."""
        known = o.where(o.isnan(part), o.copysign(0, part), part)
        unit = o.copysign(o.where(o.isinf(part), 1, o.constant(0, part.dtype)), part)
        return o.where(is_infinite, unit, known)

    a, b = signs(a, x_infinite), signs(b, x_infinite)
    c, d = signs(c, y_infinite), signs(d, y_infinite)
    with o.exactly():
        real = o.multiply(o.subtract(o.multiply(a, c), o.multiply(b, d)), np.inf)
        imag = o.multiply(o.add(o.multiply(a, d), o.multiply(b, c)), np.inf)
    unknown = o.logical_and(o.isnan(o.real(product)), o.isnan(o.imag(product)))
    return o.where(o.logical_and(unknown, any_infinite), o.make_complex(real, imag), product)


def _is_product(number: complex) -> bool:
    return number.imag == 0 and number.real.is_integer() and abs(number.real) < _MOST


def _where_whole(o: Any, x: Any, y: Any, otherwise: Any) -> Any:
    """Return x ** y where y is a whole number that is not large, else `otherwise`."""
    power = o.real(y)
    size = o.absolute(power)
    whole = o.logical_and(o.equal(o.imag(y), 0), o.equal(o.rint(power), power))
    whole = o.logical_and(whole, o.less(size, _MOST))
    bits = o.cast(o.where(whole, size, 0), np.dtype(np.int32))
    product, factor = o.constant(1, x.dtype), x
    for place in range(_MOST.bit_length()):
        is_set = o.not_equal(o.bitwise_and(bits, 1 << place), 0)
        product = o.where(is_set, o.multiply(product, factor), product)
        factor = o.multiply(factor, factor)
    product = o.where(o.less(power, 0), o.divide(1, product), product)
    # NumPy begins the first three with x itself.
    square = o.multiply(x, x)
    for exponent, own in enumerate((x, square, o.multiply(x, square)), 1):
        product = o.where(o.equal(power, exponent), own, product)
    return o.where(whole, product, otherwise)


def lower_integer_power(o: Any, x: Any, *, exponent: int) -> Any:
    """Repeated squaring; of floats only for exponents so small that its roundings stay few."""
    if dtypes.is_complex(x.dtype):
        return _complex_integer_power(o, x, exponent)
    wide = o.widened(x)
    is_float = dtypes.is_float(x.dtype)
    if is_float and not -3 <= exponent <= 5:
        return o.cast(o.math("pow", wide, exponent), x.dtype)
    factor = wide if exponent >= 0 else o.reciprocal(wide)
    result, rest = None, abs(exponent)
    while rest:
        if rest % 2:
            result = factor if result is None else o.multiply(result, factor)
        rest //= 2
        factor = o.square(factor) if rest else factor
    return o.constant(1, x.dtype) if result is None else o.cast(result, x.dtype)


def _complex_integer_power(o: Any, x: Any, exponent: int) -> Any:
    """Return x ** exponent: products from the left for the first three, squares for the others."""
    if abs(exponent) >= _MOST:
        return lower_power(o, x, o.constant(exponent, x.dtype))
    if exponent == 0:
        return o.constant(1, x.dtype)
    if 0 < exponent <= 3:
        result = x
        for _ in range(exponent - 1):
            result = o.multiply(x, result)
    else:
        result, factor, rest = o.constant(1, x.dtype), x, abs(exponent)
        while rest:
            result = o.multiply(result, factor) if rest % 2 else result
            rest //= 2
            factor = o.multiply(factor, factor) if rest else factor
        result = o.divide(1, result) if exponent < 0 else result
    of_zero = 0 if exponent > 0 else complex(np.nan, np.nan)
    return o.where(o.equal(x, 0), of_zero, result)
