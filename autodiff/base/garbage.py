"""Holding back Python's cycle collector while a pass makes many objects that all stay alive.

The collector is started by the number of new objects and looks at all of them again and again: on
graphs of ten thousand equations that is two thirds of a pass's time, and it finds nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_holders = 0
_was_enabled = False


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause automatic collection in a block, also where blocks nest or run on several threads.

    >>> import gc
    >>> with collection_paused():
    ...     gc.isenabled()
    False
    """
    global _holders, _was_enabled
    with _lock:
        if _holders == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _was_enabled:
                gc.enable()
