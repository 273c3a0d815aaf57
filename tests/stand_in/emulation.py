"""Kernels of the library on real CuPy: the emulator runs what the stand-in is told to launch."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np

from autodiff.runtime import nvrtc
from autodiff.runtime.cupy_device import CupyDevice
from tests.emulator.compiler import EmulatorError, build, facts
from tests.emulator.launcher import Kernel, Module
from tests.emulator.suite import numpy_programs_on_cupy
from tests.stand_in.install import HERE, install

#: Before a program that the emulator can run: a mark, and the bytes of its text and of its library.
_HEAD = struct.Struct("<8sQQ")
_MARK = b"emulator"

# Codes of the driver's errors.
_INVALID_IMAGE, _NOT_FOUND, _ILLEGAL_ADDRESS, _LAUNCH_FAILED = 200, 500, 700, 719

#: Bytes of room for an explanation.
_ROOM = 4096


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch: the kernel's name, the device, the stream's address (0 is the default one)."""

    name: str
    device: int
    stream: int


class _Launch(ctypes.Structure):
    """As `Launch` in cuda_stand_in.c."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_size_t),
        ("parameters", ctypes.c_void_p),
    ]


@dataclass(slots=True)
class Emulation:
    """What the stand-in has loaded and launched.

    Args:
        stand_in: the library of C that stands in for CUDA's.
        launches: in order.
        compiled: the texts that were compiled, in order.
        seed: from which the order of threads is drawn; each launch takes the next one.
    """

    stand_in: ctypes.CDLL
    launches: list[Launch] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)
    seed: int = 0
    _modules: list[Module] = field(default_factory=list)
    _kernels: list[tuple[str, Kernel]] = field(default_factory=list)

    def compile(self, source: str, architecture: str, options: object = None) -> bytes:
        """Return the emulator's program of a text, in place of NVRTC's."""
        self.compiled.append(source)
        try:
            library = build(source, checked=False)
        except EmulatorError as error:
            raise nvrtc.CompileError(str(error)) from None
        return _packed(source, library)

    def compile_cupy(
        self,
        source: str,
        options: Sequence[str] = (),
        arch: str | None = None,
        filename: str = "",
        name_expressions: object = None,
        *rest: object,
    ) -> tuple[bytes, None]:
        """Return the emulator's program of a text of CuPy's own, in place of NVRTC's."""
        compiler = import_module("cupy.cuda.compiler")
        if name_expressions:
            raise NotImplementedError("the emulator compiles no templates by name")
        given = [option for option in options if option.endswith("cupy/_core/include")]
        try:
            library = build(
                source,
                checked=False,
                before=(HERE / "cupy_language.h").read_text(encoding="utf-8"),
                options=(*given, f"-I{HERE / 'include'}", f"-DAD_STAND_IN={_digest()}"),
            )
        except EmulatorError as error:
            raise compiler.CompileException(str(error), source, filename, options) from None
        return _packed(source, library), None

    def load(self, image: int, handle: ctypes.Array[ctypes.c_size_t], why: int) -> int:
        """Load a program of the emulator; others are cubins, which nothing here can run."""
        mark, length, size = _HEAD.unpack(ctypes.string_at(image, _HEAD.size))
        if mark != _MARK:
            return _explained(_INVALID_IMAGE, "only programs of the emulator run here", why)
        text = ctypes.string_at(image + _HEAD.size, length).decode()
        contents = ctypes.string_at(image + _HEAD.size + length, size)
        self._modules.append(Module(text, contents, checked=False))
        handle[0] = len(self._modules) - 1
        return 0

    def function(
        self, module: int, name: bytes, handle: ctypes.Array[ctypes.c_size_t], why: int
    ) -> int:
        """Find a kernel of a program."""
        try:
            kernel = self._modules[module].kernel(name.decode())
        except KeyError:
            return _explained(_NOT_FOUND, f"there is no kernel {name.decode()}", why)
        self._kernels.append((name.decode(), kernel))
        handle[0] = len(self._kernels) - 1
        return 0

    def launch(self, function: int, launch: ctypes._Pointer[_Launch], device: int, why: int) -> int:
        """Run a kernel; no pointer among its parameters may be of another device."""
        name, kernel = self._kernels[function]
        given = launch[0]
        addresses = (ctypes.c_size_t * len(kernel.sizes)).from_address(given.parameters)
        for k, (address, size) in enumerate(zip(addresses, kernel.sizes, strict=True)):
            if size == 8:
                value = ctypes.c_size_t.from_address(address).value
                if self.stand_in.stand_in_device_of(ctypes.c_void_p(value)) == 1 - device:
                    reason = f"parameter {k} of {name} is of another device"
                    return _explained(_ILLEGAL_ADDRESS, reason, why)
        self.launches.append(Launch(name, device, given.stream))
        self.seed += 1
        grid, block = tuple(given.grid), tuple(given.block)
        shared, parameters = given.shared_bytes, given.parameters
        try:
            kernel.launch(grid, block, shared, parameters, seed=self.seed)
        except EmulatorError as error:
            return _explained(_LAUNCH_FAILED, str(error), why)
        return 0


