"""Latencies: sums and maxima are exact, quantiles at most five percent off."""

from __future__ import annotations

import json
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.statistics.counters import Statistics
from airflow_sm_plugin.multi_model.statistics.latencies import Latencies

SECONDS = st.floats(min_value=1e-4, max_value=4_000)


def of(durations: list[float]) -> Latencies:
    statistics = Statistics()
    for seconds in durations:
        statistics.invoked("m", seconds=seconds, records=1, epoch_seconds=0.0)
    return statistics.of("m").latencies


@given(SECONDS)
def test_a_single_duration_is_at_most_five_percent_off(seconds: float) -> None:
    assert of([seconds]).quantile(0.5) == pytest.approx(seconds, rel=0.05)


@given(st.lists(SECONDS, min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_are_at_most_five_percent_off(durations: list[float], share: float) -> None:
    exact = sorted(durations)[max(0, ceil(share * len(durations) - 1e-9) - 1)]
    assert of(durations).quantile(share) == pytest.approx(exact, rel=0.05)


@given(st.lists(SECONDS, min_size=1))
def test_count_mean_and_longest_are_exact(durations: list[float]) -> None:
    latencies = of(durations)
    assert latencies.count == len(durations)
    assert latencies.longest == pytest.approx(max(durations), abs=1e-6)
    assert latencies.mean == pytest.approx(sum(durations) / len(durations), abs=2e-6)


@given(st.lists(SECONDS), st.lists(SECONDS))
def test_parts_add_up_after_json(first: list[float], second: list[float]) -> None:
    total = Latencies()
    for part in (second, first):
        total.add(json.loads(json.dumps(of(part).as_json())))
    assert total.as_json() == of([*first, *second]).as_json()


@given(SECONDS)
def test_no_quantile_is_longer_than_the_longest(seconds: float) -> None:
    latencies = of([seconds])
    assert (latencies.quantile(0.99) or 0) <= (latencies.longest or 0)


def test_without_durations_all_values_are_none() -> None:
    empty = Latencies()
    assert (empty.mean, empty.longest, empty.quantile(0.5)) == (None, None, None)
