"""Places in one piece of memory for values that a program needs only for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Bytes at whose multiples places begin: vectors of a kernel for a GPU, and whole cache lines.
ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Span:
    """A value: its bytes, the step that makes it and the last one that reads it."""

    size: int
    first: int
    last: int


def places(spans: Sequence[Span]) -> tuple[tuple[int, ...], int]:
    """Return an offset for each value, and the bytes of it all.

    Values that are there in the same step lie apart. The largest are placed first, each in the
    smallest gap between those it meets (Pisarchyk and Lee, Efficient memory management for deep
    neural net inference, 2020, section 5.2, greedy by size).

    >>> places([Span(1000, 0, 1), Span(300, 1, 2), Span(600, 2, 3)])
    ((0, 1024, 0), 1536)
    """
    offsets = [0] * len(spans)
    placed: list[int] = []
    for i in sorted(range(len(spans)), key=lambda i: -spans[i].size):
        span = spans[i]
        met = [k for k in placed if spans[k].first <= span.last and span.first <= spans[k].last]
        offsets[i] = _smallest_gap(
            sorted((offsets[k], _end(offsets[k], spans[k])) for k in met), _end(0, span)
        )
        placed.append(i)
    return tuple(offsets), max(map(_end, offsets, spans), default=0)


def _smallest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Return where the smallest gap of at least `size` begins, or where everything ends."""
    end, best = 0, None
    for start, stop in taken:
        gap = start - end
        if gap >= size and (best is None or gap < best[0]):
            best = gap, end
        end = max(end, stop)
    return end if best is None else best[1]


def _end(offset: int, span: Span) -> int:
    return offset + -(-span.size // ALIGNMENT) * ALIGNMENT
