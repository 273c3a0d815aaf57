"""Arrays that end at a page which cannot be accessed, so that reading past the end is a fault.

`allocate` makes one; `bounds` lists those that live, for launches that are checked access by
access, and `check_margins` looks whether something has been written past the end of one.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from bisect import bisect_left, bisect_right, insort
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

PAGE = mmap.PAGESIZE
#: Fills new memory and margins: NaN in every floating-point type.
FILLING = 0xFF

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value
_NOTHING, _READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE

_lock = Lock()
#: Begin, start of the pages and their bytes, of allocations whose arrays are gone. These are given
#: back by `_give_back`, not while something is looked up: arrays can be collected at any time.
_gone: list[tuple[int, int, int]] = []
#: Where the living allocations begin, in ascending order, and their bytes.
_begins: list[int] = []
_sizes: dict[int, int] = {}
#: The bytes between an allocation's end and the page after it, where there are any.
_margins: dict[int, int] = {}


def allocate(
    shape: int | tuple[int, ...], dtype: DTypeLike = np.uint8, *, alignment: int | None = None
) -> np.ndarray:
    """Return an array in C order, of bytes 0xFF, between two pages that cannot be accessed.

    Args:
        shape: of the array; a number of bytes, if `dtype` is not given.
        dtype: of the elements; no Python objects.
        alignment: of the first element in bytes, a power of two up to the size of a page; default:
            that of the elements. The array's last byte is followed by the page if its size is a
            multiple of the alignment, and else by fewer bytes than that, which `check_margins`
            watches.

    Raises:
        MemoryError: the system has no more.
    """
    _give_back()
    kind = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = prod(shape) * kind.itemsize
    alignment = alignment or kind.alignment
    margin = -size % alignment
    room = -(-(size + margin) // PAGE) * PAGE
    start = _libc.mmap(
        None, room + 2 * PAGE, _NOTHING, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )
    if start in (None, _FAILED):
        raise MemoryError(f"allocate: the system must have {room} bytes left.")
    if room and _libc.mprotect(start + PAGE, room, _READ_WRITE):
        raise MemoryError(f"allocate: the system must have {room} bytes left.")
    begin = start + PAGE + room - margin - size
    ctypes.memset(start + PAGE, FILLING, room)
    buffer = (ctypes.c_ubyte * size).from_address(begin)
    with _lock:
        insort(_begins, begin)
        _sizes[begin] = size
        if margin:
            _margins[begin] = margin
    weakref.finalize(buffer, _gone.append, (begin, start, room + 2 * PAGE))
    return np.frombuffer(buffer, np.uint8).view(kind).reshape(shape)


def _give_back() -> None:
    with _lock:
        while _gone:
            begin, start, size = _gone.pop()
            del _begins[bisect_left(_begins, begin)], _sizes[begin]
            _margins.pop(begin, None)
            _libc.munmap(start, size)


def guarded(array: Any, *, alignment: int | None = None) -> np.ndarray:
    """Return a copy of an array in memory as `allocate` makes it."""
    array = np.asarray(array)
    copy = allocate(array.shape, array.dtype, alignment=alignment)
    copy[...] = array
    return copy


def is_guarded(array: np.ndarray) -> bool:
    """Return whether an array is one that `allocate` made, or a view of one."""
    begin, end = np.lib.array_utils.byte_bounds(array)
    with _lock:
        before = bisect_right(_begins, begin)
        return before > 0 and end <= _begins[before - 1] + _sizes[_begins[before - 1]]


def bounds(arrays: list[np.ndarray]) -> np.ndarray:
    """Return begin and end of all living allocations and of `arrays`, uint64[n, 2], ascending."""
    _give_back()
    others = [np.lib.array_utils.byte_bounds(x) for x in arrays if not is_guarded(x)]
    with _lock:
        extents = [(begin, begin + _sizes[begin]) for begin in _begins]
    return np.array(sorted([*extents, *others]), np.uint64).reshape(-1, 2)


def check_margins() -> str | None:
    """Return a sentence if something was written between an allocation and the page after it."""
    with _lock:
        for begin, margin in _margins.items():
            size = _sizes[begin]
            if ctypes.string_at(begin + size, margin) != bytes([FILLING]) * margin:
                ctypes.memset(begin + size, FILLING, margin)
                return f"nothing must be written past the end of an array of {size} bytes"
        return None
