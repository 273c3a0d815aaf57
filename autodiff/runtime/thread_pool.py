"""Kernels divided over the cores: a pool of system threads that never meet Python.

`run` calls one kernel on consecutive pieces of its outermost index. Threads are started at the
first call that has pieces to share, and anew in a forked process. How the pool works, and why
results do not depend on the number of threads, is told in `autodiff.codegen.cpu_pool`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from autodiff.base.settings import settings
from autodiff.codegen.cpu_pool import FIELDS, SIZE, emit_pool, supports
from autodiff.runtime.cpu_jit import load
from autodiff.runtime.host import host

#: A piece should repay the microsecond that sharing it costs, and leave several for each core.
_SMALLEST_PIECE, _LARGEST_PIECE, _PIECES = 4096, 65536, 8

_SYMBOL = "autodiff_pool_run"
_STATE = "autodiff_pool"

_Kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_Run = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int64,
)


@dataclass(slots=True)
class _Pool:
    """The loaded pool. It is never dropped, since its threads run its code."""

    address: int
    state: int
    call: Callable[..., None]
    module: Any
    threads: int = 0


_pool: _Pool | None = None
_lock = Lock()


def piece(length: int) -> int:
    """Return into pieces of how many elements a kernel of `length` elements should be divided.

    A function of the length alone, so that results do not depend on the machine.

    >>> piece(1000), piece(100_000), piece(10_000_000)
    (4096, 12500, 65536)
    """
    return min(max(length // _PIECES, _SMALLEST_PIECE), _LARGEST_PIECE)


def threads() -> int:
    """Return over how many threads kernels are divided: the setting, or the cores there are."""
    return settings().threads or host().cores


def run(kernel: int, pointers: int, sizes: int, begin: int, end: int, chunk: int) -> None:
    """Call a kernel on [begin, end) in pieces of `chunk` indices, and wait for all of them.

    Python's lock is released meanwhile. A call made while another one runs (from a second thread,
    or from a kernel) does its pieces in its own thread.

    Args:
        kernel: address of a kernel of the CPU's calling convention.
        pointers: address of the array of addresses the kernel takes.
        sizes: address of its array of sizes.
        begin: first value of the outermost index.
        end: the value after the last.
        chunk: how many values one piece has, at least 1; the last piece may have fewer.
    """
    pool = _started()
    if pool is None:
        call = _Kernel(kernel)
        for first in range(begin, end, chunk):
            call(pointers, sizes, first, min(first + chunk, end))
        return
    pool.call(kernel, pointers, sizes, begin, end, chunk)


def entry_point() -> int | None:
    """Return the address of `run` for emitted code, ready to be called; None if there is none."""
    pool = _started()
    return None if pool is None else pool.address


def _started() -> _Pool | None:
    """Return the pool set to the number of threads wanted; None where there can be none."""
    pool = _pool
    if pool is None:
        pool = _loaded()
        if pool is None:
            return None
    wanted = threads()
    if pool.threads != wanted:
        _set_threads(pool, wanted)
    return pool


def _loaded() -> _Pool | None:
    global _pool
    target = host()
    if not supports(target):
        return None
    with _lock:
        if _pool is None:
            module = load(emit_pool(target), target, (_SYMBOL, _STATE))
            # Threads may still run in the code when the interpreter drops everything at its end.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))
            address = module.address(_SYMBOL)
            _pool = _Pool(address, module.address(_STATE), _Run(address), module)
        return _pool


def _field(pool: _Pool, name: str) -> ctypes.c_int32:
    return ctypes.c_int32.from_address(pool.state + FIELDS[name])


def _set_threads(pool: _Pool, wanted: int) -> None:
    with _lock:
        _field(pool, "limit").value = wanted - 1
        most = _field(pool, "wanted")
        most.value = max(most.value, wanted - 1)
        pool.threads = wanted


def _forget_threads() -> None:
    """Bring the pool of a forked process to its initial state: no other thread was copied."""
    if _pool is not None:
        ctypes.memset(_pool.state, 0, SIZE)
        _pool.threads = 0
    _lock.release()


if hasattr(os, "register_at_fork"):
    # Held while forking, so that no other thread holds it in the child, where it would for ever.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_threads
    )
