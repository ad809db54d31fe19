"""The time axis of a report's charts: to scale, except that each long pause takes a narrow band."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from airflow_sm_plugin.core.text import clock, day, duration
from airflow_sm_plugin.multi_model.statistics.counters import union

WIDTH = 1_000.0
"""The right end of the axis; the left end is 0."""

_SHORTEST_PAUSE = 60.0
"""Seconds; a shorter gap is drawn to scale."""

_PAUSE_SHARE = 0.2
"""Share of the active time; a gap of a smaller share is drawn to scale."""

_BAND = 26.0
_ALL_BANDS = 300.0
"""Width of all pauses together at most: the activity keeps the greater part of the axis."""

_MOST_TICKS = 7
_TICK_ROOM = 95.0
"""Least distance of two labels, so that they do not touch."""

_MAJOR_ROOM = 400.0
"""Least distance of two labels on a narrow screen: 90 of the 230 pixels that a chart has at a width of 420."""

_DAY = 86_400
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, _DAY)


class Tick(NamedTuple):
    """A label of the axis; *anchor* (``begin``, ``middle`` or ``end``) is the part of the label that is at *x*.

    :param major: whether a narrow screen has room for the label
    """

    x: float
    label: str
    anchor: str
    major: bool


class Pause(NamedTuple):
    """A gap that is not drawn to scale."""

    left: float
    width: float
    label: str


class _Span(NamedTuple):
    began: float
    ended: float
    left: float
    right: float


class TimeAxis:
    """A conversion of times to positions between 0 and :data:`WIDTH`.

    :param active: begin and end in epoch seconds of each activity; at least one
    """

    def __init__(self, active: Iterable[tuple[float, float]]) -> None:
        busy = union(active, within=0.0)
        to_scale = max(_SHORTEST_PAUSE, _PAUSE_SHARE * sum(ended - began for began, ended in busy))
        self._spans = _laid_out(union(busy, within=to_scale))

    def x(self, time: float) -> float:
        """Convert epoch seconds to a position; a time in a pause, or outside, to the nearest end of a span."""
        span = self._spans[max(0, bisect_right(self._spans, time, key=lambda span: span.began) - 1)]
        share = (time - span.began) / (span.ended - span.began)
        return round(span.left + min(1.0, max(0.0, share)) * (span.right - span.left), 1)

    def pauses(self) -> list[Pause]:
        return [
            Pause(
                round(before.right, 1),
                round(after.left - before.right, 1),
                duration(after.began - before.ended),
            )
            for before, after in pairwise(self._spans)
        ]

    def ticks(self) -> list[Tick]:
        """Label round times, at least :data:`_TICK_ROOM` apart; the first label of a new day names the day."""
        total = sum(span.ended - span.began for span in self._spans)
        days = _DAY * ceil(total / _DAY / (_MOST_TICKS - 1))
        step = next((step for step in _STEPS if total / step <= _MOST_TICKS), days)
        ticks: list[Tick] = []
        named_day = day(self._spans[0].began)
        last_major = -_MAJOR_ROOM
        for time in self._round_times(step):
            x = self.x(time)
            if ticks and x - ticks[-1].x < _TICK_ROOM:
                continue
            label = clock(time, seconds=step < 60)  # noqa: PLR2004 - seconds in a minute
            if day(time) != named_day:
                named_day = day(time)
                label = f"{named_day.rpartition(' ')[0]} {label}"
            is_major = x - last_major >= _MAJOR_ROOM
            last_major = x if is_major else last_major
            ticks.append(Tick(x, label, _anchor(x), is_major))
        return ticks

    def _round_times(self, step: int) -> Iterator[float]:
        for index, span in enumerate(self._spans):
            first = ceil(span.began / step) * step
            if index or first > span.ended:
                yield span.began
            yield from range(first, int(span.ended) + 1, step)


def _laid_out(parts: list[tuple[float, float]]) -> list[_Span]:
    parts = [(began, max(ended, began + 1.0)) for began, ended in parts]
    bands = len(parts) - 1
    band = min(_BAND, _ALL_BANDS / bands) if bands else 0.0
    scale = (WIDTH - band * bands) / sum(ended - began for began, ended in parts)
    spans: list[_Span] = []
    left = 0.0
    for began, ended in parts:
        right = left + (ended - began) * scale
        spans.append(_Span(began, ended, left, right))
        left = right + band
    return spans


def _anchor(x: float) -> str:
    if x < _TICK_ROOM / 2:
        return "begin"
    return "end" if x > WIDTH - _TICK_ROOM / 2 else "middle"
