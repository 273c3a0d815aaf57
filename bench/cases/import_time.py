"""How long `import autodiff` takes beyond `import numpy`, each in a fresh process.

Bytecode comes from a cache that an untimed first import has filled, as `pip install` fills it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.machine import ROOT
from bench.processes import fresh_environment

IMPORT = "import beyond import numpy"


def _importing(module: str) -> Callable[[Peer], Callable[[], float]]:
    def make(peer: Peer) -> Callable[[], float]:
        environment = fresh_environment()
        command = [sys.executable, "-c", f"import numpy, {module}"]

        def seconds() -> float:
            start = perf_counter()
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            return perf_counter() - start

        return seconds

    return make


CASE = Case(
    name="import_time",
    about="Import time: whole processes that import one module, less one that imports NumPy.",
    workloads=(
        Workload(
            name=IMPORT,
            entrants={name: _importing(name) for name in ("numpy", OURS, "autograd", "jax")},
            reports_time=True,
            less="numpy",
            rounds_at_most=9,
        ),
    ),
    goals=(
        Goal(
            text="import autodiff beyond import numpy",
            value=lambda results: results.median(IMPORT, OURS) / 1e3,
            limit=150.0,
            unit=" ms",
        ),
    ),
)
