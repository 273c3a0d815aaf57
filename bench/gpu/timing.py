"""Every row measured: contenders in turn, round after round, the copy among them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from bench.declare import OURS, Case, Goal, Peer, Workload, at_hand
from bench.gpu import rows
from bench.gpu.card import Card, loops_of
from bench.gpu.contenders import COPY, on_host
from bench.gpu.rows import Row, bytes_of
from bench.measure import Measurement, Results, arrays_of, check_agreement, measure
from bench.programs.gpu import dependent_sums

#: Of the copy's rate, what rows at the limit have to reach, in percent.
LIMIT = 90.0
#: The host's time of a program of one kernel, in microseconds.
HOST_LIMIT = 5.0
#: Milliseconds of compiling the chain, and of loading it from disk.
COMPILE_LIMIT, LOAD_LIMIT = 150.0, 2.0

#: Elements of each end of a result that are compared between contenders.
SAMPLE = 4096

_Call = Callable[[], float]


@dataclass(slots=True)
class Outcome:
    """What a run has found.

    `moved` has the bytes of each row's arrays, `kernels` how many kernels of this library a call
    launches, `notes` what contenders failed by, `broken` the rows that this library has not run,
    and `samples` parts of each row's results.
    """

    workloads: list[Workload] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    measurements: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    samples: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @property
    def results(self) -> Results:
        """The measurements, as reports take them."""
        return Results(self.measurements)

    def case(self, card: Card) -> Case:
        """Return what was measured as a case, with its goals."""
        return Case(
            name="gpu",
            about=f"Programs on {card.name}, beside a copy of as many bytes and other libraries.",
            workloads=tuple(self.workloads),
            goals=tuple(self.goals),
        )


def run(
    card: Card,
    peers: Sequence[Peer],
    moved: int,
    rounds: int,
    progress: Callable[[str], None] = lambda name: None,
) -> Outcome:
    """Measure every row.

    Args:
        card: the device.
        peers: the contenders.
        moved: bytes that programs move.
        rounds: how often each contender is timed; the median counts.
        progress: told the name of each row.
    """
    found = Outcome()
    for row in rows.program_rows(moved):
        progress(row.name)
        ahead_of = rows.AHEAD_OF if row.is_alike else ()
        call = partial(_program_call, found, card, row)
        _measured(found, card, peers, row.name, call, rounds, ahead_of)
        if row.at_the_limit:
            found.goals.append(_rate_goal(row.name))
    for count in rows.COUNTS:
        name = rows.launch_row(count)
        progress(name)
        _measured(found, card, peers, name, partial(_launch_call, card, count), rounds)
    found.goals.append(_time_goal(rows.launch_row(1), HOST_LIMIT, 1.0, " us"))
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        for name, make, contenders, limit in (
            (rows.FIRST, lambda peer: rows.compiling(card), (OURS,), COMPILE_LIMIT),
            (rows.KEPT, lambda peer: rows.loading(card, folder), (OURS,), LOAD_LIMIT),
            (rows.FIRST_CALL, lambda peer: rows.first_call(card, peer), (OURS, "jax"), None),
        ):
            progress(name)
            taking_part = [peer for peer in peers if peer.name in contenders]
            _measured(found, card, taking_part, name, make, min(rounds, 7))
            if limit is not None:
                found.goals.append(_time_goal(name, limit, 1e-3, " ms"))
    return found


def _measured(
    found: Outcome,
    card: Card,
    peers: Sequence[Peer],
    name: str,
    make: Callable[[Peer], _Call | None],
    rounds: int,
    ahead_of: Sequence[str] = rows.AHEAD_OF,
) -> None:
    """Measure one row. A contender that fails is left out with a note."""
    calls: dict[str, _Call] = {}
    for peer in peers:
        try:
            call = make(peer)
        except Exception as error:  # of any library: the run goes on without this one
            reason = str(error).strip().splitlines() or [""]
            found.notes.append(f"{name}, {peer.name}: {type(error).__name__}: {reason[0]}")
            if peer.name == OURS:
                found.broken.append(name)
            continue
        if call is not None:
            calls[peer.name] = call
    faster_than = {peer: 1.0 for peer in ahead_of if peer in calls and OURS in calls}
    workload = Workload(
        name=name,
        entrants={peer: _given(call) for peer, call in calls.items()},
        reports_time=True,
        faster_than=faster_than,
    )
    if calls:
        taking_part = [peer for peer in peers if peer.name in calls]
        found.workloads.append(workload)
        found.measurements |= measure([workload], taking_part, rounds).measurements
    calls.clear()
    card.give_back()


def _given(call: _Call) -> Callable[[Peer], _Call]:
    return lambda peer: call


def _rate_goal(name: str) -> Goal:
    return Goal(
        text=f"{name}: of the copy's rate",
        value=lambda results: 100.0 * results.ratio(name, COPY, OURS),
        limit=LIMIT,
        at_least=True,
        unit=" %",
    )


def _time_goal(name: str, limit: float, scale: float, unit: str) -> Goal:
    return Goal(
        text=name,
        value=lambda results: results.median(name, OURS) * scale,
        limit=limit,
        unit=unit,
    )


def _program_call(found: Outcome, card: Card, row: Row, peer: Peer) -> _Call | None:
    """Return a call that times a contender's program, whose results have been compared."""
    if peer.name == COPY:
        return _copy_call(card, peer, found.moved[row.name]) if row.name in found.moved else None
    if peer.name not in row.contenders:
        return None
    _compare_with_numpy(row, peer)
    arrays = tuple(map(peer.numpy.asarray, row.arguments()))
    call = partial(_function(row, peer), *arrays)
    results = call()
    _compare_with_first(found, row, peer, results)
    if peer.name == OURS:
        architecture = card.device.facts["architecture"]
        found.kernels[row.name] = rows.kernel_count(row.of(OURS)(peer), arrays, architecture)
        if row.is_memory_bound:
            found.moved[row.name] = bytes_of(arrays) + bytes_of(results)
    return _timed(card, peer, call)


