"""What a batch's report draws: models, throughput, latency and load over one time axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_sm_plugin.core.text import amount, duration
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.chart_paths import Scale, Spot, line, runs_of, steps
from airflow_sm_plugin.multi_model.report.report_lanes import Lane, Shape, intervals_of, lanes_of
from airflow_sm_plugin.multi_model.report.time_axis import Pause, Tick, TimeAxis
from airflow_sm_plugin.multi_model.statistics.series import Point

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
