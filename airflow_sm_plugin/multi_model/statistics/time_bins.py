"""What happened over time, in bins of one second that grow wider as time goes by: never more than 600 of them.

Bins begin at multiples of their width, a power of two, since the epoch: so those of any two processes fit each other.
A bin exists only where something was counted: a gap is a pause, not zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.multi_model.statistics.latencies import add_counts

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
