"""Loops: what an iteration costs, forward and with its derivative, and what length costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.passes.gradient import gradient
from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.measure import Results
from bench.peers.autodiff import from_scratch, trace, wanted_inputs

STEPS = 1_000
LENGTHS = (10, 10_000)
_RANDOM = np.random.default_rng(0)
MIXING = _RANDOM.normal(size=(16, 16)) * 0.2
INPUTS = _RANDOM.normal(size=(STEPS, 16))

CONTENDERS = (OURS, "jax", "autograd")


def _recurrence(peer: Peer) -> Callable[[Any], Any]:
    """Return the loss of a recurrent net over a sequence, as a function of its matrix."""
    xp, xs, scan = peer.numpy, peer.numpy.asarray(INPUTS), peer.scan
    assert scan is not None

    def loss(w: Any) -> Any:
        cell = lambda h, x: (xp.tanh(xp.dot(w, h) + x), h[0])
        h, ys = scan(cell, xp.zeros(16), xs)
        return xp.sum(h**2) + xp.sum(ys)

    return loss


def _logistic_map(peer: Peer) -> Callable[[Any], Any]:
    """Return a number after many steps of a loop that ends on a condition."""
    while_loop = peer.while_loop
    assert while_loop is not None

    def last(r: Any) -> Any:
        start = (0, r * 0.0 + 0.3)
        step = lambda c: (c[0] + 1, r * c[1] * (1.0 - c[1]))
        return while_loop(lambda c: c[0] < STEPS, step, start)[1]

    return last


def _value(program: Callable[[Peer], Any], argument: Any) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        f, x = program(peer), peer.numpy.asarray(argument)
        compiled = f if peer.jit is None else peer.jit(f)
        return lambda: peer.ready(compiled(x))

    return make


def _gradient(program: Callable[[Peer], Any], argument: Any) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        assert peer.grad is not None
        f, x = peer.grad(program(peer)), peer.numpy.asarray(argument)
        compiled = f if peer.jit is None else peer.jit(f)
        return lambda: peer.ready(compiled(x))

    return make


def _length_row(length: int) -> str:
    return f"trace and differentiate a scan of {length:,} steps"


def _differentiated(length: int) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        assert peer.scan is not None
        scan, xp = peer.scan, peer.numpy
        xs = np.ones(length)

        def f(x: Any) -> Any:
            return scan(lambda c, u: (xp.sin(c * u) + x, None), x, xs)[0]

        def run() -> Any:
            traced = trace(f, 0.3)
            return from_scratch(gradient)(traced.graph, wanted_inputs(traced))

        return run

    return make


def _growth_with_length(results: Results) -> float:
    short, long = map(_length_row, LENGTHS)
    return results.growth(short, long, OURS)


CASE = Case(
    name="control",
    about="Loops of 1,000 iterations per iteration, and derivatives against the loop's length.",
    workloads=(
        Workload(
            name="recurrent net, value",
            entrants=dict.fromkeys(CONTENDERS, _value(_recurrence, MIXING)),
            operations=STEPS,
            unit="iteration",
        ),
        Workload(
            name="recurrent net, gradient",
            entrants=dict.fromkeys(CONTENDERS, _gradient(_recurrence, MIXING)),
            operations=STEPS,
            unit="iteration",
            rounds_at_most=9,
        ),
        Workload(
            name="while loop on a number, value",
            entrants=dict.fromkeys(CONTENDERS, _value(_logistic_map, np.array(3.5))),
            operations=STEPS,
            unit="iteration",
        ),
        Workload(  # JAX has no reverse mode through while_loop
            name="while loop on a number, gradient",
            entrants=dict.fromkeys((OURS, "autograd"), _gradient(_logistic_map, np.array(3.5))),
            operations=STEPS,
            unit="iteration",
            rounds_at_most=9,
        ),
        *[
            Workload(name=_length_row(length), entrants={OURS: _differentiated(length)})
            for length in LENGTHS
        ],
    ),
    goals=(
        Goal(
            text="time to trace and differentiate 10,000 steps over that of 10",
            value=_growth_with_length,
            limit=1.3,
            unit="x",
        ),
        Goal(
            text="gradient of a recurrent net: HIPS autograd's time over ours",
            value=lambda results: results.ratio("recurrent net, gradient", "autograd", OURS),
            limit=1.0,
            at_least=True,
            unit="x",
        ),
    ),
)
