"""The seam between CUDA programs and what runs them: a GPU behind CuPy, or an emulator in tests.

Everything above a `Device` (text, the cache of compiled programs, arena, parameter blocks, order of
launches) is the same for all of them. `device_of` finds the device of an array module, and
`load_program` makes a program's functions callable.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

from numpy.typing import DTypeLike

from autodiff.runtime import disk_cache

#: Extents along x, y and z.
Extents = tuple[int, int, int]


class Function(Protocol):
    """A kernel of a loaded program."""

    def launch(
        self, grid: Extents, block: Extents, shared_bytes: int, parameters: int, stream: int
    ) -> None:
        """Start the kernel; it has run when the stream is waited for.

        Args:
            grid: number of blocks.
            block: number of threads of a block.
            shared_bytes: bytes of `extern __shared__` memory.
            parameters: address of an array of addresses, one for each parameter's value. Values are
                copied before this returns.
            stream: what `Device.stream` returned.
        """
        ...


class Program(Protocol):
    """A loaded program. Its functions are good as long as it lives."""

    def function(self, name: str) -> Function:
        """Return the kernel `name`, declared `extern "C" __global__`.

        Raises:
            KeyError: the program has no such kernel.
        """
        ...


class Device(Protocol):
    """What holds arrays and runs kernels on them."""

    @property
    def arrays(self) -> ModuleType:
        """The module whose arrays lie on the device."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """What a compiled program depends on beside its text.

        Among it is `"architecture"`, such as `"sm_90"`, for which text is made.
        """
        ...

    def compile(self, source: str) -> bytes:
        """Return the compiled program of CUDA C++ text, in a form that can be kept on disk.

        Raises:
            ValueError: the text does not compile; the message has the compiler's words.
        """
        ...

    def load(self, compiled: bytes) -> Program:
        """Return a program whose functions can be launched."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array in C order with arbitrary contents, ordered by the current stream."""
        ...

    def pointer(self, array: Any) -> int:
        """Return the address of an array's first element on the device."""
        ...

    def stream(self) -> int:
        """Return the current stream, as `Function.launch` takes it."""
        ...

    def sort(self, array: Any) -> None:
        """Sort an array of unsigned integers, of one axis, in its place, on the current stream."""
        ...


_devices: dict[ModuleType, Device] = {}


def register(device: Device) -> None:
    """Let `device` run what is computed on arrays of its module, instead of any other."""
    _devices[device.arrays] = device


def unregister(device: Device) -> None:
    """Take back what `register` did."""
    del _devices[device.arrays]


def device_of(arrays: ModuleType) -> Device | None:
    """Return the device registered for an array module, None if there is none."""
    return _devices.get(arrays)


def compiled_program(device: Device, source: str) -> bytes:
    """Return CUDA C++ text compiled for a device, from the disk cache if it is there.

    Raises:
        ValueError: the text does not compile.
    """
    facts = device.facts
    key = disk_cache.key_of("cuda", source, *(f"{name}={facts[name]}" for name in sorted(facts)))
    compiled = disk_cache.read(key, facts)
    if compiled is None:
        compiled = device.compile(source)
        disk_cache.write(key, facts, compiled)
    return compiled


def load_program(device: Device, source: str) -> Program:
    """Return a program of CUDA C++ text, compiled unless the disk cache has it.

    Raises:
        ValueError: the text does not compile.
    """
    return device.load(compiled_program(device, source))
