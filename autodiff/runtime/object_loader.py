"""Relocatable object files of our own compiler made executable, without LLVM.

`load_object` takes the bytes of an x86-64 ELF object (System V ABI, AMD64 Architecture Processor
Supplement 1.0, chapter 4) and returns the addresses of its functions. It supports what the code
generator emits under the small code model with position-independent code, and refuses the rest
with `UnsupportedObject`, upon which LLVM's own linker is used.

Memory is never writable and executable at once: it is written while it is data, then protected.
The layout is three runs of whole pages: instructions (with a jump for each external function),
constants (with the table of addresses), variables.

The bytes are executed, so they must come from the compiler or from a file whose checksum held.
Bounds are checked all the same: a malformed object raises, it does not write outside the mapping.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

_PAGE = mmap.PAGESIZE
_READ, _WRITE, _EXECUTE = 1, 2, 4  # PROT_*
_PRIVATE_ANONYMOUS = 0x22  # MAP_PRIVATE | MAP_ANONYMOUS on Linux

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = np.dtype("<u4, u1, u1, <u2, <u8, <u8")
_SYMBOL.names = ("name", "info", "other", "section", "value", "size")
_RELOCATION = np.dtype([("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_NO_RELOCATIONS = np.empty(0, _RELOCATION)

_SYMBOL_TABLE, _RELOCATIONS, _NO_BITS, _UNWINDING = 2, 4, 8, 0x70000001  # SHT_*
_WRITABLE, _ALLOCATED, _EXECUTABLE, _THREAD_LOCAL = 1, 2, 4, 0x400  # SHF_*
_ABSOLUTE = 0xFFF1  # SHN_ABS

_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_PC64 = 1, 2, 4, 9, 24
_R_GOTPCRELX, _R_REX_GOTPCRELX = 41, 42
_THROUGH_TABLE = frozenset({_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX})
#: Bytes written by each kind of relocation.
_WIDTH = {_R_64: 8, _R_PC64: 8, _R_PC32: 4, _R_PLT32: 4} | dict.fromkeys(_THROUGH_TABLE, 4)

#: `jmp *[rip + displacement]`, padded to eight bytes.
_JUMP = b"\xff\x25\x00\x00\x00\x00\xcc\xcc"
#: Largest alignment of a section that is honoured; a page is the start of each run.
_LARGEST_ALIGNMENT = _PAGE
_LARGEST_IMAGE = 1 << 30


class UnsupportedObject(Exception):
    """The object uses what this loader does not know, or the system refuses executable memory."""


@dataclass(frozen=True, slots=True)
class LoadedObject:
    """Code in memory, unmapped when this is dropped: keep it as long as an address is in use."""

    addresses: Mapping[str, int]
    bytes_mapped: int
    _mapping: _Mapping


def usable() -> bool:
    """Return whether this process is of the kind the loader is written for: x86-64 Linux."""
    return (
        sys.platform == "linux"
        and platform.machine() == "x86_64"
        and struct.calcsize("P") == 8
        and _PAGE == 4096
    )


def load_object(contents: bytes, externals: Mapping[str, int] | None = None) -> LoadedObject:
    """Return the object's global functions, ready to be called.

    Args:
        contents: the bytes of a relocatable ELF object for x86-64.
        externals: addresses of symbols the object leaves undefined; the others are looked up in
            this process, in the C library, its mathematics and the compiler's support library.

    Raises:
        UnsupportedObject: the object cannot be loaded by this loader, for the reason given.
    """
    try:
        return _load(_parse(contents), externals or {})
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise UnsupportedObject(f"malformed object: {error}") from None


# ---- reading


@dataclass(slots=True)
class _Section:
    flags: int
    kind: int
    contents: bytes
    size: int
    alignment: int
    relocations: np.ndarray
    offset: int = -1  # in the mapping; -1 where the section is not loaded


@dataclass(frozen=True, slots=True)
class _Symbols:
    """The table of symbols; a kernel has one for each of its constants, hence arrays."""

    table: np.ndarray
    names: bytes

    def name(self, symbol: int) -> str:
        begin = int(self.table["name"][symbol])
        return self.names[begin : self.names.index(b"\0", begin)].decode()


def _parse(contents: bytes) -> tuple[list[_Section], _Symbols]:
    if contents[:7] != b"\x7fELF\x02\x01\x01":
        raise UnsupportedObject("not a 64-bit little-endian ELF object")
    kind, machine = struct.unpack_from("<HH", contents, 16)
    if (kind, machine) != (1, 62):
        raise UnsupportedObject("not a relocatable object for x86-64")
    (table,) = struct.unpack_from("<Q", contents, 40)
    entry_size, count = struct.unpack_from("<HH", contents, 58)
    headers = [_SECTION.unpack_from(contents, table + i * entry_size) for i in range(count)]
    sections = []
    for _, kind, flags, _, offset, size, _, _, alignment, _ in headers:
        data = b"" if kind == _NO_BITS else contents[offset : offset + size]
        if kind != _NO_BITS and len(data) != size:
            raise UnsupportedObject("truncated object")
        sections.append(_Section(flags, kind, data, size, max(1, alignment), _NO_RELOCATIONS))
    symbols = _Symbols(np.empty(0, _SYMBOL), b"")
    for section, header in zip(sections, headers, strict=True):
        if section.kind == _SYMBOL_TABLE:
            names = sections[header[6]].contents
            symbols = _Symbols(np.frombuffer(section.contents, _SYMBOL), names)
        elif section.kind == _RELOCATIONS:
            records = np.frombuffer(section.contents, _RELOCATION)
            sections[header[7]].relocations = records
    return sections, symbols


# ---- laying out and writing


def _load(parsed: tuple[list[_Section], _Symbols], externals: Mapping[str, int]) -> LoadedObject:
    sections, symbols = parsed
    placed = [s for s in sections if s.flags & _ALLOCATED and s.kind != _UNWINDING]
    if any(s.flags & _THREAD_LOCAL for s in placed):
        raise UnsupportedObject("thread-local variables")
    code = [s for s in placed if s.flags & _EXECUTABLE]
    variables = [s for s in placed if s.flags & _WRITABLE and not s.flags & _EXECUTABLE]
    constants = [s for s in placed if not s.flags & (_EXECUTABLE | _WRITABLE)]
    if any(s.flags & _WRITABLE for s in code):
        raise UnsupportedObject("a section both writable and executable")
    jumps, table = _external_entries(placed, symbols)

    jumps_at = _aligned(_place(code, 0), 8)
    code_end = _aligned(jumps_at + len(_JUMP) * len(jumps), _PAGE)
    table_at = _aligned(_place(constants, code_end), 8)
    constants_end = _aligned(table_at + 8 * len(table), _PAGE)
    end = max(_aligned(_place(variables, constants_end), _PAGE), _PAGE)
    if end > _LARGEST_IMAGE:
        raise UnsupportedObject(f"{end} bytes in memory")

    mapping = _Mapping(end)
    base = mapping.address
    addresses = _addresses(base, sections, placed, symbols, externals)
    through_table = np.zeros_like(addresses)
    through_table[table] = base + table_at + 8 * np.arange(len(table))
    by_jump = addresses.copy()
    by_jump[jumps] = base + jumps_at + len(_JUMP) * np.arange(len(jumps))

    image = np.zeros(end, np.uint8)
    for section in placed:
        contents = np.frombuffer(section.contents, np.uint8)
        image[section.offset : section.offset + len(contents)] = contents
    image[table_at : table_at + 8 * len(table)] = addresses[table].view(np.uint8)
    for slot, symbol in enumerate(jumps):
        at = jumps_at + len(_JUMP) * slot
        displacement = int(through_table[symbol]) - (base + at + 6)
        jump = _JUMP[:2] + struct.pack("<i", displacement) + _JUMP[6:]
        image[at : at + len(_JUMP)] = np.frombuffer(jump, np.uint8)
    for section in placed:
        _relocate(image, base, section, addresses, through_table, by_jump)
    mapping.write(image)
    mapping.protect(0, code_end, _READ | _EXECUTE)
    mapping.protect(code_end, constants_end, _READ)
    return LoadedObject(_exported(symbols, addresses), end, mapping)


def _external_entries(placed: Sequence[_Section], symbols: _Symbols) -> tuple[list[int], list[int]]:
    """Return the symbols that are jumped to, and those whose address is in the table."""
    jumps: dict[int, None] = {}
    table: dict[int, None] = {}
    for section in placed:
        records = section.relocations
        for kind in set(records["kind"].tolist()):
            used = records["symbol"][records["kind"] == kind]
            if kind in _THROUGH_TABLE:
                table |= dict.fromkeys(used.tolist())
            elif kind == _R_PLT32:
                undefined = used[symbols.table["section"][used] == 0]
                jumps |= dict.fromkeys(undefined.tolist())
    table |= jumps
    return list(jumps), list(table)


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _place(sections: Sequence[_Section], offset: int) -> int:
    """Give each section its offset from `offset` on; return where the last one ends."""
    for section in sections:
        if section.alignment > _LARGEST_ALIGNMENT:
            raise UnsupportedObject(f"a section aligned to {section.alignment} bytes")
        section.offset = _aligned(offset, section.alignment)
        offset = section.offset + section.size
    return offset


def _addresses(
    base: int,
    sections: Sequence[_Section],
    placed: Sequence[_Section],
    symbols: _Symbols,
    externals: Mapping[str, int],
) -> np.ndarray:
    """Return the address of each symbol, 0 for one that is neither loaded nor used."""
    section, value = symbols.table["section"], symbols.table["value"].astype(np.int64)
    within = section < len(sections)
    offsets = np.array([s.offset for s in sections], np.int64)[np.where(within, section, 0)]
    sizes = np.array([s.size for s in sections], np.int64)[np.where(within, section, 0)]
    loaded = within & (section > 0) & (offsets >= 0) & (value >= 0) & (value <= sizes)
    addresses = np.where(loaded, base + offsets + value, 0)
    used = np.zeros(len(addresses), bool)
    for each in placed:
        used[each.relocations["symbol"]] = True
    for symbol in np.flatnonzero(used & ~loaded).tolist():
        name = symbols.name(symbol)
        if section[symbol] == _ABSOLUTE:
            addresses[symbol] = value[symbol]
        elif section[symbol] != 0:
            raise UnsupportedObject(f"symbol {name!r} in a section that is not loaded")
        else:
            found = externals.get(name) or _address_in_process(name)
            if not found:
                raise UnsupportedObject(f"undefined symbol {name}")
            addresses[symbol] = found
    return addresses


def _exported(symbols: _Symbols, addresses: np.ndarray) -> dict[str, int]:
    is_defined_here = (symbols.table["info"] >> 4 != 0) & (symbols.table["section"] != 0)
    return {
        symbols.name(symbol): int(addresses[symbol])
        for symbol in np.flatnonzero(is_defined_here & (addresses != 0)).tolist()
    }


def _relocate(
    image: np.ndarray,
    base: int,
    section: _Section,
    addresses: np.ndarray,
    through_table: np.ndarray,
    by_jump: np.ndarray,
) -> None:
    """Write into a section's image what its relocations stand for, all of one kind at once."""
    records = section.relocations
    for kind in sorted(set(records["kind"].tolist())):
        if kind not in _WIDTH:
            raise UnsupportedObject(f"relocation type {kind}")
        chosen = records[records["kind"] == kind]
        offsets, symbols, width = chosen["offset"], chosen["symbol"], _WIDTH[kind]
        if int(offsets.max()) > section.size - width:
            raise UnsupportedObject("a relocation outside its section")
        if kind in _THROUGH_TABLE:
            destinations = through_table[symbols]
        else:
            destinations = (by_jump if kind == _R_PLT32 else addresses)[symbols]
        values = destinations + chosen["addend"]
        places = section.offset + offsets.astype(np.int64)
        if kind != _R_64:
            values -= base + places
        if width == 4 and np.abs(values).max() >= 1 << 31:
            raise UnsupportedObject("an address too far away")
        written = values.astype(f"<i{width}").view(np.uint8).reshape(len(chosen), width)
        image[places[:, None] + np.arange(width)] = written


