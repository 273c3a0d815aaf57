"""What makes kernels for an array module: the CPU's for NumPy, CUDA's for what lies on a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.settings import settings
from autodiff.ir.graph import Graph
from autodiff.runtime.cpu_kernels import (
    give_up,
    kernel_function,
    kernels_are_usable,
    schedule_for_cpu,
)
from autodiff.runtime.cuda_device import Device, device_of
from autodiff.runtime.cuda_kernels import schedule_for_cuda
from autodiff.runtime.cuda_programs import cuda_function, graph_program
from autodiff.runtime.cupy_device import CupyDevice
from autodiff.schedule.fuse import Schedule
from autodiff.schedule.kernel_spec import KernelSpec
from autodiff.schedule.multi_kernel import MultiKernel


@dataclass(frozen=True, slots=True)
class Backend:
    """How graphs become kernels for one array module.

    Args:
        schedule: from a simplified graph to its schedule.
        function: from a kernel to what has its function `call` and its `text`.
        program: from a graph of kernels and their functions to the like for it all; None where
            there is nothing better than to call one after the other.
        give_up: what is told an error; from then on there is no backend.
    """

    schedule: Callable[[Graph], Schedule]
    function: Callable[[Any], Any]
    program: Callable[[Graph, Sequence[Any]], Any]
    give_up: Callable[[Exception], None]

    def call(self, spec: KernelSpec | MultiKernel) -> Callable[..., Sequence[Any]]:
        """Return a kernel as a function of arrays."""
        return self.function(spec).call


_CPU = Backend(schedule_for_cpu, kernel_function, lambda graph, functions: None, give_up)

#: Array modules without a device that can be used, and devices whose kernels failed.
_unusable: set[Any] = set()


def backend_of(module: ModuleType) -> Backend | None:
    """Return what makes kernels for arrays of a module; None where nothing does."""
    if module is np:
        return _CPU if kernels_are_usable() else None
    if not settings().kernels:
        return None
    device = current_device(module)
    if device is None:
        return None
    function = partial(cuda_function, device=device)
    program = partial(graph_program, device=device)
    return Backend(schedule_for_cuda, function, program, partial(_give_up, device))


def current_device(module: ModuleType) -> Device | None:
    """Return the device that an array module makes arrays on, None if no kernels are made for it.

    That is CuPy's current GPU. Without a driver or NVRTC there is none: arrays of CuPy compute
    nothing without these either, so there is nothing to tell.
    """
    device = device_of(module)
    if device is None and module not in _unusable:
        try:
            device = _gpu(module, module.cuda.runtime.getDevice())
        except Exception:  # of drivers and compilers, of many kinds
            _unusable.add(module)
    return None if device in _unusable else device


@cache
def _gpu(module: ModuleType, index: int) -> Device:
    return CupyDevice(module, index)


def _give_up(device: Device, error: Exception) -> None:
    """Do without kernels on a device, with a warning; while testing, raise what went wrong."""
    if settings().verify:
        raise error
    if device in _unusable:  # of a program made before
        return
    _unusable.add(device)
    warnings.warn(
        message(
            "kernels",
            f"the kernels for {device.arrays.__name__} must compile and load",
            f"{type(error).__name__}: {error}",
            fix=f"report this; until then everything is left to {device.arrays.__name__}, as with "
            "AUTODIFF_KERNELS=0.",
        ),
        RuntimeWarning,
        stacklevel=2,
    )
