"""What a call of a jitted function on CuPy's arrays costs the host, on a machine without a GPU.

Real CuPy runs on the stand-in of tests/stand_in, whose launches return at once here: what remains
is everything but the driver, to which about 1.3 us for each launch are to be added. CuPy's own
calls are beside ours, measured in turn.

    taskset -c 1 python -m bench.gpu.host_time
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from autodiff import grad, jit
from autodiff.base.settings import configure
from bench.gpu.timing import HOST_LIMIT

#: A call of a program, to be measured.
Call = Callable[..., Any]


def _softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def _alternating(kernels: int) -> Call:
    """Return a program of so many kernels, each of which needs the sums of the one before it."""

    def run(x: Any) -> Any:
        for i in range(kernels):
            x = np.sin(x - np.sum(x, axis=i % 2, keepdims=True))
        return x

    return jit(run)


def calls(cupy: Any) -> dict[str, Call]:
    """Return the calls to be measured by name: this library's, then CuPy's for comparison."""
    x = cupy.asarray(np.linspace(0.1, 1.0, 1200, dtype=np.float32).reshape(30, 40))
    y, tree = x + x, {"w": x, "b": x[0].copy()}
    wave = jit(lambda x: np.sin(x) * x)
    scaled = jit(lambda rate, x, y: rate * x + y)
    both = jit(lambda x: (np.sin(x), np.cos(x)))
    total = jit(np.sum)
    rows = jit(_softmax)
    slope = jit(grad(lambda x: np.sum(np.sin(x) ** 2)))
    four, sixteen = _alternating(4), _alternating(16)
    step = jit(lambda p: {"w": p["w"] * 0.5, "b": p["b"] * 0.5})
    return {
        "x * sin(x)": lambda: wave(x),
        "0.5 * x + y, a number of Python": lambda: scaled(0.5, x, y),
        "two outputs": lambda: both(x),
        "sum of everything": lambda: total(x),
        "softmax": lambda: rows(x),
        "gradient of a sum": lambda: slope(x),
        "two kernels, a dictionary in and out": lambda: step(tree),
        "4 kernels": lambda: four(x),
        "16 kernels": lambda: sixteen(x),
        "CuPy: x + y": lambda: cupy.add(x, y),
        "CuPy: an empty array": lambda: cupy.empty((30, 40), np.float32),
    }


def measure(chosen: dict[str, Call], rounds: int, loops: int) -> dict[str, float]:
    """Return microseconds of one call: the median of rounds, in which all are measured in turn."""
    found: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(rounds):
        for name, call in chosen.items():
            start = perf_counter()
            for _ in range(loops):
                call()
            found[name].append((perf_counter() - start) / loops)
    return {name: median(seconds) * 1e6 for name, seconds in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of the host's time; exit status 2 where the stand-in cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.host_time", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--loops", type=int, default=400)
    options = parser.parse_args(arguments)
    from tests.stand_in.emulation import emulated_compiler
    from tests.stand_in.install import why_not

    reason = why_not()
    if reason is not None:
        print(f"host_time: {reason}", file=sys.stderr)
        return 2
    configure(device="cpu")
    with emulated_compiler() as emulation:
        import cupy

        chosen = calls(cupy)
        for call in chosen.values():
            for _ in range(3):
                call()
        is_idle = ctypes.c_int.in_dll(emulation.stand_in, "stand_in_is_idle")
        is_idle.value = 1
        try:
            found = measure(chosen, options.rounds, options.loops)
        finally:
            is_idle.value = 0
    for name, time in found.items():
        print(f"{time:8.2f} us  {name}")
    print(f"The limit of a program of one kernel is {HOST_LIMIT} us, on the card's own host.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
