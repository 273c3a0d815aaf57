"""What a frame was doing when it asked a traced value for its number.

`float(x)` is a question, and Python code may ask it. `array[0] = x` and `math.sin(x)` ask the same
question on the way to a result that no derivative would flow through: they must not pass silently.
"""

from __future__ import annotations

import linecache
import re
from dis import opmap
from types import FrameType
from typing import Any

_STORE_ITEM = opmap["STORE_SUBSCR"]
_CALLED = re.compile(r"\s*([A-Za-z_][\w.]*)\(")


def stores_item(frame: FrameType) -> bool:
    """Return whether the frame is at an assignment to an item (`array[i] = value`)."""
    return frame.f_code.co_code[frame.f_lasti] == _STORE_ITEM


def called_math_function(frame: FrameType) -> str | None:
    """Return the name of the function of `math` or `cmath` the frame is calling, None if another.

    Found through the source text of the call; where there is none, None.
    """
    positions = list(frame.f_code.co_positions())
    line, _, start, _ = positions[frame.f_lasti // 2]
    if line is None or start is None:
        return None
    text = linecache.getline(frame.f_code.co_filename, line)
    found = _CALLED.match(text.encode()[start:].decode(errors="replace"))
    if found is None:
        return None
    value: Any = None
    for i, name in enumerate(found[1].split(".")):
        if i == 0:
            value = frame.f_locals.get(name, frame.f_globals.get(name))
        else:
            value = getattr(value, name, None)
    module = getattr(value, "__module__", None)
    return f"{module}.{value.__name__}" if module in ("math", "cmath") else None
