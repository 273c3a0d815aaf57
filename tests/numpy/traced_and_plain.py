"""Comparing functions of traced values with NumPy's, and their derivatives with differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from tests.primitives.numeric import derivative, direction

#: Both names under which a user may call a function.
DOORS = (np, anp)

#: Shapes that are often got wrong.
SHAPES = ((), (1,), (0,), (5,), (3, 4), (2, 0, 3), (2, 3, 4))


def sample(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Any:
    """Return an array of numbers of both signs, none of them equal."""
    random = np.random.default_rng(seed)
    size = int(np.prod(shape, dtype=np.int64))
    numbers = (random.permutation(size) - size // 3) * 0.75
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        numbers = numbers + 1j * (random.permutation(size) - size // 2)
    if dtype.kind == "b":
        numbers = numbers > 0
    if dtype.kind == "u":
        numbers = np.abs(numbers)
    return numbers.reshape(shape).astype(dtype)


def layouts(x: Any) -> list[Any]:
    """Return the array as it is, with gaps between elements, in other order and backwards."""
    if x.ndim == 0:
        return [x]
    spread = np.repeat(x, 2, axis=-1)[..., ::2]
    return [x, spread, np.asfortranarray(x), x[::-1]]


def leaves(value: Any) -> list[Any]:
    """Return the arrays of a result that may be a tuple or a list."""
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


def assert_equal_arrays(found: Any, expected: Any, ulps: float) -> None:
    """Compare shape, element type and values, the latter within `ulps` units of the largest."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
        return
    eps = float(anp.finfo(expected.dtype).eps)
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    found, expected = found.astype(wide), expected.astype(wide)
    largest = np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
    np.testing.assert_allclose(found, expected, rtol=ulps * eps, atol=ulps * eps * largest)


def check_values(call: Callable[..., Any], *arrays: Any, ulps: float = 0, jit: bool = True) -> None:
    """Compare `call(module, *arrays)` on traced values with the same call on plain ones.

    Through both doors, traced with values and, with `jit`, without. `ulps` is 0 where the elements
    are only moved, so that they are the same bits.
    """
    expected = leaves(call(np, *arrays))
    for module in DOORS:

        def function(*args: Any, module: Any = module) -> Any:
            return call(module, *args)

        results = [ad.vjp(function, *arrays)[0]]
        if jit:
            results.append(ad.jit(function)(*arrays))
        for result in results:
            found = leaves(result)
            assert len(found) == len(expected)
            for value, wanted in zip(found, expected, strict=True):
                assert_equal_arrays(value, wanted, ulps)
    for value, wanted in zip(leaves(call(anp, *arrays)), expected, strict=True):
        assert_equal_arrays(np.asarray(value), wanted, 0)


def check_function(
    name: str, *arrays: Any, ulps: float = 0, jit: bool = True, **options: Any
) -> None:
    """Compare the function `name` of traced values, with fixed keywords, with NumPy's."""
    check_values(
        lambda module, *xs: getattr(module, name)(*xs, **options), *arrays, ulps=ulps, jit=jit
    )


def check_method(name: str, x: Any, *args: Any, ulps: float = 0, **options: Any) -> None:
    """Compare the method `name` of a traced value with the array's."""
    check_values(lambda module, x: getattr(x, name)(*args, **options), x, ulps=ulps)


def check_derivatives(function: Callable[..., Any], *arrays: Any, order: int = 1) -> None:
    """Compare jvp with differences, and vjp with jvp; with `order` 2 also of the derivative."""
    random = np.random.default_rng(1)
    tangents = [direction(random, x) for x in arrays]
    out, out_t = ad.jvp(function, arrays, tangents)
    differences = derivative(
        lambda *args: leaves(ad.jit(function)(*args)), list(arrays), list(tangents)
    )
    for found, (expected, error) in zip(leaves(out_t), differences, strict=True):
        assert np.all(np.isfinite(error)), "the function jumps here: choose another point"
        assert np.all(np.abs(found - expected) <= 20 * error + 1e-9), (found, expected)
    cts = [direction(random, y) for y in leaves(out)]
    rebuilt = cts[0] if not isinstance(out, tuple | list) else type(out)(cts)
    pulled = ad.vjp(function, *arrays)[1](rebuilt)
    forward = sum(np.sum(ct * t) for ct, t in zip(cts, leaves(out_t), strict=True))
    backward = sum(np.sum(ct * t) for ct, t in zip(pulled, tangents, strict=True))
    np.testing.assert_allclose(np.real(forward), np.real(backward), rtol=1e-10, atol=1e-10)
    if order > 1:
        check_derivatives(
            lambda *args: leaves(ad.jvp(function, args, tangents)[1])[0], *arrays, order=order - 1
        )
