"""How long a kernel takes to load that an earlier process has compiled and kept on disk.

Each time is taken in a fresh process that has not loaded the compiler: from the kernel's text to
its address, the detection of the processor included.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.machine import ROOT
from bench.processes import temporary_folder

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
        environment = {**os.environ, "AUTODIFF_CACHE_DIR": temporary_folder("kernels")}
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
            limit=0.5,
            unit=" ms",
        ),
    ),
)
