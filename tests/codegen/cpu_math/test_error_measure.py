"""The measure of errors itself: it must fail what is wrong."""

from __future__ import annotations

import numpy as np

from tests.codegen.cpu_math.harness import errors


def _error(got: float, exact: float) -> float:
    return float(errors(np.array([got], np.float32), np.array([exact], np.longdouble))[0])


def test_the_unit_is_the_last_place_of_the_exact_result():
    assert _error(1 + 2**-23, 1.0) == 1
    assert _error(3 * 2**-149, 2.5 * 2**-149) == 0.5
    assert _error(1.0, 1.0) == 0


def test_results_of_another_kind_are_infinitely_wrong():
    assert _error(np.nan, 1.0) == _error(1.0, np.nan) == np.inf
    assert _error(np.inf, 1e30) == _error(3e38, np.inf) == np.inf
    assert _error(-np.inf, np.inf) == np.inf
    assert _error(0.0, -0.0) == _error(-0.0, 0.0) == np.inf


def test_an_overflow_is_right_where_the_exact_result_is_too_large():
    assert _error(np.inf, 1e40) == _error(np.nan, np.nan) == _error(-np.inf, -np.inf) == 0
    assert _error(3.4028235e38, 3.4028236e38) < 1
