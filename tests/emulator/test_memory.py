"""Guarded memory: where arrays lie, and that it is given back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.emulator import memory
from tests.emulator.memory import PAGE, allocate, bounds, guarded, is_guarded


@pytest.mark.parametrize("dtype", [np.int8, np.float16, ml_dtypes.bfloat16, np.complex128])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (0,), (2, 0), (1200, 3)])
def test_an_array_ends_at_the_page_or_just_before_it(shape, dtype):
    array = allocate(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.c_contiguous and array.flags.writeable
    assert (array.ctypes.data + array.nbytes) % PAGE == 0
    assert array.tobytes() == bytes([memory.FILLING]) * array.nbytes
    aligned = allocate(shape, dtype, alignment=256)
    assert aligned.ctypes.data % 256 == 0
    assert -(aligned.ctypes.data + aligned.nbytes) % PAGE < 256


def test_new_memory_is_not_a_number():
    for dtype in (np.float16, np.float32, np.float64, np.complex64, ml_dtypes.bfloat16):
        assert np.isnan(allocate(5, dtype)).all()


def test_bounds_are_those_of_living_arrays():
    first, second = allocate(24), guarded(np.ones((3, 3), np.float32)[:, ::2])
    other = np.ones(8)
    found = dict(bounds([other, first[3:]]).tolist())
    assert found[first.ctypes.data] == first.ctypes.data + 24
    assert found[second.ctypes.data] == second.ctypes.data + 24
    assert found[other.ctypes.data] == other.ctypes.data + 64
    assert list(found) == sorted(found)
    assert is_guarded(first) and is_guarded(first[5:9]) and not is_guarded(other)
    begin = first.ctypes.data
    view = first[2:]
    del first
    assert begin in dict(bounds([]).tolist())
    del view
    assert begin not in dict(bounds([]).tolist())
