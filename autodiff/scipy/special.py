"""`scipy.special` for traced values and plain arrays alike.

All functions work elementwise on real operands, which broadcast, unless they say otherwise.
Integers of up to 16 bits are taken as float32, wider ones as float64, as SciPy does.

>>> import numpy as np
>>> import autodiff as ad
>>> from autodiff.scipy import special
>>> ad.grad(special.gammaln)(np.float64(3.0)) == special.digamma(np.float64(3.0))
np.True_
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from operator import index
from typing import Any

import autodiff.numpy as anp
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.primitive import Primitive, array_functions
from autodiff.numpy.operands import inexact, operand_of
from autodiff.numpy.reductions import logsumexp
from autodiff.primitives import removable_singularities, special

__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "expit",
    "exprel",
    "gammaln",
    "i0",
    "i1",
    "kl_div",
    "log_expit",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "rel_entr",
    "sinhc",
    "softmax",
    "xlog1py",
    "xlogy",
]


# ---------------------------------------------------------------- functions that are one operation


def _of_one(primitive: Primitive, name: str, **params: Any) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        return primitive(operand_of(x), **params)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = primitive.doc
    return function


def _of_two(primitive: Primitive, name: str) -> Callable[[Any, Any], Any]:
    def function(x: Any, y: Any) -> Any:
        return primitive(operand_of(x), operand_of(y))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = primitive.doc
    return function


erf = _of_one(special.erf, "erf")
erfc = _of_one(special.erfc, "erfc")
erfinv = _of_one(special.erfinv, "erfinv")
ndtr = _of_one(special.ndtr, "ndtr")
log_ndtr = _of_one(special.log_ndtr, "log_ndtr")
ndtri = _of_one(special.ndtri, "ndtri")
gammaln = _of_one(special.gammaln, "gammaln")
digamma = _of_one(special.digamma, "digamma")
psi = digamma
expit = _of_one(special.logistic, "expit")
logit = _of_one(special.logit, "logit")
i0 = _of_one(special.bessel_i, "i0", order=0)
i1 = _of_one(special.bessel_i, "i1", order=1)
exprel = _of_one(removable_singularities.exprel, "exprel")
sinhc = _of_one(removable_singularities.sinhc, "sinhc")
xlogy = _of_two(special.xlogy, "xlogy")
xlog1py = _of_two(special.xlog1py, "xlog1py")


# ----------------------------------------------------------------- functions composed of operations


def polygamma(n: int, x: Any) -> Any:
    """Return the derivative of digamma of order `n`, digamma itself for `n` = 0.

    Args:
        n: the order, a Python integer from 0; SciPy's arrays of orders are not supported.
        x: real numbers.

    Raises:
        ValueError: the order is negative.
        TypeError: the order is not an integer.
    """
    order = index(n)
    if order < 0:
        raise ValueError(
            message("polygamma", "the order must not be negative", f"n={n}", line=user_line())
        )
    if order == 0:
        return digamma(x)
    return special.digamma_derivative(operand_of(x), order=order)


def log_expit(x: Any) -> Any:
    """Return log(1 / (1 + exp(-x))), accurate in both tails."""
    return -anp.logaddexp(0.0, -inexact(x))


def entr(x: Any) -> Any:
    """Return -x log(x), 0 at 0 and -inf for negative numbers."""
    x = inexact(x)
    return anp.where(x < 0, x.dtype.type(-anp.inf), -xlogy(x, x))


def rel_entr(x: Any, y: Any) -> Any:
    """Return x log(x / y) for positive numbers, 0 for x = 0 and y >= 0, else inf.

    Where it is not x log(x / y), its derivative is 0.
    """
    x, y = inexact(x), inexact(y)
    inside, left, right = _positive_pair(x, y)
    return anp.where(inside, left * anp.log(left / right), _at_the_edge(x, y, x.dtype.type(0)))


def kl_div(x: Any, y: Any) -> Any:
    """Return x log(x / y) - x + y for positive numbers, y for x = 0 and y >= 0, else inf.

    Where x is not positive, its derivative with respect to x is 0.
    """
    x, y = inexact(x), inexact(y)
    inside, left, right = _positive_pair(x, y)
    value = left * anp.log(left / right) - left + right
    return anp.where(inside, value, _at_the_edge(x, y, y))


def _positive_pair(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Return where both are positive, and the numbers with 1 in their place elsewhere."""
    inside = (x > 0) & (y > 0)
    left, right = anp.where(inside, x, x.dtype.type(1)), anp.where(inside, y, y.dtype.type(1))
    return inside, left, right


def _at_the_edge(x: Any, y: Any, value: Any) -> Any:
    """Return `value` where x = 0 and y >= 0, NaN where a number is, inf elsewhere."""
    result = anp.where((x == 0) & (y >= 0), value, x.dtype.type(anp.inf))
    return anp.where(anp.isnan(x) | anp.isnan(y), x.dtype.type(anp.nan), result)


def softmax(x: Any, axis: Any = None) -> Any:
    """Return exp(x) divided by its sum over `axis` (an integer, a tuple, or None for all)."""
    return anp.exp(log_softmax(x, axis))


def log_softmax(x: Any, axis: Any = None) -> Any:
    """Return x - log(sum(exp(x))) over `axis` (an integer, a tuple, or None for all)."""
    x = inexact(x)
    return x - logsumexp(x, axis, keepdims=True)


array_functions["special namespace"] = sys.modules[__name__]
