"""What a batch's report draws: models, throughput, latency and load over one time axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from airflow_sm_plugin.core.text import amount, clock, duration, plural
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ModelReport
from airflow_sm_plugin.multi_model.report.time_axis import Pause, Tick, TimeAxis
from airflow_sm_plugin.multi_model.statistics.counters import Interval
from airflow_sm_plugin.multi_model.statistics.series import Point

Spot = tuple[float, float]
"""x, and the value there."""

_MOST_LINES = 4

_LEAST_WIDTH = 1.2
"""Of a bar, so that a short one is seen."""


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
        step = next(
            step
            for step in (0.2 * power, 0.25 * power, 0.5 * power, 1 * power, 2 * power, 2.5 * power)
            if greatest / step <= _MOST_LINES
        )
        return cls(step * ceil(greatest / step), step, height)

    def y(self, value: float) -> float:
        """Return where a value lies, from the top."""
        return round(self.height * (1 - value / self.top), 1)

    def lines(self, label: Callable[[float], str]) -> list[tuple[float, str]]:
        """Return where the lines lie, and their labels."""
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
    given = list(spots)
    if not given:
        return []
    runs = [[given[0][1]]]
    for (before, _), (at, spot) in pairwise(given):
        if at - before > within:
            runs.append([])
        runs[-1].append(spot)
    return runs


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


MOST_POINTS = 250

_HEIGHT = 150.0
_TOGETHER = 3
"""How many bins may be empty within a line."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One chart.

    :param legend: kinds and what they mean
    :param lines: horizontal lines: pixels from the top, and labels
    :param note: the chart in a few words
    """

    title: str
    note: str
    legend: Sequence[tuple[str, str]]
    lines: Sequence[tuple[float, str]]
    shapes: Sequence[Shape]
    height: float = _HEIGHT


@dataclass(frozen=True, kw_only=True)
class Charts:
    """All charts of a report, over one axis.

    :param lanes: of the models that took most time, by when they began
    :param others: how many models have no lane
    """

    began: float
    ended: float
    ticks: Sequence[Tick]
    pauses: Sequence[Pause]
    lanes: Sequence[Lane]
    others: int
    plots: Sequence[Plot]

    @property
    def lanes_height(self) -> float:
        """All lanes together, in pixels."""
        return sum(lane.height for lane in self.lanes)


def charts_of(report: BatchReport) -> Charts | None:
    """Return a report's charts; None when nothing is known to have gone on."""
    points = report.series.points(most=MOST_POINTS)
    timed = [one for one in report.models if one.statistics.loading or one.statistics.working]
    active = [
        *((float(point.at), float(point.at + point.seconds)) for point in points),
        *((began / 1_000, ended / 1_000) for one in timed for began, ended in intervals_of(one)),
    ]
    if not active:
        return None
    axis = TimeAxis(active)
    lanes = lanes_of(timed, axis)
    return Charts(
        began=axis.began,
        ended=axis.ended,
        ticks=axis.ticks(),
        pauses=axis.pauses(),
        lanes=lanes,
        others=len(report.models) - len(lanes),
        plots=[
            plot for plot in (_throughput(points, axis), _latency(points, axis), *_load(points, axis)) if plot
        ],
    )


def _throughput(points: Sequence[Point], axis: TimeAxis) -> Plot | None:
    rates = [(point, point.records / point.seconds) for point in points if point.records]
    if not rates:
        return None
    scale = Scale.for_values((rate for _, rate in rates), height=_HEIGHT)
    return Plot(
        title="Throughput",
        note=f"up to {amount(max(rate for _, rate in rates))} records/s; a bar is the mean of "
        f"{duration(points[0].seconds)}",
        legend=[("rate", "records with an output per second")],
        lines=scale.lines(amount),
        shapes=[Shape("rate", steps(_bars(rates, axis), scale))],
    )


def _latency(points: Sequence[Point], axis: TimeAxis) -> Plot | None:
    medians = [(point, point.p50) for point in points if point.p50 is not None]
    slow = [(point, point.p95) for point in points if point.p95 is not None]
    if not medians:
        return None
    scale = Scale.for_values((value for _, value in slow), height=_HEIGHT)
    return Plot(
        title="Latency of invocations",
        note="of those that succeeded, without the waits between attempts",
        legend=[("median", "half took no longer (p50)"), ("slow", "95 % took no longer (p95)")],
        lines=scale.lines(duration),
        shapes=[
            Shape("slow", line(_runs(slow, axis), scale)),
            Shape("median", line(_runs(medians, axis), scale)),
        ],
    )


def _load(points: Sequence[Point], axis: TimeAxis) -> list[Plot]:
    in_flight = _gauge(points, lambda point: point.in_flight)
    bound = _gauge(points, lambda point: point.bound)
    warm = _gauge(points, lambda point: point.warm)
    loading = _gauge(points, lambda point: point.loading)
    if not bound:
        return []
    calls = Scale.for_values((value for _, value in [*in_flight, *bound]), height=_HEIGHT)
    models = Scale.for_values((value for _, value in [*warm, *loading]), height=_HEIGHT)
    return [
        Plot(
            title="Invocations in flight",
            note="all shards together; the bound adapts to throttling and time-outs",
            legend=[("rate", "in flight"), ("bound", "bound")],
            lines=calls.lines(amount),
            shapes=[
                Shape("rate", steps(_bars(in_flight, axis), calls)),
                Shape("bound", line(_runs(bound, axis), calls)),
            ],
        ),
        Plot(
            title="Models warm and loading",
            note="as the shards know of them",
            legend=[("median", "warm"), ("loads", "loading")],
            lines=models.lines(amount),
            shapes=[
                Shape("median", line(_runs(warm, axis), models)),
                Shape("loads", line(_runs(loading, axis), models)),
            ],
        ),
    ]


def _gauge(points: Sequence[Point], of: Callable[[Point], float | None]) -> list[tuple[Point, float]]:
    return [(point, value) for point in points if (value := of(point)) is not None]


def _bars(values: Sequence[tuple[Point, float]], axis: TimeAxis) -> list[tuple[float, float, float]]:
    return [(axis.place(point.at), axis.place(point.at + point.seconds), value) for point, value in values]


def _runs(values: Sequence[tuple[Point, float]], axis: TimeAxis) -> list[list[Spot]]:
    """Return the values as lines, which break where nothing is known for some bins."""
    if not values:
        return []
    spots = [(float(point.at), (axis.place(point.at + point.seconds / 2), value)) for point, value in values]
    return runs_of(spots, within=_TOGETHER * values[0][0].seconds)


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
