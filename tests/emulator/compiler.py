"""CUDA C++ text to a library of the host, by the compiler that the `ziglang` package carries.

The compiler is a declared dependency of the tests, so they need no compiler of the system and
give the same results on every machine. `build` is the entry point for kernels, `runtime` for the
emulator's own library, which all of them share.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from autodiff.runtime import disk_cache

HERE = Path(__file__).resolve().parent
RUNTIME = ("scheduler.cpp", "races.cpp", "failures.cpp")
HEADERS = ("interface.h", "runtime.h", "cuda.h", "cuda_math.h")
#: The compiler's own files, such as its start-up code, which it makes at its first use.
COMPILER_CACHE = HERE.parent.parent / ".pytest_cache" / "zig"

LANGUAGE = ("-std=c++17", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-w")
#: The oldest C library that this can run with; its headers come with the compiler too.
TARGET = ("-target", f"{platform.machine()}-linux-gnu.2.28")
#: As a device computes: products and sums are rounded each, integers wrap, memory has no types.
KERNEL = (
    "-O1",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fwrapv",
    "-fno-strict-aliasing",
    "-fno-sanitize=all",
    "-fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero",
)


class EmulatorError(Exception):
    """A kernel that cannot be compiled, or that did what no kernel must do."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the text says of a kernel: its name and the most threads a block of it may have."""

    name: str
    most_threads: int | None


_BOUNDS = r"(?:__launch_bounds__\s*\(\s*(\d*)[^)]*\)\s*)?"
_KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+{_BOUNDS}void\s+{_BOUNDS}(\w+)\s*\(')
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+((?:__align__\s*\(\s*\d+\s*\)\s*)?)([\w:<>\s]+?)\s+(\w+)\s*\[\s*\]\s*;"
)


def declarations(source: str) -> tuple[Declaration, ...]:
    """Return the kernels that a text declares.

    >>> declarations('extern "C" __global__ void __launch_bounds__(256) scale(float* x) {}')
    (Declaration(name='scale', most_threads=256),)
    """
    return tuple(
        Declaration(name, int(first or second) if first or second else None)
        for first, second, name in _KERNEL.findall(source)
    )


def build(
    source: str, *, checked: bool, before: str | None = None, options: Sequence[str] = ()
) -> bytes:
    """Return the library of a text's kernels, from the disk cache if it is there.

    Args:
        source: prelude and kernels, as NVRTC takes them.
        checked: whether accesses by AD_LD, AD_ST and atomic operations are recorded.
        before: what stands before a text that includes files: all its names are global.
        options: further ones of the compiler.

    Raises:
        EmulatorError: the text does not compile; lines are counted from its beginning.
    """
    names = [declaration.name for declaration in declarations(source)]
    if not names:
        raise EmulatorError(
            'build: the text must declare a kernel as `extern "C" __global__ void`.'
        )
    # Its address is known at the launch, so the name is made a pointer where it is declared.
    text = _DYNAMIC.sub(r"AD_EMULATOR_DYNAMIC(\2, \3);", source)
    kernels = "".join(f"AD_EMULATOR_KERNEL({name})\n" for name in names)
    text = f'#line 1 "cuda"\n{text}\n'
    # In a namespace without a name, shared memory of inline functions and templates is this file's.
    text = f"namespace {{\n{text}}}\n" if before is None else f"{before}\n{text}"
    given = (*LANGUAGE, *KERNEL, *(["-DAD_EMULATOR_CHECKED"] if checked else []), *options)
    return build_library(text + kernels, given, header="cuda.h")


_runtimes: dict[bool, ctypes.CDLL] = {}
_lock = Lock()


def runtime(*, portable: bool = False) -> ctypes.CDLL:
    """Return the library that runs kernels, loaded so that kernels find it.

    Args:
        portable: let the C library switch between threads, as on processors for which the emulator
            has no code of its own. Of the two, a process can load one.
    """
    with _lock:  # threads that compile at once are to find one library
        if portable not in _runtimes:
            text = "".join(f'#include "{name}"\n' for name in RUNTIME)
            options = [*LANGUAGE, "-O2", "-fno-sanitize=all", "-fvisibility=default"]
            options += ["-DAD_EMULATOR_UCONTEXT"] if portable else []
            _runtimes[portable] = load(build_library(text, options), ctypes.RTLD_GLOBAL)
        return _runtimes[portable]


def load(contents: bytes, mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    """Return a library from its bytes. It stays loaded."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(contents)
        file.flush()
        return ctypes.CDLL(file.name, mode)


@cache
def facts() -> Mapping[str, str]:
    """Return what a library depends on beside its text and options."""
    zig()
    return {
        "compiler": f"ziglang {version('ziglang')}",
        "target": TARGET[1],
        "emulator": _sources_digest(),
    }


@cache
def _sources_digest() -> str:
    digest = hashlib.sha256()
    for name in (*HEADERS, *RUNTIME):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


@cache
def zig() -> str:
    """Return the path of the compiler.

    Raises:
        EmulatorError: it is not installed.
    """
    found = find_spec("ziglang")
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (Path(folder) / "zig").is_file():
            return str(Path(folder) / "zig")
    raise EmulatorError(
        "emulator: the package ziglang must be installed to compile kernels, got none; "
        "to fix: pip install --editable '.[test]'."
    )


def build_library(text: str, options: Sequence[str], header: str | None = None) -> bytes:
    """Return the library of a text, from the disk cache if it is there.

    Args:
        text: C++, or C with the option `-xc`.
        options: the compiler's.
        header: a file of this folder that stands before the text.

    Raises:
        EmulatorError: the text does not compile.
    """
    known = facts()
    key = disk_cache.key_of("emulator", text, *options, header or "", *known.values())
    contents = disk_cache.read(key, known)
    if contents is None:
        contents = _compiled(text, options, header)
        disk_cache.write(key, known, contents)
    return contents


def _compiled(text: str, options: Sequence[str], header: str | None) -> bytes:
    """Return the library of a text that follows a header."""
    before = ["-include-pch", str(_precompiled(header, tuple(options)))] if header else []
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        source.write_text(text, encoding="utf-8")
        _run([*options, *before, "-shared", str(source), "-lm", "-lrt", "-o", str(library)], folder)
        return library.read_bytes()


@cache
def _precompiled(header: str, options: tuple[str, ...]) -> Path:
    """Return a header as the compiler has read it with these options: half the work of a kernel."""
    key = disk_cache.key_of(str(HERE), header, *options, *facts().values())
    place = COMPILER_CACHE / f"{key}.pch"
    if not place.is_file():
        COMPILER_CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=COMPILER_CACHE) as folder:
            made = Path(folder, place.name)
            # Its name says what it was made of; times say nothing.
            language = ("-x", "c++-header", "-Xclang", "-fno-pch-timestamp")
            _run([*options, *language, str(HERE / header), "-o", str(made)], folder)
            made.replace(place)
    return place


def _run(arguments: Sequence[str], folder: str) -> None:
    run = subprocess.run(
        [zig(), "c++", *TARGET, "-nostdlib++", "-I", str(HERE), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={
            "ZIG_GLOBAL_CACHE_DIR": str(COMPILER_CACHE),
            "ZIG_LOCAL_CACHE_DIR": str(Path(folder, "cache")),
            "HOME": folder,
        },
    )
    if run.returncode:
        raise EmulatorError(f"build: the text must compile, got\n{run.stderr}")
