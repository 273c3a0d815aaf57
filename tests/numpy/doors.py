"""NumPy's result and ours, through both doors: `autodiff.numpy`'s function and NumPy's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from autodiff.base import dtypes
from tests.primitives.numeric import derivative, direction, pairing

#: A function of an array module and arrays: `lambda m, x: m.diff(x)`.
Function = Callable[..., Any]


def leaves(result: Any) -> list[Any]:
    """Return a function's results as arrays in a list."""
    return [np.asarray(x) for x in (result if isinstance(result, tuple) else (result,))]


def samples(random: np.random.Generator, shape: Sequence[int], dtype: Any = float) -> Any:
    """Return an array of small random numbers, not contiguous and with negative strides."""
    wide = tuple(2 * n for n in shape)
    numbers = np.asarray(random.normal(size=wide) * 3)
    if np.dtype(dtype).kind == "c":
        numbers = np.asarray(numbers + 1j * random.normal(size=wide))
    if np.dtype(dtype).kind == "u":
        numbers = abs(numbers)
    numbers = numbers > 0 if np.dtype(dtype) == bool else numbers
    numbers = np.asarray(numbers).astype(dtype)
    return numbers[(..., *[slice(None, None, -2)] * len(wide))]


def assert_equal_to_numpy(function: Function, *arguments: Any, ulps: float = 64) -> None:
    """Compare values, types and shapes: traced by vjp, through each door, and plain.

    `ulps`: sums of a few products, in whatever order, lose that many units in the last place of the
    largest element.
    """
    with np.errstate(all="ignore"):
        expected = leaves(function(np, *arguments))
        doors = {
            "anp, plain": function(anp, *arguments),
            "anp, traced": ad.vjp(lambda *a: function(anp, *a), *arguments)[0],
            "np, traced": ad.vjp(lambda *a: function(np, *a), *arguments)[0],
        }
    for door, result in doors.items():
        found = leaves(result)
        assert len(found) == len(expected), door
        for x, y in zip(found, expected, strict=True):
            assert x.dtype == y.dtype, (door, x.dtype, y.dtype)
            assert x.shape == y.shape, (door, x.shape, y.shape)
            if not dtypes.is_inexact(y.dtype):
                np.testing.assert_array_equal(x, y, err_msg=door)
                continue
            finite = np.abs(y[np.isfinite(y)])
            scale = float(finite.max()) if finite.size else 0.0
            scale = scale if np.isfinite(scale) else 0.0  # a modulus that overflows
            precision = float(np.finfo(y.dtype).eps) * ulps
            np.testing.assert_allclose(x, y, rtol=precision, atol=precision * scale, err_msg=door)


def assert_compiles(function: Function, *arguments: Any) -> None:
    """Compare the jitted function with NumPy's result."""
    with np.errstate(all="ignore"):
        expected = leaves(function(np, *arguments))
        found = leaves(ad.jit(lambda *a: function(np, *a))(*arguments))
    for x, y in zip(found, expected, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def assert_differentiates(function: Function, *arguments: Any, seed: int = 0) -> None:
    """Compare forward mode with differences, reverse mode with forward mode, both through np."""
    random = np.random.default_rng(seed)
    tangents = [direction(random, x) for x in arguments]

    def call(*arrays: Any) -> list[Any]:
        return leaves(function(np, *arrays))

    def traced(*arrays: Any) -> tuple[Any, ...]:
        result = function(np, *arrays)
        return result if isinstance(result, tuple) else (result,)

    out, pushed = ad.jvp(traced, tuple(arguments), tuple(tangents))
    for found, (expected, error) in zip(pushed, derivative(call, arguments, tangents), strict=True):
        assert np.all(abs(found - expected) <= 10 * error + 1e-8 * (1 + abs(expected)))
    cts = tuple(direction(random, x) for x in out)
    pulled = ad.vjp(traced, *arguments)[1](cts)
    np.testing.assert_allclose(
        pairing(cts, pushed), pairing(pulled, tangents), rtol=1e-9, atol=1e-9
    )
