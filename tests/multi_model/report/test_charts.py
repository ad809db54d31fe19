"""The charts of a report: rows for the busiest models, curves that fit their scale, no chart without activity."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.report.charts import (
    MOST_POINTS,
    MOST_ROWS,
    Scale,
    charts_of,
    line,
    rectangles,
)
from tests.multi_model.report.reports import BAD, GOOD, T0, batch_of, busy, collected, explained, shard_of


def test_without_activity_there_is_no_chart() -> None:
    assert charts_of(batch_of([shard_of(0)])) is None
    assert charts_of(batch_of([])) is None


def test_rows_are_in_the_order_in_which_models_began() -> None:
    statistics = collected(busy("late", at=T0 + 50), busy("early"))
    charts = charts_of(batch_of([shard_of(0, {"late": BAD, "early": GOOD}, statistics=statistics)]))
    assert charts is not None
    assert [(row.name, row.failed, row.height) for row in charts["rows"]] == [
        ("early", False, 26.0),
        ("late", True, 26.0),
    ]
    assert charts["others"] == 0
    assert charts["rows"][0].note == "11:06:40 to 11:06:52; 1 cold start, 2 s; invoked for 10 s"
    assert [kind for kind, _ in charts["rows"][0].paths] == ["working", "loading"]


def test_a_model_that_waited_warm_has_a_thin_line_and_one_that_was_loaded_again_has_none() -> None:
    statistics = collected(
        lambda s: s.worked("a", began=T0, ended=T0 + 5),
        lambda s: s.worked("a", began=T0 + 20, ended=T0 + 25),
        lambda s: s.worked("b", began=T0, ended=T0 + 5),
        lambda s: s.loaded("b", began=T0 + 20, ended=T0 + 22),
    )
    charts = charts_of(batch_of([shard_of(0, {"a": GOOD, "b": GOOD}, statistics=statistics)]))
    assert charts is not None
    kinds = {row.name: {kind for kind, _ in row.paths} for row in charts["rows"]}
    assert kinds == {"a": {"idle", "working"}, "b": {"working", "loading"}}


def test_only_the_models_with_the_most_time_have_rows() -> None:
    names = [f"m{index:03d}" for index in range(MOST_ROWS + 20)]
    statistics = collected(*(busy(name, invocations=2 * (index + 1)) for index, name in enumerate(names)))
    charts = charts_of(batch_of([shard_of(0, dict.fromkeys(names, GOOD), statistics=statistics)]))
    assert charts is not None
    assert sorted(row.name for row in charts["rows"]) == names[20:]
    assert charts["others"] == 20
    assert charts["rows_height"] == MOST_ROWS * charts["rows"][0].height


def test_each_plot_has_a_title_a_note_a_scale_and_curves() -> None:
    charts = charts_of(batch_of([shard_of(0, statistics=collected(busy("a.tar.gz")))]))
    assert charts is not None
    assert [plot.title for plot in charts["plots"]] == [
        "Throughput",
        "Latency of invocations",
        "Invocations in flight",
        "Models warm and loading",
    ]
    assert all(plot.note and plot.lines and plot.curves for plot in charts["plots"])
    assert charts["plots"][0].note == "up to 2 records/s; a bar is the mean of 1 s"


def test_a_batch_that_only_loaded_models_has_rows_and_no_curves() -> None:
    statistics = collected(lambda s: s.loaded("a.tar.gz", began=T0, ended=T0 + 5))
    charts = charts_of(batch_of([shard_of(0, statistics=statistics)]))
    assert charts is not None
    assert len(charts["rows"]) == 1
    assert charts["plots"] == []


def test_the_curves_of_a_long_batch_have_few_points() -> None:
    statistics = collected(busy("a.tar.gz", invocations=1_500))
    charts = charts_of(batch_of([shard_of(0, statistics=statistics)]))
    assert charts is not None
    assert all(path.count("L") < MOST_POINTS for plot in charts["plots"] for *_, path in plot.curves)


@given(st.lists(st.floats(1e-6, 1e9), min_size=1))
def test_every_value_fits_between_a_few_lines(values: list[float]) -> None:
    scale = Scale.up_to(max(values))
    assert all(-0.1 <= scale.y(value) <= 150 for value in values)
    assert 2 <= len(scale.lines(str)) <= 6
    assert max(values) > scale.top / 3


def test_lines_are_at_round_numbers() -> None:
    lines = Scale.up_to(932).lines(lambda value: f"{value:g}")
    assert [label for _, label in lines] == ["0", "250", "500", "750", "1000"]


def test_zero_has_a_scale() -> None:
    assert Scale.up_to(0).y(0) == 150


def test_a_line_breaks_where_values_are_missing_for_long() -> None:
    """A lone point is a dot."""
    points = [(0.0, 0.0, 100.0), (2.0, 10.0, 0.0), (9.0, 500.55, 50.0)]
    assert line(points, within=3) == "M0 100h.01L10 0M500.6 50h.01"
    assert line([], within=3) == ""


def test_rectangles() -> None:
    assert rectangles([(0, 10, 3, 11.5), (20, 21.2, 0, 8)]) == "M0 3H10V11.5H0zM20 0H21.2V8H20z"


def test_a_moment_is_a_visible_bar() -> None:
    statistics = collected(lambda s: s.loaded("a.tar.gz", began=T0, ended=T0))
    charts = charts_of(batch_of([shard_of(0, statistics=statistics)]))
    assert charts is not None
    assert charts["rows"][0].paths == [("loading", "M0 3H1.2V23H0z")]


def test_failures_over_time_have_a_plot_of_bars() -> None:
    statistics = collected(busy("a.tar.gz"), explained(), explained(first_record=7))
    report = batch_of([shard_of(0, {"a.tar.gz": BAD}, statistics=statistics)])
    charts = charts_of(report)
    assert charts is not None
    plot = next(plot for plot in charts["plots"] if plot.title == "Failures")
    ((kind, _, path),) = plot.curves
    assert (kind, path.count("M")) == ("failed", 1)
    assert [label for _, label in plot.lines][-1] == "6"
    columns = report.series.as_json()["columns"]
    assert [row[columns.index("failed")] for row in report.series.as_json()["rows"]][:2] == [6, 0]
