"""Where kernels cannot be made, everything runs by NumPy, and that is said once."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.runtime import cpu_kernels


@pytest.fixture
def _without_compiler(monkeypatch):
    def refuse(*arguments, **keywords):
        raise OSError("no memory may be made executable")

    monkeypatch.setattr(cpu_kernels, "load", refuse)
    monkeypatch.setattr(cpu_kernels, "_functions", type(cpu_kernels._functions)())
    monkeypatch.setattr(cpu_kernels, "_failure", None)


def program(x):
    return np.sin(x) * 2.0 + np.cos(x) - 0.123


@pytest.mark.usefixtures("_without_compiler")
def test_a_program_runs_without_kernels_and_says_so_once():
    x = np.linspace(0.0, 1.0, 50)
    with ad.override(verify=False, kernels=True, reference=False):
        with pytest.warns(RuntimeWarning, match="no memory may be made executable"):
            found = ad.jit(program)(x)
        np.testing.assert_array_equal(found, program(x))
        again = ad.jit(ad.grad(lambda v: np.sum(program(v))))(x)  # no second warning: an error here
        np.testing.assert_allclose(again, 2.0 * np.cos(x) - np.sin(x), rtol=1e-13)


@pytest.mark.usefixtures("_without_compiler")
def test_while_testing_what_went_wrong_is_raised():
    with (
        ad.override(verify=True, kernels=True, reference=False),
        pytest.raises(OSError, match="no memory may be made executable"),
    ):
        ad.jit(program)(np.linspace(0.0, 1.0, 51))
