"""Operations said to be odd or even are so to the last bit, by the reference and by kernels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.ir.primitive import Primitive, primitives
from tests.primitives.sampling import (
    SPECIAL,
    arity,
    cases,
    is_elementwise,
    names,
    point_case,
    supported,
)

SYMMETRIC = names(lambda primitive: primitive.odd or primitive.even)


def bits(x: np.ndarray) -> np.ndarray:
    """Return numbers so that equal ones have equal bits: zeros keep their sign, NaN has none."""
    return np.where(np.isnan(x), np.full_like(x, np.nan), x).view(f"u{x.dtype.itemsize}")


def operands_of(primitive: Primitive, dtype: np.dtype, params: dict):
    found = [c for c in cases(primitive, dtype) if c.params == params]
    return [*found, point_case(primitive, dtype, params, SPECIAL)]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_the_sign_of_an_operand_is_the_results_or_does_not_count(name):
    primitive = primitives[name]
    assert is_elementwise(primitive)
    assert primitive.odd != primitive.even
    for dtype in filter(dtypes.is_float, supported(primitive)):
        for params in primitive.samples.params:
            for case in operands_of(primitive, dtype, params):
                for k in range(arity(primitive)):
                    flipped = [-x if i == k else x for i, x in enumerate(case.operands)]
                    for run in (
                        partial(primitive.reference, **params),
                        ad.jit(partial(primitive, **params)),
                    ):
                        with np.errstate(all="ignore"):
                            plain, other = run(*case.operands), run(*flipped)
                        wanted = -plain if primitive.odd else plain
                        np.testing.assert_array_equal(
                            bits(np.asarray(other)), bits(np.asarray(wanted)), f"{dtype} {params}"
                        )
