"""Kernels of CUDA C++ text as functions: `compile` them, then launch them on NumPy's arrays."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from tests.emulator import memory
from tests.emulator.compiler import Declaration, EmulatorError, build, declarations, load, runtime

Extents = int | tuple[int, ...]

#: Seconds of processor time after which a launch has failed.
LONGEST = 60


class _Index(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in "xyz"]

    def __str__(self) -> str:
        return f"({self.x}, {self.y}, {self.z})"


class _Launch(ctypes.Structure):
    """As `Launch` in runtime.h."""

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("parameters", ctypes.c_void_p),
        ("grid", _Index),
        ("block", _Index),
        ("shared_bytes", ctypes.c_uint64),
        ("declared_shared", ctypes.c_void_p),
        ("declared_shared_bytes", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("seconds", ctypes.c_uint64),
        ("is_checked", ctypes.c_uint64),
        ("bounds", ctypes.c_void_p),
        ("allocations", ctypes.c_uint64),
    ]


class _Failure(ctypes.Structure):
    """As `Failure` in runtime.h."""

    _fields_ = [
        ("text", ctypes.c_char * 1024),
        ("block", _Index),
        ("thread", _Index),
        ("line", ctypes.c_int),
        ("has_thread", ctypes.c_int),
    ]


#: The runtime is one for the process, and runs one launch at a time.
_lock = Lock()


class Module:
    """The kernels of a text, compiled and loaded.

    Args:
        source: the text, for its lines in errors.
        contents: the library that `build` made of it.
        checked: whether it was made to be checked access by access.
    """

    def __init__(self, source: str, contents: bytes, *, checked: bool) -> None:
        self.source = source
        self.checked = checked
        self._declarations = {found.name: found for found in declarations(source)}
        self._runtime = runtime()
        self._library = load(contents)
        begin = ctypes.c_void_p()
        declared = self._library.ad_emulator_declared
        declared.restype = ctypes.c_size_t
        self._shared_bytes = declared(ctypes.byref(begin))
        self._shared = begin.value

    def kernel(self, name: str) -> Kernel:
        """Return the kernel `name`.

        Raises:
            KeyError: the text declares no such kernel.
        """
        return Kernel(self, self._declarations[name])

    def launch(
        self,
        name: str,
        grid: Extents,
        block: Extents,
        shared_bytes: int,
        parameters: Sequence[Any],
        seed: int = 0,
    ) -> None:
        """Run a kernel on values.

        Args:
            name: of the kernel.
            grid: blocks along x, or along x, y and z.
            block: threads of a block, likewise.
            shared_bytes: bytes of `extern __shared__` memory.
            parameters: for each parameter an array (for its address), a NumPy scalar or ctypes
                value, a Python number, or the bytes of a struct.
            seed: from which the order of blocks, warps and lanes is drawn; 0 is ascending order.

        Raises:
            EmulatorError: the kernel did what no kernel must do; the message gives the thread and
                the line of the text.
        """
        kernel = self.kernel(name)
        if len(parameters) != len(kernel.sizes):
            raise EmulatorError(
                f"launch: `{name}` must get {len(kernel.sizes)} parameters, got {len(parameters)}."
            )
        contents = [
            _contents(value, size, name, position)
            for position, (value, size) in enumerate(zip(parameters, kernel.sizes, strict=True))
        ]
        buffers = [ctypes.create_string_buffer(content, len(content)) for content in contents]
        addresses = (ctypes.c_void_p * len(buffers))(*map(ctypes.addressof, buffers))
        arrays = [value for value in parameters if isinstance(value, np.ndarray)]
        kernel.launch(
            grid, block, shared_bytes, ctypes.addressof(addresses), seed=seed, arrays=arrays
        )


class Kernel:
    """A kernel of a module. `sizes` are the bytes of its parameters."""

    def __init__(self, module: Module, declaration: Declaration) -> None:
        self._module = module
        self._declaration = declaration
        library, name = module._library, declaration.name
        self._run = ctypes.cast(library[f"ad_emulator_run_{name}"], ctypes.c_void_p).value
        sizes = library[f"ad_emulator_sizes_{name}"]
        sizes.restype = ctypes.POINTER(ctypes.c_uint)
        found = sizes()
        self.sizes = tuple(found[1 + i] for i in range(found[0]))

    def launch(
        self,
        grid: Extents,
        block: Extents,
        shared_bytes: int,
        parameters: int,
        *,
        seed: int = 0,
        arrays: Sequence[np.ndarray] = (),
    ) -> None:
        """Run the kernel on parameters at an address, as CUDA's driver takes them.

        Args:
            grid: as for `Module.launch`, and so `block`, `shared_bytes` and `seed`.
            parameters: address of an array of addresses, one for each parameter's value.
            arrays: what may be accessed beside guarded memory, if the module is checked.

        Raises:
            EmulatorError: as `Module.launch`.
        """
        module, name = self._module, self._declaration.name
        most = self._declaration.most_threads
        threads = int(np.prod(block))
        if most is not None and threads > most:
            raise EmulatorError(
                f"launch: `{name}` must have blocks of {most} threads at most, got {block}."
            )
        bounds = memory.bounds(list(arrays))
        launch = _Launch(
            self._run, parameters, _index(grid), _index(block), shared_bytes,
            module._shared, module._shared_bytes, seed, LONGEST, module.checked,
            bounds.ctypes.data, len(bounds),
        )  # fmt: skip
        failure = _Failure()
        with _lock:
            ended = module._runtime.ad_emulator_launch(ctypes.byref(launch), ctypes.byref(failure))
        if not ended:
            raise EmulatorError(_described(failure, name, module.source))
        written = memory.check_margins()
        if written:
            raise EmulatorError(f"kernel `{name}`: {written}.")


@lru_cache(maxsize=256)
def compile(source: str, *, race: bool = False) -> Module:
    """Return the kernels of a text, compiled unless the disk cache has them.

    Args:
        source: what NVRTC would be given, complete.
        race: check every access by AD_LD, AD_ST and atomic operations: whether it is within one
            allocation, and whether a barrier orders it with others at its address. Such a kernel
            is about twenty times slower.

    Raises:
        EmulatorError: the text does not compile.
    """
    return Module(source, build(source, checked=race), checked=race)


def _index(extents: Extents) -> _Index:
    sizes = (extents,) if isinstance(extents, int) else tuple(extents)
    return _Index(*sizes, *(1,) * (3 - len(sizes)))


def _contents(value: Any, size: int, name: str, position: int) -> bytes:
    """Return the bytes of a parameter of `size` bytes."""
    if isinstance(value, np.ndarray):
        content = value.ctypes.data.to_bytes(8, "little")
    elif isinstance(value, np.generic):
        content = value.tobytes()
    elif isinstance(value, bool | int):
        content = int(value).to_bytes(size, "little", signed=value < 0)
    elif isinstance(value, float):
        content = np.array(value, f"f{size}").tobytes()
    else:
        content = bytes(value)
    if len(content) != size:
        raise EmulatorError(
            f"launch: parameter {position} of `{name}` must be of {size} bytes, got {value!r}."
        )
    return content


def _described(failure: _Failure, name: str, source: str) -> str:
    """Return the message of an error, with the lines of the text that it speaks of."""
    text = failure.text.decode()
    place = f"kernel `{name}`"
    if failure.has_thread:
        place += f", block {failure.block}, thread {failure.thread}"
    numbers = [failure.line] if failure.line else []
    if numbers:
        place += f", line {failure.line}"
    numbers += [int(number) for number in re.findall(r"line (\d+)", text)]
    lines = source.split("\n")
    quoted = [
        f"\n{number:6} | {lines[number - 1]}"
        for number in sorted(set(numbers))
        if number <= len(lines)
    ]
    return f"{place}: {text}.{''.join(quoted)}"
