"""Complex numbers inside kernels: pairs of real values, and NumPy's operations on them.

`ComplexOperations(o)` has every operation of `o`, a backend's operations on real numbers (such as
`codegen/operations.py`), and does them for complex values too. A complex value is a `Pair` of real
ones; its operations are made of those of `o`, so that every backend has them, but for six functions
that the backend's own library has: `o.complex_math(name, x, y) -> (real, imag)` of x + i y, where
`name` is exp, log, sqrt, sin, cos or tanh.

Products and quotients are NumPy's formulas, each operation rounded by itself: z * conj(z) is real.
Comparisons are lexicographic, real parts first, as NumPy's.

Reading order: `Pair`; `ComplexOperations` from its constructor down: parts, casts, arithmetic,
choices, comparisons and tests, functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.complex_functions import COMPLEX_FORMULAS


@dataclass(frozen=True, slots=True)
class Pair:
    """A complex value: its parts, values of the float type of half the width."""

    real: Any
    imag: Any
    dtype: np.dtype

    @property
    def number(self) -> complex | None:
        """The number that it is known to be, None if it is not known."""
        if self.real.number is None or self.imag.number is None:
            return None
        return complex(self.real.number, self.imag.number)

    @property
    def is_ordered(self) -> bool:
        """Whether it is known not to be NaN."""
        return self.real.is_ordered and self.imag.is_ordered

    @property
    def is_regular(self) -> bool:
        """Whether it is known to be neither 0 nor infinite nor NaN."""
        number = self.number
        if number is None or number == 0:
            return False
        return isfinite(number.real) and isfinite(number.imag)


def parts_of(x: Any) -> tuple[Any, ...]:
    """Return the real values that hold a value: both parts of a complex one, else itself."""
    return (x.real, x.imag) if isinstance(x, Pair) else (x,)


def of_parts(parts: Sequence[Any], dtype: np.dtype) -> Any:
    """Return the value of element type `dtype` that `parts_of` has taken apart."""
    if dtypes.is_complex(dtype):
        real, imag = parts
        return Pair(real, imag, dtype)
    (x,) = parts
    return x


def _on_pairs(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that is given pairs alone: real operands go to the operations on reals."""
    name = method.__name__

    @wraps(method)
    def dispatched(self: Any, *operands: Any) -> Any:
        dtype = next((x.dtype for x in operands if isinstance(x, Pair)), None)
        if dtype is None:
            return getattr(self.on_reals, name)(*operands)
        pairs = [x if isinstance(x, Pair) else self.constant(x, dtype) for x in operands]
        return method(self, *pairs)

    return dispatched


