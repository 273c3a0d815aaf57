"""Functions that neural networks are made of: activations, softmax and its logarithm, encodings.

All of them take arrays, traced values and numbers. Values and derivatives are finite for every
finite argument; a row of softmax may contain -inf, whose weight and derivative are 0.
"""

from __future__ import annotations

from typing import Any

from autodiff import numpy as anp
from autodiff.api.stop_gradient import stop_gradient
from autodiff.numpy import logsumexp, tanh
from autodiff.numpy.operands import array_of, inexact
from autodiff.primitives import special

__all__ = [
    "elu",
    "gelu",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logistic",
    "logsumexp",
    "one_hot",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "standardize",
    "swish",
    "tanh",
]

# Günter Klambauer et al., "Self-Normalizing Neural Networks", 2017, equation 14.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946

_SQRT_2_OVER_PI = 0.79788456080286535587989211986876


def relu(x: Any) -> Any:
    """Return max(x, 0). The derivative at 0 is 0.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    x = array_of(x)
    return anp.where(x <= 0, x.dtype.type(0), x)


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """Return x where it is at least 0, else `negative_slope * x`."""
    x = inexact(x)
    return anp.where(x >= 0, x, negative_slope * x)


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """Return x where it is above 0, else `alpha * (exp(x) - 1)`."""
    x = inexact(x)
    is_positive = x > 0
    return anp.where(is_positive, x, alpha * anp.expm1(anp.where(is_positive, x.dtype.type(0), x)))


def selu(x: Any) -> Any:
    """Return the scaled exponential linear unit, which keeps mean 0 and variance 1."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def gelu(x: Any, approximate: bool = True) -> Any:
    """Return x times the normal distribution function of x.

    With `approximate` by a hyperbolic tangent: Dan Hendrycks and Kevin Gimpel, "Gaussian Error
    Linear Units", 2016, section 2.
    """
    x = inexact(x)
    if not approximate:
        return x * special.ndtr(x)
    # Beyond 20 the hyperbolic tangent is 1 in every type, and a cube need not overflow.
    y = anp.clip(x, -20, 20)
    return x * (0.5 * (1 + anp.tanh(_SQRT_2_OVER_PI * (y + 0.044715 * (y * y * y)))))


def logistic(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), exact in both tails."""
    return special.logistic(array_of(x))


sigmoid = logistic


def log_sigmoid(x: Any) -> Any:
    """Return the logarithm of the logistic function, exact in both tails."""
    return -softplus(-inexact(x))


def silu(x: Any) -> Any:
    """Return x times the logistic function of x."""
    x = inexact(x)
    return x * special.logistic(x)


swish = silu


def softplus(x: Any) -> Any:
    """Return log(1 + exp(x)) without overflow."""
    x = inexact(x)
    return anp.logaddexp(x, x.dtype.type(0))


def _shifted(x: Any, axis: Any) -> Any:
    """Return x less its maximum along `axis` (0 where that is infinite), for use in exp."""
    largest = anp.max(x, axis=axis, keepdims=True, initial=-anp.inf)
    largest = stop_gradient(largest)
    return x - anp.where(anp.isfinite(largest), largest, x.dtype.type(0))


def softmax(x: Any, axis: Any = -1) -> Any:
    """Return exp(x) / sum(exp(x)) along an axis or several. All -inf gives zeros.

    >>> softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    weights = anp.exp(_shifted(inexact(x), axis))
    total = anp.sum(weights, axis=axis, keepdims=True)
    return weights / anp.where(total == 0, total.dtype.type(1), total)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """Return log(softmax(x)) along an axis or several, exact where the softmax is tiny."""
    shifted = _shifted(inexact(x), axis)
    total = anp.sum(anp.exp(shifted), axis=axis, keepdims=True)
    return shifted - anp.log(anp.where(total == 0, total.dtype.type(1), total))


def one_hot(x: Any, num_classes: int, *, dtype: Any = None, axis: int = -1) -> Any:
    """Return an array with a new axis of `num_classes`, 1 at the position that x names, else 0.

    A number outside 0 to `num_classes - 1` gives zeros. `dtype`: by default NumPy's float.

    >>> one_hot(1, 3)
    array([0., 1., 0.])
    """
    labels = anp.expand_dims(array_of(x), axis)
    shape = [1] * labels.ndim
    shape[axis] = num_classes
    positions = anp.reshape(anp.arange(num_classes), tuple(shape))
    return anp.astype(anp.equal(labels, positions), float if dtype is None else dtype)


def standardize(x: Any, axis: Any = -1, epsilon: Any = 1e-5) -> Any:
    """Return x less its mean, over the root of its variance plus `epsilon`, along axes."""
    x = inexact(x)
    centred = x - anp.mean(x, axis=axis, keepdims=True)
    variance = anp.mean(anp.real(centred * anp.conjugate(centred)), axis=axis, keepdims=True)
    return centred / anp.sqrt(variance + epsilon)
