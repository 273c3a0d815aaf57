"""Large new arrays, made in memory that earlier ones have left.

The C library gives memory of more than 32 MB back to the system as soon as it is freed. Taking it
anew costs a page fault for every page, which the system fills with zeros first: as much as a simple
kernel takes to write it. So the memory of large results is kept when the last array in it is gone,
up to a limit (setting `kept_megabytes`), and the oldest is given back first.
"""

from __future__ import annotations

import mmap as system
from collections import OrderedDict
from contextlib import suppress
from itertools import count
from math import prod
from mmap import ACCESS_COPY, mmap
from weakref import finalize

import numpy as np

from autodiff.base.settings import settings

#: Bytes from which on the memory of an array is kept.
LARGE = 32 << 20

#: Blocks are of whole multiples of this many bytes, a page of the large kind.
_UNIT = 2 << 20

#: Memory that is free, what was freed first in front. It may be freed at any moment, also while
#: this is read: each step below is one operation on the dictionary.
_free: OrderedDict[int, mmap] = OrderedDict()
_number = count()


class _Block(np.ndarray):
    """All of some memory as an array; what is made in it holds it, and so do views of that.

    It is of a class of its own since NumPy lets an array hold what its base holds in turn, down to
    the first object of another class.
    """


def new_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return a new array in C order, its elements undefined."""
    size = prod(shape) * dtype.itemsize
    if size < LARGE or not settings().kept_megabytes:
        return np.empty(shape, dtype)
    memory = _taken(-(-size // _UNIT) * _UNIT)
    block = np.ndarray.__new__(_Block, (len(memory),), np.uint8, memory)
    finalize(block, _keep, memory).atexit = False
    return np.ndarray(shape, dtype, block)


def kept_bytes() -> int:
    """Return how much free memory is kept."""
    return sum(map(len, list(_free.values())))


def release() -> None:
    """Give all free memory back to the system."""
    _free.clear()


def _taken(size: int) -> mmap:
    """Return memory of `size` bytes: what was freed last, or new."""
    for key, memory in reversed(list(_free.items())):
        if len(memory) == size and _free.pop(key, None) is not None:
            return memory
    try:
        memory = mmap(-1, size, access=ACCESS_COPY)
    except OSError:  # there may be enough without what is kept for other sizes
        release()
        try:
            memory = mmap(-1, size, access=ACCESS_COPY)
        except OSError as error:
            raise MemoryError(f"no memory for an array of {size} bytes") from error
    with suppress(AttributeError, OSError):  # not on all systems
        memory.madvise(system.MADV_HUGEPAGE)
    return memory


def _keep(memory: mmap) -> None:
    _free[next(_number)] = memory
    limit = settings().kept_megabytes << 20
    while kept_bytes() > limit:
        try:
            _free.popitem(last=False)
        except KeyError:  # others have taken the rest
            return
