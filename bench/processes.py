"""Contenders in processes of their own, for what a process cannot change once it has started."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache

from bench.declare import Peer, Workload
from bench.machine import ROOT


def temporary_folder(purpose: str) -> str:
    """Return a new folder that is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix=f"bench-{purpose}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def bytecode_folder() -> str:
    """Return the folder in which fresh processes find bytecode, as `pip install` leaves it."""
    return temporary_folder("bytecode")


def fresh_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process whose start is timed: bytecode is cached."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode_folder(), **changes}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def worker(
    case: str, workload: Workload, environment: Mapping[str, str], *, all_cores: bool = False
) -> Callable[[Peer], Callable[[], float]]:
    """Return an entrant that times a case's workload in a process with another environment.

    Its calls return seconds, so the row it belongs to reports its time itself.

    Args:
        case: name of the case that the workload belongs to.
        workload: what is timed there, for the same peer.
        environment: what changes in the process's environment.
        all_cores: whether the process may use all cores, not only the one it is pinned to.
    """

    def make(peer: Peer) -> Callable[[], float]:
        command = [sys.executable, "-m", "bench.worker", case, workload.name, peer.name]
        process = subprocess.Popen(
            [*command, "--all-cores"] if all_cores else command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(_end, process)

        def answer() -> str:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise ChildProcessError(f"{' '.join(command)} ended with {process.wait()}.")
            return line

        def seconds() -> float:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return float(answer())

        answer()
        return seconds

    return make


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait()
