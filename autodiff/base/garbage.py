"""Letting Python's cycle collector run seldom while many objects are made that all stay alive.

The collector is started by the number of new objects, by default 700, and looks at the living ones
again and again: on graphs of ten thousand equations that is most of the time of tracing and of a
pass, and it finds nothing. What such a block leaves behind is handed to the oldest generation at
once, as what has lived long, instead of being walked through to find that out.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

#: New objects after which the collector starts within a block: what some 20,000 equations make.
SELDOM = 200_000

#: New objects left by a block from which on it is worth while to hand them over.
MANY = 5_000

_lock = Lock()
_holders = 0
_before = gc.get_threshold()
_may_freeze = True


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Let the collector start seldom in a block, also where blocks nest or run on several threads.

    It still runs, so that cycles which a traced function makes do not pile up, and stays off where
    it is off.

    >>> import gc
    >>> with seldom_collected():
    ...     gc.get_threshold()[0]
    200000
    """
    global _holders, _before
    with _lock:
        if _holders == 0:
            _before = gc.get_threshold()
            gc.set_threshold(max(SELDOM, _before[0]) if _before[0] else 0, *_before[1:])
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                if gc.get_count()[0] > MANY:
                    _hand_over()
                gc.set_threshold(*_before)


def _hand_over() -> None:
    """Make every young object an old one, unless the program has frozen objects of its own."""
    global _may_freeze
    if _may_freeze and gc.get_freeze_count() == 0:  # counts one by one: not asked again if some
        gc.freeze()  # every generation to the permanent one, without a walk,
        gc.unfreeze()  # and that to the oldest
    else:
        _may_freeze = False
