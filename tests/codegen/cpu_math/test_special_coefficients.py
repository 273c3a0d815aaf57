"""The tables of trigonometric and special functions are what their tool computes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import mpmath
import pytest

from autodiff.codegen.cpu_math import special_coefficients

TOOL = Path(__file__).parents[3] / "kernels/cpu/special_functions.py"


@pytest.fixture(scope="module")
def tool():
    specification = importlib.util.spec_from_file_location("special_functions", TOOL)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["special_functions"] = module
    digits = mpmath.mp.dps
    specification.loader.exec_module(module)
    yield module
    mpmath.mp.dps = digits
    del sys.modules["special_functions"]


def test_the_exchange_finds_the_chebyshev_polynomial(tool):
    # u**4 less its best cubic is T4/8, of size 1/8.
    grid = tool.chebyshev_grid(mpmath.mpf(-1), mpmath.mpf(1), 2001)
    found, error = tool.exchange(grid, [u**4 for u in grid], [1] * len(grid), 4)
    assert [float(c) for c in found] == pytest.approx([-0.125, 0, 1, 0], abs=1e-5)
    assert float(error) == pytest.approx(0.125, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "single"),
    [("SINE", True), ("ARCTANGENT", True), ("SINE_QUARTER", False), ("DIGAMMA_FAR", True)],
)
def test_the_tables_in_the_tree_are_what_the_tool_computes(tool, name, single):
    fit = next(fit for fit in tool.fits() if fit.name == name)
    coefficients, error = tool.solve(fit, fit.single if single else fit.double, single)
    suffix = "F32" if single else "F64"
    assert tuple(coefficients) == getattr(special_coefficients, f"{name}_{suffix}")
    assert error < (-27 if single else -53)


def test_every_table_has_a_row_in_the_tool(tool):
    names = {name.rsplit("_", 1)[0] for name in vars(special_coefficients) if name.isupper()}
    assert names == {fit.name for fit in tool.fits()}
