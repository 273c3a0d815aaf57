"""Diagonals and triangles against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp

RNG = np.random.default_rng(5)
SHAPES = [(3, 3), (2, 5), (4, 2), (1, 1), (0, 3), (3, 0)]
OFFSETS = [0, 1, -1, 2, -3, 7]


def check(f: Any, x: Any) -> None:
    """Compare f, linear in x, with NumPy's, and its transpose by the dot-product identity."""
    expected = np.asarray(f(x))
    out, pull = ad.vjp(f, x)
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == expected.dtype
    assert out.shape == expected.shape
    ct = RNG.normal(size=expected.shape)
    t = RNG.normal(size=x.shape)
    np.testing.assert_allclose(np.vdot(pull(ct)[0], t), np.vdot(ct, f(t)), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(ad.vmap(f)(np.stack([x, -x])), [expected, f(-x)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("module", [np, anp])
def test_diagonals_and_triangles_of_matrices(module: Any, shape: Any, offset: int) -> None:
    x = RNG.normal(size=shape)
    for f in (module.diagonal, module.diag, module.trace, module.tril, module.triu):
        check(lambda x, f=f: f(x, offset), x)
    check(lambda x: x.diagonal(offset), x)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (0, 2), (2, 1), (-1, 0)])
@pytest.mark.parametrize("offset", [0, 1, -2])
def test_diagonals_along_any_two_axes(axes: Any, offset: int) -> None:
    x = RNG.normal(size=(3, 2, 4))
    check(lambda x: np.diagonal(x, offset, *axes), x)
    check(lambda x: np.trace(x, offset, *axes), x)
    check(lambda x: np.linalg.diagonal(x, offset=offset), x)
    check(lambda x: np.linalg.trace(x, offset=offset), x)
    check(lambda x: np.tril(x, offset), x)
    check(lambda x: np.triu(x, offset), x)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_matrices_made_of_a_diagonal(count: int, offset: int) -> None:
    x = RNG.normal(size=count)
    check(lambda x: np.diag(x, offset), x)
    check(lambda x: np.tril(x, offset), x)
    check(lambda x: np.diagflat(x, offset), RNG.normal(size=(2, 1)))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32, complex])
def test_types_are_those_of_numpy(dtype: Any) -> None:
    x = np.ones((3, 3), dtype)
    for f in (np.trace, np.diagonal, np.diag, np.tril, np.triu):
        out = ad.jit(f)(x)
        np.testing.assert_array_equal(out, f(x))
        assert out.dtype == f(x).dtype
    assert ad.jit(lambda x: np.trace(x, dtype=np.float32))(x.real).dtype == np.float32


def test_the_sum_of_a_diagonal_has_the_identity_as_its_gradient() -> None:
    np.testing.assert_array_equal(ad.grad(np.trace)(RNG.normal(size=(3, 4))), np.eye(3, 4))
