"""Views as strides: every operation that says how it reads memory reads what NumPy's view reads."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.ir.primitive import primitives
from tests.primitives.sampling import cases, names

VIEWS = names(lambda p: p.strides is not None)
RESHAPES = [
    ((4, 6), (2, 12)),
    ((4, 6), (8, 3)),
    ((2, 3, 4), (6, 4)),
    ((2, 3, 4), (2, 12)),
    ((2, 3, 4), (24,)),
    ((24,), (2, 1, 3, 4)),
    ((1, 5, 1), (5,)),
    ((1,), (1, 1)),
    ((3, 4), (4, 3)),
]


def elements(x, shape, strides, offset):
    """Return the view of a flat array that the strides describe."""
    flat = x.reshape(-1)
    moved = flat[offset:] if flat.size else flat
    return np.lib.stride_tricks.as_strided(moved, shape, [s * x.itemsize for s in strides])


def test_every_view_says_how_it_reads():
    assert set(VIEWS) == set(names(lambda p: p.view and p.kind == "shape"))


@pytest.mark.parametrize("name", VIEWS)
def test_strides_read_what_the_view_reads(name):
    primitive = primitives[name]
    for case in cases(primitive, np.dtype(np.float64)):
        (x,) = case.operands
        x = np.array(x, order="C")
        expected = primitive.reference(x, **case.params)
        strides = [s // x.itemsize for s in x.strides]
        found = primitive.strides(x.shape, strides, 0, **case.params)
        if found is None or not x.size or not expected.size:
            continue
        np.testing.assert_array_equal(elements(x, expected.shape, *found), expected)


@pytest.mark.parametrize(("old", "new"), RESHAPES)
@pytest.mark.parametrize("order", ["C", "transposed", "every other"])
def test_a_reshape_reads_strided_memory_where_numpy_does_so_without_a_copy(old, new, order):
    base = np.arange(4.0 * np.prod(old))
    if order == "C":
        x = base[: int(np.prod(old))].reshape(old)
    elif order == "transposed":
        x = base[: int(np.prod(old))].reshape(old[::-1]).T
    else:
        wide = base[: int(2 * np.prod(old))].reshape((*old[:-1], 2 * old[-1]))
        x = wide[..., ::2]
    expected = x.reshape(new)
    strides = [s // x.itemsize for s in x.strides]
    found = primitives["reshape"].strides(old, strides, 0, shape=new)
    assert (found is not None) == np.shares_memory(expected, base)
    if found is not None:
        np.testing.assert_array_equal(elements(base, new, *found), expected)
