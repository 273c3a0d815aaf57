"""The functions of the CPU math library by name, filled in by their decorators.

A module of this package holds functions from a `VectorBuilder` and `Value`s to a `Value`, each
declared by `@math_function`. `VectorBuilder.call` looks them up here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Every function of the library by its name; `f(builder, *values) -> value`.
FUNCTIONS: dict[str, Callable[..., Any]] = {}

#: What each function promises, by its name.
CLAIMS: dict[str, Claim] = {}


@dataclass(frozen=True, slots=True)
class Claim:
    """The largest error of a function in units in the last place, for F32 and for F64."""

    f32: float
    f64: float


def math_function(
    name: str, *, ulp: tuple[float, float] = (2.5, 2.5)
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator that adds a function to the library.

    Args:
        name: what emitters call it by.
        ulp: the error it promises for F32 and F64 on every target; tests hold it to that.

    >>> @math_function("twice", ulp=(0.0, 0.0))
    ... def twice(b, x):
    ...     return b.fadd(x, x)
    >>> FUNCTIONS.pop("twice") is twice, CLAIMS.pop("twice")
    (True, Claim(f32=0.0, f64=0.0))
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        assert name not in FUNCTIONS, f"two functions are called {name}"
        FUNCTIONS[name] = function
        CLAIMS[name] = Claim(*ulp)
        return function

    return declare
