"""Programs so small that the cost of calls and traces is what shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: Operations in one turn of the chain's loop.
CHAIN_STEP = 10

#: Inputs and targets of the logistic regression of the cookbook.
FEATURES = np.array(
    [
        [0.52, 1.12, 0.77],
        [0.88, -1.08, 0.15],
        [0.52, 0.06, -1.30],
        [0.74, -2.49, 1.39],
    ]
)
TARGETS = np.array([True, True, False, True])
WEIGHTS = np.array([-0.36838785, -2.275689, 0.01144757])
BIAS = np.array(0.8535516)


def chain(xp: Any, operations: int) -> Callable[[Any], Any]:
    """Return a function of one value made of `operations` elementwise operations in a row."""
    turns, rest = divmod(operations, CHAIN_STEP)
    assert rest == 0

    def chained(x: Any) -> Any:
        for _ in range(turns):
            x = xp.sin(x) * 1.5
            y = xp.tanh(x + 0.25)
            x = xp.exp(y) / 2.0
            x = x * y + 0.125
            x = xp.sin(x) / 1.25
        return x

    return chained


def two_operations(xp: Any) -> Callable[[Any], Any]:
    """Return `sin(x) * 2`."""
    return lambda x: xp.sin(x) * 2.0


def logistic_loss(xp: Any) -> Callable[[Any, Any], Any]:
    """Return the negative log-likelihood of a logistic regression on four examples."""

    def loss(weights: Any, bias: Any) -> Any:
        predictions = 0.5 * (xp.tanh((xp.dot(FEATURES, weights) + bias) / 2) + 1)
        likelihood = predictions * TARGETS + (1 - predictions) * (1 - TARGETS)
        return -xp.sum(xp.log(likelihood))

    return loss
