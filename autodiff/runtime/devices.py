"""Devices: which array module makes new arrays, and waiting for a device to finish."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from autodiff.base.array_modules import gpu_of, may_mix, module_of
from autodiff.base.errors import message
from autodiff.base.settings import settings


@lru_cache(maxsize=1)
def _usable_gpu() -> tuple[ModuleType | None, str]:
    """Return CuPy if it has a device, and otherwise why not. Looks once per process."""
    if find_spec("cupy") is None:
        return None, "CuPy is not installed"
    try:
        cupy = import_module("cupy")
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return cupy, ""
    except Exception as error:  # an unusable driver shows in many ways, all meaning: no device
        return None, f"CuPy finds no device ({type(error).__name__}: {error})"
    return None, "CuPy finds no device"


def default_array_module() -> ModuleType:
    """Return the module whose arrays creation functions make: `numpy`, or `cupy`.

    Raises:
        RuntimeError: the setting asks for a GPU and none is usable; the message says why.
    """
    wanted = settings().device
    if wanted == "cpu":
        return np
    module, reason = _usable_gpu()
    if module is not None:
        return module
    if wanted == "gpu":
        raise RuntimeError(
            message(
                "default_device",
                "a GPU must be usable",
                f"device='gpu' where {reason}",
                fix="pip install 'autodiff[cuda13]', or set AUTODIFF_DEVICE=cpu.",
            )
        )
    return np


#: Kinds of devices in DLPack (dlpack.h, `DLDeviceType`): in memory of the host, and of a GPU.
_ON_HOST, _ON_GPU = (1,), (2, 13)


def imported_array(value: Any) -> Any:
    """Return the array whose memory an object offers, by DLPack or the CUDA array interface.

    The memory is shared: `numpy.ndarray` for what lies in the host's, `cupy.ndarray` on a GPU.

    Raises:
        RuntimeError: it is on a GPU, and CuPy cannot use one.
        TypeError: it is on another device, or not to be held by NumPy's or CuPy's arrays.
    """
    if hasattr(value, "__dlpack__"):
        kind, _ = value.__dlpack_device__()
        if kind in _ON_HOST:
            return np.from_dlpack(value)
        if kind not in _ON_GPU:
            raise TypeError(f"it is on a device of kind {int(kind)} of DLPack")
        return _cupy().from_dlpack(value)
    return _cupy().asarray(value)


def _cupy() -> Any:
    module, reason = _usable_gpu()
    if module is None:
        raise RuntimeError(f"it is on a GPU, and {reason}")
    return module


def beside(values: Iterable[Any]) -> AbstractContextManager[Any]:
    """Return a context in which new arrays are made on the GPU of `values`, if they are on one."""
    for value in values if may_mix() else ():
        index = gpu_of(value)
        if index is not None:
            module: Any = module_of(value)
            if module.cuda.runtime.getDevice() == index:
                break
            return module.cuda.Device(index)
    return nullcontext()


def wait_for(arrays: Sequence[Any]) -> None:
    """Wait until the devices have finished computing `arrays`: the current stream of each GPU."""
    on_gpus = {gpu_of(array): array for array in arrays}
    on_gpus.pop(None, None)
    for array in on_gpus.values():
        module: Any = module_of(array)
        with beside((array,)):
            module.cuda.get_current_stream().synchronize()
