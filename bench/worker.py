"""One contender in a process of its own: `python -m bench.worker CASE WORKLOAD PEER`.

Its results are first compared with NumPy's. It then writes a line, and for each line that it reads
the seconds of one call, until its input ends. `bench.processes.worker` starts it.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from bench import peers as adapters
from bench.declare import Workload
from bench.machine import use_all_cores
from bench.measure import arrays_of, check_agreement, loops_of, slice_of
from bench.run import load_case


def main(arguments: Sequence[str]) -> int:
    """Time what the command line names, as often as asked; return the exit status."""
    parser = ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("case")
    parser.add_argument("workload")
    parser.add_argument("peer")
    parser.add_argument("--all-cores", action="store_true")
    options = parser.parse_args(arguments)
    if options.all_cores:
        use_all_cores()
    workloads = {workload.name: workload for workload in load_case(options.case).workloads}
    call = checked_call(workloads[options.workload], options.peer)
    loops = loops_of(call)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(slice_of(call, loops), flush=True)
    return 0


def checked_call(workload: Workload, peer: str) -> Callable[[], Any]:
    """Return a peer's call of a workload, its results being NumPy's within the tolerance."""
    assert workload.tolerance is not None
    found, missing = adapters.load([peer, "numpy"])
    if missing:
        raise SystemExit(" ".join(missing))
    call, reference = (workload.entrants[library.name](library) for library in found)
    check_agreement(
        arrays_of(call()),
        arrays_of(reference()),
        workload.tolerance,
        f"{workload.name} by {peer} in a process of its own",
    )
    return call


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
