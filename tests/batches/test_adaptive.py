"""A limit keeps to its bounds whatever is answered, and finds what a service bears."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.adaptive import InFlightLimit, SendRate
from airflow_sm_plugin.exceptions import InvalidRequest

RATES = st.floats(0.01, 5_000)
STEPS = st.lists(st.tuples(st.floats(0, 3), st.sampled_from([None, True, False])), max_size=200)
"""Seconds that pass, and whether an answer asks to slow down; None is a request that goes."""


def driven(
    rate: SendRate, seconds: float, slow_down: Callable[[float], bool], *, start: float = 0.0
) -> SendRate:
    """Let a sender send whenever it may, answered at once."""
    now = start
    while (now := rate.next_send_at(now)) < start + seconds:
        rate.sent(now)
        rate.answered(now, slow_down=slow_down(now))
    return rate


def always(_: float) -> bool:
    return True


def never(_: float) -> bool:
    return False


class Limited:
    """A service that bears so many requests a second and throttles the rest, as a token bucket of one second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.tokens = rate
        self.last = 0.0
        self.accepted = 0
        self.throttled = 0

    def __call__(self, now: float) -> bool:
        self.tokens = min(self.rate, self.tokens + (now - self.last) * self.rate)
        self.last = now
        if self.tokens < 1:
            self.throttled += 1
            return True
        self.tokens -= 1
        self.accepted += 1
        return False


@given(RATES, RATES, STEPS)
def test_the_rate_stays_between_one_a_second_and_its_maximum_whatever_is_answered(
    max_rate: float, initial: float, steps: list[tuple[float, bool | None]]
) -> None:
    rate = SendRate(now=0, max_rate=max_rate, initial=initial)
    now = 0.0
    for passed, slow_down in steps:
        now += passed
        if slow_down is None:
            rate.sent(now)
        else:
            rate.answered(now, slow_down=slow_down)
        assert min(1, max_rate) <= rate.rate <= max_rate


@given(
    RATES,
    st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), min_size=1, max_size=300),
    st.data(),
)
def test_no_span_of_time_sees_more_than_the_maximum_rate(
    max_rate: float, delays: list[tuple[float, bool]], data: st.DataObject
) -> None:
    """A sender that comes late, by any delay, may catch up on a tenth of a second and no more."""
    rate = SendRate(now=0, max_rate=max_rate)
    now, sends = 0.0, []
    for late, slow_down in delays:
        now = rate.next_send_at(now + late)
        sends.append(now)
        rate.sent(now)
        rate.answered(now, slow_down=slow_down)
    first = data.draw(st.integers(0, len(sends) - 1))
    last = data.draw(st.integers(first, len(sends) - 1))
    most = max_rate * (sends[last] - sends[first] + 0.1) + 1
    assert last - first + 1 <= most * (1 + 1e-9)


@given(st.floats(1, 300), st.floats(0.01, 1), st.floats(1, 30))
def test_it_recovers_after_throttling_ends(max_rate: float, initial: float, throttled: float) -> None:
    rate = SendRate(now=0, max_rate=max_rate, initial=initial * max_rate)
    rate = driven(rate, throttled, always)
    recovered = driven(rate, 60 + 2 / rate.rate, never, start=throttled)
    assert recovered.rate == pytest.approx(max_rate)


def test_a_service_that_throttles_everything_halves_the_rate_each_second() -> None:
    rates = [driven(SendRate(now=0, max_rate=800), seconds, always).rate for seconds in (0.9, 1.5, 2.5, 3.5)]
    assert rates == [800, 400, 200, 100]


def test_a_burst_of_throttled_answers_is_one_piece_of_news() -> None:
    rate = SendRate(now=0, max_rate=100)
    for _ in range(100):
        rate.answered(1.0, slow_down=True)
    assert rate.rate == 50


@pytest.mark.parametrize("limit", [40, 100, 200, 350])
def test_it_settles_near_what_the_service_bears(limit: float) -> None:
    """After a minute: nearly all of it is used, and few answers are throttled."""
    rate = driven(SendRate(now=0, max_rate=400), 60, Limited(limit))
    service = Limited(limit)
    service.last, service.tokens = 60, 0
    driven(rate, 120, service, start=60)
    assert service.accepted >= 0.95 * limit * 120
    assert service.throttled <= 0.4 * service.accepted


def test_one_throttled_answer_in_twenty_at_any_rate_costs_next_to_nothing() -> None:
    """Halving at each such answer would end at the floor."""
    chance = random.Random(5)  # noqa: S311 - not a secret
    accepted = 0

    def answer(_: float) -> bool:
        nonlocal accepted
        if chance.random() < 0.05:
            return True
        accepted += 1
        return False

    driven(SendRate(now=0, max_rate=400), 120, answer)
    assert accepted >= 0.9 * 0.95 * 400 * 120


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    """Else a sender slowed by something else would meet its first throttling at a rate that was never tried."""
    rate = SendRate(now=0, max_rate=1_000, initial=10)
    now = 0.0
    for _ in range(100):
        now += 0.5
        rate.sent(now)
        rate.answered(now, slow_down=False)
    assert rate.rate == 10