@cache
def _libraries() -> tuple[Callable[[str], int | None], ...]:
    found = []
    for name in (None, "libm.so.6", "libgcc_s.so.1"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        found.append(partial(_look_up, library))
    return tuple(found)


def _look_up(library: ctypes.CDLL, symbol: str) -> int | None:
    try:
        return ctypes.cast(library[symbol], ctypes.c_void_p).value
    except AttributeError:
        return None


@cache
def _address_in_process(symbol: str) -> int | None:
    for look_up in _libraries():
        address = look_up(symbol)
        if address:
            return address
    return None


# ---- memory


class _Mapping:
    """Private pages, unmapped when nothing refers to them.

    Never at the process's end, though: threads may still run in them then.
    """

    __slots__ = ("__weakref__", "address", "size")

    def __init__(self, size: int) -> None:
        library = _memory_functions()
        address = library.mmap(None, size, _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise UnsupportedObject(f"no memory: {ctypes.get_errno()}")
        self.address: int = address
        self.size = size
        weakref.finalize(self, library.munmap, address, size).atexit = False

    def write(self, image: np.ndarray) -> None:
        ctypes.memmove(self.address, image.tobytes(), self.size)

    def protect(self, begin: int, end: int, protection: int) -> None:
        if begin == end:
            return
        if _memory_functions().mprotect(self.address + begin, end - begin, protection) != 0:
            raise UnsupportedObject(f"executable memory is refused: {ctypes.get_errno()}")


@cache
def _memory_functions() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.argtypes = [pointer, size, number, number, number, ctypes.c_int64]
    library.mmap.restype = pointer
    library.mprotect.argtypes = [pointer, size, number]
    library.munmap.argtypes = [pointer, size]
    return library
