"""When each model of a batch was loading, warm and working: a lane for each of those that took most time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from airflow_sm_plugin.core.text import clock, duration, plural
from airflow_sm_plugin.multi_model.report.chart_paths import Spot, bars
from airflow_sm_plugin.multi_model.report.model_report import ModelReport
from airflow_sm_plugin.multi_model.report.time_axis import TimeAxis
from airflow_sm_plugin.multi_model.statistics.intervals import Interval

MOST_LANES = 100

_LANE_HEIGHTS = ((12, 26.0), (40, 19.0), (MOST_LANES, 14.0))
_LANE_PADDING = 3.0
_IDLE_HEIGHT = 2.0


@dataclass(frozen=True)
class Shape:
    """A path of a kind, which gives it its colour."""

    kind: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One model's time.

    :param top: pixels
    :param note: it in a few words
    """

    name: str
    failed: bool
    top: float
    height: float
    note: str
    shapes: Sequence[Shape]


def intervals_of(one: ModelReport) -> list[Interval]:
    """Return all times at which something is known to have gone on with a model."""
    return [*one.statistics.loading, *one.statistics.working]


def lanes_of(models: Sequence[ModelReport], axis: TimeAxis) -> list[Lane]:
    """Return a lane for each of the models that took most time, by when they began.

    :param models: such that something went on with
    """
    longest = sorted(models, key=lambda one: -(one.cold_start_seconds + one.working_seconds))[:MOST_LANES]
    height = next((height for most, height in _LANE_HEIGHTS if len(longest) <= most), _LANE_HEIGHTS[-1][1])
    ordered = sorted(longest, key=lambda one: (min(intervals_of(one)), one.target_model))
    return [_lane(one, axis, place * height, height) for place, one in enumerate(ordered)]


def _lane(one: ModelReport, axis: TimeAxis, top: float, height: float) -> Lane:
    statistics = one.statistics
    inner, middle = height - 2 * _LANE_PADDING, top + (height - _IDLE_HEIGHT) / 2
    shapes = [
        Shape("idle", bars(_spans(_idle(one), axis), top=middle, height=_IDLE_HEIGHT)),
        Shape("working", bars(_spans(statistics.working, axis), top=top + _LANE_PADDING, height=inner)),
        Shape("loading", bars(_spans(statistics.loading, axis), top=top + _LANE_PADDING, height=inner)),
    ]
    began, ended = min(intervals_of(one))[0] / 1_000, max(end for _, end in intervals_of(one)) / 1_000
    said = [f"{clock(began)} to {clock(ended)}"]
    if statistics.loads:
        said.append(f"{plural(statistics.loads, 'cold start')}, {duration(one.cold_start_seconds)}")
    if statistics.working:
        said.append(f"invoked for {duration(one.working_seconds)}")
    return Lane(
        name=one.target_model,
        failed=one.failed,
        top=top,
        height=height,
        note="; ".join(said),
        shapes=[shape for shape in shapes if shape.path],
    )


def _idle(one: ModelReport) -> list[Interval]:
    """Return when it was warm without work: it was invoked afterwards without being loaded again."""
    known = sorted(
        [(*interval, False) for interval in one.statistics.loading]
        + [(*interval, True) for interval in one.statistics.working]
    )
    return [
        (ended, began) for (_, ended, _), (began, _, worked) in pairwise(known) if worked and began > ended
    ]


def _spans(intervals: Iterable[Interval], axis: TimeAxis) -> list[Spot]:
    return [(axis.place(began / 1_000), axis.place(ended / 1_000)) for began, ended in intervals]