def _packed(source: str, library: bytes) -> bytes:
    text = source.encode()
    return _HEAD.pack(_MARK, len(text), len(library)) + text + library


@cache
def _digest() -> str:
    """Return what a program of CuPy's depends on beside its text: CuPy, and the files included."""
    digest = hashlib.sha256(import_module("cupy").__version__.encode())
    for path in sorted((HERE / "include").rglob("*.h")):
        digest.update(path.read_bytes())
    return f"0x{digest.hexdigest()[:12]}"


def _explained(code: int, reason: str, room: int) -> int:
    text = reason.encode()[: _ROOM - 1] + b"\0"
    ctypes.memmove(room, text, len(text))
    return code


_int, _size, _any = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
_Load = ctypes.CFUNCTYPE(_int, _any, ctypes.POINTER(_size), _any)
_Function = ctypes.CFUNCTYPE(_int, _size, ctypes.c_char_p, ctypes.POINTER(_size), _any)
_Run = ctypes.CFUNCTYPE(_int, _size, ctypes.POINTER(_Launch), _int, _any)


@cache
def connected() -> Emulation:
    """Return the emulation, with which the stand-in is connected for good."""
    emulation = Emulation(install())
    functions = _Load(emulation.load), _Function(emulation.function), _Run(emulation.launch)
    emulation.stand_in.stand_in_connect(*functions)
    _kept.extend(functions)
    return emulation


_kept: list[Callable[..., int]] = []


def _sort(device: CupyDevice, array: Any) -> None:
    """Take the place of CuPy's radix sort, which is Thrust's."""
    array.set(np.sort(array.get()))


@contextmanager
def emulated_compiler() -> Iterator[Emulation]:
    """Let the emulator compile in place of NVRTC, what is the library's and what is CuPy's own.

    It is told apart in the cache of programs.
    """
    emulation = connected()
    emulation.launches.clear()
    emulation.compiled.clear()
    with (
        patch.object(nvrtc, "compile_cuda", emulation.compile),
        patch("cupy.cuda.thrust.available", False),  # CuPy then says that it needs it
        patch.object(CupyDevice, "sort", _sort),
        patch("cupy.cuda.compiler._compile_using_nvrtc_no_warning", emulation.compile_cupy),
        patch.object(nvrtc, "OPTIONS", (*nvrtc.OPTIONS, *facts().values())),
    ):
        yield emulation


@contextmanager
def numpy_programs_on_stand_in() -> Iterator[Emulation]:
    """Let programs of NumPy's arrays run on CuPy's, as tests/emulator/suite.py says."""
    with emulated_compiler() as emulation, numpy_programs_on_cupy():
        yield emulation
