"""Functions with rules of their own under every pair of transformations, against differences.

The rules are those of the function, so the doubles in `transformations.py`, which difference and
loop over the function on plain arrays, know nothing of them.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from tests.composition.transformations import TRANSFORMED, check_composition

X = np.array([0.3, -0.7, 0.5])


@ad.custom_jvp
def by_jvp(x):
    return np.sin(x) * np.exp(x)


@by_jvp.defjvp
def _by_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    out = by_jvp(x)
    return out, t * (out + np.cos(x) * np.exp(x))


@ad.custom_jvp
def by_parts(x, y):
    return np.sin(x) * y


by_parts.defjvps(
    lambda t, out, x, y: np.cos(x) * y * t,
    lambda t, out, x, y: np.sin(x) * t,
)


@ad.custom_vjp
def by_vjp(x):
    return {"product": np.sin(x) * x[::-1], "sum": np.sum(x**2)}


def _forward(x):
    return by_vjp(x), (x, {"cos": np.cos(x), "note": "static"})


def _backward(residuals, ct):
    x, kept = residuals
    assert kept["note"] == "static"
    turned = (ct["product"] * np.sin(x))[::-1]
    return (ct["product"] * x[::-1] * kept["cos"] + turned + 2.0 * x * ct["sum"],)


by_vjp.defvjp(_forward, _backward)


@ad.custom_vjp
def by_both(x):
    return np.tanh(x)


by_both.defvjp(
    lambda x: (np.tanh(x), np.tanh(x)),
    lambda y, ct: (ct * (1.0 - y * y),),
)


@by_both.defjvp
def _by_both(primals, tangents):
    y = by_both(primals[0])
    return y, tangents[0] * (1.0 - y * y)


@ad.custom_gradient
def by_gradient(x):
    cosine = np.cos(x)
    return np.sin(x), lambda ct: ct * cosine


@ad.custom_batching
def by_batching(x):
    return np.cumsum(np.sin(x))


@by_batching.defbatch
def _by_batching(size, in_batched, x):
    return np.cumsum(np.sin(x), axis=1), True


FUNCTIONS: dict[str, Any] = {
    "jvp": by_jvp,
    "parts": lambda x: by_parts(x, x[::-1] * x[0]),
    "vjp": lambda x: by_vjp(x)["product"] * by_vjp(x)["sum"],
    "both": lambda x: by_both(x * x),
    "gradient": by_gradient,
    "batching": by_batching,
    "nested": lambda x: by_jvp(by_both(by_gradient(x))),
}


NAMES = tuple(FUNCTIONS)
PAIRS = list(product(TRANSFORMED, TRANSFORMED))
CASES = [
    pytest.param(pair, NAMES[(i + shift) % len(NAMES)])
    for i, pair in enumerate(PAIRS)
    for shift in (0, 3)
]


@pytest.mark.parametrize(("pair", "name"), CASES)
def test_a_pair_of_transformations_agrees_with_differences_and_loops(pair, name):
    check_composition(pair, FUNCTIONS[name], X[:2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("last", ["grad", "jvp", "vjp", "linearize"])
def test_a_function_agrees_after_jit_of_vmap_of_a_derivative(last, name):
    check_composition(("jit", "vmap", last), FUNCTIONS[name], X)


def test_a_function_of_a_pytree_keeps_the_structure():
    """by_vjp returns a dict, whose gradient is taken leaf by leaf."""
    for names in (("vjp",), ("grad",), ("jvp",), ("vmap",), ("vmap", "grad"), ("grad", "vmap")):
        check_composition(names, by_vjp, X)
