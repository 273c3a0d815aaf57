"""What the cookbook's programs share: a logistic regression on four examples, and its parameters.

The figures in the tests were published with float32 and with the older layout of threefry numbers;
`cookbook_settings` selects both.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from autodiff import random

#: The array namespaces programs are written in: the library's own, and plain NumPy.
NAMESPACES = {"autodiff.numpy": anp, "numpy": np}

INPUTS = np.array(
    [[0.52, 1.12, 0.77], [0.88, -1.08, 0.15], [0.52, 0.06, -1.30], [0.74, -2.49, 1.39]], np.float32
)
TARGETS = np.array([True, True, False, True])

#: Relative tolerance of the published figures: they have eight digits, of float32 arithmetic.
RTOL = 2e-6


def cookbook_settings() -> Any:
    """Return the context under which the figures hold."""
    return ad.override(default_float="float32", threefry_partitionable=False, device="cpu")


def parameters() -> SimpleNamespace:
    """Return the key that is left, and the weights `W` (3 of them) and the bias `b`."""
    key, weight_key, bias_key = random.split(random.key(0), 3)
    return SimpleNamespace(
        key=key, W=random.normal(weight_key, (3,)), b=random.normal(bias_key, ())
    )


def regression(xp: Any) -> SimpleNamespace:
    """Return `predict(W, b, inputs)` and `loss(W, b)`, written with the namespace `xp`."""

    def predict(W, b, inputs=INPUTS):
        return 0.5 * (xp.tanh((xp.dot(inputs, W) + b) / 2) + 1)

    def loss(W, b):
        predictions = predict(W, b)
        likelihood = predictions * TARGETS + (1 - predictions) * ~TARGETS
        return -xp.sum(xp.log(likelihood))

    return SimpleNamespace(predict=predict, loss=loss)


def close(found: Any, expected: Any, rtol: float = RTOL, atol: float = 0.0) -> None:
    """Compare trees of arrays, structure included, within the figures' tolerance."""
    assert ad.tree.structure(found) == ad.tree.structure(expected)
    for leaf, wanted in zip(ad.tree.leaves(found), ad.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=rtol, atol=atol)
