"""The charts of a batch's report: models, throughput, latency and load over one time axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil, floor, log10

from airflow_sm_plugin.core.text import amount, clock, duration, plural
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ModelReport
from airflow_sm_plugin.multi_model.report.time_axis import Pause, Tick, TimeAxis
from airflow_sm_plugin.multi_model.statistics.counters import Interval
from airflow_sm_plugin.multi_model.statistics.series import Point

MOST_POINTS = 250
MOST_ROWS = 100

Spot = tuple[float, float]
"""x, and the value there."""

_MOST_LINES = 4

_LEAST_WIDTH = 1.2
"""Of a bar, so that a short one is seen."""

_HEIGHT = 150.0
_TOGETHER = 3
"""How many bins may be empty within a line."""

_ROW_HEIGHTS = ((12, 26.0), (40, 19.0), (MOST_ROWS, 14.0))
_ROW_PADDING = 3.0
_IDLE_HEIGHT = 2.0


@dataclass(frozen=True)
class Scale:
    """A vertical scale from 0 at the bottom to a round number above the greatest value.

    :param height: pixels
    """

    top: float
    step: float
    height: float

    @classmethod
    def for_values(cls, values: Iterable[float], *, height: float) -> Scale:
        """Return a scale with two to four lines above 0 for these values."""
        greatest = max(values, default=0.0)
        if greatest <= 0:
            return cls(1.0, 1.0, height)
        power = 10 ** floor(log10(greatest))
        steps = (power * factor for factor in (0.2, 0.25, 0.5, 1, 2, 2.5))
        step = next(step for step in steps if greatest / step <= _MOST_LINES)
        return cls(step * ceil(greatest / step), step, height)

    def y(self, value: float) -> float:
        """Return where a value lies, in pixels from the top."""
        return round(self.height * (1 - value / self.top), 1)

    def lines(self, label: Callable[[float], str]) -> list[tuple[float, str]]:
        """Return where the lines lie from the top, and their labels."""
        values = (self.step * number for number in range(round(self.top / self.step) + 1))
        return [(self.y(value), label(value)) for value in values]


def line(runs: Iterable[Sequence[Spot]], scale: Scale) -> str:
    """Return lines through spots; one spot alone is a dot, where lines end round."""
    parts = []
    for run in runs:
        spots = [f"{_short(x)} {_short(scale.y(value))}" for x, value in run]
        parts.append(f"M{'L'.join(spots)}" if len(spots) > 1 else f"M{spots[0]}h.01")
    return "".join(parts)


def steps(bars: Iterable[tuple[float, float, float]], scale: Scale) -> str:
    """Return an area of bars, each from a left to a right x with a value."""
    return "".join(
        f"M{_short(left)} {_short(scale.height)}V{_short(scale.y(value))}H{_short(right)}V{_short(scale.height)}z"
        for left, right, value in bars
        if value
    )


def bars(spans: Iterable[tuple[float, float]], *, top: float, height: float) -> str:
    """Return bars of one height, each from a left to a right x."""
    return "".join(
        f"M{_short(left)} {_short(top)}h{_short(max(_LEAST_WIDTH, right - left))}v{_short(height)}"
        f"h{_short(-max(_LEAST_WIDTH, right - left))}z"
        for left, right in spans
    )


def runs_of(spots: Iterable[tuple[float, Spot]], *, within: float) -> list[list[Spot]]:
    """Return spots as runs that end where the next one comes too late.

    :param spots: time in seconds, and the spot
    :param within: seconds
    """
    runs: list[list[Spot]] = []
    before = float("-inf")
    for at, spot in spots:
        if at - before > within:
            runs.append([])
        runs[-1].append(spot)
        before = at
    return runs


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Shape:
    """A path of a kind, which gives it its colour."""

    kind: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One chart.

    :param note: the chart in a few words
    :param legend: kinds and what they mean
    :param lines: horizontal lines: pixels from the top, and labels
    """

    title: str
    note: str
    legend: Sequence[tuple[str, str]]
    lines: Sequence[tuple[float, str]]
    shapes: Sequence[Shape]
    height: float = _HEIGHT


@dataclass(frozen=True, kw_only=True)
class ModelRow:
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


@dataclass(frozen=True, kw_only=True)
class Charts:
    """All charts of a report, over one axis.

    :param rows: of the models that took most time, by when they began
    :param others: how many models have no row
    """

    ticks: Sequence[Tick]
    pauses: Sequence[Pause]
    rows: Sequence[ModelRow]
    others: int
    plots: Sequence[Plot]

    @property
    def rows_height(self) -> float:
        """All rows together, in pixels."""
        return sum(row.height for row in self.rows)


def charts_of(report: BatchReport) -> Charts | None:
    """Return a report's charts; None when nothing is known to have gone on."""
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
    height = next((height for most, height in _ROW_HEIGHTS if len(longest) <= most), _ROW_HEIGHTS[-1][1])
    ordered = sorted(longest, key=lambda model: (min(_intervals(model)), model.target_model))
    return Charts(
        ticks=axis.ticks(),
        pauses=axis.pauses(),
        rows=[_row(model, axis, place * height, height) for place, model in enumerate(ordered)],
        others=len(report.models) - len(ordered),
        plots=_plots(points, axis),
    )


