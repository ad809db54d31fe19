"""Few intervals stand for many, and cover all of them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.statistics.counters import MOST, Interval, joined, length_of

TIMES = st.integers(min_value=0, max_value=10_000_000)
INTERVALS = st.lists(st.tuples(TIMES, TIMES).map(lambda pair: (min(pair), max(pair))), max_size=80)


@given(INTERVALS)
def test_few_sorted_intervals_cover_all_that_were_given(intervals: list[Interval]) -> None:
    found = joined(intervals)
    assert len(found) <= MOST
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))
    assert all(any(b <= began and ended <= e for b, e in found) for began, ended in intervals)
    if intervals:
        assert found[0][0] == min(began for began, _ in intervals)
        assert found[-1][1] == max(ended for _, ended in intervals)


@given(INTERVALS)
def test_what_was_joined_stays(intervals: list[Interval]) -> None:
    assert joined(joined(intervals)) == joined(intervals)


def test_what_nearly_touches_is_one_and_the_rest_is_not() -> None:
    assert joined([(5_000, 6_000), (0, 1_000), (1_400, 2_000)]) == [(0, 2_000), (5_000, 6_000)]


def test_where_there_are_too_many_the_smallest_gaps_are_closed() -> None:
    far_apart = [(number * 60_000, number * 60_000 + 1_000) for number in range(MOST)]
    near = [(2_000, 3_000), (62_000, 63_000)]
    assert joined([*far_apart, *near]) == [(0, 3_000), (60_000, 63_000), *far_apart[2:]]


def test_an_end_before_its_begin_is_a_moment() -> None:
    """A clock may have been set back."""
    assert joined([(5_000, 4_000)]) == [(5_000, 5_000)]


def test_lengths_add_up() -> None:
    assert length_of([(0, 1_500), (10_000, 10_250)]) == 1.75
