"""A batch over time: the shards' series, which run side by side on several workers, as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.multi_model.statistics.latencies import add_counts, quantile_of

MOST_BINS = 600


class Bin:
    """One bin: records and latencies of invocations that ended in it, and sums of samples taken in it."""

    __slots__ = ("bound", "counts", "in_flight", "loading", "records", "samples", "warm")

    def __init__(self) -> None:
        self.records = 0
        self.counts: dict[int, int] = {}
        self.samples = 0
        self.in_flight = 0
        self.bound = 0
        self.warm = 0
        self.loading = 0

    def add(self, other: Bin) -> None:
        """Add another bin's."""
        self.records += other.records
        add_counts(self.counts, other.counts.items())
        self.samples += other.samples
        self.in_flight += other.in_flight
        self.bound += other.bound
        self.warm += other.warm
        self.loading += other.loading

    def as_json(self, begin: int) -> list[Any]:
        """Return it for :meth:`from_json`.

        :param begin: epoch seconds
        """
        sampled = [self.samples, self.in_flight, self.bound, self.warm, self.loading] if self.samples else []
        return [begin, self.records, sorted(self.counts.items()), sampled]

    @classmethod
    def from_json(cls, records: int, counts: list[list[int]], sampled: list[int]) -> Bin:
        """Read what :meth:`as_json` wrote behind the begin."""
        found = cls()
        found.records = records
        add_counts(found.counts, counts)
        if sampled:
            found.samples, found.in_flight, found.bound, found.warm, found.loading = sampled
        return found


class TimeBins:
    """The bins of one process, or of a shard over all its processes."""

    __slots__ = ("bins", "shift")

    def __init__(self) -> None:
        self.bins: dict[int, Bin] = {}
        self.shift = 0

    @property
    def width(self) -> int:
        """How many seconds a bin spans."""
        return 1 << self.shift

    def at(self, second: int) -> Bin:
        """Return the bin of a second since the epoch; it begins to exist."""
        found = self.bins.get(second >> self.shift)
        if found is None:
            found = self.bins[second >> self.shift] = Bin()
            while len(self.bins) > MOST_BINS:
                self.widen(self.shift + 1)
                found = self.bins[second >> self.shift]
        return found

    def widen(self, shift: int) -> None:
        """Make bins 2 ** shift seconds wide, where they are narrower."""
        if shift <= self.shift:
            return
        wider: dict[int, Bin] = {}
        for index, one in self.bins.items():
            wider.setdefault(index >> (shift - self.shift), Bin()).add(one)
        self.bins, self.shift = wider, shift

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what :meth:`as_json` gave."""
        self.widen(int(other["width"]).bit_length() - 1)
        for begin, *rest in other["bins"]:
            self.at(begin).add(Bin.from_json(*rest))

    def as_json(self) -> dict[str, Any]:
        """Return it for :meth:`add`."""
        bins = [one.as_json(index << self.shift) for index, one in sorted(self.bins.items())]
        return {"width": self.width, "bins": bins}


_HOLDS = 3
"""Seconds within which a sample holds until the next: they are taken about once a second, not to the second."""

_THOUSANDTHS = 1_000
_GAUGES = ("in_flight", "bound", "warm", "loading")


@dataclass(frozen=True, kw_only=True)
class Point:
    """What happened in one bin, over all shards.

    :param at: epoch seconds when it begins
    :param seconds: how long it is
    :param p50: of the latencies, in seconds; None when no invocation ended in it; p95 as well
    :param in_flight: in the mean, all shards together; None when nobody looked; the others as well
    """

    at: int
    seconds: int
    records: int
    invocations: int
    p50: float | None
    p95: float | None
    in_flight: float | None
    bound: float | None
    warm: float | None
    loading: float | None

    def as_row(self) -> list[float | None]:
        """Return its values in the order of :data:`COLUMNS`."""
        return [_rounded(getattr(self, name)) for name in COLUMNS]


COLUMNS = ("at", "records", "invocations", "p50", "p95", *_GAUGES)


class BatchSeries:
    """The sum of shards' series.

    What is in flight is kept as a mean times seconds: such products add up over shards and over time alike.
    """

    def __init__(self) -> None:
        self._bins = TimeBins()

    def add(self, series: Mapping[str, Any]) -> None:
        """Add one shard's, as its statistics hold it."""
        shard = TimeBins()
        shard.add(series)
        self._bins.widen(shard.shift)
        begins = sorted(shard.bins)
        sampled = [begin for begin in begins if shard.bins[begin].samples]
        for begin in begins:
            self._bins.at(begin * shard.width).add(_counted(shard.bins[begin]))
        for begin, following in zip(sampled, [*sampled[1:], sampled[-1] + 1] if sampled else [], strict=True):
            held = following if (following - begin) * shard.width <= _HOLDS else begin + 1
            for index in range(begin, held):
                self._bins.at(index * shard.width).add(_weighted(shard.bins[begin], shard.width))

    def points(self, *, most: int | None = None) -> list[Point]:
        """Return what there is, in order; where nothing is, nothing went on.

        :param most: in wider bins where there would be more
        """
        shown = TimeBins()
        shown.add(self._bins.as_json())
        while most is not None and len(shown.bins) > most:
            shown.widen(shown.shift + 1)
        width = shown.width
        return [_point(index * width, width, one) for index, one in sorted(shown.bins.items())]

    @property
    def active_seconds(self) -> int:
        """In how many seconds something went on, pauses left out; as fine as the bins are."""
        return len(self._bins.bins) * self._bins.width

    def as_json(self) -> dict[str, Any]:
        """Return it as the report shows it: a table whose first column is epoch seconds."""
        return {
            "seconds": self._bins.width,
            "columns": COLUMNS,
            "rows": [point.as_row() for point in self.points()],
        }


def _counted(one: Bin) -> Bin:
    counted = Bin()
    counted.records, counted.counts = one.records, one.counts
    return counted


def _weighted(one: Bin, width: int) -> Bin:
    weighted = Bin()
    weighted.samples = 1
    for name in _GAUGES:
        setattr(weighted, name, getattr(one, name) * width * _THOUSANDTHS // one.samples)
    return weighted


def _point(at: int, width: int, one: Bin) -> Point:
    gauges = {name: getattr(one, name) / (width * _THOUSANDTHS) if one.samples else None for name in _GAUGES}
    return Point(
        at=at,
        seconds=width,
        records=one.records,
        invocations=sum(one.counts.values()),
        p50=quantile_of(one.counts, 0.5),
        p95=quantile_of(one.counts, 0.95),
        **gauges,
    )


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value
