"""The math library of the CPU backend, written over `autodiff.codegen.vectors.VectorBuilder`.

`FUNCTIONS` has every function by name. The modules of this folder are imported by themselves: a new
one needs no entry anywhere.
"""

from __future__ import annotations

import importlib
import pkgutil

from autodiff.codegen.cpu_math.registry import CLAIMS, FUNCTIONS, Claim, math_function

__all__ = ["CLAIMS", "FUNCTIONS", "Claim", "math_function"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
