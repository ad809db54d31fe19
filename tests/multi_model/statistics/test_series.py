"""Shards side by side on one time axis: gauges add up, and a pause stays a pause."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.statistics.counters import Statistics
from airflow_sm_plugin.multi_model.statistics.series import MOST_BINS, BatchSeries, TimeBins
from tests.multi_model.report.reports import T0


def series(*samples: tuple[float, int], invocations: tuple[float, ...] = ()) -> Any:  # noqa: ANN401 - JSON's types
    statistics = Statistics()
    for at, in_flight in samples:
        statistics.sample(epoch_seconds=at, in_flight=in_flight, bound=64, warm=2, loading=1)
    for at in invocations:
        statistics.invoked("a", seconds=0.1, records=5, epoch_seconds=at)
    return json.loads(json.dumps(statistics.take()))["series"]


def merged(*shards: Any) -> BatchSeries:  # noqa: ANN401 - JSON's types
    total = BatchSeries()
    for shard in shards:
        total.add(shard)
    return total


def test_invocations_in_flight_in_two_shards_add_up() -> None:
    shard = series((T0, 10), (T0 + 1, 20))
    points = merged(shard, shard).points()
    assert [(point.at, point.in_flight, point.bound) for point in points] == [
        (T0, 20, 128),
        (T0 + 1, 40, 128),
    ]


def test_samples_of_one_second_are_averaged() -> None:
    (point,) = merged(series((T0, 10), (T0 + 0.9, 20))).points()
    assert point.in_flight == 15


def test_a_sample_counts_for_a_second_without_a_sample() -> None:
    """Samples are taken about once a second: 9.9 and 11.1 leave second 10 without one."""
    points = merged(series((T0 + 0.9, 10), (T0 + 2.1, 20))).points()
    assert [point.in_flight for point in points] == [10, 10, 20]


def test_a_pause_has_no_points() -> None:
    points = merged(series((T0, 10), (T0 + 100, 20))).points()
    assert [point.at for point in points] == [T0, T0 + 100]
    assert merged(series((T0, 10), (T0 + 100, 20))).active_seconds == 2


def test_records_and_latencies_are_those_of_the_second() -> None:
    points = merged(series((T0, 1), (T0 + 1, 1), invocations=(T0 + 1.5, T0 + 1.6))).points()
    assert [(point.records, point.invocations) for point in points] == [(0, 0), (10, 2)]
    assert points[0].p50 is None


def test_a_long_shard_and_a_short_one_fit_together() -> None:
    """The long one has wider bins."""
    long = series(*((T0 + second, 10) for second in range(4 * MOST_BINS)))
    points = merged(series((T0, 6), (T0 + 1, 6)), long).points()
    width = points[0].seconds
    assert width > 1
    assert points[1].in_flight == 10
    assert 10 < (points[0].in_flight or 0) <= (10 * width + 12) / width


def test_the_number_of_points_can_be_limited() -> None:
    batch = merged(series(*((T0 + second, 10) for second in range(500)), invocations=(T0,)))
    points = batch.points(most=100)
    assert len(points) <= 100
    assert sum(point.records for point in points) == 5
    assert len(batch.points()) == 500


SECONDS = st.lists(st.integers(min_value=1_700_000_000, max_value=1_700_005_000), max_size=60)


def of(seconds: list[int]) -> TimeBins:
    bins = TimeBins()
    for second in seconds:
        bins.bin_of(second).records += 1
    return bins


@given(st.lists(SECONDS, max_size=5), st.randoms())
def test_parts_add_up_in_any_order(parts: list[list[int]], dice: random.Random) -> None:
    at_once = of([second for part in parts for second in part])
    dice.shuffle(parts)
    total = TimeBins()
    for part in parts:
        total.add(json.loads(json.dumps(of(part).as_json())))
    assert json.dumps(total.as_json()) == json.dumps(at_once.as_json())


def test_bins_grow_wider_instead_of_more() -> None:
    bins = of([1_700_000_000 + second for second in range(5 * MOST_BINS)])
    assert MOST_BINS / 2 <= len(bins.bins) <= MOST_BINS
    assert bins.width == 8
    assert sum(bin_.records for bin_ in bins.bins.values()) == 5 * MOST_BINS


def test_a_pause_costs_no_resolution() -> None:
    bins = of([1_700_000_000, 1_700_000_001, 1_700_090_000])
    assert bins.width == 1
    assert [begin for begin, *_ in bins.as_json()["bins"]] == [1_700_000_000, 1_700_000_001, 1_700_090_000]


def test_a_part_in_wider_bins_makes_the_others_wider() -> None:
    wide = of([1_700_000_000 + second for second in range(2 * MOST_BINS)])
    narrow = of([1_700_000_003])
    narrow.add(wide.as_json())
    assert narrow.width == wide.width > 1
    assert sum(bin_.records for bin_ in narrow.bins.values()) == 2 * MOST_BINS + 1
