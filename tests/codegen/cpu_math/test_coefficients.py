"""The tables of coefficients: the fitting tool, and that the tables in the tree are its output."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import mpmath
import pytest

from autodiff.codegen.cpu_math import coefficients

TOOL = Path(__file__).parents[3] / "kernels/cpu/minimax.py"


@pytest.fixture(scope="module")
def minimax():
    specification = importlib.util.spec_from_file_location("minimax", TOOL)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["minimax"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["minimax"]


def test_the_best_line_along_the_square_root_is_known(minimax):
    # sqrt(x) on [0, 1]: x + 1/8, whose error is 1/8 at 0, 1/4 and 1.
    found, error = minimax.minimax(mpmath.sqrt, range(2), (0, 1))
    assert [float(c) for c in found] == pytest.approx([0.125, 1], abs=1e-3)
    assert float(error) == pytest.approx(0.125, rel=1e-3)


def test_a_monomial_is_approximated_by_a_chebyshev_polynomial(minimax):
    # x**4 less its best cubic is T4/8, of size 1/8.
    found, error = minimax.minimax(lambda x: x**4, range(4), (-1, 1))
    assert [float(c) for c in found] == pytest.approx([-0.125, 0, 1, 0], abs=1e-9)
    assert float(error) == pytest.approx(0.125)


def test_rounded_coefficients_are_numbers_of_their_type(minimax):
    fit = next(fit for fit in minimax.FITS if fit.name == "EXP_F32")
    found, error = minimax.rounded(fit)
    with mpmath.mp.workprec(24):
        assert [float(+mpmath.mpf(c)) for c in found] == found
    assert error < -25


def test_the_tables_in_the_tree_are_what_the_tool_writes(minimax):
    for name in ("EXP_F32", "ATANH_SHORT_F64", "INVERSE_CUBE_ROOT_F32"):
        fit = next(fit for fit in minimax.FITS if fit.name == name)
        assert tuple(minimax.rounded(fit)[0]) == getattr(coefficients, name)
    assert {fit.name for fit in minimax.FITS} == {n for n in vars(coefficients) if n.isupper()}