def _function(row: Row, peer: Peer) -> Callable[..., Any]:
    assert peer.jit is not None
    return peer.jit(row.of(peer.name)(peer))


def _compare_with_numpy(row: Row, peer: Peer) -> None:
    numpy = Peer(name="numpy", version=np.__version__, numpy=np)
    arguments = row.toy()
    results = _function(row, peer)(*map(peer.numpy.asarray, arguments))
    wanted = row.program(numpy)(*arguments)
    what = f"{row.name} by {peer.name}"
    check_agreement(arrays_of(on_host(results)), arrays_of(wanted), row.tolerance, what)


def _compare_with_first(found: Outcome, row: Row, peer: Peer, results: Any) -> None:
    """Compare both ends of results with those of the first contender, which is this library."""
    sample = [part for x in _leaves(results) for part in _ends(x)]
    reference = found.samples.setdefault(row.name, sample)
    check_agreement(sample, reference, row.tolerance, f"{row.name} by {peer.name}")


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]


def _ends(array: Any) -> list[np.ndarray]:
    flat = array.reshape(-1)
    return [on_host(flat[:SAMPLE]), on_host(flat[-SAMPLE:])]


def _copy_call(card: Card, peer: Peer, moved: int) -> _Call:
    """Return a call that times a copy which reads and writes `moved` bytes together."""
    words = max(1, moved // 8)
    source, target = (peer.numpy.zeros(words, np.float32) for _ in range(2))
    return _timed(card, peer, lambda: peer.numpy.copyto(target, source))


def _timed(card: Card, peer: Peer, call: Callable[[], Any]) -> _Call:
    """Return a call that says how long `call` takes when several are under way.

    By the device's clock, but for a library that has streams of its own: by the host's, until the
    last of the calls is over.
    """
    if peer.ready is at_hand:
        seconds = partial(card.seconds, call)
    else:
        seconds = partial(_awaited, call, peer.ready)
    seconds(2)
    loops = loops_of(seconds)
    return lambda: seconds(loops)


def _awaited(call: Callable[[], Any], ready: Callable[[Any], Any], loops: int) -> float:
    start = perf_counter()
    for _ in range(loops - 1):
        call()
    ready(call())
    return (perf_counter() - start) / loops


def _launch_call(card: Card, count: int, peer: Peer) -> _Call | None:
    """Return a call that times how long the host is busy with a program of small kernels."""
    if peer.name in (COPY, "cupy.fuse"):
        return None
    assert peer.jit is not None
    function = peer.jit(dependent_sums(count)(peer))
    square = np.linspace(0.0, 1.0, rows.FEW**2, dtype=np.float32).reshape(rows.FEW, rows.FEW)
    x = peer.numpy.asarray(square)
    call = partial(function, x)
    for _ in range(3):
        peer.ready(call())
    # Beyond about 1000 launches that wait, a driver lets the host wait too.
    loops = min(512 // count, loops_of(partial(card.host_seconds, call)))
    return lambda: card.host_seconds(call, loops)