def test_growth_is_additive_once_per_interval() -> None:
    """By a fortieth of the maximum, each second."""
    grown = [
        driven(SendRate(now=0, max_rate=1_200, initial=100), seconds, never).rate
        for seconds in (0.9, 1.5, 2.5, 3.5)
    ]
    assert grown == [100, 130, 160, 190]


def test_a_slow_rate_says_when_the_next_may_go() -> None:
    rate = SendRate(now=10, max_rate=0.1)
    assert rate.next_send_at(10) == 10
    rate.sent(10)
    assert rate.next_send_at(11) == pytest.approx(19.9)
    assert rate.next_send_at(25) == 25


@pytest.mark.parametrize("name", ["max_rate", "initial"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} must be a number above 0"):
        SendRate(**{"now": 0, "max_rate": 5, name: value})


def answer_intervals(
    in_flight: InFlightLimit, *, intervals: int, slow_in: int, of: int, begins: float = 0.0
) -> float:
    """Let so many intervals pass in which ``slow_in`` of each ``of`` answers ask to slow down; return the time."""
    now = begins
    for _ in range(intervals):
        for number in range(of):
            now += 0.5 / of
            in_flight.sent(in_flight.limit)
            in_flight.answered(now + 1e-9, slow_down=number < slow_in)
    return now


def test_it_begins_at_its_maximum() -> None:
    assert InFlightLimit(64, now=0.0).limit == 64


def test_answers_that_all_ask_to_slow_down_halve_it_each_interval() -> None:
    in_flight = InFlightLimit(64, now=0.0)
    answer_intervals(in_flight, intervals=3, slow_in=10, of=10)
    assert in_flight.limit == 8


def test_a_burst_counts_once_for_what_is_in_flight_too() -> None:
    in_flight = InFlightLimit(64, now=0.0)
    for _ in range(1_000):
        in_flight.answered(0.1, slow_down=True)
    in_flight.answered(0.6, slow_down=True)
    assert in_flight.limit == 32


def test_one_in_twenty_costs_what_is_in_flight_next_to_nothing() -> None:
    in_flight = InFlightLimit(64, now=0.0)
    answer_intervals(in_flight, intervals=200, slow_in=1, of=20)
    assert in_flight.limit >= 58


def test_it_recovers_once_the_endpoint_does() -> None:
    in_flight = InFlightLimit(64, now=0.0)
    now = answer_intervals(in_flight, intervals=10, slow_in=10, of=10)
    assert in_flight.limit == 1
    answer_intervals(in_flight, intervals=60, slow_in=0, of=10, begins=now)
    assert in_flight.limit == 64


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    in_flight = InFlightLimit(64, now=0.0)
    now = answer_intervals(in_flight, intervals=3, slow_in=10, of=10)
    for _ in range(100):
        now += 0.5
        in_flight.sent(1)
        in_flight.answered(now, slow_down=False)
    assert in_flight.limit == 8


@pytest.mark.parametrize(
    ("slow_in", "expected"), [(0, 0.1), (1, 0.1), (10, 0.5), (20, 1.0)], ids=["none", "5 %", "half", "all"]
)
def test_pauses_are_the_shorter_the_fewer_answers_are_throttled(slow_in: int, expected: float) -> None:
    in_flight = InFlightLimit(64, now=0.0)
    answer_intervals(in_flight, intervals=1, slow_in=slow_in, of=20)
    pauses = [in_flight.pause(attempt, jitter=0.5) for attempt in (1, 2, 3)]
    assert pauses == pytest.approx([0.5 * expected, 1.0 * expected, 2.0 * expected])


def test_an_overload_makes_pauses_longer_before_its_interval_ends() -> None:
    in_flight = InFlightLimit(64, now=0.0)
    for _ in range(19):
        in_flight.answered(0.1, slow_down=True)
    assert in_flight.pause(1, jitter=0.5) == pytest.approx(0.05)
    in_flight.answered(0.1, slow_down=True)
    assert in_flight.pause(1, jitter=0.5) == pytest.approx(0.5)


def test_a_maximum_below_one_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_concurrent_transforms must be 1 or more, not 0"):
        InFlightLimit(0, now=0.0)


@given(
    most=st.integers(1, 1_000),
    answers=st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(0, 1_000)), max_size=200),
)
def test_it_stays_between_one_and_its_maximum(most: int, answers: list[tuple[float, bool, int]]) -> None:
    adaptive, now = InFlightLimit(most, now=0.0), 0.0
    for passed, slow_down, in_flight in answers:
        now += passed
        adaptive.sent(in_flight)
        adaptive.answered(now, slow_down=slow_down)
        assert 1 <= adaptive.limit <= most
