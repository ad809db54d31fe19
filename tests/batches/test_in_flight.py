from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.in_flight import InFlightBound
from airflow_sm_plugin.exceptions import InvalidRequest


def after(bound: InFlightBound, *, intervals: int, slow_in: int, of: int, begins: float = 0.0) -> float:
    """Let so many intervals pass in which ``slow_in`` of each ``of`` answers ask to slow down; return the time."""
    now = begins
    for _ in range(intervals):
        for number in range(of):
            now += 0.5 / of
            bound.sent(bound.bound)
            bound.answered(now + 1e-9, slow_down=number < slow_in)
    return now


def test_it_begins_at_its_maximum() -> None:
    assert InFlightBound(64, now=0.0).bound == 64


def test_answers_that_all_ask_to_slow_down_halve_it_each_interval() -> None:
    bound = InFlightBound(64, now=0.0)
    after(bound, intervals=3, slow_in=10, of=10)
    assert bound.bound == 8


def test_a_burst_is_one_piece_of_news() -> None:
    bound = InFlightBound(64, now=0.0)
    for _ in range(1_000):
        bound.answered(0.1, slow_down=True)
    bound.answered(0.6, slow_down=True)
    assert bound.bound == 32


def test_one_throttled_answer_in_twenty_costs_next_to_nothing() -> None:
    bound = InFlightBound(64, now=0.0)
    after(bound, intervals=200, slow_in=1, of=20)
    assert bound.bound >= 58


def test_it_recovers_once_the_endpoint_does() -> None:
    bound = InFlightBound(64, now=0.0)
    now = after(bound, intervals=10, slow_in=10, of=10)
    assert bound.bound == 1
    after(bound, intervals=60, slow_in=0, of=10, begins=now)
    assert bound.bound == 64


def test_a_bound_that_nobody_uses_does_not_grow() -> None:
    bound = InFlightBound(64, now=0.0)
    now = after(bound, intervals=3, slow_in=10, of=10)
    for _ in range(100):
        now += 0.5
        bound.sent(1)
        bound.answered(now, slow_down=False)
    assert bound.bound == 8


def test_a_maximum_below_one_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_concurrent_transforms must be 1 or more, not 0"):
        InFlightBound(0, now=0.0)


@given(
    most=st.integers(1, 1_000),
    answers=st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(0, 1_000)), max_size=200),
)
def test_it_stays_between_one_and_its_maximum(most: int, answers: list[tuple[float, bool, int]]) -> None:
    bound, now = InFlightBound(most, now=0.0), 0.0
    for passed, slow_down, in_flight in answers:
        now += passed
        bound.sent(in_flight)
        bound.answered(now, slow_down=slow_down)
        assert 1 <= bound.bound <= most
