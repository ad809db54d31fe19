"""Counts of the engine: deltas from the journal add up to the counts of a single process."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.statistics.counters import (
    MOST_INTERVALS,
    Interval,
    Statistics,
    joined,
    length_of,
)
from tests.multi_model.report.reports import T0, collected

Step = Callable[[Statistics], None]
MODELS = st.sampled_from(["a.tar.gz", "b/c.tar.gz"])
MOST_CALLS = 10
"""Function calls of one count. It was seven when a count took 0.8 µs; each call costs about 0.1 µs."""
AT = st.floats(min_value=T0, max_value=T0 + 2_000)


def invoked(model: str, seconds: float, records: int, at: float) -> Step:
    return lambda statistics: statistics.invoked(model, seconds=seconds, records=records, epoch_seconds=at)


def sampled(at: float, in_flight: int) -> Step:
    return lambda statistics: statistics.sample(
        epoch_seconds=at, in_flight=in_flight, bound=in_flight + 1, warm=2, loading=1
    )


STEPS = st.one_of(
    st.builds(invoked, MODELS, st.floats(min_value=0, max_value=90), st.integers(1, 500), AT),
    st.builds(sampled, AT, st.integers(0, 64)),
    st.builds(
        lambda model, kind: lambda statistics: statistics.repeated(model, kind), MODELS, st.sampled_from("xy")
    ),
    st.builds(
        lambda model, kind, records: lambda statistics: statistics.failed(model, kind, records=records),
        MODELS,
        st.sampled_from("xy"),
        st.integers(1, 9),
    ),
)


@given(st.lists(st.lists(STEPS, max_size=8), max_size=5))
def test_deltas_add_up_after_json(parts: list[list[Step]]) -> None:
    deltas = [json.loads(json.dumps(collected(*part))) for part in parts]
    total = Statistics()
    for delta in reversed(deltas):
        total.add(delta)
    at_once = collected(*(step for part in parts for step in part))
    assert json.loads(json.dumps(total.take())) == json.loads(json.dumps(at_once))


def test_taking_the_counts_resets_them() -> None:
    statistics = Statistics()
    statistics.invoked("a", seconds=1, records=1, epoch_seconds=T0)
    assert statistics.take()["models"]
    assert statistics.take() == Statistics().take()


def test_an_empty_delta_adds_nothing() -> None:
    statistics = Statistics()
    statistics.add({})
    assert statistics.take() == Statistics().take()


def test_loads_are_counted_and_their_times_joined() -> None:
    statistics = Statistics()
    for began in (T0, T0 + 0.5, T0 + 60):
        statistics.loaded("a", began=began, ended=began + 2)
    model = statistics.take()["models"]["a"]
    assert (model["loads"], model["load_milliseconds"]) == (3, 6_000)
    assert model["loading"] == [(T0 * 1_000, T0 * 1_000 + 2_500), (T0 * 1_000 + 60_000, T0 * 1_000 + 62_000)]


def test_work_second_by_second_is_one_interval_and_takes_constant_memory() -> None:
    statistics = Statistics()
    for second in range(5_000):
        statistics.worked("a", began=T0 + second, ended=T0 + second + 1)
    assert len(statistics.of("a").working) < 100
    assert statistics.take()["models"]["a"]["working"] == [(T0 * 1_000, (T0 + 5_000) * 1_000)]


def test_failures_that_are_tried_again_are_subtracted() -> None:
    statistics = Statistics()
    statistics.failed("a", "ModelUnavailable", records=5)
    statistics.add(collected(lambda later: later.failed("a", "ModelUnavailable", records=-5)))
    assert "failures" not in statistics.take()["models"].get("a", {})


def test_durations_of_zero_or_less_are_counted() -> None:
    """A clock that was set back must not stop the engine."""
    statistics = Statistics()
    for seconds in (0.0, -1.0, 1e-9):
        statistics.invoked("a", seconds=seconds, records=1, epoch_seconds=T0)
    assert statistics.of("a").latencies.count == 3


def test_counting_an_invocation_takes_the_same_few_calls_however_many_were_counted() -> None:
    """Every invocation of a batch pays for them, 0.8 µs."""
    statistics = Statistics()
    count = partial(statistics.invoked, "a", seconds=0.1, records=1, epoch_seconds=T0)
    count()
    second = _calls_in(count)
    for _ in range(10_000):
        count()
    assert _calls_in(count) == second
    assert second <= MOST_CALLS


def _calls_in(work: Callable[[], None]) -> int:
    """Count function calls, Python's own included."""
    calls = 0

    def count_call(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count_call)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


TIMES = st.integers(min_value=0, max_value=10_000_000)
INTERVALS = st.lists(st.tuples(TIMES, TIMES).map(lambda pair: (min(pair), max(pair))), max_size=80)


@given(INTERVALS)
def test_few_sorted_intervals_cover_all_intervals(intervals: list[Interval]) -> None:
    apart = joined(intervals)
    assert len(apart) <= MOST_INTERVALS
    assert all(before[1] < after[0] for before, after in itertools.pairwise(apart))
    assert all(any(b <= began and ended <= e for b, e in apart) for began, ended in intervals)
    if intervals:
        assert apart[0][0] == min(began for began, _ in intervals)
        assert apart[-1][1] == max(ended for _, ended in intervals)


@given(INTERVALS)
def test_joining_twice_changes_nothing(intervals: list[Interval]) -> None:
    assert joined(joined(intervals)) == joined(intervals)


def test_short_gaps_are_closed_and_long_gaps_stay() -> None:
    assert joined([(5_000, 6_000), (0, 1_000), (1_400, 2_000)]) == [(0, 2_000), (5_000, 6_000)]


def test_too_many_intervals_close_the_smallest_gaps() -> None:
    far_apart = [(number * 60_000, number * 60_000 + 1_000) for number in range(MOST_INTERVALS)]
    near = [(2_000, 3_000), (62_000, 63_000)]
    assert joined([*far_apart, *near]) == [(0, 3_000), (60_000, 63_000), *far_apart[2:]]


def test_an_end_before_its_begin_counts_as_the_begin() -> None:
    """A clock may have been set back."""
    assert joined([(5_000, 4_000)]) == [(5_000, 5_000)]


def test_lengths_add_up() -> None:
    assert length_of([(0, 1_500), (10_000, 10_250)]) == 1.75
