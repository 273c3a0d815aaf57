"""LLVM text of kernels for the CPU, made callable: compiled once, then loaded from the disk cache.

`load` is the entry point. A program that is in the cache is loaded without llvmlite.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from autodiff.base.errors import message
from autodiff.runtime import disk_cache, object_loader
from autodiff.schedule.target import Target


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """Machine code in memory. Addresses are good as long as this object (or `owner`) lives.

    `origin` says where the code came from: "compiled" or "disk".
    """

    addresses: Mapping[str, int]
    origin: str
    owner: Any

    def address(self, symbol: str) -> int:
        """Return the address of the function `symbol`.

        Raises:
            KeyError: `load` was not asked for it.
        """
        return self.addresses[symbol]


def load(
    text: str,
    target: Target,
    symbols: Sequence[str],
    externals: Mapping[str, int] | None = None,
) -> LoadedModule:
    """Return the functions `symbols` of a module of LLVM's text, compiled for `target`.

    Args:
        text: a whole module in LLVM's text format. Nothing optimises it before instructions are
            selected: it is compiled as it is written.
        target: the machine it will run on.
        symbols: names of the functions whose addresses are wanted.
        externals: addresses of what the text declares and does not define. Functions of the C
            library need none. They are no part of the cache's key, as they differ in each process.

    Raises:
        ValueError: the text is not a module, or defines no such function.
        ImportError: the program is in no cache and llvmlite is not installed.
    """
    facts = _facts(target)
    key = disk_cache.key_of("cpu", text, *(f"{name}={fact}" for name, fact in facts.items()))
    contents, origin = disk_cache.read(key, facts), "disk"
    if contents is None:
        contents, origin = compile_object(text, target), "compiled"
        disk_cache.write(key, facts, contents)
    addresses, owner = _linked(contents, target, symbols, externals or {})
    missing = [symbol for symbol in symbols if not addresses.get(symbol)]
    if missing:
        raise ValueError(
            message("load", "the text must define every symbol asked for", f"{missing=}")
        )
    return LoadedModule({symbol: addresses[symbol] for symbol in symbols}, origin, owner)


def _facts(target: Target) -> dict[str, str]:
    """Return what a compiled object depends on beside its text."""
    return {"target": target.identity, "compiler": compiler_version()}


@cache
def compiler_version() -> str:
    """Return llvmlite's version without importing it, or `none`.

    `importlib.metadata` takes 20 ms to import, more than a cached program takes to load, so the
    version is read from the package's own file where that is possible.
    """
    found = find_spec("llvmlite")
    if found is None:
        return "none"
    for folder in found.submodule_search_locations or ():
        try:
            stated = Path(folder, "_version.py").read_text(encoding="utf-8")
        except OSError:
            continue
        version = re.search(r"^version_version = '([^']+)'", stated, re.MULTILINE)
        if version:
            return version[1]
    from importlib.metadata import version as installed_version

    return installed_version("llvmlite")


def _linked(
    contents: bytes, target: Target, symbols: Sequence[str], externals: Mapping[str, int]
) -> tuple[Mapping[str, int], Any]:
    """Return addresses and what keeps them good, by our own loader where it can do it."""
    if object_loader.usable():
        try:
            loaded = object_loader.load_object(contents, externals)
            return loaded.addresses, loaded
        except object_loader.UnsupportedObject:
            pass  # LLVM's linker knows more kinds of objects, and says what it cannot do
    return link_by_llvm(contents, target, symbols, externals)


# ---- LLVM

#: Held while LLVM is at work, and by whoever forks: a child forked in between could not use LLVM.
_lock = Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
_linkers: dict[str, Any] = {}
_libraries_linked = 0


@cache
def _binding() -> Any:
    """Return `llvmlite.binding`, ready to compile for this machine."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    return binding


def _target_machine(target: Target) -> Any:
    binding = _binding()
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.name,
        features=target.llvm_features,
        opt=2,
        reloc="pic",  # addresses relative to the code, so an object can be loaded anywhere
        codemodel="small",
    )


@cache
def _compiler(target: Target) -> Any:
    """Return the target machine that compiles: what it learns of the target at first, it keeps."""
    return _target_machine(target)


def compile_object(text: str, target: Target) -> bytes:
    """Return the object file of a module of LLVM's text.

    Raises:
        ValueError: the text is not a module of LLVM's text format.
    """
    binding = _binding()
    with _lock, binding.create_context() as context:
        try:
            module = binding.parse_assembly(text, context)
        except RuntimeError as error:
            raise ValueError(
                message("load", "the text must be a module that LLVM can parse", f"{error}")
            ) from None
        with module:
            return _compiler(target).emit_object(module)


def link_by_llvm(
    contents: bytes, target: Target, symbols: Sequence[str], externals: Mapping[str, int]
) -> tuple[Mapping[str, int], Any]:
    """Return addresses in an object linked by LLVM's just-in-time linker, and their owner."""
    global _libraries_linked
    binding = _binding()
    with _lock:
        linker = _linkers.get(target.identity)
        if linker is None:
            linker = binding.create_lljit_compiler(_target_machine(target))
            _linkers[target.identity] = linker
        _libraries_linked += 1
        library = binding.JITLibraryBuilder().add_object_img(contents).add_current_process()
        for name, address in externals.items():
            library.import_symbol(name, address)
        for symbol in symbols:
            library.export_symbol(symbol)
        try:
            tracker = library.link(linker, f"autodiff.{_libraries_linked}")
        except RuntimeError as error:
            raise ValueError(
                message("load", "the text must define every symbol asked for", f"{error}")
            ) from None
    return {symbol: tracker[symbol] for symbol in symbols}, (tracker, linker)
