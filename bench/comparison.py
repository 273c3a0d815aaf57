"""Rows that compare one program between libraries, on equal arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from bench.declare import OURS, Peer, Workload, at_hand

Program = Callable[[Peer], Callable[..., Any]]
Arguments = Callable[[], tuple[np.ndarray, ...]]

#: Libraries that have every function, though not gradients.
WITH_ARRAYS = (OURS, "jax", "torch", "numpy")
#: Libraries whose programs tests run at toy sizes.
TOY_PEERS = (OURS, "numpy")

#: How much results may differ by default, relative to the largest element.
TOLERANCES = {"float32": 2e-5, "float64": 1e-11}

#: Rounds at most of what takes milliseconds.
FEW = 9


def uniform(*shape: int, dtype: str, count: int = 1) -> Arguments:
    """Return a function that returns `count` arrays of numbers from 0.1 to 4, always the same."""
    return partial(_uniform, shape, dtype, count)


@cache
def _uniform(shape: tuple[int, ...], dtype: str, count: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    return tuple(random.uniform(0.1, 4.0, shape).astype(dtype) for _ in range(count))


def compared(
    name: str,
    program: Program,
    arguments: Arguments,
    toy: Arguments,
    *,
    dtype: str,
    peers: tuple[str, ...] = WITH_ARRAYS,
    instead: Mapping[str, Program] | None = None,
    faster_than: Mapping[str, float] | None = None,
    tolerance: float | None = None,
    rounds_at_most: int | None = FEW,
) -> Workload:
    """Return a row: a program, jitted where a library has that, called on arrays it holds already.

    Args:
        name: the row's name, to which the type of numbers is added.
        program: `(peer) -> function of arrays`.
        arguments: makes the arrays.
        toy: makes small arrays, on which tests run the program.
        dtype: type of numbers of all results.
        peers: names of the libraries.
        instead: the programs of libraries for which `program` would not be what their users write.
        faster_than: the row's goals, as in `Workload`.
        tolerance: largest difference of results, as in `Workload`; None takes the type's.
        rounds_at_most: as in `Workload`.
    """
    programs = {peer: (instead or {}).get(peer, program) for peer in peers}
    return Workload(
        name=f"{name} {dtype}",
        entrants={peer: _calls(programs[peer], arguments) for peer in peers},
        toy={peer: _calls(programs[peer], toy) for peer in peers if peer in TOY_PEERS},
        faster_than=faster_than or {},
        tolerance=TOLERANCES[dtype] if tolerance is None else tolerance,
        rounds_at_most=rounds_at_most,
    )


def _calls(program: Program, arguments: Arguments) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        function = program(peer) if peer.jit is None else peer.jit(program(peer))
        arrays = [peer.numpy.asarray(array) for array in arguments()]
        if peer.ready is at_hand:
            return partial(function, *arrays)
        return lambda: peer.ready(function(*arrays))

    return make
