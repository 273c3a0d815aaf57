"""The binomial schedule against exhaustive search and against the published formulas."""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import comb

import pytest

from autodiff.primitives.revolve import advances, reach, repetitions, schedule


@cache
def least_advances(length: int, snapshots: int) -> int:
    """Return the least number of steps run forward, over all places of the next snapshot."""
    if length <= 1:
        return 0
    best = length - 1 + least_advances(length - 1, snapshots)  # run to the last step, pull it
    if snapshots > 1:
        for middle in range(1, length):
            after = least_advances(length - middle, snapshots - 1)
            best = min(best, middle + after + least_advances(middle, snapshots))
    return best


def followed(length: int, snapshots: int) -> tuple[int, Counter[int], int]:
    """Follow a schedule and check each move; return advances, repeats by step, most snapshots."""
    kept = [0]
    most = 1
    total = 0
    repeats: Counter[int] = Counter()
    pulled = []
    for move in schedule(length, snapshots):
        assert move.start == kept[-1]
        assert move.start <= move.stop < length - len(pulled)
        total += move.stop - move.start
        repeats.update(range(move.start, move.stop))
        if move.keep:
            kept.append(move.stop)
            most = max(most, len(kept))
        else:
            pulled.append(move.stop)
            if move.stop == move.start:
                kept.pop()
    assert pulled == list(range(length))[::-1]
    assert not (length and kept)
    return total, repeats, most


@pytest.mark.parametrize("snapshots", [1, 2, 3, 4, 5, 7, 40])
def test_no_order_of_snapshots_needs_fewer_steps(snapshots):
    for length in range(1, 41):
        total, repeats, most = followed(length, snapshots)
        assert total == least_advances(length, snapshots) == advances(length, snapshots)
        assert most <= snapshots
        assert max(repeats.values(), default=0) <= repetitions(length, snapshots)


def test_a_thousand_steps_with_ten_snapshots_repeat_no_step_more_than_four_times():
    total, repeats, most = followed(1000, 10)
    assert total == 4 * 1000 - comb(14, 3) == 3636
    assert max(repeats.values()) == 4
    assert most == 10


@pytest.mark.parametrize(
    ("length", "snapshots"), [(1001, 10), (1002, 10), (2000, 3), (500, 1), (300, 299), (300, 300)]
)
def test_long_schedules_keep_to_the_formula(length, snapshots):
    total, repeats, most = followed(length, snapshots)
    assert total == advances(length, snapshots)
    assert max(repeats.values()) == repetitions(length, snapshots)
    assert most <= snapshots


def test_snapshots_of_every_step_repeat_none_but_once():
    total, _, most = followed(50, 50)
    assert (total, most) == (49, 50)


def test_no_steps_make_no_moves():
    assert list(schedule(0, 3)) == []


def test_many_snapshots_need_no_deep_recursion():
    assert sum(1 for _ in schedule(20_000, 20_000)) == 20_000 + 19_999


def test_reach_is_the_binomial_coefficient():
    assert [reach(3, r) for r in range(-1, 5)] == [0, 1, 4, 10, 20, 35]
