"""The library's tests on the emulated device: programs of NumPy's arrays take the path of CuPy's.

Tests are written with NumPy's arrays. Within `numpy_programs_on_device` every program that they run
gets copies of its arguments on the device, runs there as a program of CuPy's does, and gives back
its results as NumPy's arrays. `pytest --device emulator` is a run of all tests within it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np

from autodiff.runtime import devices
from autodiff.runtime.executor import Executable
from tests.composition import fake_cupy
from tests.emulator.device import DEVICE, EmulatorDevice, placed_in_guarded_memory, registered

_run = Executable.__call__


@contextmanager
def numpy_programs_on_device() -> Iterator[EmulatorDevice]:
    """Let programs of NumPy's arrays run on the device; creation functions make NumPy's arrays.

    Programs without arguments, or of numbers alone, run on NumPy as they do beside CuPy.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> with numpy_programs_on_device() as device:
    ...     ad.jit(lambda x: np.sin(x) * x)(np.zeros(3))
    ...     device.launched[-1]
    array([0., 0., 0.])
    'kernel'
    """
    with (
        patch.dict(sys.modules, fake_cupy.modules),
        patch.object(fake_cupy, "placed", placed_in_guarded_memory),
        patch.object(devices, "_usable_gpu", no_gpu),
        patch.object(Executable, "__call__", runs_on(fake_cupy.ndarray, fake_cupy.unwrapped)),
        registered(DEVICE),
    ):
        yield DEVICE


@contextmanager
def numpy_programs_on_cupy() -> Iterator[None]:
    """Let programs of NumPy's arrays run on CuPy's, and give back NumPy's; otherwise as above."""
    cupy = import_module("cupy")
    with (
        patch.object(devices, "_usable_gpu", no_gpu),
        patch.object(Executable, "__call__", runs_on(cupy.asarray, cupy.asnumpy)),
    ):
        yield


@lru_cache
def no_gpu() -> tuple[None, str]:
    """Take the place of the search for a GPU, whose arrays creation functions would make."""
    return None, "the tests ask for NumPy's arrays"


def runs_on(array: Any, on_host: Callable[[Any], np.ndarray]) -> Callable[..., list[Any]]:
    """Return what runs a program of NumPy's arrays on others, and gives back NumPy's.

    Args:
        array: from an array of NumPy's to one on the device.
        on_host: from an array on the device to one of NumPy's, a copy or not.
    """

    def run(executable: Executable, *arguments: Any) -> list[Any]:
        kinds = {type(x) for x in arguments}
        if np.ndarray not in kinds or any(kind.__module__ == "cupy" for kind in kinds):
            return _run(executable, *arguments)
        moved = [array(x) if type(x) is np.ndarray else x for x in arguments]
        return [on_host(x).copy() for x in _run(executable, *moved)]

    return run
