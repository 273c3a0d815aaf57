"""Which array module a value belongs to: the one place that tells NumPy's arrays from CuPy's.

CuPy is never imported here: an array of it can only exist once somebody has imported it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

_modules: dict[type, ModuleType | None] = {
    np.ndarray: np,
    bool: None,
    int: None,
    float: None,
    complex: None,
}


def module_of(value: Any) -> ModuleType | None:
    """Return `numpy` or `cupy` for an array or array scalar, None for anything else."""
    kind = type(value)
    try:
        return _modules[kind]
    except KeyError:
        found: ModuleType | None = None
        if issubclass(kind, np.ndarray | np.generic):
            found = np
        elif kind.__module__.partition(".")[0] == "cupy" and hasattr(kind, "dtype"):
            found = sys.modules["cupy"]
        _modules[kind] = found
        return found


#: Whether values of a class that is no array's offer one.
_exporters: dict[type, bool] = dict.fromkeys(_modules, False)


def exports_array(value: Any) -> bool:
    """Return whether a value, no array of a module, offers its memory as one.

    It does so by DLPack or, on a GPU, by the CUDA array interface.
    """
    kind = type(value)
    found = _exporters.get(kind)
    if found is None:
        offers = hasattr(kind, "__dlpack__") or hasattr(kind, "__cuda_array_interface__")
        found = _exporters[kind] = offers and module_of(value) is None
    return found


def may_mix() -> bool:
    """Return whether there can be arrays of more than one module."""
    return "cupy" in sys.modules


def on_one_device(values: Any) -> Any:
    """Return values with NumPy's arrays sent to the device that one of the values is on, if any."""
    if not may_mix():
        return values
    module = common_module(values)
    if module is np:
        return values
    return [module.asarray(x) if type(x) is np.ndarray else x for x in values]


def common_module(values: Any) -> ModuleType:
    """Return the module that computes on `values`: CuPy if one of them is CuPy's, else NumPy."""
    for value in values:
        module = module_of(value)
        if module is not None and module is not np:
            return module
    return np


def gpu_of(value: Any) -> int | None:
    """Return the number of the GPU that an array is on, None for anything else."""
    return value.data.device_id if module_of(value) not in (None, np) else None
