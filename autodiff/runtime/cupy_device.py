"""A GPU behind CuPy, as a `Device`: NVRTC compiles, CuPy loads and keeps the arrays.

The GPU is the one that is current when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from numpy.typing import DTypeLike

from autodiff.runtime import nvrtc
from autodiff.runtime.cuda_device import Extents


class CupyFunction:
    """A kernel of a loaded program."""

    __slots__ = ("_function", "_launch")

    def __init__(self, function: Any, launch: Callable[..., None]) -> None:
        self._function = function
        self._launch = launch

    def launch(
        self, grid: Extents, block: Extents, shared_bytes: int, parameters: int, stream: int
    ) -> None:
        """Start the kernel, as `Function.launch` of autodiff/runtime/cuda_device.py says."""
        self._launch(self._function.ptr, *grid, *block, shared_bytes, stream, parameters, 0)


class CupyProgram:
    """A loaded program."""

    __slots__ = ("_launch", "_module")

    def __init__(self, module: Any, launch: Callable[..., None]) -> None:
        self._module = module
        self._launch = launch

    def function(self, name: str) -> CupyFunction:
        """Return the kernel `name`.

        Raises:
            KeyError: the program has no such kernel.
        """
        try:
            return CupyFunction(self._module.get_function(name), self._launch)
        except Exception as error:  # CuPy's class for errors of the driver
            raise KeyError(name) from error


class CupyDevice:
    """The current GPU.

    Args:
        cupy: the module.

    Raises:
        RuntimeError: NVRTC is not installed.
        AttributeError, ImportError: this CuPy has not what kernels are launched with.
    """

    def __init__(self, cupy: ModuleType) -> None:
        version = nvrtc.version()
        if version is None:
            raise RuntimeError("NVRTC is not installed")
        self._cupy = cupy
        self._stream = cupy.cuda.get_current_stream
        self._module = cupy.cuda.function.Module
        self._launch = import_module("cupy_backends.cuda.api.driver").launchKernel
        architecture = f"sm_{cupy.cuda.Device().compute_capability}"
        self._is_known = architecture in nvrtc.architectures()
        self._facts = {
            "architecture": architecture,
            "compiler": "NVRTC {}.{}".format(*version),
            "options": " ".join(nvrtc.OPTIONS),
        }

    @property
    def arrays(self) -> ModuleType:
        """CuPy."""
        return self._cupy

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
        module.load(compiled)
        return CupyProgram(module, self._launch)

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
