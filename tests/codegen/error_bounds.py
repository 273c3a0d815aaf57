"""How far a kernel's result may lie from the reference's: from declarations and rules alone.

What an operation's rule is made of decides: its result has the reference's bits, unless it calls a
function of the math library or its declaration states an error (`ulp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.complex_operations import ComplexOperations
from autodiff.codegen.cpu_layout import any_value
from autodiff.codegen.operations import Operations
from autodiff.codegen.vectors import VectorBuilder
from autodiff.ir.graph import Params, params_key
from autodiff.ir.primitive import Primitive, primitives
from autodiff.primitives.lowering import lower
from autodiff.schedule.target import AVX512

Dtypes = tuple[np.dtype, ...]

#: Of functions whose declaration states no bound: half a unit of the reference and what the math
#: library claims; 16-bit results are rounded from 32 bits and so at most one unit away.
_LIBRARY_ULP = {"float16": 1.0, "bfloat16": 1.0} | dict.fromkeys(
    ("float32", "float64", "complex64", "complex128"), 4.0
)

#: Of complex products and quotients, in units of the modulus: NumPy rounds them differently on
#: different processors (a product and a sum at once or not), and so with two roundings each.
_COMPLEX_ULP = 3.0


class _Watched(Operations):
    """Operations that tell whether the math library was called."""

    calls_library = False

    def math(self, name: str, *operands: Any) -> Any:
        self.calls_library = True
        return super().math(name, *operands)

    def complex_math(self, name: str, x: Any, y: Any) -> Any:
        self.calls_library = True
        return super().complex_math(name, x, y)


def allowed_ulp(primitive: Primitive, operands: Dtypes, params: Params, result: np.dtype) -> float:
    """Return how many units in the last place a kernel's result may be off, of operands' types."""
    stated = primitive.ulp.get(result.name)
    if stated is not None:
        return stated
    calls_library = _calls_library(primitive, operands, params_key(params))
    if calls_library:
        return _LIBRARY_ULP[result.name]
    return _COMPLEX_ULP if dtypes.is_complex(result) else 0.0


@cache
def _calls_library(primitive: Primitive, operands: Dtypes, key: Any) -> bool:
    o = _Watched(VectorBuilder(AVX512, 1))
    taken = [any_value(dtype) for dtype in operands]
    lower(ComplexOperations(o), primitive, taken, dict(key or ()))
    return o.calls_library


def ulp_distance(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return how far apart numbers are, in units in the last place of the expected; inf if unlike.

    Equal infinities and two NaNs are 0 apart, zeros of different sign infinitely far.
    """
    wide_found, wide = found.astype(np.longdouble), expected.astype(np.longdouble)
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(expected)).astype(np.longdouble)
        distance = np.abs(wide_found - wide) / unit
    zero_sign = (wide == 0) & (wide_found == 0) & (np.signbit(found) != np.signbit(expected))
    same = (wide_found == wide) | (np.isnan(wide) & np.isnan(wide_found))
    odd = ~np.isfinite(wide) | ~np.isfinite(wide_found) | zero_sign
    return np.where(same & ~zero_sign, 0, np.where(odd, np.inf, distance))


def complex_distance(found: Any, expected: Any) -> np.ndarray:
    """Return how far apart the parts of complex numbers are, in units of the expected modulus.

    inf where a part is infinite, NaN or a zero of a sign that the expected one is not.
    """
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(expected).astype(expected.real.dtype))
    distance = np.zeros(expected.shape, np.longdouble)
    for x, y in ((found.real, expected.real), (found.imag, expected.imag)):
        own = ulp_distance(x, y)
        with np.errstate(all="ignore"):
            of_modulus = np.abs(x.astype(np.longdouble) - y) / unit
        finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(unit) & ((x != 0) | (y != 0))
        distance = np.maximum(distance, np.where(finite, of_modulus, own))
    return distance


def is_mistaken(primitive: Primitive, operands: Sequence[np.ndarray]) -> Any:
    """Return where the reference itself is wrong.

    SciPy's gammaln of subnormal numbers is inf. NumPy's log1p of complex numbers rounds 1 + z, to
    an error of a unit of 1, not of the result.
    """
    x = operands[0]
    if primitive is primitives["log1p"] and dtypes.is_complex(x.dtype):
        return np.abs(x) < 1
    if primitive is primitives["gammaln"]:
        return (x != 0) & (np.abs(x) < float(ml_dtypes.finfo(x.dtype).tiny))
    return False


def depends_on_order(primitive: Primitive, operands: Sequence[np.ndarray], params: Params) -> bool:
    """Return whether an operation combines floats by rounding, not by choosing one of them.

    Of twos and threes a choice is two or three. Updates at places are made in NumPy's order.
    """
    if primitive.kind in ("elementwise", "shape") or not dtypes.is_inexact(operands[0].dtype):
        return False
    if primitive.indexed is not None:
        return False
    tried = [np.reshape(np.arange(x.size) % 2 + 2, x.shape).astype(x.dtype) for x in operands]
    result = primitive.reference(*tried, **params)
    return not bool(np.all((result == 2) | (result == 3)))


def combination_bound(
    primitive: Primitive, operands: Sequence[np.ndarray], params: Params
) -> np.ndarray:
    """Return how far two ways of combining floating numbers may end up apart.

    A choice among the elements has no error. A sum or product of n numbers, in any order, is
    within (n - 1) eps / 2 of the exact one, relative to that of the magnitudes, to first order
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, sections 3.1 and 4.2);
    two of them are within twice that, and 4 eps for the rest. Where that of the magnitudes is not
    finite, or a product of parts may leave the range of normal numbers, the order decides: inf.
    """
    x = operands[0]
    if not depends_on_order(primitive, operands, params):
        return np.zeros(())
    with np.errstate(all="ignore"):
        magnitude = np.asarray(primitive.reference(*map(np.abs, operands), **params))
        sizes = [np.abs(v) for v in operands]
        one = sizes[0].dtype.type(1)
        large = primitive.reference(*[np.maximum(v, one) for v in sizes], **params)
        small = primitive.reference(*[np.minimum(v, one) for v in sizes], **params)
    limits = ml_dtypes.finfo(sizes[0].dtype)
    count = max(x.shape) if magnitude.size == x.size else x.size // magnitude.size
    is_zero = np.any(x == 0, axis=params["axes"]) if "axes" in params else False
    is_safe = np.isfinite(large) & ((small >= limits.tiny) | is_zero)
    wide = magnitude.astype(np.longdouble)
    times = 4 if dtypes.is_complex(x.dtype) else 1  # sqrt(5) eps / 2 for each complex product
    return np.where(is_safe, times * (count + 4) * float(limits.eps) * wide, np.inf)
