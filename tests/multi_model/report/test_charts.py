"""What a report draws: rows for the busiest models, curves that fit, nothing where nothing went on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.report.charts import (
    MOST_POINTS,
    MOST_ROWS,
    Scale,
    bars,
    charts_of,
    line,
    runs_of,
    steps,
)
from tests.multi_model.report.reports import BAD, GOOD, T0, batch_of, busy, collected, shard_of


def test_where_nothing_went_on_there_is_no_chart() -> None:
    assert charts_of(batch_of([shard_of(0)])) is None
    assert charts_of(batch_of([])) is None


def test_rows_are_in_the_order_in_which_models_began() -> None:
    statistics = collected(busy("late", at=T0 + 50), busy("early"))
    charts = charts_of(batch_of([shard_of(0, {"late": BAD, "early": GOOD}, statistics=statistics)]))
    assert charts is not None
    assert [(row.name, row.failed, row.top) for row in charts.rows] == [
        ("early", False, 0.0),
        ("late", True, 26.0),
    ]
    assert charts.others == 0
    assert charts.rows[0].note == "11:06:40 to 11:06:52; 1 cold start, 2 s; invoked for 10 s"
    assert [shape.kind for shape in charts.rows[0].shapes] == ["working", "loading"]


def test_a_model_that_waited_warm_has_a_thin_line_and_one_that_was_loaded_again_has_none() -> None:
    def warm(s: object) -> None:
        s.worked("a", began=T0, ended=T0 + 5)  # type: ignore[attr-defined]
        s.worked("a", began=T0 + 20, ended=T0 + 25)  # type: ignore[attr-defined]

    def evicted(s: object) -> None:
        s.worked("b", began=T0, ended=T0 + 5)  # type: ignore[attr-defined]
        s.loaded("b", began=T0 + 20, ended=T0 + 22)  # type: ignore[attr-defined]

    charts = charts_of(batch_of([shard_of(0, {"a": GOOD, "b": GOOD}, statistics=collected(warm, evicted))]))
    assert charts is not None
    kinds = {row.name: {shape.kind for shape in row.shapes} for row in charts.rows}
    assert kinds == {"a": {"idle", "working"}, "b": {"working", "loading"}}


def test_only_the_models_with_the_most_time_have_rows() -> None:
    names = [f"m{number:03d}" for number in range(MOST_ROWS + 20)]
    statistics = collected(*(busy(name, invocations=2 * (place + 1)) for place, name in enumerate(names)))
    charts = charts_of(batch_of([shard_of(0, dict.fromkeys(names, GOOD), statistics=statistics)]))
    assert charts is not None
    assert sorted(row.name for row in charts.rows) == names[20:]
    assert charts.others == 20
    assert charts.rows_height == MOST_ROWS * charts.rows[0].height


def test_each_chart_says_what_it_shows() -> None:
    charts = charts_of(batch_of([shard_of(0, statistics=collected(busy("a.tar.gz")))]))
    assert charts is not None
    assert [plot.title for plot in charts.plots] == [
        "Throughput",
        "Latency of invocations",
        "Invocations in flight",
        "Models warm and loading",
    ]
    assert all(plot.note and plot.legend and plot.lines and plot.shapes for plot in charts.plots)
    assert charts.plots[0].note == "up to 2 records/s; a bar is the mean of 1 s"


def test_a_batch_that_only_loaded_models_has_rows_and_no_curves() -> None:
    statistics = collected(lambda s: s.loaded("a.tar.gz", began=T0, ended=T0 + 5))
    charts = charts_of(batch_of([shard_of(0, statistics=statistics)]))
    assert charts is not None
    assert len(charts.rows) == 1
    assert charts.plots == []


def test_a_long_batch_is_drawn_with_few_points() -> None:
    statistics = collected(busy("a.tar.gz", invocations=1_500))
    charts = charts_of(batch_of([shard_of(0, statistics=statistics)]))
    assert charts is not None
    assert all(shape.path.count("L") <= MOST_POINTS for plot in charts.plots for shape in plot.shapes)


@given(st.lists(st.floats(1e-6, 1e9), min_size=1))
def test_every_value_fits_between_a_few_lines(values: list[float]) -> None:
    scale = Scale.for_values(values, height=100)
    assert all(-0.1 <= scale.y(value) <= 100 for value in values)
    assert 2 <= len(scale.lines(str)) <= 6
    assert max(values) > scale.top / 3


def test_lines_are_at_round_numbers() -> None:
    assert [label for _, label in Scale.for_values([932], height=100).lines(lambda value: f"{value:g}")] == [
        "0",
        "250",
        "500",
        "750",
        "1000",
    ]


def test_nothing_has_a_scale_too() -> None:
    assert Scale.for_values([], height=100).y(0) == 100


@pytest.mark.parametrize(
    ("path", "drawn"),
    [
        (line([[(0, 0), (10, 1)], [(500.55, 0.5)]], Scale(1, 1, 100)), "M0 100L10 0M500.6 50h.01"),
        (steps([(0, 10, 1), (10, 20, 0)], Scale(1, 1, 100)), "M0 100V0H10V100z"),
        (bars([(0, 10), (20, 20)], top=3, height=8), "M0 3h10v8h-10zM20 3h1.2v8h-1.2z"),
    ],
)
def test_paths(path: str, drawn: str) -> None:
    """A lone spot is a dot, a bar of no length is seen, nothing is drawn of nothing."""
    assert path == drawn


def test_a_line_breaks_where_nothing_is_known_for_long() -> None:
    spots = [(0.0, (0.0, 1.0)), (2.0, (2.0, 1.0)), (9.0, (9.0, 1.0))]
    assert runs_of(spots, within=3) == [[(0.0, 1.0), (2.0, 1.0)], [(9.0, 1.0)]]
    assert runs_of([], within=3) == []
