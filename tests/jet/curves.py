"""Derivatives along curves by other means: nested jvp, and polynomials multiplied out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial
from typing import Any

import numpy as np

import autodiff as ad
from autodiff import tree


def nested(
    function: Callable[..., Any], primals: Sequence[Any], series: Sequence[Sequence[Any]]
) -> list[Any]:
    """Return the value and the derivatives of `function` along the curve, one jvp in another.

    The curve is the polynomial with the given derivatives at 0.
    """
    order = len(series[0])

    def at(s: Any) -> Any:
        moved = []
        for primal, terms in zip(primals, series, strict=True):
            total = primal
            for k, term in enumerate(terms, 1):
                total = tree.map(
                    lambda a, b, k=k: a + b * (s**k / factorial(k)).astype(b.real.dtype),
                    total,
                    term,
                )
            moved.append(total)
        return function(*moved)

    results = []
    derivative: Any = at
    for _ in range(order + 1):
        results.append(derivative(np.float64(0.0)))
        derivative = _next(derivative)
    return results


def _next(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda s: ad.jvp(function, (s,), (np.float64(1.0),))[1]


def by_jet(
    function: Callable[..., Any], primals: Sequence[Any], series: Sequence[Sequence[Any]]
) -> list[Any]:
    """Return the same as `nested`, by `jet`: one tree of outputs for each order."""
    out, lists = ad.jet(function, tuple(primals), tuple(map(list, series)))
    structure = tree.structure(out)
    leaves = [tree.leaves(terms) for terms in _per_leaf(lists, structure)]
    return [out, *[tree.unflatten(structure, column) for column in zip(*leaves, strict=True)]]


def _per_leaf(lists: Any, structure: Any) -> list[Any]:
    return tree.leaves(lists, is_leaf=lambda x: isinstance(x, list) and structure.num_leaves > 0)
