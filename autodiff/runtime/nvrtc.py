"""NVIDIA's run-time compiler (NVRTC): from CUDA C++ to programs of a GPU, on any machine.

The library comes with CuPy, with the wheel `nvidia-cuda-nvrtc`, or with a CUDA toolkit. It needs
neither a GPU nor a driver.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

#: Options of every program: C++17, IEEE arithmetic (which is NVRTC's default: no flushing of
#: subnormals, exact division and square root), and products fused with sums only where the text
#: leaves them open to it.
OPTIONS = ("--std=c++17", "--fmad=true", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")


class CompileError(ValueError):
    """Text that does not compile; the message has the compiler's words."""


@lru_cache(maxsize=1)
def loaded() -> ctypes.CDLL | None:
    """Return the compiler's library, None if there is none. Looks once per process."""
    for name in _candidates():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _candidates() -> Iterator[str]:
    """Yield where the library may be: in wheels, newest first, then where the loader looks."""
    spec = find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    patterns = ("cu*/lib/libnvrtc.so.*", "cuda_nvrtc/lib/libnvrtc.so.*", "cu*/bin/**/nvrtc64_*.dll")
    for folder in folders:
        for pattern in patterns:
            found = sorted(Path(folder).glob(pattern), reverse=True)
            yield from (str(path) for path in found if "builtins" not in path.name)
    if sys.platform == "linux":
        yield from ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


def version() -> tuple[int, int] | None:
    """Return the compiler's version, None if there is no compiler."""
    nvrtc = loaded()
    if nvrtc is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


@lru_cache(maxsize=1)
def architectures() -> tuple[str, ...]:
    """Return the architectures the compiler knows, such as `sm_90`, oldest first."""
    nvrtc = loaded()
    if nvrtc is None:
        return ()
    count = ctypes.c_int()
    nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    nvrtc.nvrtcGetSupportedArchs(numbers)
    return tuple(f"sm_{number}" for number in numbers)


def compile_cuda(source: str, architecture: str, options: Sequence[str] = OPTIONS) -> bytes:
    """Return the program (a cubin) of CUDA C++ text.

    Args:
        source: text that includes nothing.
        architecture: the GPU's, such as `sm_90`.
        options: NVRTC's.

    Raises:
        CompileError: the text does not compile, or there is no compiler.
    """
    return _compiled(source, f"--gpu-architecture={architecture}", options, "CUBIN")[0]


def compile_to_ptx(source: str, architecture: str, options: Sequence[str] = OPTIONS) -> str:
    """Return the PTX of CUDA C++ text: the virtual instructions that a cubin is assembled from.

    Args and errors are those of `compile_cuda`.
    """
    virtual = architecture.replace("sm_", "compute_")
    return (
        _compiled(source, f"--gpu-architecture={virtual}", options, "PTX")[0].decode().rstrip("\0")
    )


def compile_with_log(
    source: str, architecture: str, options: Sequence[str] = OPTIONS
) -> tuple[bytes, str]:
    """Return a cubin, and what the compiler says of it.

    Args and errors are those of `compile_cuda`.
    """
    return _compiled(source, f"--gpu-architecture={architecture}", options, "CUBIN")


def _compiled(
    source: str, architecture: str, options: Sequence[str], kind: str
) -> tuple[bytes, str]:
    nvrtc = loaded()
    if nvrtc is None:
        raise CompileError(
            "compile_cuda: NVRTC must be installed, got none.\n"
            "To fix: pip install 'autodiff[cuda13]', or nvidia-cuda-nvrtc alone."
        )
    program = ctypes.c_void_p()
    text, name = source.encode(), b"autodiff.cu"
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None)
    try:
        given = [option.encode() for option in (architecture, *options)]
        array = (ctypes.c_char_p * len(given))(*given)
        status = nvrtc.nvrtcCompileProgram(program, len(given), array)
        log = _bytes(nvrtc, "ProgramLog", program).decode(errors="replace").rstrip("\0\n")
        if status != 0:
            raise CompileError(f"compile_cuda: the text must compile for {architecture}.\n{log}")
        return _bytes(nvrtc, kind, program), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _bytes(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw
