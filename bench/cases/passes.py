"""What tracing and each pass cost per equation, as graphs grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autodiff.passes.gradient import gradient
from autodiff.passes.linearize import linearize
from autodiff.passes.pipeline import simplify
from autodiff.passes.transpose import transpose
from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.measure import Results
from bench.peers.autodiff import from_scratch, trace, wanted_inputs
from bench.programs.small import chain

SIZES = (100, 1_000, 10_000)
START = 0.3

#: The rows that must be linear in the number of equations.
LINEAR = ("trace", "linearize", "transpose", "simplify")


def row(stage: str, size: int) -> str:
    """Return a workload's name."""
    return f"{stage}, {size:,} equations"


def _tracing(attribute: str, size: int) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        transform = getattr(peer, attribute)
        # A new function every time: JAX remembers the functions that it has traced.
        return lambda: transform(chain(peer.numpy, size), START)

    return make


def _pass_alone(stage: str, size: int) -> Callable[[Peer], Callable[[], Any]]:
    """Return an entrant that runs one pass from scratch."""

    def make(peer: Peer) -> Callable[[], Any]:
        traced = trace(chain(peer.numpy, size), START)
        wanted = wanted_inputs(traced)
        if stage == "linearize":
            return lambda: from_scratch(linearize)(traced.graph, wanted)
        if stage == "transpose":
            split = linearize(traced.graph, wanted)
            count = len(split.forwarded)
            linear = tuple(i >= count for i in range(len(split.linear.inputs)))
            return lambda: from_scratch(transpose)(split.linear, linear, (True,))
        joined = gradient(traced.graph, wanted).graph
        return lambda: simplify(joined)

    return make


def _workloads(size: int) -> tuple[Workload, ...]:
    against_jax = {
        "trace": "trace",
        "trace and linearize": "trace_linearized",
        "trace to gradient": "trace_gradient",
    }
    few = 9 if size == SIZES[-1] else None
    compared = [
        Workload(
            name=row(stage, size),
            entrants={name: _tracing(attribute, size) for name in (OURS, "jax")},
            operations=size,
            unit="equation",
            rounds_at_most=few,
        )
        for stage, attribute in against_jax.items()
    ]
    alone = [
        Workload(
            name=row(stage, size),
            entrants={OURS: _pass_alone(stage, size)},
            operations=size,
            unit="equation",
            rounds_at_most=few,
        )
        for stage in LINEAR[1:]
    ]
    return (*compared, *alone)


def _growth(stage: str) -> Callable[[Results], float]:
    small, large = SIZES[-2:]

    def times(results: Results) -> float:
        per_equation = results.growth(row(stage, small), row(stage, large), OURS)
        return per_equation * large / small

    return times


CASE = Case(
    name="passes",
    about="Trace and passes from scratch: time per equation of the traced function.",
    workloads=tuple(workload for size in SIZES for workload in _workloads(size)),
    goals=tuple(
        Goal(
            text=f"{stage}: 10,000 equations against 1,000",
            value=_growth(stage),
            limit=12.0,
            unit="x",
        )
        for stage in LINEAR
    ),
)
