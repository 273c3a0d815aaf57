"""Loops and branches on a device's arrays run there, and give its arrays (stand-in: fake_cupy)."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from tests.composition import fake_cupy
from tests.control.programs import PROGRAMS
from tests.control.transformations import TRANSFORMED
from tests.emulator.device import emulated

ON_DEVICE = [p for p in PROGRAMS if isinstance(p.argument, np.ndarray)]


@pytest.fixture(autouse=True)
def _cupy_is_imported():
    fake_cupy.transfers.clear()
    with emulated(checked=True), ad.override(device="cpu"):
        yield


def looped(x):
    """Every construct, with numbers, arrays of the host and literals that rules make."""
    rows = np.array([[0.5, 1.0, -2.0], [1.0, 0.1, 0.3]])
    c, ys = ad.scan(lambda c, r: (np.sin(c * r) + x, (c[0], 1.0)), x, rows)
    d = ad.while_loop(lambda v: np.sum(v**2) < 9.0, lambda v: v * 1.5 + 0.1 * np.cos(x), c)
    e = ad.cond(x[0] > 0.0, lambda v: v * 2.0, lambda v: np.zeros(3) + v[0], d)
    n, f = ad.fori_loop(0, 3, lambda i, s: (s[0] + 1, s[1] * i + x), (0, e))
    return d, ys, ad.associative_scan(np.multiply, f * n), ad.map(lambda v: v * x[0], x)


CASES = {
    "alone": lambda x: looped(x),
    "jit": lambda x: ad.jit(looped)(x),
    "vjp": lambda x: ad.vjp(looped, x)[1](looped(x)),
    "jvp": lambda x: ad.jvp(looped, (x,), (x,)),
    "jit_of_grad": lambda x: ad.jit(ad.grad(lambda v: np.sum(looped(v)[0])))(x),
    "hessian": lambda x: ad.hessian(lambda v: np.sum(looped(v)[0]))(x),
    "vmap_of_grad": lambda x: ad.vmap(
        ad.grad(lambda s: ad.while_loop(lambda c: c < 3.0, lambda c: c * 1.5 + 0.1, np.abs(s)))
    )(x),
}


def test_a_number_that_a_branch_gives_is_a_row_on_the_device():
    def clipped(x):
        def step(c, r):
            return c, ad.cond(r > 0.0, lambda r: (np.sin(r), r), lambda r: (0.0 * r, 0.0), r)

        return ad.scan(step, x[0], x)[1]

    x = np.array([0.5, -1.0, 2.0])
    _, found = ad.jit(clipped)(fake_cupy.ndarray(x))
    np.testing.assert_array_equal(found._data, np.maximum(x, 0.0))
    slope = ad.jit(ad.grad(lambda x: np.sum(clipped(x)[0])))(fake_cupy.ndarray(x))
    np.testing.assert_allclose(slope._data, np.where(x > 0, np.cos(x), 0.0))


@pytest.mark.parametrize("name", CASES)
def test_loops_of_device_arrays_run_on_the_device(name):
    host = np.array([0.5, -1.0, 2.0])
    for _ in range(2):
        found, expected = CASES[name](fake_cupy.ndarray(host)), CASES[name](host)
        assert tree.structure(found) == tree.structure(expected)
        for leaf, wanted in zip(tree.leaves(found), tree.leaves(expected), strict=True):
            assert type(leaf) is fake_cupy.ndarray
            assert (leaf.shape, leaf.dtype) == (np.shape(wanted), np.asarray(wanted).dtype)
            np.testing.assert_allclose(leaf._data, wanted, rtol=1e-13)
    assert "to the host" not in fake_cupy.transfers


def test_what_is_computed_of_a_closed_over_array_alone_is_computed_where_that_is():
    matrix, vector = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0.5, 0.25])
    there = fake_cupy.ndarray(matrix)
    found = ad.jit(ad.grad(lambda v: np.sum(there @ v)))(fake_cupy.ndarray(vector))
    np.testing.assert_allclose(found._data, matrix.sum(axis=0))
    looped = ad.grad(lambda v: np.sum(ad.scan(lambda c, r: (c * r, None), v, there)[0]))
    np.testing.assert_allclose(looped(fake_cupy.ndarray(vector))._data, matrix.prod(axis=0))


@pytest.mark.parametrize("program", ON_DEVICE, ids=lambda p: p.name)
@pytest.mark.parametrize("name", ["grad", "jvp", "jit"])
def test_every_program_runs_on_the_device(name, program):
    function = TRANSFORMED[name](program.looped)
    found = function(fake_cupy.ndarray(program.argument))
    for leaf, wanted in zip(
        tree.leaves(found), tree.leaves(function(program.argument)), strict=True
    ):
        assert type(leaf) is fake_cupy.ndarray
        np.testing.assert_allclose(leaf._data, wanted, rtol=1e-12, atol=1e-14)
