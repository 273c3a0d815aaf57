"""The disk cache gives back what was written, or nothing, whatever state the folder is in."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autodiff.base.settings import from_environment, override
from autodiff.runtime import disk_cache

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"target": "some cpu", "compiler": "1.0"}
PROGRAM = bytes(range(256)) * 20
KEY = disk_cache.key_of("a program")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "cache"
    with override(cache_dir=str(path)):
        yield path


def _file(folder: Path) -> Path:
    (path,) = folder.glob("*.program")
    return path


def test_a_program_written_is_read_back(folder):
    assert disk_cache.read(KEY, FACTS) is None
    assert disk_cache.write(KEY, FACTS, PROGRAM)
    assert disk_cache.read(KEY, FACTS) == PROGRAM
    assert disk_cache.write(KEY, FACTS, b"")
    assert disk_cache.read(KEY, FACTS) == b""


def test_the_folder_and_its_files_are_private(folder):
    disk_cache.write(KEY, FACTS, PROGRAM)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(_file(folder).stat().st_mode) == 0o600
    assert len(list(folder.iterdir())) == 1


def test_no_flipped_byte_goes_unnoticed(folder):
    disk_cache.write(KEY, FACTS, PROGRAM[:200])
    path = _file(folder)
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        assert disk_cache.read(KEY, FACTS) is None, place
    path.write_bytes(sound)
    assert disk_cache.read(KEY, FACTS) == PROGRAM[:200]


def test_no_truncated_or_lengthened_file_is_taken(folder):
    disk_cache.write(KEY, FACTS, PROGRAM[:200])
    path = _file(folder)
    sound = path.read_bytes()
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        assert disk_cache.read(KEY, FACTS) is None, length
    path.write_bytes(sound + b"\0")
    assert disk_cache.read(KEY, FACTS) is None


def test_a_program_for_another_machine_or_compiler_or_key_is_not_taken(folder):
    disk_cache.write(KEY, FACTS, PROGRAM)
    assert disk_cache.read(KEY, FACTS | {"target": "other cpu"}) is None
    assert disk_cache.read(KEY, FACTS | {"compiler": "1.1"}) is None
    other = disk_cache.key_of("another program")
    os.rename(_file(folder), folder / f"{other}.program")
    assert disk_cache.read(other, FACTS) is None


def test_a_program_of_another_format_is_not_taken(folder, monkeypatch):
    monkeypatch.setattr(disk_cache, "FORMAT", disk_cache.FORMAT + 1)
    disk_cache.write(KEY, FACTS, PROGRAM)
    monkeypatch.undo()
    assert disk_cache.read(KEY, FACTS) is None


def test_off_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with override(cache_dir="off"):
        assert disk_cache.directory() is None
        assert not disk_cache.write(KEY, FACTS, PROGRAM)
        assert disk_cache.read(KEY, FACTS) is None
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_in_the_users_cache_folder():
    with override(cache_dir="auto", user_cache_home="/somewhere"):
        assert disk_cache.directory() == Path("/somewhere/autodiff")
    for unusable in ("", "relative/path"):
        with override(cache_dir="auto", user_cache_home=unusable):
            assert disk_cache.directory() == Path.home() / ".cache" / "autodiff"
    values = from_environment({"XDG_CACHE_HOME": "/x", "AUTODIFF_CACHE_DIR": "/y"})
    assert (values.user_cache_home, values.cache_dir) == ("/x", "/y")


@pytest.mark.parametrize("made", ["file", "dangling link", "null byte", "under a file"])
def test_a_folder_that_cannot_be_is_no_failure(tmp_path, made):
    place = tmp_path / "place"
    name = str(place)
    if made in ("file", "under a file"):
        place.write_text("a file")
        name += "/below" if made == "under a file" else ""
    elif made == "dangling link":
        place.symlink_to(tmp_path / "missing" / "further")
    else:
        name += "\0"
    with override(cache_dir=name):
        assert disk_cache.read(KEY, FACTS) is None
        assert not disk_cache.write(KEY, FACTS, PROGRAM)


def test_a_folder_that_others_may_write_to_is_not_used(folder):
    disk_cache.write(KEY, FACTS, PROGRAM)
    folder.chmod(0o777)
    assert disk_cache.read(KEY, FACTS) is None
    assert not disk_cache.write(KEY, FACTS, PROGRAM)
    folder.chmod(0o700)
    _file(folder).chmod(0o666)
    assert disk_cache.read(KEY, FACTS) is None


@pytest.mark.parametrize("planted", ["link", "folder", "pipe"])
def test_what_is_no_plain_file_is_not_read(folder, planted):
    disk_cache.write(KEY, FACTS, PROGRAM)
    path = _file(folder)
    moved = folder.parent / "moved"
    path.rename(moved)
    if planted == "link":
        path.symlink_to(moved)
    elif planted == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert disk_cache.read(KEY, FACTS) is None


def test_a_folder_that_is_read_only_is_read(folder, monkeypatch):
    disk_cache.write(KEY, FACTS, PROGRAM)

    # Root writes anywhere, so the refusals of a read-only file system are made here.
    def refused(*_, **__):
        raise PermissionError(30, "Read-only file system")

    opened = os.open
    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(
        os, "open", lambda p, flags, *m: refused() if flags & os.O_CREAT else opened(p, flags, *m)
    )
    assert disk_cache.read(KEY, FACTS) == PROGRAM
    assert not disk_cache.write(disk_cache.key_of("other"), FACTS, PROGRAM)


def test_a_disk_that_fills_up_leaves_no_part_of_a_file(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert not disk_cache.write(KEY, FACTS, PROGRAM)
    assert list(folder.iterdir()) == []


def test_the_programs_used_longest_ago_are_removed(folder):
    program = bytes(100_000)
    keys = [disk_cache.key_of(str(i)) for i in range(30)]
    with override(cache_megabytes=1):
        for i, key in enumerate(keys):
            disk_cache.write(key, FACTS, program)
            if (folder / f"{key}.program").exists():
                os.utime(folder / f"{key}.program", (1000 + i, 1000 + i))
            if i == 5:
                assert disk_cache.read(keys[0], FACTS) == program  # used now: the newest
    left = [key for key in keys if disk_cache.read(key, FACTS) is not None]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= (1 << 20) * 9 // 8
    assert keys[0] in left
    assert keys[-1] in left
    assert keys[1] not in left


def test_a_program_larger_than_the_bound_is_not_kept(folder):
    with override(cache_megabytes=0):
        assert not disk_cache.write(KEY, FACTS, PROGRAM)
    with override(cache_megabytes=1):
        assert not disk_cache.write(KEY, FACTS, bytes((1 << 20) + 1))


def test_what_a_dead_process_left_is_removed(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    old, young = folder / ".a.part", folder / ".b.part"
    for path in (old, young):
        path.write_bytes(b"half a program")
    os.utime(old, (time.time() - 7200,) * 2)
    disk_cache.write(KEY, FACTS, PROGRAM)
    assert not old.exists()
    assert young.exists()


WRITER = """
import sys
from autodiff.base.settings import configure
from autodiff.runtime import disk_cache
configure(cache_dir=sys.argv[1])
facts, bad = {"target": "t"}, 0
for i in range(150):
    key = disk_cache.key_of(str(i % 7))
    program = (str(i % 7) * 5000).encode()
    found = disk_cache.read(key, facts)
    bad += found is not None and found != program
    disk_cache.write(key, facts, program)
print(bad)
"""


def test_processes_writing_at_once_never_see_a_wrong_program(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    outputs = [process.communicate()[0].decode().strip() for process in processes]
    assert outputs == ["0", "0", "0"]
    assert len(list((tmp_path / "cache").iterdir())) == 7


def test_keys_differ_with_every_part_and_with_where_parts_end():
    keys = [
        disk_cache.key_of(*parts)
        for parts in (("a",), ("b",), ("a", "b"), ("ab",), ("", "ab"), ("ab", ""), ())
    ]
    assert len(set(keys)) == len(keys)
    assert all(set(key) <= set("0123456789abcdef") for key in keys)
