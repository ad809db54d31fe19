"""Few intervals of time in place of many: what overlaps, touches or nearly touches is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Interval = tuple[int, int]
"""Begin and end in epoch milliseconds."""

_NEARLY = 500
"""Milliseconds without that are not worth showing."""

MOST = 24
"""How many are kept of one kind for one model; further ones close the smallest gaps."""


def joined(intervals: Iterable[Sequence[int]]) -> list[Interval]:
    """Return sorted intervals apart from each other that cover all that were given, :data:`MOST` at most."""
    found: list[Interval] = []
    for began, ended in sorted((began, max(began, ended)) for began, ended in intervals):
        if found and began - found[-1][1] <= _NEARLY:
            found[-1] = (found[-1][0], max(found[-1][1], ended))
        else:
            found.append((began, ended))
    return found if len(found) <= MOST else _with_smallest_gaps_closed(found)


def _with_smallest_gaps_closed(intervals: Sequence[Interval]) -> list[Interval]:
    gaps = sorted(range(1, len(intervals)), key=lambda place: intervals[place - 1][1] - intervals[place][0])
    begins = [0, *sorted(gaps[: MOST - 1])]
    ends = [*(place - 1 for place in begins[1:]), len(intervals) - 1]
    return [(intervals[begin][0], intervals[end][1]) for begin, end in zip(begins, ends, strict=True)]


def length_of(intervals: Iterable[Interval]) -> float:
    """Return how long they are together, in seconds."""
    return sum(ended - began for began, ended in intervals) / 1_000
