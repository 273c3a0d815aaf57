"""Memory of large results is used again once nothing refers to it, and never before."""

from __future__ import annotations

import gc
import os
import threading
from math import prod

import numpy as np
import pytest

import autodiff as ad
from autodiff.runtime import large_arrays
from autodiff.runtime.large_arrays import LARGE, kept_bytes, new_array, release

BYTES = np.dtype(np.uint8)


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    release()
    yield
    release()


def address(x: np.ndarray) -> int:
    return x.ctypes.data


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128"])
@pytest.mark.parametrize("shape", [(LARGE,), (2, LARGE // 2), (LARGE // 8, 2, 4)])
def test_a_large_array_is_an_array_like_others(shape, dtype):
    x = new_array(shape, np.dtype(dtype))
    assert type(x) is np.ndarray
    assert (x.shape, x.dtype) == (shape, np.dtype(dtype))
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert address(x) % 64 == 0
    x[-1] = 7
    assert x.nbytes == prod(shape) * np.dtype(dtype).itemsize


def test_memory_is_used_again_when_the_array_is_gone():
    x = new_array((LARGE,), BYTES)
    place = address(x)
    assert kept_bytes() == 0
    del x
    assert kept_bytes() >= LARGE
    y = new_array((LARGE // 4,), np.dtype(np.float32))
    assert address(y) == place
    assert kept_bytes() == 0


def test_views_keep_the_memory():
    x = new_array((LARGE // 8, 8), BYTES)
    x[:] = 3
    view = x[::-2, 1:].T.reshape(-1)[5:]
    seen = np.asarray(memoryview(x[4:]))
    del x
    other = new_array((LARGE,), BYTES)
    other[:] = 9
    assert (view == 3).all()
    assert (seen == 3).all()
    assert not np.shares_memory(other, seen)


def test_small_arrays_and_a_limit_of_nothing_are_left_to_numpy():
    assert new_array((LARGE - 1,), BYTES).flags.owndata
    with ad.override(kept_megabytes=0):
        assert new_array((LARGE,), BYTES).flags.owndata


def test_no_more_is_kept_than_the_limit_and_what_was_freed_first_goes_first():
    megabytes = 2 * LARGE // (1 << 20) + 8
    with ad.override(kept_megabytes=megabytes):
        arrays = [new_array((LARGE,), BYTES) for _ in range(4)]
        places = [address(x) for x in arrays]
        while arrays:
            del arrays[0]
        assert 2 * LARGE <= kept_bytes() <= megabytes << 20
        again = [new_array((LARGE,), BYTES) for _ in range(2)]
        assert {address(x) for x in again} == set(places[2:])


def test_results_of_large_kernels_take_it():
    jitted = ad.jit(lambda x: x * 2.0 + 1.0)
    x = np.ones(LARGE // 8)
    result = jitted(x)
    place = address(result)
    np.testing.assert_array_equal(result[::100_000], 3.0)
    del result
    result = jitted(x)
    assert address(result) == place
    np.testing.assert_array_equal(result[::100_000], 3.0)
    assert address(jitted(x)) != place


def test_arrays_of_several_threads_never_share_memory():
    wrong = []

    def work(number):
        for _ in range(20):
            x = new_array((LARGE,), BYTES)
            x[::4096] = number
            if (x[::4096] != number).any():
                wrong.append(number)

    with ad.override(kept_megabytes=large_arrays.settings().kept_megabytes):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_has_memory_of_its_own():
    x = new_array((LARGE,), BYTES)
    x[:] = 1
    child = os.fork()
    if not child:
        x[:] = 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (x == 1).all()
