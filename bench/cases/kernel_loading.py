"""How long a kernel takes to load that an earlier process has compiled and kept on disk.

Each time is taken in a fresh process that has not loaded the compiler: from the kernel's text to
its address, the detection of the processor included.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.machine import ROOT

LOADING = "cached kernel, first one of a process"
LOADING_MORE = "cached kernel, further ones"

_PROGRAM = """
import sys
from time import perf_counter
from autodiff.codegen.cpu_pool import emit_pool
from autodiff.runtime.cpu_jit import load
from autodiff.runtime.host import host
for _ in range({loads}):
    start = perf_counter()
    target = host()
    module = load(emit_pool(target), target, ("autodiff_pool_run",))
    seconds = perf_counter() - start
print(seconds, module.origin, "llvmlite" in sys.modules)
"""


def _loading(loads: int) -> Callable[[Peer], Callable[[], float]]:
    def make(peer: Peer) -> Callable[[], float]:
        folder = tempfile.mkdtemp(prefix="bench-kernels-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        environment = {**os.environ, "AUTODIFF_CACHE_DIR": folder}
        command = [sys.executable, "-c", _PROGRAM.format(loads=loads)]

        def run() -> list[str]:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
            )
            return done.stdout.split()

        def seconds() -> float:
            taken, *how = run()
            assert how == ["disk", "False"], how
            return float(taken)

        run()
        return seconds

    return make


CASE = Case(
    name="kernel_loading",
    about="Loading a kernel of the CPU from disk, in a process that has no compiler loaded.",
    workloads=(
        Workload(
            name=LOADING,
            entrants={OURS: _loading(1)},
            reports_time=True,
            unit="kernel",
            rounds_at_most=9,
        ),
        Workload(
            name=LOADING_MORE,
            entrants={OURS: _loading(4)},
            reports_time=True,
            unit="kernel",
            rounds_at_most=9,
        ),
    ),
    goals=(
        Goal(
            text="loading a cached kernel without the compiler",
            value=lambda results: results.median(LOADING_MORE, OURS) / 1e3,
            limit=1.0,
            unit=" ms",
        ),
    ),
)
