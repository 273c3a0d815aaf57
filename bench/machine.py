"""The machine a run is made on: one core to itself, and a description for the record."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

#: Read by BLAS libraries when they load, so they are set before NumPy is imported. A fixed hash
#: seed takes the order of sets out of the comparison.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "PYTHONHASHSEED": "0",
}


def restarted_environment(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment to start again with, None where it is in force already."""
    if all(environment.get(name) == value for name, value in ENVIRONMENT.items()):
        return None
    return {**environment, **ENVIRONMENT}


def prepare_process(module: str, arguments: list[str]) -> None:
    """Pin the process to one core, and start it again if its environment has to change."""
    changed = restarted_environment(os.environ)
    if changed is not None:
        os.execve(sys.executable, [sys.executable, "-m", module, *arguments], changed)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def use_all_cores() -> None:
    """Let this process, and libraries it imports later, use every core again."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def device_slug() -> str:
    """Return the processor's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", cpu_model().lower()).strip("-")


def describe(packages: list[str]) -> dict[str, Any]:
    """Return what a reader needs to judge or repeat a run: processor, versions, commit."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := _version(name)) is not None},
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "uncommitted": bool(_git("status", "--porcelain", "--untracked-files=no", "autodiff")),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
