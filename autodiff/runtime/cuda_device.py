"""The seam between CUDA programs and what runs them: a GPU behind CuPy, or an emulator in tests.

Everything above a `Device` (text, the cache of compiled programs, arena, parameter blocks, order of
launches) is the same for all of them. `device_of` finds the device of an array module, and
`load_program` makes a program's functions callable.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from numpy.typing import DTypeLike

from autodiff.runtime import disk_cache

#: Extents along x, y and z.
Extents = tuple[int, int, int]


class Function(Protocol):
    """A kernel of a loaded program."""

    def launcher(
        self, grid: Extents, block: Extents, shared_bytes: int, parameters: ctypes.Array[Any]
    ) -> Callable[[int], None]:
        """Return what starts the kernel on a stream, as `Device.stream` returns it.

        The kernel has run when the stream is waited for. The values of its parameters are copied
        before the call returns.

        Args:
            grid: number of blocks.
            block: number of threads of a block.
            shared_bytes: bytes of `extern __shared__` memory.
            parameters: the addresses of the parameters' values, which stay where they are.
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


@dataclass(frozen=True, slots=True)
class Access:
    """How Python text that is written out for one kernel gets at arrays of a device.

    Args:
        in_order: whether the array `{x}` is in C order.
        is_here: whether the array `{x}` is on the device.
        is_current: whether the device is the one that new arrays are made on and streams are of.
        address: where the first element of the array `{x}` is.
        new: a new array of `{shape}` and `{dtype}`, of `{size}` bytes.
        memory: `{size}` bytes; what has them is called `{x}`.
        memory_address: where these bytes are.
        stream: the current stream, as launches take it.
        names: what the names in these expressions stand for.
    """

    in_order: str
    is_here: str
    is_current: str
    address: str
    new: str
    memory: str
    memory_address: str
    stream: str
    names: Mapping[str, Any]


class Device(Protocol):
    """What holds arrays and runs kernels on them."""

    @property
    def arrays(self) -> ModuleType:
        """The module whose arrays lie on the device."""
        ...

    @property
    def access(self) -> Access:
        """How generated text gets at the arrays."""
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
