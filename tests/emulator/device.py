"""The emulator as a device: the path of CuPy's arrays, run on a machine without a GPU.

Within `emulated`, `cupy` is a stand-in whose arrays lie in guarded memory, and CUDA programs on
them run in the emulator. What lies above `autodiff.runtime.cuda_device` does not know of it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import DTypeLike

from autodiff.base.settings import override
from autodiff.runtime import cuda_device, devices
from autodiff.runtime.cuda_device import Extents
from tests.composition import fake_cupy
from tests.emulator import memory
from tests.emulator.compiler import EmulatorError, build, facts
from tests.emulator.launcher import Kernel, Module

#: Bytes at whose multiples new arrays begin: enough for every vector that a kernel loads. CuPy's
#: begin at multiples of 512; here the inaccessible page after an array is to be near.
ALIGNMENT = 16

_LENGTH = 8


class EmulatorDevice:
    """A device whose programs are the libraries that the emulator builds.

    Args:
        checked: check every access for bounds and races.
        seed: from which the order of threads is drawn; each launch takes the next one.
        architecture: of the GPU that the text is made for.
    """

    def __init__(
        self, *, checked: bool = False, seed: int = 0, architecture: str = "sm_90"
    ) -> None:
        self.checked = checked
        self.seed = seed
        self.architecture = architecture
        #: The names of the kernels launched, in order.
        self.launched: list[str] = []

    @property
    def arrays(self) -> ModuleType:
        """The stand-in for CuPy."""
        return fake_cupy.cupy

    @property
    def facts(self) -> Mapping[str, str]:
        """The architecture, the compiler's version, and whether programs are checked."""
        checked = str(self.checked)
        return {"architecture": self.architecture, **facts(), "checked": checked}

    def compile(self, source: str) -> bytes:
        """Return the text, which errors quote, and its library."""
        try:
            library = build(source, checked=self.checked)
        except EmulatorError as error:
            raise ValueError(str(error)) from None
        text = source.encode()
        return len(text).to_bytes(_LENGTH, "little") + text + library

    def load(self, compiled: bytes) -> EmulatedProgram:
        """Return a program, loaded."""
        end = _LENGTH + int.from_bytes(compiled[:_LENGTH], "little")
        source, library = compiled[_LENGTH:end].decode(), compiled[end:]
        return EmulatedProgram(Module(source, library, checked=self.checked), self)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array of NaN in guarded memory."""
        return fake_cupy.ndarray(memory.allocate(shape, dtype, alignment=ALIGNMENT))

    def pointer(self, array: Any) -> int:
        """Return the address of an array's first element."""
        return array.data.ptr

    def stream(self) -> int:
        """Return the only stream, on which a launch is over when it returns."""
        return 0


class EmulatedProgram:
    """A program of the emulator."""

    def __init__(self, module: Module, device: EmulatorDevice) -> None:
        self._module = module
        self._device = device

    def function(self, name: str) -> EmulatedFunction:
        """Return the kernel `name`."""
        return EmulatedFunction(name, self._module.kernel(name), self._device)


class EmulatedFunction:
    """A kernel of the emulator."""

    def __init__(self, name: str, kernel: Kernel, device: EmulatorDevice) -> None:
        self._name = name
        self._kernel = kernel
        self._device = device

    def launch(
        self, grid: Extents, block: Extents, shared_bytes: int, parameters: int, stream: int
    ) -> None:
        """Run the kernel on a copy of the parameters' values."""
        if stream != self._device.stream():
            raise EmulatorError(f"launch: the stream must be that of the device, got {stream=}.")
        device = self._device
        device.launched.append(self._name)
        device.seed += 1
        self._kernel.launch(grid, block, shared_bytes, parameters, seed=device.seed)


def _placed(array: np.ndarray) -> np.ndarray:
    return array if memory.is_guarded(array) else memory.guarded(array, alignment=ALIGNMENT)


@contextmanager
def emulated(*, checked: bool = False, seed: int = 0) -> Iterator[EmulatorDevice]:
    """Let CuPy be the stand-in and the emulator its GPU, as `EmulatorDevice` describes it.

    >>> import autodiff.numpy as anp
    >>> with emulated():
    ...     anp.arange(3)
    cupy.array([0, 1, 2])
    """
    device = EmulatorDevice(checked=checked, seed=seed)
    with (
        patch.dict(sys.modules, fake_cupy.modules),
        patch.object(fake_cupy, "placed", _placed),
        override(device="gpu"),
    ):
        devices._usable_gpu.cache_clear()
        cuda_device.register(device)
        try:
            yield device
        finally:
            cuda_device.unregister(device)
            devices._usable_gpu.cache_clear()


def parameter_block(values: list[ctypes._SimpleCData | ctypes.Structure]) -> Any:
    """Return an array of the addresses of values, which keeps them."""
    block = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    block.values = values
    return block