Values = Sequence[tuple[Point, float]]


def _plots(points: Sequence[Point], axis: TimeAxis) -> list[Plot]:
    rates = [(point, point.records / point.seconds) for point in points if point.records]
    plot, gauge = partial(_plot, axis), partial(_gauge, points)
    plots = [
        plot(
            title="Throughput",
            note=f"up to {amount(max((rate for _, rate in rates), default=0))} records/s; a bar is the mean of "
            f"{duration(points[0].seconds if points else 0)}",
            legend=[("rate", "records with an output per second")],
            label=amount,
            values={"rate": rates},
        ),
        plot(
            title="Latency of invocations",
            note="of those that succeeded, without the waits between attempts",
            legend=[("median", "half took no longer (p50)"), ("slow", "95 % took no longer (p95)")],
            label=duration,
            values={"slow": gauge("p95"), "median": gauge("p50")},
        ),
        plot(
            title="Invocations in flight",
            note="all shards together; the bound adapts to throttling and time-outs",
            legend=[("rate", "in flight"), ("bound", "bound")],
            label=amount,
            values={"rate": gauge("in_flight"), "bound": gauge("bound")},
        ),
        plot(
            title="Models warm and loading",
            note="as the shards know of them",
            legend=[("median", "warm"), ("loads", "loading")],
            label=amount,
            values={"median": gauge("warm"), "loads": gauge("loading")},
        ),
    ]
    return [plot for plot in plots if plot is not None]


def _gauge(points: Sequence[Point], name: str) -> Values:
    return [(point, value) for point in points if (value := getattr(point, name)) is not None]


def _plot(
    axis: TimeAxis,
    *,
    title: str,
    note: str,
    legend: Sequence[tuple[str, str]],
    label: Callable[[float], str],
    values: Mapping[str, Values],
) -> Plot | None:
    """Return a chart of values by kind, the lowest first; None where there are none."""
    if not any(values.values()):
        return None
    scale = Scale.for_values((value for of_kind in values.values() for _, value in of_kind), height=_HEIGHT)
    shapes = [
        Shape(
            kind, steps(_bars(of_kind, axis), scale) if kind == "rate" else line(_runs(of_kind, axis), scale)
        )
        for kind, of_kind in values.items()
    ]
    return Plot(title=title, note=note, legend=legend, lines=scale.lines(label), shapes=shapes)


def _bars(values: Values, axis: TimeAxis) -> list[tuple[float, float, float]]:
    return [(axis.place(point.at), axis.place(point.at + point.seconds), value) for point, value in values]


def _runs(values: Values, axis: TimeAxis) -> list[list[Spot]]:
    """Return the values as lines, which break where nothing is known for some bins."""
    spots = [(float(point.at), (axis.place(point.at + point.seconds / 2), value)) for point, value in values]
    return runs_of(spots, within=_TOGETHER * values[0][0].seconds if values else 0)


def _intervals(model: ModelReport) -> list[Interval]:
    """Return all times at which something is known to have gone on with a model."""
    return [*model.statistics.loading, *model.statistics.working]


def _row(model: ModelReport, axis: TimeAxis, top: float, height: float) -> ModelRow:
    statistics = model.statistics
    inner, middle = height - 2 * _ROW_PADDING, top + (height - _IDLE_HEIGHT) / 2
    shapes = [
        Shape("idle", bars(_spans(_idle(model), axis), top=middle, height=_IDLE_HEIGHT)),
        Shape("working", bars(_spans(statistics.working, axis), top=top + _ROW_PADDING, height=inner)),
        Shape("loading", bars(_spans(statistics.loading, axis), top=top + _ROW_PADDING, height=inner)),
    ]
    intervals = _intervals(model)
    began, ended = min(intervals)[0] / 1_000, max(end for _, end in intervals) / 1_000
    notes = [f"{clock(began)} to {clock(ended)}"]
    if statistics.loads:
        notes.append(f"{plural(statistics.loads, 'cold start')}, {duration(model.cold_start_seconds)}")
    if statistics.working:
        notes.append(f"invoked for {duration(model.working_seconds)}")
    return ModelRow(
        name=model.target_model,
        failed=model.failed,
        top=top,
        height=height,
        note="; ".join(notes),
        shapes=[shape for shape in shapes if shape.path],
    )


def _idle(model: ModelReport) -> list[Interval]:
    """Return when it was warm without work: it was invoked afterwards without being loaded again."""
    known = sorted(
        [(*interval, False) for interval in model.statistics.loading]
        + [(*interval, True) for interval in model.statistics.working]
    )
    return [
        (ended, began) for (_, ended, _), (began, _, worked) in pairwise(known) if worked and began > ended
    ]


def _spans(intervals: Iterable[Interval], axis: TimeAxis) -> list[Spot]:
    return [(axis.place(began / 1_000), axis.place(ended / 1_000)) for began, ended in intervals]
