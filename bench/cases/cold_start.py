"""From the start of a process to the first result of a jitted function.

Bytecode is cached, as `pip install` leaves it: an untimed first process fills the cache. Compiled
code is not, and then it is: on disk, where both libraries can keep it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.machine import ROOT
from bench.processes import fresh_environment, temporary_folder

_PROGRAM = """
import numpy as np
{imports}
from types import SimpleNamespace
from bench.programs.elementwise import chain
f = {jit}(chain(SimpleNamespace(numpy={namespace})))
{ready}(f(np.linspace(0.1, 4.0, 1000, dtype=np.float32)))
print("computed", flush=True)
"""


@dataclass(frozen=True, slots=True)
class _Library:
    """What a library's program says, and the variables that make it keep what it compiles."""

    imports: str
    jit: str
    namespace: str
    ready: str
    folder_variable: str
    keeping: dict[str, str]
    not_keeping: dict[str, str]


_LIBRARIES = {
    OURS: _Library(
        imports="import autodiff as ad",
        jit="ad.jit",
        namespace="np",
        ready="np.asarray",
        folder_variable="AUTODIFF_CACHE_DIR",
        keeping={},
        not_keeping={},
    ),
    "jax": _Library(
        imports="import jax, jax.numpy as jnp",
        jit="jax.jit",
        namespace="jnp",
        ready="jax.block_until_ready",
        folder_variable="JAX_COMPILATION_CACHE_DIR",
        keeping={
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        },
        not_keeping={"JAX_ENABLE_COMPILATION_CACHE": "false"},
    ),
}


def _starting(*, kept: bool) -> Callable[[Peer], Callable[[], float]]:
    def make(peer: Peer) -> Callable[[], float]:
        library = _LIBRARIES[peer.name]
        program = _PROGRAM.format(
            imports=library.imports,
            jit=library.jit,
            namespace=library.namespace,
            ready=library.ready,
        )
        folder = temporary_folder("kept")

        def seconds() -> float:
            into = {library.folder_variable: folder if kept else temporary_folder("empty")}
            environment = fresh_environment(
                **into, **(library.keeping if kept else library.not_keeping)
            )
            start = perf_counter()
            with subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                said = process.stdout.readline()
                taken = perf_counter() - start
            if said != "computed\n" or process.returncode != 0:
                raise ChildProcessError(f"{peer.name} ended with {process.returncode}.")
            return taken

        return seconds

    return make


_ROWS = {
    "process start to first result, nothing compiled yet": False,
    "process start to first result, compiled by an earlier process": True,
}

CASE = Case(
    name="cold_start",
    about="From the start of a process to the first result of the jitted chain on 1000 float32.",
    workloads=tuple(
        Workload(
            name=name,
            entrants=dict.fromkeys((OURS, "jax"), _starting(kept=kept)),
            unit="process",
            reports_time=True,
            rounds_at_most=7,
        )
        for name, kept in _ROWS.items()
    ),
    goals=tuple(
        Goal(
            text=f"{name}: our time over JAX's",
            value=lambda results, name=name: results.ratio(name, OURS, "jax"),
            limit=0.5,
            unit="x",
        )
        for name in _ROWS
    ),
)
