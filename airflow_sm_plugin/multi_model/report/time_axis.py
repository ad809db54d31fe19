"""The time axis of a report's charts: to scale, but long pauses take a narrow band each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from airflow_sm_plugin.core.text import clock, day, duration

WIDTH = 1_000.0
"""Where the axis ends; it begins at 0."""

_SHORTEST_PAUSE = 60.0
"""Seconds; a shorter gap is drawn to scale."""

_PAUSE_SHARE = 0.2
"""Of the time without pauses; a gap of a smaller share is drawn to scale."""

_BAND = 26.0
_ALL_BANDS = 300.0
_MOST_TICKS = 7
_TICK_ROOM = 95.0
"""How far two labels are apart at least."""

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)


@dataclass(frozen=True)
class Tick:
    """A label of the axis: its ``begin``, ``middle`` or ``end`` is at ``x``."""

    x: float
    label: str
    anchor: str


@dataclass(frozen=True)
class Pause:
    """A gap that is not drawn to scale."""

    left: float
    width: float
    label: str


@dataclass(frozen=True)
class _Span:
    began: float
    ended: float
    left: float
    right: float


class TimeAxis:
    """Places times between 0 and :data:`WIDTH`.

    :param active: pairs of epoch seconds, when something went on; at least one
    """

    def __init__(self, active: Iterable[tuple[float, float]]) -> None:
        self._spans = _placed(_without_long_gaps(sorted(active)))
        self._begins = [span.began for span in self._spans]

    @property
    def began(self) -> float:
        """Epoch seconds; ``ended`` as well."""
        return self._spans[0].began

    @property
    def ended(self) -> float:
        return self._spans[-1].ended

    def place(self, at: float) -> float:
        """Return where a time lies; one in a pause, or outside, at the nearest end of what is drawn to scale."""
        span = self._spans[max(0, bisect_right(self._begins, at) - 1)]
        done = (at - span.began) / (span.ended - span.began)
        return round(span.left + min(1.0, max(0.0, done)) * (span.right - span.left), 1)

    def pauses(self) -> list[Pause]:
        """Return the gaps that take a band."""
        return [
            Pause(
                left=round(before.right, 1),
                width=round(after.left - before.right, 1),
                label=duration(after.began - before.ended),
            )
            for before, after in pairwise(self._spans)
        ]

    def ticks(self) -> list[Tick]:
        """Return labels at round times, none so near another that they touch; a new day is named."""
        total = sum(span.ended - span.began for span in self._spans)
        step = next(
            (step for step in _STEPS if total / step <= _MOST_TICKS), 86_400 * ceil(total / 86_400 / 6)
        )
        ticks: list[Tick] = []
        named = day(self.began)
        for at in self._round_times(step):
            x = self.place(at)
            if ticks and x - ticks[-1].x < _TICK_ROOM:
                continue
            label = clock(at, seconds=step < 60)  # noqa: PLR2004 - seconds in a minute
            if day(at) != named:
                named = day(at)
                label = f"{named.rpartition(' ')[0]} {label}"
            ticks.append(Tick(x, label, _anchor(x)))
        return ticks

    def _round_times(self, step: int) -> Iterable[float]:
        for number, span in enumerate(self._spans):
            first = ceil(span.began / step) * step
            if number or first > span.ended:
                yield span.began
            yield from range(first, int(span.ended) + 1, step)


def _without_long_gaps(active: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return what is drawn to scale: what went on, with the shorter gaps in it."""
    busy = _joined(active, within=0.0)
    longest = max(_SHORTEST_PAUSE, _PAUSE_SHARE * sum(ended - began for began, ended in busy))
    return _joined(busy, within=longest)


def _joined(active: list[tuple[float, float]], *, within: float) -> list[tuple[float, float]]:
    parts: list[tuple[float, float]] = []
    for began, ended in active:
        if parts and began - parts[-1][1] <= within:
            parts[-1] = (parts[-1][0], max(parts[-1][1], ended))
        else:
            parts.append((began, max(ended, began)))
    return parts


def _placed(parts: list[tuple[float, float]]) -> list[_Span]:
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
