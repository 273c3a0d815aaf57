"""Each transformation as an operator on functions of one pytree, beside its independent double.

`TRANSFORMED[name](f)` uses the library; `COMPUTED[name](f)` gives the same function by central
differences and Python loops over plain NumPy. Both can be nested.

The differences are of order 8 with step h: the error is h**8 / 630 times the ninth derivative
(Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids", 1988, table 1),
and rounding adds about 2**-53 / h for each order. With h = 0.02 three nested ones are good to 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

import autodiff as ad
from autodiff import tree

STEP = 0.02
COEFFICIENTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
SCALES = np.array([0.9, 1.0, 1.2])

Function = Callable[[Any], Any]


def seeds(values: Any) -> Any:
    """Return fixed numbers, none alike, of the types of `values`: a tangent or a cotangent."""

    def seed(leaf: Any) -> Any:
        angles = np.arange(1.0, leaf.size + 1.0).reshape(leaf.shape)
        numbers = np.asarray(np.cos(angles))
        return numbers + 1j * np.sin(2 * angles) if leaf.dtype.kind == "c" else numbers

    return tree.map(seed, values)


def paired(values: Any) -> Any:
    """Return the real part of the sum of products of `values` with their seeds: one scalar."""
    total: Any = 0.0
    for leaf, seed in zip(tree.leaves(values), tree.leaves(seeds(values)), strict=True):
        term = np.sum(leaf * seed)
        total = total + (np.real(term) if leaf.dtype.kind == "c" else term)
    return total


def scaled(values: Any) -> Any:
    """Return `values` with a leading axis of three differently scaled copies."""
    return tree.map(lambda leaf: SCALES.reshape(-1, *[1] * leaf.ndim) * leaf, values)


# By the library -----------------------------------------------------------------------------------


def by_jvp(f: Function) -> Function:
    return lambda x: ad.jvp(f, (x,), (seeds(x),))[1]


def by_linearize(f: Function) -> Function:
    return lambda x: ad.linearize(f, x)[1](seeds(x))


def by_vjp(f: Function) -> Function:
    def pulled(x: Any) -> Any:
        y, pull = ad.vjp(f, x)
        return pull(seeds(y))[0]

    return pulled


def by_grad(f: Function) -> Function:
    return ad.grad(lambda x: paired(f(x)))


def by_vmap(f: Function) -> Function:
    return lambda x: ad.vmap(f)(scaled(x))


def by_vmap_of_closure(f: Function) -> Function:
    def mapped(x: Any) -> Any:
        return ad.vmap(lambda s: f(tree.map(lambda leaf: s * leaf, x)))(SCALES)

    return mapped


TRANSFORMED: dict[str, Callable[[Function], Function]] = {
    "grad": by_grad,
    "jvp": by_jvp,
    "vjp": by_vjp,
    "vmap": by_vmap,
    "jit": ad.jit,
    "linearize": by_linearize,
    "vmap_of_closure": by_vmap_of_closure,
    "jacfwd": ad.jacfwd,
    "jacrev": ad.jacrev,
    "hessian": lambda f: ad.hessian(lambda x: paired(f(x))),
}


# By differences and loops -------------------------------------------------------------------------


def difference(f: Function, x: Any, direction: Any) -> Any:
    """Return the derivative of `f` at `x` along `direction`."""

    def moved(distance: float) -> Any:
        return f(tree.map(lambda leaf, t: np.asarray(leaf + distance * t), x, direction))

    total: Any = None
    for k, coefficient in enumerate(COEFFICIENTS, 1):
        ahead, behind = moved(k * STEP), moved(-k * STEP)
        term = tree.map(lambda a, b, c=coefficient: c * (a - b) / STEP, ahead, behind)
        total = term if total is None else tree.map(np.add, total, term)
    return tree.map(np.asarray, total)


def unit_directions(x: Any, index: int, unit: complex) -> Any:
    """Yield each place of leaf `index`, and the direction along that element times `unit`."""
    leaves, structure = tree.flatten(x)
    for place in product(*map(range, leaves[index].shape)):
        direction = [np.zeros_like(leaf) for leaf in leaves]
        direction[index][place] = unit
        yield place, tree.unflatten(structure, direction)


def pulled_by_differences(f: Function) -> Function:
    """Return x -> J^T seeds, from Re(sum(J^T ct * t)) = Re(sum(ct * J t))."""

    def pulled(x: Any) -> Any:
        leaves, structure = tree.flatten(x)
        results = [np.zeros_like(leaf) for leaf in leaves]
        for i, leaf in enumerate(leaves):
            for place, direction in unit_directions(x, i, 1.0):
                results[i][place] = paired(difference(f, x, direction))
            if leaf.dtype.kind == "c":
                for place, direction in unit_directions(x, i, 1j):
                    results[i][place] -= 1j * paired(difference(f, x, direction))
        return tree.unflatten(structure, results)

    return pulled


def jacobian_by_differences(f: Function) -> Function:
    """Return x -> array of shape out.shape + in.shape, for one real array in and one out."""

    def jacobian(x: Any) -> Any:
        columns = [difference(f, x, direction) for _, direction in unit_directions(x, 0, 1.0)]
        return np.stack(columns, axis=-1).reshape((*columns[0].shape, *x.shape))

    return jacobian


def looped(f: Function) -> Function:
    """Return the double of vmap: one call for each scaled copy."""

    def stacked(x: Any) -> Any:
        results = [f(tree.map(lambda leaf, s=s: np.asarray(s * leaf), x)) for s in SCALES]
        return tree.map(lambda *leaves: np.stack(leaves), *results)

    return stacked


def as_arrays(f: Function) -> Function:
    """Return `f` with 0-d results as arrays, as the library's are."""
    return lambda x: tree.map(np.asarray, f(x))


COMPUTED: dict[str, Callable[[Function], Function]] = {
    "grad": pulled_by_differences,
    "jvp": lambda f: lambda x: difference(f, x, seeds(x)),
    "vjp": pulled_by_differences,
    "vmap": looped,
    "jit": lambda f: f,
    "linearize": lambda f: lambda x: difference(f, x, seeds(x)),
    "vmap_of_closure": looped,
    "jacfwd": jacobian_by_differences,
    "jacrev": jacobian_by_differences,
    "hessian": lambda f: jacobian_by_differences(pulled_by_differences(f)),
}


def check_composition(names: tuple[str, ...], function: Function, argument: Any) -> None:
    """Compare the transformations `names`, the outermost first, with their doubles."""
    found: Function = function
    expected: Function = as_arrays(function)
    for name in reversed(names):
        found, expected = TRANSFORMED[name](found), COMPUTED[name](expected)
    result, wanted = found(argument), expected(argument)
    assert tree.structure(result) == tree.structure(wanted)
    for leaf, other in zip(tree.leaves(result), tree.leaves(wanted), strict=True):
        assert type(leaf) is np.ndarray
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)
        scale = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(leaf, other, rtol=0.0, atol=2e-8 * scale)
