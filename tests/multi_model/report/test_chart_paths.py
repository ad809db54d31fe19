"""Curves as SVG paths, and scales with round numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.report.charts import Scale, bars, line, runs_of, steps


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
