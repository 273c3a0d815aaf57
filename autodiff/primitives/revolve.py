"""The binomial schedule: a loop run backwards with few snapshots and as few repeats as can be.

To pull a cotangent through the steps of a loop, last step first, the state before each step is
needed. `schedule` says from which snapshot to run to which step, and whether to take a snapshot
there or to pull the step; `repetitions` and `advances` count what that costs.

Source: Griewank and Walther, "Algorithm 799: revolve", ACM Transactions on Mathematical Software
26(1), 2000, 19-45; the same authors' "Evaluating Derivatives", 2nd ed. 2008, section 12.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb


@dataclass(frozen=True, slots=True)
class Move:
    """Run from the snapshot before step `start` to the state before step `stop`, then act on it.

    `keep`: take a snapshot. Otherwise pull step `stop`, which is then done with; where it is
    `start` itself the snapshot is done with too. `start` is always the snapshot taken last of those
    left.
    """

    start: int
    stop: int
    keep: bool


def reach(snapshots: int, repeats: int) -> int:
    """Return how many steps can be reversed with so many snapshots and repeats of each step.

    beta(s, r) = C(s + r, s), proposition 12.1 of "Evaluating Derivatives".

    >>> reach(10, 4)
    1001
    """
    return comb(snapshots + repeats, snapshots) if repeats >= 0 else 0


def repetitions(length: int, snapshots: int) -> int:
    """Return how often a step is repeated at most: the least r with beta(s, r) >= length.

    >>> repetitions(1000, 10)
    4
    """
    repeats = 0
    while reach(snapshots, repeats) < length:
        repeats += 1
    return repeats


def advances(length: int, snapshots: int) -> int:
    """Return the least number of steps run forward, the pulls of the steps themselves not counted.

    t(l, s) = r l - beta(s + 1, r - 1) with r = `repetitions`, theorem 6.1 of algorithm 799.

    >>> advances(1000, 10)
    3636
    """
    repeats = repetitions(length, snapshots)
    return repeats * length - reach(snapshots + 1, repeats - 1)


def schedule(length: int, snapshots: int) -> Iterator[Move]:
    """Yield the moves that reverse `length` steps; the state before step 0 is the first snapshot.

    At most `snapshots` exist at a time, the first one included.

    >>> for move in schedule(3, 2):
    ...     print(move.start, move.stop, "snapshot" if move.keep else "pull")
    0 1 snapshot
    1 2 pull
    1 1 pull
    0 0 pull
    """
    taken = [0] if length else []
    stop = length
    while taken:
        start = taken[-1]
        free = snapshots - len(taken)
        if free and stop - start > 1:
            middle = start + _distance(stop - start, free + 1)
            yield Move(start, middle, keep=True)
            taken.append(middle)
            continue
        stop -= 1
        yield Move(start, stop, keep=False)
        if stop == start:
            taken.pop()


def _distance(length: int, snapshots: int) -> int:
    """Return how far to run before the next snapshot, of `snapshots` >= 2 with that at the start.

    With r repeats at most, the steps before it must be no more than r - 1 repeats and all snapshots
    can reverse, those after it no more than r repeats and one snapshot fewer; the count is least
    where neither lies below what one repeat less could reverse (algorithm 799, section 5).
    """
    repeats = repetitions(length, snapshots)
    return max(1, reach(snapshots, repeats - 2), length - reach(snapshots - 1, repeats))
