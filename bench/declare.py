"""What a benchmark declares: cases of workloads, the goals set for them, and the peers compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.measure import Results

#: The contender every other one is compared with.
OURS = "autodiff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library as the workloads use it; what it does not offer is None.

    `numpy` is its array namespace. `ready(value)` returns when a result has been computed.
    `trace(f, x)`, `trace_linearized` and `trace_gradient` make the graph of f, of its linearization
    and of its gradient at x without running them, from scratch on every call. `scan(f, init, xs)`
    and `while_loop(cond, body, init)` are its loops, or Python's where it has none of its own.
    """

    name: str
    version: str
    numpy: Any
    grad: Callable[..., Any] | None = None
    value_and_grad: Callable[..., Any] | None = None
    jit: Callable[..., Any] | None = None
    ready: Callable[[Any], Any] = lambda value: value
    trace: Callable[..., Any] | None = None
    trace_linearized: Callable[..., Any] | None = None
    trace_gradient: Callable[..., Any] | None = None
    scan: Callable[..., Any] | None = None
    while_loop: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One thing that is timed, for each peer that can do it.

    `entrants` maps a peer's name to a function `(peer) -> call`; `call()` is what is timed. Its
    time is divided by `operations` and shown in microseconds per `unit`. `reports_time`: the call
    returns its own duration in seconds. `less`: the entrant whose time in the same round is
    taken off the others'. `rounds_at_most` bounds the rounds of slow workloads.
    """

    name: str
    entrants: Mapping[str, Callable[[Peer], Callable[[], Any]]]
    operations: int = 1
    unit: str = "call"
    reports_time: bool = False
    less: str | None = None
    rounds_at_most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that has to stay within a limit: `value(results)` at most, or at least, `limit`."""

    text: str
    value: Callable[[Results], float]
    limit: float
    at_least: bool = False
    unit: str = ""

    def is_met(self, value: float) -> bool:
        """Return whether a measured value keeps the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A named set of workloads. A file of `bench/cases/` defines one as `CASE`."""

    name: str
    about: str
    workloads: tuple[Workload, ...]
    goals: tuple[Goal, ...] = ()
