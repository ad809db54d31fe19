"""The charts of a batch's report, as SVG paths: models, throughput, latency and load over one time axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any, NamedTuple

from airflow_sm_plugin.core.text import amount, clock, duration, plural
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ModelReport
from airflow_sm_plugin.multi_model.report.time_axis import TimeAxis
from airflow_sm_plugin.multi_model.statistics.counters import Interval
from airflow_sm_plugin.multi_model.statistics.series import Point

MOST_POINTS = 250
"""Points of a curve. The axis has 1,000 units: more points would be less than 4 units apart."""

MOST_ROWS = 100
"""Models with a row of their own; at the least height they take 1,400 pixels."""

_MOST_LINES = 4
_BARS = ("rate", "failed")
"""Kinds of curves that are drawn as bars."""

_LEAST_WIDTH = 1.2
"""Width of a short bar, so that it is visible."""

_HEIGHT = 150.0
"""Pixels of a plot."""
_LINE_GAP = 3
"""Bins without a value after which a curve breaks."""

_ROW_HEIGHTS = ((12, 26.0), (40, 19.0), (MOST_ROWS, 14.0))
"""Number of rows, and the height of each up to that number: few rows are easier to read when they are high."""

_ROW_PADDING = 3.0
_IDLE_HEIGHT = 2.0


@dataclass(frozen=True)
class Scale:
    """A vertical scale from 0 at the bottom to a round number above the greatest value."""

    top: float
    step: float

    @classmethod
    def up_to(cls, greatest: float) -> Scale:
        """Choose a scale with two to four grid lines above 0."""
        if greatest <= 0:
            return cls(1.0, 1.0)
        power = 10 ** floor(log10(greatest))
        steps = (power * factor for factor in (0.2, 0.25, 0.5, 1, 2, 2.5))
        step = next(step for step in steps if greatest / step <= _MOST_LINES)
        return cls(step * ceil(greatest / step), step)

    def y(self, value: float) -> float:
        """Convert a value to pixels from the top."""
        return round(_HEIGHT * (1 - value / self.top), 1)

    def lines(self, label: Callable[[float], str]) -> list[tuple[float, str]]:
        """List the grid lines: pixels from the top, and the label."""
        values = (self.step * index for index in range(round(self.top / self.step) + 1))
        return [(self.y(value), label(value)) for value in values]


def line(points: Iterable[tuple[float, float, float]], *, within: float) -> str:
    """Draw a line through points of time, x and y. The line breaks where the next time is more than *within* later.

    The stub of 0.01 after each break makes a dot of a point between two breaks, because line ends are round.
    """
    path, before = "", float("-inf")
    for time, x, y in points:
        point = f"{_short(x)} {_short(y)}"
        path += f"L{point}" if time - before <= within else f"M{point}h.01"
        before = time
    return path


def rectangles(boxes: Iterable[tuple[float, float, float, float]]) -> str:
    """Draw rectangles of left, right, top and bottom."""
    return "".join(
        f"M{_short(left)} {_short(top)}H{_short(right)}V{_short(bottom)}H{_short(left)}z"
        for left, right, top, bottom in boxes
    )


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One chart of curves.

    :param lines: grid lines: pixels from the top, and the label
    :param curves: CSS class, legend and path
    """

    title: str
    note: str
    lines: Sequence[tuple[float, str]]
    curves: Sequence[tuple[str, str, str]]
    height: float = _HEIGHT


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """The times of one model; ``paths`` are CSS class and path."""

    name: str
    failed: bool
    height: float
    note: str
    paths: Sequence[tuple[str, str]]


def charts_of(report: BatchReport) -> dict[str, Any] | None:
    """Draw a report's charts, by their names in the template; None for a batch without any activity.

    Only the models that took most time have a row, in the order in which they began.
    """
    points = report.series.points(most=MOST_POINTS)
    timed = [model for model in report.models if _intervals(model)]
    active = [
        *((float(point.at), float(point.at + point.seconds)) for point in points),
        *((began / 1_000, ended / 1_000) for model in timed for began, ended in _intervals(model)),
    ]
    if not active:
        return None
    axis = TimeAxis(active)
    longest = sorted(timed, key=lambda model: -(model.cold_start_seconds + model.working_seconds))[:MOST_ROWS]
    height = next(height for most, height in _ROW_HEIGHTS if len(longest) <= most)
    ordered = sorted(longest, key=lambda model: (min(_intervals(model)), model.target_model))
    plots = [_plot(points, axis, layout) for layout in _LAYOUTS]
    return {
        "ticks": axis.ticks(),
        "pauses": axis.pauses(),
        "rows": [_row(model, axis, index * height, height) for index, model in enumerate(ordered)],
        "rows_height": height * len(ordered),
        "others": len(report.models) - len(ordered),
        "plots": [plot for plot in plots if plot is not None],
    }


