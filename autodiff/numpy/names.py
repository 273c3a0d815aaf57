"""Further names of functions: NumPy's own, which are those of the array API standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.ir.primitive import Primitive, array_functions


def further_names(public: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Return the names in NumPy that `public` lacks though it has the function, under another name.

    >>> from autodiff import numpy as anp
    >>> anp.acos is anp.arccos, anp.pow is anp.power
    (True, True)
    """
    of_definition = {
        getattr(function, "__wrapped__", None): function for function in public.values()
    }
    found: dict[str, Callable[..., Any]] = {}
    for name, function in vars(np).items():  # dir() and getattr would import submodules
        if name in public or not callable(function) or isinstance(function, type):
            continue
        recorded = array_functions.get(function)
        if isinstance(recorded, Primitive):
            if recorded.public in public:
                found[name] = public[recorded.public]
        elif recorded is not None and recorded in of_definition:
            found[name] = of_definition[recorded]
    return found
