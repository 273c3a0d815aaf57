"""Functions of one example that use collectives, beside NumPy functions of all examples at once.

A program `f(x)` maps one example along the axis "i" of size 4; its double `F(X)` computes what
`vmap(f, axis_name="i")(X)` must give, from nothing but NumPy.

Inside the mapped function derivatives are those of the whole: tangents of all examples move
together, and an example's gradient is that of the sum of all examples' outputs (the transpose of a
sum over examples is a sum over examples).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import autodiff as ad

SIZE = 4


@dataclass(frozen=True, slots=True)
class Program:
    """`one` is a function of an example, `all` of the stacked examples; `shape` is an example's."""

    name: str
    one: Callable[[Any], Any]
    all: Callable[[Any], Any]
    shape: tuple[int, ...] = (3,)

    @property
    def examples(self) -> np.ndarray:
        """Numbers in (-1, 2) no two of which are near each other, so that extrema are smooth."""
        count = SIZE * int(np.prod(self.shape))
        order = np.random.default_rng(3).permutation(count)
        return (order.reshape(SIZE, *self.shape) - count / 3) * (3 / count)


def _stacked(X: Any, axis: int) -> np.ndarray:
    """Return, for each example, all of them stacked along `axis` of its own array."""
    return np.stack([np.moveaxis(X, 0, axis)] * SIZE)


def _sent(X: Any, perm: Any) -> np.ndarray:
    out = np.zeros_like(X)
    for source, destination in perm:
        out[destination] = X[source]
    return out


PARTIAL = [(0, 2), (3, 1)]
CYCLE = [(i, (i + 1) % SIZE) for i in range(SIZE)]
NUMBERS = np.arange(float(SIZE))

PROGRAMS = [
    Program(
        "psum",
        lambda x: np.sin(ad.psum(x**2, "i")) * x,
        lambda X: np.sin((X**2).sum(0)) * X,
    ),
    Program(
        "psum of a scalar",
        lambda x: ad.psum(x, "i") * np.cos(x),
        lambda X: X.sum() * np.cos(X),
        (),
    ),
    Program(
        "pmean",
        lambda x: (x - ad.pmean(x, "i")) ** 3,
        lambda X: (X - X.mean(0)) ** 3,
    ),
    Program(
        "pmax",
        lambda x: ad.pmax(np.sin(x) * x, "i") * x,
        lambda X: (np.sin(X) * X).max(0) * X,
    ),
    Program(
        "pmin",
        lambda x: ad.pmin(x, "i") ** 2 * x,
        lambda X: X.min(0) ** 2 * X,
    ),
    Program(
        "all_gather",
        lambda x: ad.all_gather(x**2, "i") * x,
        lambda X: _stacked(X**2, 0) * X[:, None],
    ),
    Program(
        "all_gather along the last axis",
        lambda x: np.sin(ad.all_gather(x, "i", axis=-1)) * x[..., None],
        lambda X: np.sin(_stacked(X, 2)) * X[..., None],
        (2, 3),
    ),
    Program(
        "all_gather, tiled",
        lambda x: np.cumsum(ad.all_gather(x**2, "i", axis=1, tiled=True), axis=1),
        lambda X: np.cumsum(np.stack([np.concatenate(list(X**2), axis=1)] * SIZE), axis=2),
        (2, 3),
    ),
    Program(
        "psum_scatter",
        lambda x: np.sin(ad.psum_scatter(x**2, "i", scatter_dimension=1)),
        lambda X: np.sin(np.moveaxis((X**2).sum(0), 1, 0)),
        (2, SIZE),
    ),
    Program(
        "psum_scatter, tiled",
        lambda x: ad.psum_scatter(x**3, "i", tiled=True) * x[:2],
        lambda X: (X**3).sum(0).reshape(SIZE, 2) * X[:, :2],
        (2 * SIZE,),
    ),
    Program(
        "ppermute around",
        lambda x: ad.ppermute(x**2, "i", CYCLE) * x,
        lambda X: np.roll(X**2, 1, axis=0) * X,
    ),
    Program(
        "ppermute of some",
        lambda x: ad.ppermute(np.sin(x), "i", PARTIAL) * x + x**2,
        lambda X: _sent(np.sin(X), PARTIAL) * X + X**2,
    ),
    Program(
        "axis_index",
        lambda x: x ** (1 + ad.axis_index("i")) / ad.axis_size("i"),
        lambda X: X ** (1 + NUMBERS[:, None]) / SIZE,
    ),
    Program(
        "softmax over the examples",
        lambda x: np.exp(x - ad.pmax(x, "i")) / ad.psum(np.exp(x - ad.pmax(x, "i")), "i"),
        lambda X: np.exp(X) / np.exp(X).sum(0),
    ),
    Program(
        "batch normalization",
        lambda x: (
            (x - ad.pmean(x, "i")) / np.sqrt(ad.pmean((x - ad.pmean(x, "i")) ** 2, "i") + 1e-3)
        ),
        lambda X: (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3),
    ),
    Program(
        "trees",
        lambda x: ad.psum({"a": [x**2], "b": (x[0], None)}, "i")["a"][0] * ad.pmean((x,), "i")[0],
        lambda X: np.stack([(X**2).sum(0) * X.mean(0)] * SIZE),
    ),
]
