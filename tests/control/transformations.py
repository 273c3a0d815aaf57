"""Transformations of functions of one pytree, and their doubles for programs written out.

For functions that ask for values, mapping is a loop over the examples and jit does nothing: so the
double uses nothing of the library but differentiation of straight-line programs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autodiff as ad
from autodiff import tree
from tests.composition.transformations import Function, by_grad, by_jvp, by_vjp, seeds

# Examples on both sides of what the programs ask.
SHIFTS = np.array([-0.7, 0.0, 0.45])


def shifted(x: Any) -> Any:
    """Return `x` with a leading axis of three differently shifted copies."""
    return tree.map(lambda leaf: leaf + SHIFTS.reshape(-1, *[1] * leaf.ndim), x)


def by_vmap(f: Function) -> Function:
    return lambda x: ad.vmap(f)(shifted(x))


def by_loop(f: Function) -> Function:
    def looped(x: Any) -> Any:
        results = [f(tree.map(lambda leaf, s=s: leaf + s, x)) for s in SHIFTS]
        return tree.map(lambda *leaves: np.stack(leaves), *results)

    return looped


def by_vjp_in_jit(f: Function) -> Function:
    """The function pulling back is made outside of jit and run inside."""

    def pulled(x: Any) -> Any:
        y, pull = ad.vjp(f, x)
        return ad.jit(pull)(seeds(y))[0]

    return pulled


def by_linearize_mapped(f: Function) -> Function:
    """The linear function is mapped over directions."""

    def moved(x: Any) -> Any:
        _, push = ad.linearize(f, x)
        directions = tree.map(lambda t: np.stack([t, 2.0 * t]), seeds(x))
        return ad.vmap(push)(directions)

    return moved


def linearize_looped(f: Function) -> Function:
    def moved(x: Any) -> Any:
        _, push = ad.linearize(f, x)
        t = seeds(x)
        twice = tree.map(lambda leaf: 2.0 * leaf, t)
        return tree.map(lambda *leaves: np.stack(leaves), push(t), push(twice))

    return moved


TRANSFORMED = {
    "jvp": by_jvp,
    "vjp": by_vjp,
    "grad": by_grad,
    "vmap": by_vmap,
    "jit": ad.jit,
    "checkpoint": lambda f: ad.checkpoint(f),
    "vjp_in_jit": by_vjp_in_jit,
    "linearize_mapped": by_linearize_mapped,
}
DOUBLES = {
    "jvp": by_jvp,
    "vjp": by_vjp,
    "grad": by_grad,
    "vmap": by_loop,
    "jit": lambda f: f,
    "checkpoint": lambda f: f,
    "vjp_in_jit": by_vjp,
    "linearize_mapped": linearize_looped,
}


def check(names: tuple[str, ...], looped: Function, plain: Function, argument: Any) -> None:
    """Compare the transformations `names`, the outermost first, of a program and its double."""
    found, expected = looped, plain
    for name in reversed(names):
        found, expected = TRANSFORMED[name](found), DOUBLES[name](expected)
    result, wanted = found(argument), expected(argument)
    agree(result, wanted)


def agree(result: Any, wanted: Any) -> None:
    """Check structure, shapes and types, and values to rounding."""
    assert tree.structure(result) == tree.structure(wanted)
    for leaf, other in zip(tree.leaves(result), tree.leaves(wanted), strict=True):
        other = np.asarray(other)
        assert type(leaf) is np.ndarray
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)
        scale = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(leaf, other, rtol=0.0, atol=1e-11 * scale)
    assert all(np.all(np.isfinite(leaf)) for leaf in tree.leaves(result))
