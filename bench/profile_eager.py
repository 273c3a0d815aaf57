"""Where un-jitted `grad` spends its time: `python -m bench.profile_eager [--operations 50]`.

First the phases of one call, each timed by itself; then the functions that cost most, by cProfile
(whose own cost makes everything look slower, small functions most).
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

from bench.machine import prepare_process

ROUNDS = 9
LOOPS = 200


def phases(operations: int) -> dict[str, float]:
    """Return microseconds of a remembered `grad` call of a scalar chain, phase by phase.

    `rest` is what the whole takes beyond the phases: flattening and checking the arguments, and
    making the results.
    """
    import numpy as np

    import autodiff as ad
    from autodiff.passes.gradient import gradient
    from autodiff.runtime.executor import executable
    from bench.peers.autodiff import trace, wanted_inputs
    from bench.programs.small import chain

    function = chain(np, operations)
    derivative = ad.grad(function)
    x = 0.3
    for _ in range(10):
        derivative(x)
    traced = trace(function, x)
    wanted = wanted_inputs(traced)
    joined = gradient(traced.graph, wanted).graph
    program = executable(joined)
    arguments = [np.float64(x), *traced.constants]
    found = _interleaved(
        {
            "whole": lambda: derivative(x),
            "trace": lambda: trace(function, x),
            "remembered passes": lambda: gradient(traced.graph, wanted),
            "remembered program": lambda: executable(joined),
            "run": lambda: program(*arguments),
        }
    )
    found["rest"] = 2 * found["whole"] - sum(found.values())
    return found


def _interleaved(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = perf_counter()
            for _ in range(LOOPS):
                call()
            times[name].append((perf_counter() - start) / LOOPS * 1e6)
    return {name: median(values) for name, values in times.items()}


def profiled(operations: int, top: int) -> None:
    """Print the functions in which repeated `grad` calls of a scalar chain spend their time."""
    import numpy as np

    import autodiff as ad
    from bench.programs.small import chain

    derivative = ad.grad(chain(np, operations))
    for _ in range(10):
        derivative(0.3)
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(LOOPS):
        derivative(0.3)
    profile.disable()
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(top)


def main(arguments: Sequence[str]) -> int:
    """Print both views; return the exit status."""
    parser = ArgumentParser(prog="python -m bench.profile_eager", description=__doc__)
    parser.add_argument("--operations", type=int, default=50, metavar="N", help="a multiple of 10")
    parser.add_argument("--top", type=int, default=25, metavar="N", help="functions to list")
    options = parser.parse_args(arguments)
    print(f"un-jitted grad of {options.operations} scalar operations, remembered structure")
    for name, value in phases(options.operations).items():
        each = value / options.operations
        print(f"{name:20} {value:8.1f} us {each:8.3f} us per operation")
    profiled(options.operations, options.top)
    return 0


if __name__ == "__main__":
    prepare_process("bench.profile_eager", sys.argv[1:])
    raise SystemExit(main(sys.argv[1:]))
