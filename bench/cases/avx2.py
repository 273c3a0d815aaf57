"""The chain of operations restricted to AVX2, each library in a process that is told so."""

from __future__ import annotations

from autodiff.runtime.host import host
from bench.cases import elementwise
from bench.declare import OURS, Case, Workload
from bench.processes import worker

#: What restricts a library. NumPy has no switch for it that holds from version to version.
RESTRICTED = {
    OURS: {"AUTODIFF_CPU_TARGET": "avx2"},
    "jax": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "torch": {"ATEN_CPU_CAPABILITY": "avx2"},
}


def _restricted(workload: Workload) -> Workload:
    return Workload(
        name=f"{workload.name}, AVX2 only",
        entrants={
            peer: worker(elementwise.CASE.name, workload, environment)
            for peer, environment in RESTRICTED.items()
        },
        reports_time=True,
        rounds_at_most=9,
        faster_than={"jax": 1.0},
    )


CASE = Case(
    name="avx2",
    about="The chain of 21 operations with AVX2's registers of 256 bits, on a machine that has it.",
    workloads=tuple(
        _restricted(workload)
        for workload in elementwise.CASE.workloads
        if workload.name.startswith("chain of 21 operations, 1M") and host().has("avx2")
    ),
)