class ComplexOperations:
    """The operations of `on_reals`, on complex values too.

    >>> from autodiff.codegen.operations import Operations, Typed
    >>> from autodiff.codegen.vectors import F64, Value, VectorBuilder
    >>> from autodiff.schedule.target import AVX2
    >>> b = VectorBuilder(AVX2, 4)
    >>> o = ComplexOperations(Operations(b))
    >>> x, y = (Typed(Value(name, F64), np.dtype(np.float64)) for name in ("%x", "%y"))
    >>> z = o.conjugate(o.add(o.make_complex(x, y), 1j))
    >>> print(*b.lines, sep="\\n")
      %v0 = fadd <4 x double> %x, splat (double 0x0000000000000000)
      %v1 = fadd <4 x double> %y, splat (double 0x3FF0000000000000)
      %v2 = fneg <4 x double> %v1
    """

    def __init__(self, on_reals: Any) -> None:
        self.on_reals = on_reals

    def __getattr__(self, name: str) -> Any:
        """Return an operation that complex values do not have."""
        return getattr(self.on_reals, name)

    # ---- parts

    def constant(self, number: Any, dtype: np.dtype) -> Any:
        """Return a number in every lane, rounded to `dtype` as NumPy does."""
        if not dtypes.is_complex(dtype):
            return self.on_reals.constant(number, dtype)
        whole, part = complex(number), dtypes.real_dtype(dtype)
        parts = [self.on_reals.constant(x, part) for x in (whole.real, whole.imag)]
        return of_parts(parts, dtype)

    def make_complex(self, x: Any, y: Any) -> Pair:
        """Return x + i y of two real values of one type."""
        return Pair(x, y, dtypes.complex_dtype(x.dtype))

    def real(self, x: Pair) -> Any:
        """Return the real part of a complex value."""
        return x.real

    def imag(self, x: Pair) -> Any:
        """Return the imaginary part of a complex value."""
        return x.imag

    def conjugate(self, x: Pair) -> Pair:
        """Return x with the sign of its imaginary part changed."""
        return Pair(x.real, self.on_reals.negative(x.imag), x.dtype)

    def _each(self, method: str, *pairs: Pair) -> Pair:
        """Return an operation done to real parts, and to imaginary ones."""
        on_reals = getattr(self.on_reals, method)
        real, imag = (on_reals(*parts) for parts in zip(*map(parts_of, pairs), strict=True))
        return Pair(real, imag, pairs[0].dtype)

    # ---- casts

    def cast(self, x: Any, dtype: np.dtype) -> Any:
        """Return the same number as another element type; complex to real keeps the real part."""
        if dtypes.is_complex(dtype):
            part = dtypes.real_dtype(dtype)
            if isinstance(x, Pair):
                return of_parts([self.on_reals.cast(p, part) for p in parts_of(x)], dtype)
            real = self.on_reals.cast(x, part)
            return Pair(real, self.on_reals.constant(0, part), dtype)
        if isinstance(x, Pair):
            return self.not_equal(x, 0) if dtypes.is_bool(dtype) else self.cast(x.real, dtype)
        return self.on_reals.cast(x, dtype)

    def widened(self, x: Any) -> Any:
        """Return a 16-bit float as float32, anything else as it is."""
        return x if isinstance(x, Pair) else self.on_reals.widened(x)

    # ---- arithmetic

    @_on_pairs
    def add(self, x: Pair, y: Pair) -> Pair:
        """Return x + y."""
        return self._each("add", x, y)

    @_on_pairs
    def subtract(self, x: Pair, y: Pair) -> Pair:
        """Return x - y."""
        return self._each("subtract", x, y)

    @_on_pairs
    def negative(self, x: Pair) -> Pair:
        """Return -x."""
        return self._each("negative", x)

    @_on_pairs
    def multiply(self, x: Pair, y: Pair) -> Pair:
        """Return x * y by the plain formula: 1j * inf has a NaN for its real part."""
        o = self.on_reals
        with o.exactly():
            real = o.subtract(o.multiply(x.real, y.real), o.multiply(x.imag, y.imag))
            imag = o.add(o.multiply(x.real, y.imag), o.multiply(x.imag, y.real))
        return Pair(real, imag, x.dtype)

    @_on_pairs
    def square(self, x: Pair) -> Pair:
        """Return x * x."""
        return self.multiply(x, x)

    @_on_pairs
    def divide(self, x: Pair, y: Pair) -> Pair:
        """Return x / y by Smith's formula (Algorithm 116: Complex division, CACM 1962).

        With |c| >= |d|, r = d / c, s = 1 / (c + d r):
        (a + i b) / (c + i d) = (a + b r) s + i (b - a r) s; else the same with i x and i y, turned.
        """
        o = self.on_reals
        wide = o.greater_equal(o.absolute(y.real), o.absolute(y.imag))
        ratio, total = self._smith(wide, y)
        one, other = o.where(wide, x.real, x.imag), o.where(wide, x.imag, x.real)
        with o.exactly():
            scale = o.divide(1, total)
            real = o.multiply(o.add(one, o.multiply(other, ratio)), scale)
            # wide: b - a r; else b r - a
            turned = o.multiply(one, ratio)
            apart = o.where(wide, o.subtract(x.imag, turned), o.subtract(turned, x.real))
            imag = o.multiply(apart, scale)
        if not y.is_regular:
            by_zero, zero = self.equal(y, 0), o.absolute(y.real)
            real = o.where(by_zero, o.divide(x.real, zero), real)
            imag = o.where(by_zero, o.divide(x.imag, zero), imag)
        return Pair(real, imag, x.dtype)

    def _smith(self, wide: Any, y: Pair) -> tuple[Any, Any]:
        """Return the ratio of the smaller part of y to the larger, and larger + smaller * ratio.

        `wide`: where the real part is the larger one.
        """
        o = self.on_reals
        larger, smaller = o.where(wide, y.real, y.imag), o.where(wide, y.imag, y.real)
        with o.exactly():
            ratio = o.divide(smaller, larger)
            return ratio, o.add(larger, o.multiply(smaller, ratio))

    @_on_pairs
    def reciprocal(self, x: Pair) -> Pair:
        """Return 1 / x, by Smith's formula for a numerator 1."""
        o = self.on_reals
        wide = o.less_equal(o.absolute(x.imag), o.absolute(x.real))
        ratio, total = self._smith(wide, x)
        with o.exactly():
            real = o.divide(o.where(wide, 1, ratio), total)
            imag = o.divide(o.where(wide, o.negative(ratio), -1), total)
        return Pair(real, imag, x.dtype)

    @_on_pairs
    def absolute(self, x: Pair) -> Any:
        """Return the modulus |x|, a real value."""
        return self.on_reals.math("hypot", x.real, x.imag)

    def angle(self, x: Pair) -> Any:
        """Return the argument of a complex value, a real one in [-pi, pi]."""
        return self.on_reals.math("atan2", x.imag, x.real)

    @_on_pairs
    def sign(self, x: Pair) -> Pair:
        """Return x / |x|, 0 at 0; of one infinite part its sign, of two NaN."""
        o = self.on_reals
        size = self.absolute(x)
        is_zero, is_infinite = o.equal(size, 0), o.isinf(size)

        def signed(part: Any) -> Any:
            limit = o.where(o.isinf(part), o.copysign(1, part), 0)
            finite = o.where(is_zero, 0, o.divide(part, size))
            return o.where(is_infinite, limit, finite)

        unknown = o.logical_and(o.isinf(x.real), o.isinf(x.imag))
        parts = [o.where(unknown, np.nan, signed(part)) for part in parts_of(x)]
        return of_parts(parts, x.dtype)

    @_on_pairs
    def rint(self, x: Pair) -> Pair:
        """Return both parts rounded to integers, halves to even."""
        return self._each("rint", x)

    # ---- choices

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """Return x where the mask is set, else y."""
        dtype = next((v.dtype for v in (x, y) if isinstance(v, Pair)), None)
        if dtype is None:
            return self.on_reals.where(condition, x, y)
        x, y = (v if isinstance(v, Pair) else self.constant(v, dtype) for v in (x, y))
        parts = zip(parts_of(x), parts_of(y), strict=True)
        return of_parts([self.on_reals.where(condition, *both) for both in parts], dtype)

    @_on_pairs
    def maximum(self, x: Pair, y: Pair) -> Pair:
        """Return the larger; x if it has a NaN, else y if that has one."""
        return self._first_of(x, y, x, self.greater_equal(x, y))

    @_on_pairs
    def minimum(self, x: Pair, y: Pair) -> Pair:
        """Return the smaller; x if it has a NaN, else y if that has one."""
        return self._first_of(x, y, x, self.less_equal(x, y))

    @_on_pairs
    def fmax(self, x: Pair, y: Pair) -> Pair:
        """Return the larger, ignoring what has a NaN beside what has none."""
        return self._first_of(x, y, y, self.greater_equal(x, y))

    @_on_pairs
    def fmin(self, x: Pair, y: Pair) -> Pair:
        """Return the smaller, ignoring what has a NaN beside what has none."""
        return self._first_of(x, y, y, self.less_equal(x, y))

    def _first_of(self, x: Pair, y: Pair, tested: Pair, wins: Any) -> Pair:
        """Return x where it wins or `tested` has a NaN, else y."""
        return self.where(self.on_reals.logical_or(self.isnan(tested), wins), x, y)

    # ---- comparisons and tests

    @_on_pairs
    def equal(self, x: Pair, y: Pair) -> Any:
        """Return where both parts are equal."""
        o = self.on_reals
        return o.logical_and(o.equal(x.real, y.real), o.equal(x.imag, y.imag))

    @_on_pairs
    def not_equal(self, x: Pair, y: Pair) -> Any:
        """Return where a part differs, which a NaN always does."""
        o = self.on_reals
        return o.logical_or(o.not_equal(x.real, y.real), o.not_equal(x.imag, y.imag))

    @_on_pairs
    def less(self, x: Pair, y: Pair) -> Any:
        """Return where x < y."""
        return self._ordered("less", "less", x, y)

    @_on_pairs
    def less_equal(self, x: Pair, y: Pair) -> Any:
        """Return where x <= y."""
        return self._ordered("less", "less_equal", x, y)

    @_on_pairs
    def greater(self, x: Pair, y: Pair) -> Any:
        """Return where x > y."""
        return self._ordered("greater", "greater", x, y)

    @_on_pairs
    def greater_equal(self, x: Pair, y: Pair) -> Any:
        """Return where x >= y."""
        return self._ordered("greater", "greater_equal", x, y)

    def _ordered(self, strict: str, last: str, x: Pair, y: Pair) -> Any:
        """Return where the real parts are in strict order, or equal and the imaginary ones are.

        What has a NaN is in no order.
        """
        o = self.on_reals
        unknown = o.logical_or(o.isnan(x.imag), o.isnan(y.imag))
        first = o.logical_and(getattr(o, strict)(x.real, y.real), o.logical_not(unknown))
        second = o.logical_and(o.equal(x.real, y.real), getattr(o, last)(x.imag, y.imag))
        return o.logical_or(first, second)

    @_on_pairs
    def isnan(self, x: Pair) -> Any:
        """Return where a part is not a number."""
        return self.on_reals.logical_or(*map(self.on_reals.isnan, parts_of(x)))

    @_on_pairs
    def isinf(self, x: Pair) -> Any:
        """Return where a part is infinite."""
        return self.on_reals.logical_or(*map(self.on_reals.isinf, parts_of(x)))

    @_on_pairs
    def isfinite(self, x: Pair) -> Any:
        """Return where both parts are neither infinite nor NaN."""
        return self.on_reals.logical_and(*map(self.on_reals.isfinite, parts_of(x)))

    # ---- functions

    @_on_pairs
    def sqrt(self, x: Pair) -> Pair:
        """Return the square root with a real part not below 0."""
        return self.math("sqrt", x)

    def math(self, name: str, *operands: Any) -> Any:
        """Return a function of the math library; of a complex value, of one operand."""
        if not any(isinstance(x, Pair) for x in operands):
            return self.on_reals.math(name, *operands)
        (x,) = operands
        formula = COMPLEX_FORMULAS.get(name)
        if formula is None:
            return of_parts(self.on_reals.complex_math(name, x.real, x.imag), x.dtype)
        return of_parts(formula(self.on_reals, x.real, x.imag), x.dtype)
