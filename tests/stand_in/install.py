"""Puts the stand-in in the place of CUDA's runtime and driver, in this process.

CuPy's runtime module has CUDA's runtime inside (it is linked statically), and its symbols are still
there: the first bytes of each of its functions become a jump to the stand-in's function of that
name, or to one that fails. The driver is a library that CuPy loads by its name, which the stand-in
has. All else of CuPy is as it is.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import struct
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.emulator.compiler import build_library, load

HERE = Path(__file__).resolve().parent

#: The name by which CuPy loads the driver, as the library's own: a library of a name that is loaded
#: is not looked for.
DRIVER = "libcuda.so.1"

#: The module that has CUDA's runtime inside, and those that have it beside compiled kernels.
RUNTIME = "cupy_backends.cuda.api.runtime"
COMPILED = ("cupy.cuda.cub", "cupy.cuda.thrust", "cupy.random._generator_api")

#: The module that is linked to cuBLAS.
CUBLAS = "cupy_backends.cuda.libs.cublas"

_LANGUAGE = ("-xc", "-std=gnu11", "-fPIC", "-O1", "-fvisibility=hidden")

#: In machine code of x86-64: `mov rax, address; jmp rax`.
_JUMP = struct.Struct("<2sQ2s")
_MOVE, _GO = b"\x48\xb8", b"\xff\xe0"


#: Whether this is a machine that the stand-in is for.
IS_FOR_THIS = sys.platform == "linux" and platform.machine() == "x86_64"


def why_not() -> str | None:
    """Return why CuPy cannot be used with the stand-in here; None if it can."""
    if not IS_FOR_THIS:
        return f"it is for x86-64 and Linux, not {platform.machine()} and {sys.platform}"
    if find_spec("cupy") is None:
        return "CuPy is not installed: pip install -e .[test-cuda]"
    return None


@cache
def install() -> ctypes.CDLL:
    """Return the stand-in, with CuPy made to use it. No kernel can be run until it is connected.

    Raises:
        RuntimeError: CuPy has been imported before, or has not what is to be replaced.
    """
    if RUNTIME in sys.modules:
        raise RuntimeError("install: CuPy must not have been imported before.")
    os.environ |= {"CUPY_ACCELERATORS": "", "CUPY_CACHE_IN_MEMORY": "1"}
    source = (HERE / "cuda_stand_in.c").read_text(encoding="utf-8")
    library = load(build_library(source, (*_LANGUAGE, f"-Wl,-soname,{DRIVER}")), ctypes.RTLD_GLOBAL)
    for module in (RUNTIME, *COMPILED):
        path = _file_of(module)
        functions = dict(_functions(path.read_bytes()))
        initial = f"PyInit_{path.name.split('.')[0]}"
        # A module that is imported is in this same memory.
        base = _address(ctypes.CDLL(str(path))[initial]) - functions[initial]
        otherwise = "stand_in_not_supported" if module == RUNTIME else "stand_in_absent"
        for name, offset in functions.items():
            if name.startswith("cuda"):
                is_there = module == RUNTIME and hasattr(library, name)
                _redirect(base + offset, _address(library[name if is_there else otherwise]))
    _install_cublas()
    return library


def _install_cublas() -> None:
    """Load what takes the place of cuBLAS, with each name that CuPy's module asks for."""
    elf = _file_of(CUBLAS).read_bytes()
    soname = re.findall(rb"libcublas\.so\.\d+", elf)[0].decode()
    wanted = {name for name in _undefined(elf) if name.startswith("cublas")}
    source = (HERE / "cublas_stand_in.c").read_text(encoding="utf-8")
    given = set(re.findall(r"\b(cublas\w+)\(", source))
    for letter in "SDCZ":
        given |= {f"cublas{letter}{name}" for name in re.findall(r"cublas##letter##(\w+)", source)}
    given |= set(re.findall(r"^DOT\((\w+)", source, re.MULTILINE))
    source += "".join(f"ABSENT({name})\n" for name in sorted(wanted - given))
    options = (*_LANGUAGE, f"-Wl,-soname,{soname}")
    load(build_library(source, options), ctypes.RTLD_GLOBAL)
    import_module(CUBLAS)  # else CuPy would look for cuBLAS among the wheels that are installed


def _file_of(module: str) -> Path:
    package, *folders, name = module.split(".")
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(folder, *folders).glob(f"{name}.*.so"):
            return path
    raise RuntimeError(f"install: CuPy must have a compiled module {module}.")


_SHT_SYMTAB, _SHT_DYNSYM, _STT_FUNC = 2, 11, 2


def _functions(elf: bytes) -> Iterator[tuple[str, int]]:
    """Yield name and offset of the functions of a library that a jump fits into."""
    for name, what, section, value, length in _symbols(elf, _SHT_SYMTAB):
        if section and what & 15 == _STT_FUNC and length >= _JUMP.size:
            yield name, value


def _undefined(elf: bytes) -> Iterator[str]:
    """Yield the names that a library wants of others."""
    for name, _, section, _, _ in _symbols(elf, _SHT_DYNSYM):
        if not section:
            yield name


def _symbols(elf: bytes, table: int) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield name, type, section, value and length of the symbols in one of a library's tables.

    The tables are those of System V's application binary interface, chapter 4: 64-bit, little end
    first.
    """
    (begin,) = struct.unpack_from("<Q", elf, 40)
    (count,) = struct.unpack_from("<H", elf, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, begin + 64 * i) for i in range(count)]
    for _, kind, _, _, start, size, names, _, _, _ in sections:
        if kind != table:
            continue
        text = sections[names][4]
        for at in range(start, start + size, 24):
            name, what, _, section, value, length = struct.unpack_from("<IBBHQQ", elf, at)
            word = elf[text + name : elf.index(b"\0", text + name)].decode()
            yield word, what, section, value, length


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_RUN, _CHANGE = mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_READ | mmap.PROT_WRITE


def _redirect(function: int, to: int) -> None:
    """Make a function of this process jump to another one."""
    begin = function & -mmap.PAGESIZE
    size = function + _JUMP.size - begin
    for protection in (_CHANGE, _RUN):
        if _libc.mprotect(begin, size, protection):
            raise RuntimeError("install: the system must let code be changed.")
        if protection == _CHANGE:
            ctypes.memmove(function, _JUMP.pack(_MOVE, to, _GO), _JUMP.size)


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # pyright: ignore[reportArgumentType]
