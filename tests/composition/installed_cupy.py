"""The CuPy that is installed, which needs no GPU to be asked what it does with traced values."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

from tests.composition import fake_cupy


def installed_cupy() -> ModuleType | None:
    """Return CuPy, None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses the CUDA toolkit
        try:
            cupy = import_module("cupy")
            import_module("cupyx.scipy.special")
        except ImportError:
            return None
    return None if cupy is fake_cupy.cupy else cupy


def unreadable_array(cupy: ModuleType, shape: tuple[int, ...], dtype: object) -> object:
    """Return an array of CuPy's at an address that no device has: for its type and manners."""
    memory = cupy.cuda.UnownedMemory(1 << 20, 1 << 20, None, 0)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0))
