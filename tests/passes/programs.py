"""Random straight-line programs over every elementwise operation on floating numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.graph import Graph
from autodiff.ir.primitive import primitives
from tests.primitives.sampling import arity, is_elementwise, names

#: Numbers whose every bit counts.
SPECIAL = np.array([0.0, -0.0, 1.0, -1.5, np.nan, np.inf, -np.inf, 5e-324, -2e-310, 1e308, 0.3])

_LITERALS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, np.nan, np.inf, 1, 0)
_OPERATIONS = names(
    lambda p: (
        is_elementwise(p) and "f" in p.dtypes and p.public is not None and p.samples.params == ({},)
    )
)


def random_program(seed: int, length: int = 25) -> Callable[..., Any]:
    """Return a function of two arrays made of `length` operations, some equal, some unused."""

    def program(x: Any, y: Any) -> Any:
        random = np.random.default_rng(seed)
        pool = [x, y]
        for _ in range(length):
            name = _OPERATIONS[random.integers(len(_OPERATIONS))]
            operands = [_operand(random, pool) for _ in range(arity(primitives[name]))]
            operands[random.integers(len(operands))] = pool[random.integers(len(pool))]
            try:
                apply = _called if random.random() < 0.1 else _applied
                result = apply(name, *operands)
            except TypeError:  # not defined for complex numbers
                continue
            pool.append(result)
            if random.random() < 0.3:
                pool.append(primitives[name](*operands))
            if random.random() < 0.3:
                pool.append(_without_effect(random, result))
        chosen = [pool[i] for i in random.integers(2, len(pool), size=4)]
        return tuple(chosen)

    return program


def _applied(name: str, *operands: Any) -> Any:
    return primitives[name](*operands)


def _called(name: str, *operands: Any) -> Any:
    """Apply the same operation in a graph held by an equation."""
    return ad.jit(_applied, static_argnums=0)(name, *operands)


def _operand(random: np.random.Generator, pool: list[Any]) -> Any:
    if random.random() < 0.25:
        return _LITERALS[random.integers(len(_LITERALS))]
    return pool[random.integers(len(pool))]


def _without_effect(random: np.random.Generator, x: Any) -> Any:
    """Return something that is `x`, or differs from it in the sign of a zero alone."""
    return (
        lambda: x * 1.0,
        lambda: x / 1.0,
        lambda: x + 0.0,
        lambda: x + -0.0,
        lambda: x - 0.0,
        lambda: anp.negative(anp.negative(x)) if x.dtype != bool else x,
        lambda: 0.0 + x,
        lambda: anp.reshape(x, x.shape),
        lambda: x.astype(x.dtype),
        lambda: anp.conjugate(anp.conjugate(x)) if x.dtype != bool else x,
    )[random.integers(10)]()


def random_graph(seed: int) -> tuple[Graph, list[Any]]:
    """Return a graph and arguments: special numbers beside ordinary ones, sometimes complex."""
    random = np.random.default_rng(seed)
    x = random.permutation(SPECIAL)
    y = random.normal(size=SPECIAL.shape)
    dtype = (np.float64, np.float32, np.complex128)[seed % 3]
    with np.errstate(all="ignore"):
        arguments = [x.astype(dtype), y.astype(dtype)]
    return ad.make_graph(random_program(seed))(*arguments), arguments
