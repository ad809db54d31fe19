"""A pace keeps to its bounds whatever is answered, and finds the rate that a service bears."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.adaptive import Pace, Reply
from airflow_sm_plugin.exceptions import InvalidRequest

RATES = st.floats(0.01, 5_000)
STEPS = st.lists(st.tuples(st.floats(0, 3), st.sampled_from([None, *Reply])), max_size=200)


def driven(pace: Pace, seconds: float, answer: Callable[[float], Reply], *, start: float = 0.0) -> Pace:
    """Let a sender send whenever it may, answered at once."""
    now = start
    while (now := pace.next_send_at(now)) < start + seconds:
        pace = pace.sent(now).after(answer(now), now)
    return pace


class Limited:
    """A service that bears so many requests a second and throttles the rest, as a token bucket of one second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.tokens = rate
        self.last = 0.0
        self.accepted = 0
        self.throttled = 0

    def __call__(self, now: float) -> Reply:
        self.tokens = min(self.rate, self.tokens + (now - self.last) * self.rate)
        self.last = now
        if self.tokens < 1:
            self.throttled += 1
            return Reply.THROTTLED
        self.tokens -= 1
        self.accepted += 1
        return Reply.ACCEPTED


@given(RATES, RATES, STEPS)
def test_the_rate_stays_between_one_a_second_and_its_maximum_whatever_is_answered(
    max_rate: float, initial: float, steps: list[tuple[float, Reply | None]]
) -> None:
    pace = Pace.starting(now=0, max_rate=max_rate, initial=initial)
    now = 0.0
    for passed, reply in steps:
        now += passed
        pace = pace.sent(now) if reply is None else pace.after(reply, now)
        assert min(1, max_rate) <= pace.rate <= max_rate


@given(
    RATES,
    st.lists(st.tuples(st.floats(0, 0.5), st.sampled_from(Reply)), min_size=1, max_size=300),
    st.data(),
)
def test_no_stretch_of_time_sees_more_than_the_maximum_rate(
    max_rate: float, delays: list[tuple[float, Reply]], data: st.DataObject
) -> None:
    """A sender that comes late, by any delay, may catch up on a tenth of a second and no more."""
    pace = Pace.starting(now=0, max_rate=max_rate)
    now, sends = 0.0, []
    for late, reply in delays:
        now = pace.next_send_at(now + late)
        sends.append(now)
        pace = pace.sent(now).after(reply, now)
    first = data.draw(st.integers(0, len(sends) - 1))
    last = data.draw(st.integers(first, len(sends) - 1))
    most = max_rate * (sends[last] - sends[first] + 0.1) + 1
    assert last - first + 1 <= most * (1 + 1e-9)


@given(st.floats(1, 300), st.floats(0.01, 1), st.floats(1, 30))
def test_it_recovers_after_throttling_ends(max_rate: float, initial: float, throttled: float) -> None:
    pace = Pace.starting(now=0, max_rate=max_rate, initial=initial * max_rate)
    pace = driven(pace, throttled, lambda _: Reply.THROTTLED)
    recovered = driven(pace, 60 + 2 / pace.rate, lambda _: Reply.ACCEPTED, start=throttled)
    assert recovered.rate == pytest.approx(max_rate)


def test_a_service_that_throttles_everything_halves_the_rate_each_second() -> None:
    pace = Pace.starting(now=0, max_rate=800)
    rates = [driven(pace, seconds, lambda _: Reply.THROTTLED).rate for seconds in (0.9, 1.5, 2.5, 3.5)]
    assert rates == [800, 400, 200, 100]


def test_a_burst_of_throttled_answers_is_one_piece_of_news() -> None:
    pace = Pace.starting(now=0, max_rate=100)
    for _ in range(100):
        pace = pace.after(Reply.THROTTLED, 1.0)
    assert pace.rate == 50


@pytest.mark.parametrize("limit", [40, 100, 200, 350])
def test_it_settles_near_what_the_service_bears(limit: float) -> None:
    """After a minute: nearly all of it is used, and few answers are throttled."""
    pace = driven(Pace.starting(now=0, max_rate=400), 60, Limited(limit))
    service = Limited(limit)
    service.last, service.tokens = 60, 0
    driven(pace, 120, service, start=60)
    assert service.accepted >= 0.95 * limit * 120
    assert service.throttled <= 0.4 * service.accepted


def test_one_throttled_answer_in_twenty_at_any_rate_costs_next_to_nothing() -> None:
    """Halving at each such answer would end at the floor."""
    chance = random.Random(5)  # noqa: S311 - not a secret
    accepted = 0

    def answer(_: float) -> Reply:
        nonlocal accepted
        if chance.random() < 0.05:
            return Reply.THROTTLED
        accepted += 1
        return Reply.ACCEPTED

    driven(Pace.starting(now=0, max_rate=400), 120, answer)
    assert accepted >= 0.9 * 0.95 * 400 * 120


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    """Else a sender slowed by something else would meet its first throttling at a rate that was never tried."""
    pace = Pace.starting(now=0, max_rate=1_000, initial=10)
    now = 0.0
    for _ in range(100):
        now += 0.5
        pace = pace.sent(now).after(Reply.ACCEPTED, now)
    assert pace.rate == 10


def test_growth_is_additive_once_per_interval() -> None:
    """By a fortieth of the maximum, each second."""
    pace = Pace.starting(now=0, max_rate=1_200, initial=100)
    grown = [driven(pace, seconds, lambda _: Reply.ACCEPTED).rate for seconds in (0.9, 1.5, 2.5, 3.5)]
    assert grown == [100, 130, 160, 190]


def test_a_slow_pace_says_when_the_next_may_go() -> None:
    pace = Pace.starting(now=10, max_rate=0.1)
    assert pace.next_send_at(10) == 10
    assert pace.sent(10).next_send_at(11) == pytest.approx(19.9)
    assert pace.sent(10).next_send_at(25) == 25


@pytest.mark.parametrize("name", ["max_rate", "initial"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} must be a number above 0"):
        Pace.starting(**{"now": 0, "max_rate": 5, name: value})
