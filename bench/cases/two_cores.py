"""One kernel divided over two cores, against the same on one."""

from __future__ import annotations

import os

from bench.cases import elementwise
from bench.declare import OURS, Case, Goal, Workload
from bench.processes import worker

_DIVIDED = tuple(
    workload
    for workload in elementwise.CASE.workloads
    if workload.name.startswith("chain of 21 operations, 256K")
)


def _name(workload: Workload, threads: int) -> str:
    return f"{workload.name}, {threads} {'thread' if threads == 1 else 'threads'}"


def _in_threads(workload: Workload, threads: int) -> Workload:
    environment = {"AUTODIFF_THREADS": str(threads)}
    run = worker(elementwise.CASE.name, workload, environment, all_cores=True)
    return Workload(
        name=_name(workload, threads), entrants={OURS: run}, reports_time=True, rounds_at_most=15
    )


CASE = Case(
    name="two_cores",
    about="The chain of 21 operations by one thread and by two, in processes that are not pinned.",
    workloads=tuple(
        _in_threads(workload, threads)
        for workload in _DIVIDED
        for threads in (1, 2)
        if (os.cpu_count() or 1) >= threads
    ),
    goals=tuple(
        Goal(
            text=f"{workload.name}: one thread's time over two threads'",
            value=lambda results, workload=workload: results.growth(
                _name(workload, 2), _name(workload, 1), OURS
            ),
            limit=1.8,
            at_least=True,
            unit="x",
        )
        for workload in _DIVIDED
    ),
)
