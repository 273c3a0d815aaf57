"""The emulator as a device: the path of CuPy's arrays, run on a machine without a GPU.

Within `emulated`, `cupy` is a stand-in whose arrays lie in guarded memory, and CUDA programs on
them run in the emulator. What lies above `autodiff.runtime.cuda_device` does not know of it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from struct import Struct
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import DTypeLike

from autodiff.base.settings import override
from autodiff.runtime import cuda_device, devices
from autodiff.runtime.cuda_device import Access, Extents
from tests.composition import fake_cupy
from tests.emulator import memory
from tests.emulator.compiler import EmulatorError, build, facts
from tests.emulator.launcher import Module, compile

#: Bytes at whose multiples new arrays begin: enough for every vector that a kernel loads. CuPy's
#: begin at multiples of 512; here the inaccessible page after an array is to be near.
ALIGNMENT = 16

#: Of a compiled program: whether it is checked, and the bytes of its text.
_HEAD = Struct("<?Q")


class EmulatorDevice:
    """A device whose programs are the libraries that the emulator builds.

    There is one of it, since others keep what has been compiled for it as long as they like. How
    it runs programs is decided when they are launched.
    """

    def __init__(self) -> None:
        #: Whether every access is checked for bounds and races.
        self.checked = False
        #: From which the order of threads is drawn; each launch takes the next one.
        self.seed = 0
        #: The names of the kernels launched, in order.
        self.launched: list[str] = []

    @property
    def arrays(self) -> ModuleType:
        """The stand-in for CuPy."""
        return fake_cupy.cupy

    @property
    def access(self) -> Access:
        """The stand-in's attributes, and what this device makes."""
        return Access(
            in_order="{x}.flags.c_contiguous",
            is_here="True",
            is_current="True",
            address="{x}.data.ptr",
            new="empty({shape}, {dtype})",
            memory="empty(({size},), uint8)",
            memory_address="{x}.data.ptr",
            stream="0",
            names={"empty": self.empty, "uint8": np.uint8},
        )

    @property
    def facts(self) -> Mapping[str, str]:
        """The architecture that text is made for, and what the libraries depend on."""
        return {"architecture": "sm_90", "head": _HEAD.format, **facts()}

    def compile(self, source: str) -> bytes:
        """Return the text, which errors quote, and its library, as checked as the device is now."""
        try:
            library = build(source, checked=self.checked)
        except EmulatorError as error:
            raise ValueError(str(error)) from None
        text = source.encode()
        return _HEAD.pack(self.checked, len(text)) + text + library

    def load(self, compiled: bytes) -> EmulatedProgram:
        """Return a program, loaded."""
        checked, length = _HEAD.unpack_from(compiled)
        end = _HEAD.size + length
        source, library = compiled[_HEAD.size : end].decode(), compiled[end:]
        return EmulatedProgram(Module(source, library, checked=checked), self)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array of NaN in guarded memory."""
        return fake_cupy.ndarray(memory.allocate(shape, dtype, alignment=ALIGNMENT))

    def pointer(self, array: Any) -> int:
        """Return the address of an array's first element."""
        return array.data.ptr

    def stream(self) -> int:
        """Return the only stream, on which a launch is over when it returns."""
        return 0

    def sort(self, array: Any) -> None:
        """Sort an array in its place."""
        array.sort()


class EmulatedProgram:
    """A program of the emulator."""

    def __init__(self, module: Module, device: EmulatorDevice) -> None:
        self._module = module
        self._device = device

    def function(self, name: str) -> EmulatedFunction:
        """Return the kernel `name`."""
        return EmulatedFunction(name, self._module, self._device)


class EmulatedFunction:
    """A kernel of the emulator."""

    def __init__(self, name: str, module: Module, device: EmulatorDevice) -> None:
        self._name = name
        self._source = module.source
        self._kernels = {module.checked: module.kernel(name)}
        self._device = device

    def launcher(
        self, grid: Extents, block: Extents, shared_bytes: int, parameters: ctypes.Array[Any]
    ) -> Callable[[int], None]:
        """Return what runs the kernel, and waits for it."""
        return partial(self._launch, grid, block, shared_bytes, parameters)

    def _launch(
        self,
        grid: Extents,
        block: Extents,
        shared_bytes: int,
        parameters: ctypes.Array[Any],
        stream: int,
    ) -> None:
        device = self._device
        if stream != device.stream():
            raise EmulatorError(f"launch: the stream must be the device's, got {stream=}.")
        if device.checked not in self._kernels:
            module = compile(self._source, race=device.checked)
            self._kernels[device.checked] = module.kernel(self._name)
        device.launched.append(self._name)
        device.seed += 1
        self._kernels[device.checked].launch(
            grid, block, shared_bytes, ctypes.addressof(parameters), seed=device.seed
        )


DEVICE = EmulatorDevice()


def placed_in_guarded_memory(array: np.ndarray) -> np.ndarray:
    """Return an array that lies in guarded memory, a copy if `array` does not."""
    return array if memory.is_guarded(array) else memory.guarded(array, alignment=ALIGNMENT)


@contextmanager
def emulated(*, checked: bool = False, seed: int = 0) -> Iterator[EmulatorDevice]:
    """Let CuPy be the stand-in and the emulator its GPU, where new arrays are made.

    Args:
        checked: whether every access is checked for bounds and races.
        seed: from which the order of threads is drawn.

    >>> import autodiff.numpy as anp
    >>> with emulated():
    ...     anp.arange(3)
    cupy.array([0, 1, 2])
    """
    DEVICE.checked, DEVICE.seed = checked, seed
    DEVICE.launched.clear()
    with (
        patch.dict(sys.modules, fake_cupy.modules),
        patch.object(fake_cupy, "placed", placed_in_guarded_memory),
        override(device="gpu"),
    ):
        devices._usable_gpu.cache_clear()
        try:
            with registered(DEVICE):
                yield DEVICE
        finally:
            devices._usable_gpu.cache_clear()


@contextmanager
def registered(device: EmulatorDevice) -> Iterator[None]:
    """Let `device` run what is computed on the stand-in's arrays; afterwards what did before."""
    before = cuda_device.device_of(device.arrays)
    cuda_device.register(device)
    try:
        yield
    finally:
        cuda_device.unregister(device)
        if before is not None:
            cuda_device.register(before)


def parameter_block(values: list[ctypes._SimpleCData | ctypes.Structure]) -> Any:
    """Return an array of the addresses of values, which keeps them."""
    block = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    block.values = values
    return block
