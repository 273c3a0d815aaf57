"""What a jitted call costs on arrays so small that the arithmetic is nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.declare import OURS, Case, Peer, Workload
from bench.programs.small import chain, two_operations

SIZES = (1, 10, 100)
CONTENDERS = (OURS, "jax", "numpy")


def _call(
    program: Callable[[Any], Callable[..., Any]], size: int
) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        assert peer.jit is not None
        function, ready = peer.jit(program(peer.numpy)), peer.ready
        x = peer.numpy.asarray(np.linspace(-1.0, 1.0, size))
        return lambda: ready(function(x))

    return make


def _gradient(peer: Peer) -> Callable[[], Any]:
    assert peer.jit is not None and peer.grad is not None
    function, ready = peer.jit(peer.grad(chain(peer.numpy, 50))), peer.ready
    x = peer.numpy.asarray(np.float64(0.3))
    return lambda: ready(function(x))


CASE = Case(
    name="small_calls",
    about="Jitted calls on small arrays: time per call, the result waited for.",
    workloads=(
        *[
            Workload(
                name=f"jitted call, {count} operations, {size} elements",
                entrants={name: _call(program, size) for name in CONTENDERS},
            )
            for count, program in ((2, two_operations), (10, lambda xp: chain(xp, 10)))
            for size in SIZES
        ],
        Workload(
            name="jitted grad, 50 scalar operations",
            entrants=dict.fromkeys((OURS, "jax"), _gradient),
        ),
    ),
)
