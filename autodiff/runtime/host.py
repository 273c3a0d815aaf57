"""The machine this process runs on, as a `Target`, found without loading a compiler."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from autodiff.base.errors import message
from autodiff.base.settings import settings
from autodiff.schedule.target import AVX2, AVX512, NEON, SSE2, Target

_BY_SETTING = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}

#: Linux's names of instruction sets where they are not LLVM's: arch/x86/include/asm/cpufeatures.h.
_LINUX_NAMES = {
    "abm": "lzcnt",
    "bmi1": "bmi",
    "lahf_lm": "sahf",
    "pni": "sse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
}


def host() -> Target:
    """Return what kernels are made for on this machine, as the setting `cpu_target` restricts it.

    The instruction sets are those of a whole level (x86-64-v4, v3, v1), never a processor's own
    collection: machines of one level then share the cached kernels, and results do not change with
    extensions that round differently (AVX512-BF16 flushes subnormals, for one).

    Raises:
        ValueError: `cpu_target` names an instruction set the machine does not have.
    """
    return _host(settings().cpu_target)


@cache
def _host(wanted: str) -> Target:
    triple, features = _triple(), _features()
    if wanted == "auto":
        for level in (AVX512, AVX2, SSE2, NEON):
            if _runs(level, triple, features):
                return replace(level, triple=triple, cores=available_cores())
        return Target("generic", triple, 128, frozenset(), available_cores())
    level = _BY_SETTING[wanted]
    if not _runs(level, triple, features):
        raise ValueError(
            message(
                "cpu_target",
                "the machine must have the instruction set",
                f"cpu_target={wanted!r} on {platform.machine()}",
                fix="set AUTODIFF_CPU_TARGET=auto, which takes the widest there is.",
            )
        )
    return replace(level, triple=triple, cores=available_cores())


def _runs(level: Target, triple: str, features: frozenset[str]) -> bool:
    return triple.split("-")[0] == level.triple.split("-")[0] and level.features <= features


def _triple() -> str:
    """Return LLVM's name of this system; llvmlite is asked only outside Linux."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if sys.platform == "linux":
        return f"{machine}-unknown-linux-{'gnu' if platform.libc_ver()[0] else 'musl'}"
    from llvmlite import binding

    return binding.get_default_triple().replace("arm64", "aarch64", 1)


def _features() -> frozenset[str]:
    """Return the host's instruction sets under LLVM's names."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return NEON.features  # part of the architecture's baseline
    try:
        listed = _listed_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        listed = None
    if listed is None:
        from llvmlite import binding

        return frozenset(name for name, has in binding.get_host_cpu_features().items() if has)
    return llvm_names(listed)


def _listed_flags(cpuinfo: str) -> list[str] | None:
    for line in cpuinfo.splitlines():
        name, colon, listed = line.partition(":")
        if colon and name.strip() == "flags":
            return listed.split()
    return None


def llvm_names(flags: Iterable[str]) -> frozenset[str]:
    """Return LLVM's names of the processor flags that Linux lists.

    >>> sorted(llvm_names(["pni", "sse4_1", "avx2"]))
    ['avx2', 'sse3', 'sse4.1']
    """
    return frozenset(_LINUX_NAMES.get(flag, flag) for flag in flags)


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, less where a quota is set."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup/cpu.max"), cores)))


def _quota(path: Path, unlimited: int) -> int:
    """Return the whole cores of a control group's processor quota, rounded up (Linux cgroup v2)."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return unlimited
