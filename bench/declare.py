"""What a benchmark declares: cases of workloads, the goals set for them, and the peers compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.measure import Results

#: The contender every other one is compared with.
OURS = "autodiff"


def at_hand(value: Any) -> Any:
    """Return a result as it is: `ready` of libraries whose calls return what they have computed."""
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library as the workloads use it; what it does not offer is None.

    `numpy` is its array namespace, `special` has SciPy's special functions `erf` and `expit`.
    `ready(value)` returns the value when it has been computed.
    `trace(f, x)`, `trace_linearized` and `trace_gradient` make the graph of f, of its linearization
    and of its gradient at x without running them, from scratch on every call. `scan(f, init, xs)`
    and `while_loop(cond, body, init)` are its loops, or Python's where it has none of its own.
    """

    name: str
    version: str
    numpy: Any
    special: Any = None
    grad: Callable[..., Any] | None = None
    value_and_grad: Callable[..., Any] | None = None
    jit: Callable[..., Any] | None = None
    ready: Callable[[Any], Any] = at_hand
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

    `faster_than` has the goals of the row: how many times our time a peer's should take at least.
    With a `tolerance` the first results are compared with ours, before anything is timed: the
    largest difference relative to the largest element of each array. `toy` has the entrants at
    sizes so small that tests run them.
    """

    name: str
    entrants: Mapping[str, Callable[[Peer], Callable[[], Any]]]
    operations: int = 1
    unit: str = "call"
    reports_time: bool = False
    less: str | None = None
    rounds_at_most: int | None = None
    faster_than: Mapping[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    toy: Mapping[str, Callable[[Peer], Callable[[], Any]]] = field(default_factory=dict)


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
    """A named set of workloads. A file of `bench/cases/` defines one as `CASE`.

    `goals` are those beyond the workloads' own. `parts` are cases that are run after it.
    """

    name: str
    about: str
    workloads: tuple[Workload, ...] = ()
    goals: tuple[Goal, ...] = ()
    parts: tuple[Case, ...] = ()

    def flattened(self) -> tuple[Case, ...]:
        """Return the case and its parts, and their parts, as cases without any."""
        own = (replace(self, parts=()),) if self.workloads else ()
        return (*own, *(case for part in self.parts for case in part.flattened()))
