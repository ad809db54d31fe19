"""What went on over time: bins of one process, and of a batch whose shards run side by side on several workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.multi_model.statistics.latencies import add_counts, quantile_of

MOST_BINS = 600

_HOLDS = 3
"""Seconds within which a sample holds until the next: they are taken about once a second, not to the second."""

_THOUSANDTHS = 1_000
_GAUGES = ("in_flight", "bound", "warm", "loading")


class Bin:
    """Records and latencies of invocations that ended in one span of time, and sums of samples taken in it.

    :param counts: pairs of bucket and count
    :param samples: how many samples there are, and the sums of ``in_flight``, ``bound``, ``warm`` and ``loading``
    """

    __slots__ = ("counts", "records", "samples")

    def __init__(
        self, records: int = 0, counts: Iterable[Iterable[int]] = (), samples: Iterable[int] = ()
    ) -> None:
        self.records = records
        self.counts: dict[int, int] = {}
        add_counts(self.counts, counts)
        self.samples = list(samples) or [0, *(0 for _ in _GAUGES)]

    def add(self, other: Bin) -> None:
        self.records += other.records
        add_counts(self.counts, other.counts.items())
        self.add_samples(other.samples)

    def add_samples(self, samples: Iterable[int]) -> None:
        self.samples = [mine + other for mine, other in zip(self.samples, samples, strict=True)]

    def as_json(self) -> list[Any]:
        """Return the constructor's arguments."""
        return [self.records, sorted(self.counts.items()), self.samples if self.samples[0] else []]


class TimeBins:
    """The bins of one process, or of a shard over all its processes: at most :data:`MOST_BINS`."""

    __slots__ = ("bins", "shift")

    def __init__(self) -> None:
        self.bins: dict[int, Bin] = {}
        self.shift = 0

    @property
    def width(self) -> int:
        """How many seconds a bin spans."""
        return 1 << self.shift

    def at(self, second: int) -> Bin:
        """Return the bin of a second since the epoch, made where there is none."""
        bin_ = self.bins.get(second >> self.shift)
        if bin_ is None:
            bin_ = self.bins[second >> self.shift] = Bin()
            while len(self.bins) > MOST_BINS:
                self.widen(self.shift + 1)
                bin_ = self.bins[second >> self.shift]
        return bin_

    def widen(self, shift: int) -> None:
        """Make bins 2 ** shift seconds wide, where they are narrower."""
        if shift <= self.shift:
            return
        wider: dict[int, Bin] = {}
        for index, bin_ in self.bins.items():
            wider.setdefault(index >> (shift - self.shift), Bin()).add(bin_)
        self.bins, self.shift = wider, shift

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what :meth:`as_json` gave."""
        self.widen(int(other["width"]).bit_length() - 1)
        for begin, *rest in other["bins"]:
            self.at(begin).add(Bin(*rest))

    def as_json(self) -> dict[str, Any]:
        bins = [[index << self.shift, *bin_.as_json()] for index, bin_ in sorted(self.bins.items())]
        return {"width": self.width, "bins": bins}


@dataclass(frozen=True, kw_only=True)
class Point:
    """What happened in one bin, over all shards.

    :param at: epoch seconds when it begins
    :param seconds: how long it is
    :param p50: of the latencies, in seconds; None when no invocation ended in it; p95 as well
    :param in_flight: in the mean, all shards together; None without samples; the others as well
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


_COLUMNS = ("at", "records", "invocations", "p50", "p95", *_GAUGES)


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
        sampled = [begin for begin in begins if shard.bins[begin].samples[0]]
        for begin in begins:
            bin_ = shard.bins[begin]
            self._bins.at(begin * shard.width).add(Bin(bin_.records, bin_.counts.items()))
        for begin, following in zip(sampled, [*sampled[1:], sampled[-1] + 1] if sampled else [], strict=True):
            held = following if (following - begin) * shard.width <= _HOLDS else begin + 1
            count, *sums = shard.bins[begin].samples
            weighted = [1, *(value * shard.width * _THOUSANDTHS // count for value in sums)]
            for index in range(begin, held):
                self._bins.at(index * shard.width).add_samples(weighted)

    def points(self, *, most: int | None = None) -> list[Point]:
        """Return what there is, in order; where nothing is, nothing went on.

        :param most: in wider bins where there would be more
        """
        shown = TimeBins()
        shown.add(self._bins.as_json())
        while most is not None and len(shown.bins) > most:
            shown.widen(shown.shift + 1)
        width = shown.width
        return [_point(index * width, width, bin_) for index, bin_ in sorted(shown.bins.items())]

    @property
    def active_seconds(self) -> int:
        """In how many seconds something went on, pauses left out; as fine as the bins are."""
        return len(self._bins.bins) * self._bins.width

    def as_json(self) -> dict[str, Any]:
        """Return it as the report shows it: a table whose first column is epoch seconds."""
        rows = [[_rounded(getattr(point, name)) for name in _COLUMNS] for point in self.points()]
        return {"seconds": self._bins.width, "columns": _COLUMNS, "rows": rows}


def _point(at: int, width: int, bin_: Bin) -> Point:
    count, *sums = bin_.samples
    means = [value / (width * _THOUSANDTHS) if count else None for value in sums]
    return Point(
        at=at,
        seconds=width,
        records=bin_.records,
        invocations=sum(bin_.counts.values()),
        p50=quantile_of(bin_.counts, 0.5),
        p95=quantile_of(bin_.counts, 0.95),
        **dict(zip(_GAUGES, means, strict=True)),
    )


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value
