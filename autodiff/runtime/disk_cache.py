"""Compiled programs kept on disk between processes.

One file holds one program: a line of JSON (the header), the program's bytes, and the SHA-256
checksum of both. A file is written beside its place and renamed into it, so readers see whole files
or none; whatever else can go wrong (no folder, a read-only or foreign one, a truncated or altered
file, one for another key) makes `read` return None and `write` do nothing. The cache saves time and
never decides whether a program runs.

The folder is private (mode 0700), because its bytes are executed: a folder that others may write
to is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from autodiff.base.settings import settings

#: Version of the files' format, part of every key and every header.
FORMAT = 1

_SUFFIX = ".program"
_DIGEST = hashlib.sha256().digest_size
_LARGEST_HEADER = 1 << 16
#: Seconds after which a file that was being written is taken to be left behind by a dead process.
_STALE = 3600.0

#: Bytes written since a folder was measured. Threads may lose each other's additions: harmless.
_unmeasured: dict[Path, int] = {}


def key_of(*parts: str) -> str:
    """Return a file name for the program that `parts` determine, in hexadecimal.

    >>> key_of("ab", "c") == key_of("a", "bc")
    False
    """
    digest = hashlib.sha256()
    for part in (str(FORMAT), *parts):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def directory() -> Path | None:
    """Return the folder the settings name, which may not exist yet; None where they say `off`."""
    values = settings()
    if values.cache_dir == "off":
        return None
    if values.cache_dir != "auto":
        return Path(values.cache_dir)
    home = values.user_cache_home
    if not os.path.isabs(home):  # as the XDG base directory specification 0.8 has it
        home = os.path.expanduser("~/.cache")
        if not os.path.isabs(home):
            return None
    return Path(home, "autodiff")


def read(key: str, facts: Mapping[str, str]) -> bytes | None:
    """Return the program kept under `key`, or None if there is no sound one.

    Args:
        key: what `key_of` returned.
        facts: what the program was made for; they must be those it was written with.
    """
    folder = directory()
    if folder is None or not _is_private(folder):
        return None
    path = folder / (key + _SUFFIX)
    try:
        stored = _read_own_file(path)
    except (OSError, ValueError):
        return None
    program = None if stored is None else _unpacked(stored, key, facts)
    if program is not None:
        with suppress(OSError):
            os.utime(path)  # the time of last use, by which files are removed
    return program


def write(key: str, facts: Mapping[str, str], program: bytes) -> bool:
    """Keep `program` under `key`; return whether that succeeded."""
    folder = directory()
    if folder is None or not _made_private(folder):
        return False
    contents = _packed(key, facts, program)
    bound = settings().cache_megabytes << 20
    if len(contents) > bound:
        return False
    temporary = folder / f".{key}.{os.getpid()}.{os.urandom(4).hex()}.part"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(handle, "wb") as file:
                file.write(contents)
            os.replace(temporary, folder / (key + _SUFFIX))
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        return False
    _keep_within(folder, bound, len(contents))
    return True


# ---- the format of a file


def _packed(key: str, facts: Mapping[str, str], program: bytes) -> bytes:
    header = {"format": FORMAT, "key": key, "facts": dict(facts), "bytes": len(program)}
    body = json.dumps(header, sort_keys=True).encode() + b"\n" + program
    return body + hashlib.sha256(body).digest()


def _unpacked(stored: bytes, key: str, facts: Mapping[str, str]) -> bytes | None:
    """Return the program in a file's bytes if every part of the file is as it was written."""
    body, digest = stored[:-_DIGEST], stored[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        return None
    line, newline, program = body.partition(b"\n")
    if not newline or len(line) > _LARGEST_HEADER:
        return None
    try:
        header = json.loads(line)
    except ValueError:
        return None
    expected = {"format": FORMAT, "key": key, "facts": dict(facts), "bytes": len(program)}
    return program if header == expected else None


# ---- folders and files of our own


def _read_own_file(path: Path) -> bytes | None:
    """Return a file's bytes, unless it is a link, no plain file, or not written by this user."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags)
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or not _is_trusted(status):
            return None
        return file.read()


def _is_trusted(status: os.stat_result) -> bool:
    """Return whether only this user (or root) can have written what has `status`."""
    if not hasattr(os, "geteuid"):
        return True  # elsewhere than on POSIX systems the user's profile is private
    owned = status.st_uid in (os.geteuid(), 0)
    return owned and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_private(folder: Path) -> bool:
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(status.st_mode) and _is_trusted(status)


def _made_private(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError):
        return False
    return _is_private(folder)


# ---- the bound on the folder's size


def _keep_within(folder: Path, bound: int, added: int) -> None:
    """Remove the files used longest ago once the folder may have grown beyond `bound`.

    The folder is measured at the first write of a process and then after each eighth of the bound
    that the process has added, so that a write costs no walk over thousands of files.
    """
    unmeasured = _unmeasured.get(folder, bound) + added
    _unmeasured[folder] = 0 if unmeasured > bound // 8 else unmeasured
    if unmeasured <= bound // 8:
        return
    files = sorted(_files(folder))
    excess = sum(size for _, size, _ in files) - bound
    if excess > 0:
        excess += bound // 4  # so that the next write does not remove again
    for _, size, path in files:
        if excess <= 0:
            break
        try:
            os.unlink(path)
        except OSError:
            continue
        excess -= size


def _files(folder: Path) -> Iterator[tuple[float, int, str]]:
    """Yield time of last use, size and path of each program; remove what dead processes left."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
            if entry.name.endswith(_SUFFIX):
                yield status.st_mtime, status.st_size, entry.path
            elif entry.name.endswith(".part") and time.time() - status.st_mtime > _STALE:
                os.unlink(entry.path)
        except OSError:
            continue
