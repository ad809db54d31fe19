"""The time axis: in order, within its width, labels apart, long pauses in a band."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.report.time_axis import WIDTH, TimeAxis
from tests.multi_model.report.reports import T0

SPANS = st.lists(
    st.tuples(st.floats(T0, T0 + 500_000), st.floats(0, 5_000)).map(
        lambda pair: (pair[0], pair[0] + pair[1])
    ),
    min_size=1,
    max_size=15,
)


@given(SPANS, st.lists(st.floats(T0 - 10_000, T0 + 600_000), max_size=10))
def test_positions_are_in_order_and_within_the_width(
    spans: list[tuple[float, float]], times: list[float]
) -> None:
    axis = TimeAxis(spans)
    positions = [axis.x(time) for time in sorted(times)]
    assert positions == sorted(positions)
    assert all(0 <= x <= WIDTH for x in positions)
    assert axis.x(min(began for began, _ in spans)) == 0
    assert axis.x(max(ended for _, ended in spans) + 1) == WIDTH


@given(SPANS)
def test_labels_are_few_and_apart(spans: list[tuple[float, float]]) -> None:
    ticks = TimeAxis(spans).ticks()
    assert 0 < len(ticks) <= 11
    assert all(after.x - before.x >= 90 for before, after in pairwise(ticks))


def test_a_short_gap_is_to_scale_and_a_long_one_takes_a_band() -> None:
    short = TimeAxis([(T0, T0 + 100), (T0 + 130, T0 + 200)])
    assert short.pauses() == []
    assert short.x(T0 + 100) == 500
    long = TimeAxis([(T0, T0 + 100), (T0 + 7_300, T0 + 7_400)])
    (pause,) = long.pauses()
    assert pause.label == "2 h"
    assert long.x(T0 + 4_000) == pause.left
    assert long.x(T0 + 7_300) == pytest.approx(pause.left + pause.width)


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (1, ["11:06:40", "11:06:41"]),
        (60, ["11:06:40", "11:06:50", "11:07:00", "11:07:10", "11:07:20", "11:07:30", "11:07:40"]),
        (3_600, ["11:10", "11:20", "11:30", "11:40", "11:50", "12:00"]),
        (86_400, ["12:00", "18:00", "19 Nov 00:00", "06:00"]),
    ],
)
def test_labels_are_round_times_and_a_new_day_is_named(seconds: int, labels: list[str]) -> None:
    assert [tick.label for tick in TimeAxis([(T0, T0 + seconds)]).ticks()] == labels


def test_weeks_have_labels() -> None:
    labels = [tick.label for tick in TimeAxis([(T0, T0 + 20 * 86_400)]).ticks()]
    assert 3 <= len(labels) <= 7
    assert "27 Nov 00:00" in labels


def test_labels_at_the_edges_stay_inside() -> None:
    ticks = TimeAxis([(T0, T0 + 60)]).ticks()
    assert (ticks[0].anchor, ticks[1].anchor, ticks[-1].anchor) == ("begin", "middle", "end")


def test_the_axis_of_a_moment_is_a_second() -> None:
    axis = TimeAxis([(T0, T0)])
    assert (axis.x(T0), axis.x(T0 + 1)) == (0, WIDTH)


@given(SPANS)
def test_a_narrow_screen_has_one_to_three_labels_far_apart(spans: list[tuple[float, float]]) -> None:
    ticks = TimeAxis(spans).ticks()
    major = [tick.x for tick in ticks if tick.major]
    assert (len(major) > 0) == (len(ticks) > 0)
    assert len(major) <= 3
    assert all(after - before >= 400 for before, after in pairwise(major))
