"""NumPy's functions for traced values and plain arrays alike.

Given a traced value they record; given plain arrays they call NumPy's or CuPy's function of the
same name. Elementwise functions come from the declarations of operations, the others from the
modules of this folder.
"""

import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from autodiff.ir.primitive import array_functions, primitives
from autodiff.numpy.dispatch import primitive_function, public
from autodiff.numpy.names import further_names

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

for _primitive in primitives.values():
    if _primitive.public is not None and _primitive.public not in public:
        public[_primitive.public] = primitive_function(_primitive)
        for _function in _primitive.numpy:
            public.setdefault(_function.__name__, public[_primitive.public])

public.update(further_names(public))
globals().update(public)
array_functions["namespace"] = sys.modules[__name__]


def __dir__() -> list[str]:
    return sorted(public)


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"autodiff.numpy has no function {name!r}; dir(autodiff.numpy) lists what it has. "
        "Functions that need no derivative can be called from numpy on plain arrays."
    )
