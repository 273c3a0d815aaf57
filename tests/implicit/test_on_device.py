"""Systems and fixed points of arrays of the class `cupy.ndarray` are solved by that module."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.composition import fake_cupy
from tests.emulator.device import emulated

A = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])
B = np.array([1.0, 2.0, 3.0])
SOLVERS = {"cg": ad.cg, "gmres": ad.gmres, "bicgstab": ad.bicgstab}


@pytest.fixture(autouse=True)
def _cupy_is_imported():
    with emulated(checked=True), ad.override(device="cpu"):
        yield


def device(x):
    return fake_cupy.ndarray(np.array(x))


def check(found, expected):
    assert type(found) is fake_cupy.ndarray
    np.testing.assert_allclose(found._data, expected, rtol=1e-9)


@pytest.mark.parametrize("words", ["", "residuals"], ids=["unchecked", "checked"])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_solution_and_its_gradient(name, words):
    def total(matrix, side):
        return np.sum(SOLVERS[name](matrix, side, tol=1e-12)[0])

    with ad.override(check=words):
        x, info = SOLVERS[name](device(A), device(B), tol=1e-12)
        check(x, np.linalg.solve(A, B))
        check(info, 0)
        pulled = np.linalg.solve(A.T, np.ones(3))
        for gradient in (ad.grad(total, (0, 1)), ad.jit(ad.grad(total, (0, 1)))):
            ct_matrix, ct_side = gradient(device(A), device(B))
            check(ct_side, pulled)
            check(ct_matrix, -np.outer(pulled, np.linalg.solve(A, B)))


def test_a_fixed_point_and_its_gradient():
    f = lambda a: ad.custom_fixed_point(lambda x: 0.5 * (x + a / x), a)
    check(f(device(2.0)), 2**0.5)
    check(ad.grad(f)(device(2.0)), 0.5 / 2**0.5)
