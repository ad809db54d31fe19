"""Activity over time: bins of one process, and of a batch whose shards run side by side on several workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from airflow_sm_plugin.multi_model.statistics.latencies import add_counts, quantile_of

MOST_BINS = 600
"""More bins of a second are replaced by half as many of twice the width: ten minutes are kept to the second."""

_HOLDS = 3
"""Seconds for which a sample counts until the next one: samples are taken about once a second, not to the second."""

_THOUSANDTHS = 1_000
_GAUGES = 4
"""Values of a sample: invocations in flight, their bound, models warm, and loading."""


class Bin:
    """Records and latencies of invocations that ended in one period, and sums of samples taken in it.

    :param counts: pairs of latency bucket and count
    :param samples: number of samples, and the sums of ``in_flight``, ``bound``, ``warm`` and ``loading``
    :param failed: records that failed, those that are tried again later included
    """

    __slots__ = ("counts", "failed", "records", "samples")

    def __init__(
        self,
        records: int = 0,
        counts: Iterable[Iterable[int]] = (),
        samples: Iterable[int] = (),
        failed: int = 0,
    ) -> None:
        self.records = records
        self.failed = failed
        self.counts: dict[int, int] = {}
        add_counts(self.counts, counts)
        self.samples = list(samples) or [0] * (1 + _GAUGES)

    def add(self, other: Bin) -> None:
        self.records += other.records
        self.failed += other.failed
        add_counts(self.counts, other.counts.items())
        self.add_samples(other.samples)

    def add_samples(self, samples: Iterable[int]) -> None:
        self.samples = [mine + other for mine, other in zip(self.samples, samples, strict=True)]

    def as_json(self) -> list[Any]:
        """List the constructor's arguments."""
        arguments = [self.records, sorted(self.counts.items()), self.samples if self.samples[0] else []]
        return [*arguments, self.failed] if self.failed else arguments


class TimeBins:
    """The bins of one process, or of a shard over all its processes: at most :data:`MOST_BINS`.

    The keys of ``bins`` are epoch seconds, divided by the width.
    """

    __slots__ = ("bins", "shift")

    def __init__(self) -> None:
        self.bins: dict[int, Bin] = {}
        self.shift = 0

    @property
    def width(self) -> int:
        """Seconds of each bin: a power of two, so that narrow bins add up to wide ones."""
        return 1 << self.shift

    def bin_of(self, second: int) -> Bin:
        """Get the bin that holds an epoch second; create it for a new period."""
        bin_ = self.bins.get(second >> self.shift)
        if bin_ is None:
            bin_ = self.bins[second >> self.shift] = Bin()
            while len(self.bins) > MOST_BINS:
                self.widen(self.shift + 1)
                bin_ = self.bins[second >> self.shift]
        return bin_

    def widen(self, shift: int) -> None:
        """Make bins 2 ** *shift* seconds wide if they are narrower."""
        if shift <= self.shift:
            return
        wider: dict[int, Bin] = {}
        for index, bin_ in self.bins.items():
            wider.setdefault(index >> (shift - self.shift), Bin()).add(bin_)
        self.bins, self.shift = wider, shift

    def add(self, other: Mapping[str, Any]) -> None:
        """Add another process's bins, as :meth:`as_json` writes them; the wider width of both is kept."""
        self.widen(int(other["width"]).bit_length() - 1)
        for begin, *arguments in other["bins"]:
            self.bin_of(begin).add(Bin(*arguments))

    def as_json(self) -> dict[str, Any]:
        bins = [[index << self.shift, *bin_.as_json()] for index, bin_ in sorted(self.bins.items())]
        return {"width": self.width, "bins": bins}


class Point(NamedTuple):
    """The values of one bin, over all shards.

    :param at: epoch seconds when the bin begins
    :param p50: latency in seconds, as ``p95``; None without an invocation
    :param in_flight: the mean of the sum over all shards, as are the next three; None without a sample
    :param failed: records that failed, those that are tried again later included
    :param seconds: the bin's width
    """

    at: int
    records: int
    invocations: int
    p50: float | None
    p95: float | None
    in_flight: float | None
    bound: float | None
    warm: float | None
    loading: float | None
    failed: int
    seconds: int

    @property
    def failures(self) -> int | None:
        """Records that failed; None without one."""
        return self.failed or None

    @property
    def rate(self) -> float | None:
        """Records with an output per second; None without a record."""
        return self.records / self.seconds if self.records else None


class BatchSeries:
    """The sum of the series of all shards.

    Gauges are kept as a mean times seconds: such products add up over shards and over time alike.
    """

    def __init__(self) -> None:
        self._bins = TimeBins()

    def add(self, series: Mapping[str, Any]) -> None:
        """Add the series of one shard's statistics."""
        shard = TimeBins()
        shard.add(series)
        self._bins.widen(shard.shift)
        for begin, bin_ in shard.bins.items():
            added = Bin(bin_.records, bin_.counts.items(), failed=bin_.failed)
            self._bins.bin_of(begin * shard.width).add(added)
        sampled = [begin for begin in sorted(shard.bins) if shard.bins[begin].samples[0]]
        for begin, following in pairwise([*sampled, *(last + 1 for last in sampled[-1:])]):
            held = following if (following - begin) * shard.width <= _HOLDS else begin + 1
            count, *sums = shard.bins[begin].samples
            weighted = [1, *(value * shard.width * _THOUSANDTHS // count for value in sums)]
            for index in range(begin, held):
                self._bins.bin_of(index * shard.width).add_samples(weighted)

    def points(self, *, most: int | None = None) -> list[Point]:
        """List the bins in order; a period without activity has none.

        :param most: widen the bins until there are at most so many
        """
        shown = TimeBins()
        shown.add(self._bins.as_json())
        while most is not None and len(shown.bins) > most:
            shown.widen(shown.shift + 1)
        return [_point(index, shown.width, bin_) for index, bin_ in sorted(shown.bins.items())]

    @property
    def active_seconds(self) -> int:
        """Seconds with activity, without pauses, as precise as the bins."""
        return len(self._bins.bins) * self._bins.width

    def as_json(self) -> dict[str, Any]:
        """Convert to the table of ``report.json``; its first column is epoch seconds."""
        rows = [[_rounded(value) for value in point[:-1]] for point in self.points()]
        return {"seconds": self._bins.width, "columns": Point._fields[:-1], "rows": rows}


def _point(index: int, width: int, bin_: Bin) -> Point:
    count, *sums = bin_.samples
    in_flight, bound, warm, loading = (value / (width * _THOUSANDTHS) if count else None for value in sums)
    p50, p95 = (quantile_of(bin_.counts, share) for share in (0.5, 0.95))
    invocations = sum(bin_.counts.values())
    gauges = (in_flight, bound, warm, loading)
    return Point(
        index * width, bin_.records, invocations, p50, p95, *gauges, failed=bin_.failed, seconds=width
    )


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value
