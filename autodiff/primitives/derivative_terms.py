"""How passes add, scale and negate terms: by operations of the registry, which they do not name."""

from __future__ import annotations

from typing import Any

from autodiff.ir.avals import UNKNOWN
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Atom, Eqn, Var
from autodiff.ir.primitive import primitives
from autodiff.primitives.families import full_like_type


def add_cotangents(x: Any, y: Any) -> Any:
    """Return the sum of two cotangents of one value."""
    if x.shape != y.shape or UNKNOWN in x.shape:  # of what a loop made: primitives/rows.py
        return bind_primitive(primitives["add_rows"], (x, y), {})
    return bind_primitive(primitives["add"], (x, y), {})


def scaled(x: Any, factor: int) -> Any:
    """Return `x` times a small whole number, of the type of `x`."""
    if factor == 1:
        return x
    return bind_primitive(primitives["multiply"], (x, full_like_type(x, factor)), {})


def negated(x: Any) -> Any:
    """Return -x."""
    return bind_primitive(primitives["negative"], (x,), {})


def negation(x: Atom, out: Var, source: Any) -> Eqn:
    """Return the equation `out = -x`."""
    return Eqn(primitives["negative"], (x,), {}, (out,), source)


def is_negation(eqn: Eqn) -> bool:
    """Return whether an equation does nothing but change a sign."""
    return eqn.primitive is primitives["negative"]


def partial_product(x: Any, y: Any) -> Any:
    """Return the product of two partial derivatives, 0 where one of them is 0.

    They are of one shape, or 0-d.
    """
    return bind_primitive(primitives["guarded_multiply"], (x, y), {})


def partial_sum(x: Any, y: Any) -> Any:
    """Return the sum of two partial derivatives, of one shape or 0-d."""
    return bind_primitive(primitives["add"], (x, y), {})
