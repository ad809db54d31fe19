"""Curves and scales of a chart as SVG paths: x from 0 to 1000, y in pixels from the top."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

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
