"""A GPU behind CuPy, as a `Device`: NVRTC compiles, CuPy loads and keeps the arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from numpy.typing import DTypeLike

from autodiff.runtime import nvrtc
from autodiff.runtime.cuda_device import Access, Extents

#: What launches a kernel by the addresses of its parameters: the driver's function.
Launch = Callable[..., None]


class CupyFunction:
    """A kernel of a loaded program.

    Args:
        function: CuPy's.
        launch: the driver's `launchKernel`; None where this CuPy does not offer it.
        pointer: CuPy's class of parameters that are given by their addresses.
    """

    __slots__ = ("_function", "_launch", "_pointer")

    def __init__(self, function: Any, launch: Launch | None, pointer: Any) -> None:
        self._function = function
        self._launch = launch
        self._pointer = pointer

    def launcher(
        self, grid: Extents, block: Extents, shared_bytes: int, parameters: ctypes.Array[Any]
    ) -> Callable[[int], None]:
        """Return what starts the kernel, as `Function.launcher` of cuda_device.py says."""
        function, launch, address = self._function, self._launch, self._function.ptr
        (x, y, z), (i, j, k) = grid, block
        if launch is None:  # a launch is slower, and asks for the stream by itself
            given = tuple([self._pointer(value) for value in parameters])
            return lambda stream: function(grid, block, given, shared_bytes)
        start = ctypes.addressof(parameters)
        kept = function, parameters

        def start_on(stream: int, _: Any = kept) -> None:
            launch(address, x, y, z, i, j, k, shared_bytes, stream, start, 0)

        return start_on


class CupyProgram:
    """A loaded program."""

    __slots__ = ("_launch", "_module", "_pointer")

    def __init__(self, module: Any, launch: Launch | None, pointer: Any) -> None:
        self._module = module
        self._launch = launch
        self._pointer = pointer

    def function(self, name: str) -> CupyFunction:
        """Return the kernel `name`.

        Raises:
            KeyError: the program has no such kernel.
        """
        try:
            function = self._module.get_function(name)
        except Exception as error:  # CuPy's class for errors of the driver
            raise KeyError(name) from error
        return CupyFunction(function, self._launch, self._pointer)


class CupyDevice:
    """One of the GPUs. It must be the current one where it is used.

    Args:
        cupy: the module.
        index: the GPU's number, as CuPy counts.

    Raises:
        RuntimeError: NVRTC is not installed.
        AttributeError, ImportError: this CuPy has not what kernels are loaded with.
    """

    def __init__(self, cupy: ModuleType, index: int) -> None:
        version = nvrtc.version()
        if version is None:
            raise RuntimeError("NVRTC is not installed")
        self._cupy = cupy
        self._stream = cupy.cuda.get_current_stream
        self._device = cupy.cuda.Device(index)
        self._module = cupy.cuda.function.Module
        self._pointer = getattr(cupy.cuda.function, "CPointer", None)
        self._launch = _driver_launch()
        if self._launch is None and self._pointer is None:
            raise AttributeError("this CuPy launches no kernels by the addresses of parameters")
        architecture = f"sm_{self._device.compute_capability}"
        self._is_known = architecture in nvrtc.architectures()
        self._facts = {
            "architecture": architecture,
            "compiler": "NVRTC {}.{}".format(*version),
            "options": " ".join(nvrtc.OPTIONS),
        }
        is_quick = hasattr(cupy.ndarray, "_c_contiguous")
        self._access = Access(
            in_order="{x}._c_contiguous" if is_quick else "{x}.flags.c_contiguous",
            is_here="{x}.data.device_id == index",
            is_current="current_device() == index",
            address="{x}.data.ptr",
            new="ndarray({shape}, {dtype}, allocated({size}))",  # half the time of cupy.empty
            memory="allocated({size})",
            memory_address="{x}.ptr",
            stream="current_stream().ptr",
            names={
                "allocated": cupy.cuda.alloc,
                "current_device": cupy.cuda.runtime.getDevice,
                "current_stream": self._stream,
                "index": index,
                "ndarray": cupy.ndarray,
            },
        )

    @property
    def arrays(self) -> ModuleType:
        """CuPy."""
        return self._cupy

    @property
    def access(self) -> Access:
        """Fields of CuPy's arrays, and its functions without those around them."""
        return self._access

    @property
    def facts(self) -> Mapping[str, str]:
        """Architecture, compiler and options."""
        return self._facts

    def compile(self, source: str) -> bytes:
        """Return the cubin of CUDA C++ text; PTX for a GPU that is newer than the compiler.

        Raises:
            CompileError: the text does not compile.
        """
        if self._is_known:
            return nvrtc.compile_cuda(source, self._facts["architecture"])
        return nvrtc.compile_to_ptx(source, nvrtc.architectures()[-1]).encode()

    def load(self, compiled: bytes) -> CupyProgram:
        """Return a program whose functions can be launched."""
        module = self._module()
        with self._device:
            module.load(compiled)
        return CupyProgram(module, self._launch, self._pointer)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array in C order with arbitrary contents."""
        return self._cupy.empty(shape, dtype)

    def pointer(self, array: Any) -> int:
        """Return the address of an array's first element."""
        return array.data.ptr

    def stream(self) -> int:
        """Return the current stream's address."""
        return self._stream().ptr

    def sort(self, array: Any) -> None:
        """Sort an array of unsigned integers in its place, by CuPy's radix sort."""
        array.sort()


def _driver_launch() -> Launch | None:
    try:
        driver = import_module("cupy_backends.cuda.api.driver")
    except ImportError:
        return None
    return getattr(driver, "launchKernel", None)
