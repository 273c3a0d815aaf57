"""Known figures of a logistic regression and of complex derivatives, computed and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from autodiff import random

INPUTS = np.array(
    [[0.52, 1.12, 0.77], [0.88, -1.08, 0.15], [0.52, 0.06, -1.30], [0.74, -2.49, 1.39]], np.float32
)
TARGETS = np.array([True, True, False, True])


@dataclass(frozen=True, slots=True)
class Figure:
    """A program's result beside the published one; `tolerance` is relative."""

    program: str
    computed: Any
    expected: Any
    tolerance: float = 2e-6

    @property
    def agrees(self) -> bool:
        """Whether every number agrees within the tolerance (of the largest expected number)."""
        computed, expected = np.asarray(self.computed), np.asarray(self.expected)
        scale = np.max(np.abs(expected))
        return bool(np.all(np.abs(computed - expected) <= self.tolerance * scale))


def predict(weights: Any, bias: Any, inputs: Any) -> Any:
    """Return the probability of the label True for each row of `inputs`."""
    return 0.5 * (anp.tanh((anp.dot(inputs, weights) + bias) / 2) + 1)


def loss(weights: Any, bias: Any) -> Any:
    """Return the negative log-likelihood of the four training examples."""
    predictions = predict(weights, bias, INPUTS)
    likelihoods = predictions * TARGETS + (1 - predictions) * ~TARGETS
    return -anp.sum(anp.log(likelihoods))


def figures() -> Iterator[Figure]:
    """Yield each program's result beside the published figure.

    The figures come from float32 runs of these programs with the older layout of random numbers.
    """
    tanh_derivative = ad.grad(np.tanh)
    yield Figure("grad(tanh)(2.)", tanh_derivative(np.float32(2)), 0.070650935)
    second = ad.grad(tanh_derivative)
    yield Figure("grad(grad(tanh))(2.)", second(np.float32(2)), -0.13621869)
    yield Figure("grad(grad(grad(tanh)))(2.)", ad.grad(second)(np.float32(2)), 0.2526544)

    with ad.override(threefry_partitionable=False):
        _, weights_key, bias_key = random.split(random.key(0), 3)
        weights = random.normal(weights_key, (3,), np.float32)
        bias = random.normal(bias_key, (), np.float32)
    yield Figure("normal(W_key, (3,))", weights, [-0.36838785, -2.275689, 0.01144757])
    yield Figure("normal(b_key)", bias, 0.8535516)

    value, (weights_gradient, bias_gradient) = ad.value_and_grad(loss, (0, 1))(weights, bias)
    yield Figure("value_and_grad(loss): value", value, 3.051939)
    yield Figure("gradient in W", weights_gradient, [-0.16965576, -0.8774645, -1.4901344])
    yield Figure("gradient in b", bias_gradient, -0.29227236)

    def of_weights(w: Any) -> Any:
        return predict(w, bias, INPUTS)

    rows = [[0.05981756, 0.12883782, 0.088576], [0.12188289, 0.01406341, -0.3047072]]
    yield Figure("jacfwd(predict): rows 0, 2", ad.jacfwd(of_weights)(weights)[[0, 2]], rows)
    yield Figure("jacrev(predict): rows 0, 2", ad.jacrev(of_weights)(weights)[[0, 2]], rows)
    hessian = ad.hessian(of_weights)(weights)
    yield Figure("hessian(predict)[0, 0]", hessian[0, 0], [0.02285465, 0.0492254, 0.03384246])

    yield Figure(
        "grad(x**2 + y**2)(3+4j)", ad.grad(lambda z: z.real**2 + z.imag**2)(3 + 4j), 6 - 8j
    )
    yield Figure(
        "grad(sin, holomorphic)(3+4j)",
        ad.grad(np.sin, holomorphic=True)(np.complex64(3 + 4j)),
        -27.034945 - 3.8511531j,
    )
