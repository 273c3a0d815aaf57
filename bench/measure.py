"""Timing: every contender in turn, round after round, so that a slow moment hits all alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bench.declare import Peer, Workload

#: Seconds that one timed slice lasts at least; a quick call is repeated within it.
SLICE = 0.01


#: What times are read from: what the clock on the wall says, or for how long the process has had a
#: core. The latter hides waiting, but stays meaningful where other processes compete for the core.
CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}


class NotMeasuredError(LookupError):
    """A figure was asked for that this run has not measured."""


class DisagreementError(AssertionError):
    """Two contenders computed different results, so their times cannot be compared."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Microseconds per unit of one workload by one peer, one figure for each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile of the rounds."""
        if len(self.rounds) == 1:
            return self.median, self.median
        low, _, high = quantiles(self.rounds, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, relative to the median."""
        low, high = self.quartiles
        return (high - low) / 2 / abs(self.median) if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Results:
    """Measurements by workload and peer."""

    measurements: dict[str, dict[str, Measurement]]

    def median(self, workload: str, peer: str) -> float:
        """Return microseconds per unit."""
        return self._one(workload, peer).median

    def ratio(self, workload: str, peer: str, reference: str) -> float:
        """Return the time of `peer` over that of `reference`: the median over rounds."""
        pairs = zip(
            self._one(workload, peer).rounds, self._one(workload, reference).rounds, strict=True
        )
        return median(theirs / ours for theirs, ours in pairs)

    def growth(self, smaller: str, larger: str, peer: str) -> float:
        """Return one peer's time of `larger` over that of `smaller`: the median over rounds.

        Times are per unit, and only rounds that both were part of count.
        """
        pairs = zip(self._one(smaller, peer).rounds, self._one(larger, peer).rounds, strict=False)
        return median(large / small for small, large in pairs)

    def _one(self, workload: str, peer: str) -> Measurement:
        try:
            return self.measurements[workload][peer]
        except KeyError:
            raise NotMeasuredError(f"{workload} by {peer}") from None


@dataclass(slots=True)
class _Entrant:
    workload: Workload
    peer: str
    call: Callable[[], Any]
    loops: int
    seconds: list[float]


def measure(
    workloads: Sequence[Workload],
    peers: Sequence[Peer],
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: str = "wall",
) -> Results:
    """Time every workload with every peer that can do it, in the peers' order.

    The collector of garbage stays on, as it is for users; what is young is made old before each
    timed call, or each contender would pay for the others'.

    Raises:
        DisagreementError: results of a workload with a tolerance differ by more than that from
            those of its first contender.
    """
    entrants = [entrant for workload in workloads for entrant in _entrants(workload, peers)]
    for done in range(rounds):
        progress(done, rounds)
        gc.collect()
        for entrant in entrants:
            limit = entrant.workload.rounds_at_most
            if limit is None or done < limit:
                gc.collect(1)
                entrant.seconds.append(_time(entrant, CLOCKS[clock]))
    progress(rounds, rounds)
    return Results(
        {
            workload.name: _measurements(workload, [e for e in entrants if e.workload is workload])
            for workload in workloads
        }
    )


def _entrants(workload: Workload, peers: Sequence[Peer]) -> list[_Entrant]:
    entrants: list[_Entrant] = []
    reference: list[np.ndarray] = []
    for peer in peers:
        make = workload.entrants.get(peer.name)
        if make is None:
            continue
        call = make(peer)
        if workload.tolerance is not None:
            found = arrays_of(call())
            reference = reference or found
            check_agreement(found, reference, workload.tolerance, f"{workload.name} by {peer.name}")
        if workload.reports_time:
            call()  # fills caches, as the first call of any other entrant does
        loops = 1 if workload.reports_time else loops_of(call)
        entrants.append(_Entrant(workload, peer.name, call, loops, []))
    return entrants


def arrays_of(value: Any) -> list[np.ndarray]:
    """Return the arrays of a result, which may be nested tuples and lists, as NumPy's.

    >>> [array.shape for array in arrays_of((np.ones(3), [2.0, (np.ones((2, 2)),)]))]
    [(3,), (), (2, 2)]
    """
    if isinstance(value, tuple | list):
        return [array for part in value for array in arrays_of(part)]
    return [np.asarray(value)]


def check_agreement(
    found: Sequence[np.ndarray], reference: Sequence[np.ndarray], tolerance: float, what: str
) -> None:
    """Compare results, relative to the largest element of each array.

    Raises:
        DisagreementError: numbers, shapes or types differ.
    """
    types = [[(array.shape, array.dtype) for array in arrays] for arrays in (found, reference)]
    if types[0] != types[1]:
        raise DisagreementError(f"{what}: results are {types[0]}, not {types[1]}")
    for mine, theirs in zip(found, reference, strict=True):
        largest = np.max(np.abs(theirs), initial=0.0)
        difference = np.max(np.abs(mine - theirs), initial=0.0)
        if not difference <= tolerance * largest:
            raise DisagreementError(
                f"{what}: results differ by {difference:.3g}, the largest being {largest:.3g}"
            )


def loops_of(call: Callable[[], Any]) -> int:
    """Return how often a call is repeated in one timed slice."""
    call()
    loops = 1
    while True:
        start = perf_counter()
        for _ in range(loops):
            call()
        if perf_counter() - start >= SLICE:
            return loops
        loops *= 2


def slice_of(
    call: Callable[[], Any], loops: int, clock: Callable[[], float] = perf_counter
) -> float:
    """Return the seconds of one call, `loops` of them being timed."""
    repeated = range(loops)
    start = clock()
    for _ in repeated:
        call()
    return (clock() - start) / loops


def _time(entrant: _Entrant, clock: Callable[[], float]) -> float:
    if entrant.workload.reports_time:
        return entrant.call()
    return slice_of(entrant.call, entrant.loops, clock)


def _measurements(workload: Workload, entrants: list[_Entrant]) -> dict[str, Measurement]:
    scale = 1e6 / workload.operations
    seconds = {entrant.peer: entrant.seconds for entrant in entrants}
    base = seconds.get(workload.less) if workload.less is not None else None
    if base is not None:
        seconds = {
            peer: values
            if peer == workload.less
            else [value - least for value, least in zip(values, base, strict=True)]
            for peer, values in seconds.items()
        }
    return {
        peer: Measurement(tuple(value * scale for value in values))
        for peer, values in seconds.items()
    }