class _Layout(NamedTuple):
    """One plot.

    :param label: formats a value of the scale
    :param curves: CSS class, attribute of the points and legend, the lowest curve first
    """

    title: str
    note: str
    label: Callable[[float], str]
    curves: Sequence[tuple[str, str, str]]


_LAYOUTS = (
    _Layout(
        "Throughput",
        "up to {greatest} records/s; a bar is the mean of {width}",
        amount,
        [("rate", "rate", "records with an output per second")],
    ),
    _Layout(
        "Failures",
        "records that failed, those that were tried again later included; a bar is {width}",
        amount,
        [("failed", "failures", "failed records")],
    ),
    _Layout(
        "Latency of invocations",
        "of those that succeeded, without the waits between attempts",
        duration,
        [("slow", "p95", "95 % took no longer (p95)"), ("median", "p50", "half took no longer (p50)")],
    ),
    _Layout(
        "Invocations in flight",
        "all shards together; the bound adapts to throttling and time-outs",
        amount,
        [("rate", "in_flight", "in flight"), ("bound", "bound", "bound")],
    ),
    _Layout(
        "Models warm and loading",
        "as the shards know of them",
        amount,
        [("median", "warm", "warm"), ("loads", "loading", "loading")],
    ),
)


def _plot(points: Sequence[Point], axis: TimeAxis, layout: _Layout) -> Plot | None:
    given = [_values(points, attribute) for _, attribute, _ in layout.curves]
    greatest = max((value for values in given for _, value in values), default=None)
    if greatest is None:
        return None
    scale = Scale.up_to(greatest)
    return Plot(
        title=layout.title,
        note=layout.note.format(greatest=amount(greatest), width=duration(points[0].seconds)),
        lines=scale.lines(layout.label),
        curves=[
            (kind, legend, _bars(values, axis, scale) if kind in _BARS else _curve(values, axis, scale))
            for (kind, _, legend), values in zip(layout.curves, given, strict=True)
        ],
    )


Values = Sequence[tuple[Point, float]]


def _values(points: Sequence[Point], attribute: str) -> Values:
    return [(point, value) for point in points if (value := getattr(point, attribute)) is not None]


def _bars(values: Values, axis: TimeAxis, scale: Scale) -> str:
    return rectangles(
        (axis.x(point.at), axis.x(point.at + point.seconds), scale.y(value), _HEIGHT)
        for point, value in values
        if value
    )


def _curve(values: Values, axis: TimeAxis, scale: Scale) -> str:
    width = values[0][0].seconds if values else 0
    points = ((point.at, axis.x(point.at + width / 2), scale.y(value)) for point, value in values)
    return line(points, within=_LINE_GAP * width)


def _intervals(model: ModelReport) -> list[Interval]:
    return [*model.statistics.loading, *model.statistics.working]


def _row(model: ModelReport, axis: TimeAxis, top: float, height: float) -> ModelRow:
    statistics, intervals = model.statistics, _intervals(model)
    began, ended = min(intervals)[0] / 1_000, max(end for _, end in intervals) / 1_000
    notes = [f"{clock(began)} to {clock(ended)}"]
    if statistics.loads:
        notes.append(f"{plural(statistics.loads, 'cold start')}, {duration(model.cold_start_seconds)}")
    if statistics.working:
        notes.append(f"invoked for {duration(model.working_seconds)}")
    middle, bar_height = top + height / 2, height - 2 * _ROW_PADDING
    paths = [
        ("idle", _row_bars(_idle(model), axis, middle, _IDLE_HEIGHT)),
        ("working", _row_bars(statistics.working, axis, middle, bar_height)),
        ("loading", _row_bars(statistics.loading, axis, middle, bar_height)),
    ]
    return ModelRow(
        name=model.target_model,
        failed=model.failed,
        height=height,
        note="; ".join(notes),
        paths=[(kind, path) for kind, path in paths if path],
    )


def _row_bars(intervals: Iterable[Interval], axis: TimeAxis, middle: float, height: float) -> str:
    edges = ((axis.x(began / 1_000), axis.x(ended / 1_000)) for began, ended in intervals)
    top, bottom = middle - height / 2, middle + height / 2
    return rectangles((left, max(right, left + _LEAST_WIDTH), top, bottom) for left, right in edges)


def _idle(model: ModelReport) -> list[Interval]:
    """List when a model was warm without work: it was invoked afterwards without being loaded again."""
    intervals = sorted(
        [(*interval, False) for interval in model.statistics.loading]
        + [(*interval, True) for interval in model.statistics.working]
    )
    return [
        (ended, began)
        for (_, ended, _), (began, _, is_work) in pairwise(intervals)
        if is_work and began > ended
    ]
