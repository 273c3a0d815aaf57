"""Places of values in one piece of memory: apart while they are needed, and close together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autodiff.schedule.arena import ALIGNMENT, Span, places

SPANS = st.lists(
    st.builds(
        lambda size, first, length: Span(size, first, first + length),
        st.integers(0, 5000),
        st.integers(0, 12),
        st.integers(0, 6),
    ),
    max_size=14,
)


@given(SPANS)
def test_values_that_are_there_in_the_same_step_lie_apart(spans):
    offsets, size = places(spans)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    for step in range(20):
        there = [i for i, x in enumerate(spans) if x.first <= step <= x.last and x.size]
        taken = [set(range(offsets[i], offsets[i] + spans[i].size)) for i in there]
        assert len(set().union(*taken)) == sum(map(len, taken))
        assert all(offsets[i] + spans[i].size <= size for i in there)


@given(SPANS)
def test_no_more_is_taken_than_all_values_together(spans):
    rounded = [-(-x.size // ALIGNMENT) * ALIGNMENT for x in spans]
    most = max(
        (
            sum(r for r, x in zip(rounded, spans, strict=True) if x.first <= step <= x.last)
            for step in range(20)
        ),
        default=0,
    )
    assert most <= places(spans)[1] <= sum(rounded)


def test_a_chain_takes_the_memory_of_two_links():
    chain = [Span(1 << 20, i, i + 1) for i in range(100)]
    assert places(chain)[1] == 2 << 20


def test_nothing_takes_nothing():
    assert places([]) == ((), 0)
