"""Functions that the composition tests transform, all written with plain NumPy.

Called with arrays they are ordinary NumPy functions, so that differences and loops over them are
independent of the library. Each is smooth near its argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

WEIGHTS = np.array([[0.3, -0.7], [1.1, 0.2], [-0.4, 0.9]])
SYMMETRIC = np.array([[2.0, 0.3], [0.3, 1.5]])


@dataclass(frozen=True)
class Case:
    """A function of one pytree, and where to look at it. `small`: cheap enough for triples."""

    name: str
    function: Callable[[Any], Any]
    argument: Any
    small: bool = False

    @property
    def is_real_array(self) -> bool:
        """Whether Jacobians of it are defined: one real array in, one out."""
        return isinstance(self.argument, np.ndarray) and self.argument.dtype.kind == "f"


def scalar_wave(x):
    return np.sin(x) * np.exp(0.5 * x)


def scalar_rational(x):
    return x**3 / (1.0 + x**2)


def norm_of_tanh(x):
    return np.sum(np.tanh(x) ** 2)


def scaled_by_its_sum(x):
    return np.exp(-0.5 * x**2) * np.sum(x)


def logsumexp(x):
    largest = np.max(x)
    return largest + np.log(np.sum(np.exp(x - largest)))


def layer(x):
    return np.tanh(x @ WEIGHTS + np.array([0.1, -0.2]))


def gram(x):
    return x @ x.T


def chosen(x):
    return np.where(x > 0.2, x**2, np.sin(x))


def indexed(x):
    return x[0] * np.cos(x[1:]) + x[-1]


def accumulated(x):
    return np.cumsum(np.sin(x)) * np.prod(x)


def outer_quotient(x):
    return x[:, None] * x[None, :] / (2.0 + x[None, :] ** 2)


def kinked(x):
    return np.abs(x) + np.maximum(x, 0.3) * x


def joined(x):
    return np.concatenate([x, np.sin(x)]) * np.stack([x, x * x]).reshape(-1)


def contracted(x):
    return np.einsum("i,ij,j->", x, SYMMETRIC, np.sin(x))


def sorted_and_weighed(x):
    return np.sort(x) * np.array([1.0, 2.0, -1.0])


def factored(x):
    return np.linalg.cholesky(SYMMETRIC + np.outer(x, x)) * 0.5


def network(params):
    hidden = np.tanh(params["inner"]["w"] * 0.7 + params["inner"]["b"])
    return np.sum(hidden * params["outer"][0]) + params["outer"][1]


def exchanged(pair):
    x, y = pair
    return {"product": x * np.sin(y), "rest": [np.exp(x), None, y * np.sum(x)]}


def complex_mixture(z):
    return np.exp(0.3 * z) + z * np.conj(z) * 0.5


def complex_product(z):
    return np.sum(z * z) * np.conj(z) + np.abs(z)


CASES = (
    Case("scalar_wave", scalar_wave, np.array(0.7), small=True),
    Case("scalar_rational", scalar_rational, np.array(-1.3), small=True),
    Case("norm_of_tanh", norm_of_tanh, np.array([0.5, -0.8]), small=True),
    Case("scaled_by_its_sum", scaled_by_its_sum, np.array([0.4, -0.9]), small=True),
    Case("logsumexp", logsumexp, np.array([0.1, 0.9, -0.6])),
    Case("layer", layer, np.array([0.3, -0.6, 0.8])),
    Case("gram", gram, np.array([[0.5, -1.2], [0.7, 0.4]])),
    Case("chosen", chosen, np.array([0.9, -0.5]), small=True),
    Case("indexed", indexed, np.array([0.6, -0.3, 1.1])),
    Case("accumulated", accumulated, np.array([0.8, -1.1]), small=True),
    Case("outer_quotient", outer_quotient, np.array([0.9, -0.4]), small=True),
    Case("kinked", kinked, np.array([0.8, -0.7]), small=True),
    Case("joined", joined, np.array([0.4, -0.9]), small=True),
    Case("contracted", contracted, np.array([0.7, -0.2]), small=True),
    Case("sorted_and_weighed", sorted_and_weighed, np.array([0.9, -0.5, 0.1])),
    Case("factored", factored, np.array([0.4, -0.8]), small=True),
    Case(
        "network",
        network,
        {
            "inner": {"w": np.array([0.3, -0.7]), "b": np.array(0.2)},
            "outer": (np.array([1.1, 0.4]), np.array(-0.3)),
        },
    ),
    Case("exchanged", exchanged, (np.array([0.2, -0.5]), np.array(0.9))),
    Case("complex_mixture", complex_mixture, np.array(0.6 - 0.4j), small=True),
    Case("complex_product", complex_product, np.array([0.5 + 0.3j, -0.2 + 0.8j])),
)
