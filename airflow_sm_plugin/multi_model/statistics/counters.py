"""What the engine collects while it works; its parts lie in the journal, so a killed process's are not lost.

Whole numbers only (microseconds, milliseconds, counts): sums do not depend on the order in which parts are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any

from airflow_sm_plugin.multi_model.statistics.latencies import MICROSECONDS, SCALE, Latencies
from airflow_sm_plugin.multi_model.statistics.series import TimeBins

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


_MILLISECONDS = 1_000
_UNJOINED = 64
"""How many intervals of a kind wait until they are joined."""


class ModelStatistics:
    """What is known of one target model."""

    __slots__ = (
        "failed_calls",
        "failures",
        "latencies",
        "load_milliseconds",
        "loading",
        "loads",
        "records",
        "repeats",
        "working",
    )

    def __init__(self) -> None:
        self.records = 0
        self.failed_calls = 0
        self.latencies = Latencies()
        self.repeats: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.loads = 0
        self.load_milliseconds = 0
        self.loading: list[Interval] = []
        self.working: list[Interval] = []

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what :meth:`as_json` gave."""
        self.records += other.get("records", 0)
        self.failed_calls += other.get("failed_calls", 0)
        if "latencies" in other:
            self.latencies.add(other["latencies"])
        add_each(self.repeats, other.get("repeats", {}))
        add_each(self.failures, other.get("failures", {}))
        self.loads += other.get("loads", 0)
        self.load_milliseconds += other.get("load_milliseconds", 0)
        for kind in ("loading", "working"):
            if kind in other:
                setattr(self, kind, joined([*getattr(self, kind), *other[kind]]))

    @property
    def invocations(self) -> int:
        """How many were sent, whatever was answered."""
        return self.latencies.count + self.failed_calls

    def as_json(self) -> dict[str, Any]:
        """Return it for :meth:`add`, without what is nothing."""
        found = {
            "records": self.records,
            "failed_calls": self.failed_calls,
            "latencies": self.latencies.as_json() if self.latencies.counts else None,
            "repeats": self.repeats,
            "failures": self.failures,
            "loads": self.loads,
            "load_milliseconds": self.load_milliseconds,
            "loading": joined(self.loading),
            "working": joined(self.working),
        }
        return {name: value for name, value in found.items() if value}


class Statistics:
    """What one process saw since the last :meth:`take`, or a sum of that over processes.

    Times are epoch seconds, so that processes on different workers fit together; durations are seconds.
    """

    __slots__ = ("bins", "models")

    def __init__(self) -> None:
        self.models: dict[str, ModelStatistics] = {}
        self.bins = TimeBins()

    def invoked(self, model: str, *, seconds: float, records: int, at: float) -> None:
        """Count a successful invocation. This is called for every payload, so it is written to be quick.

        :param at: when it ended
        """
        one = self.models.get(model) or self.of(model)
        bins = self.bins
        now = bins.bins.get(int(at) >> bins.shift) or bins.at(int(at))
        microseconds = int(seconds * MICROSECONDS)
        if microseconds < 1:  # noqa: PLR1730 - a call of max() takes a tenth of all this
            microseconds = 1
        bucket = int(log(microseconds) * SCALE)
        one.records += records
        latencies = one.latencies
        latencies.microseconds += microseconds
        if microseconds > latencies.slowest:  # noqa: PLR1730 - as above
            latencies.slowest = microseconds
        counts = latencies.counts
        counts[bucket] = counts.get(bucket, 0) + 1
        now.records += records
        counts = now.counts
        counts[bucket] = counts.get(bucket, 0) + 1

    def called_in_vain(self, model: str) -> None:
        """Count an invocation without a result."""
        self.of(model).failed_calls += 1

    def repeated(self, model: str, kind: str) -> None:
        """Count an attempt that failed and goes again.

        :param kind: the error's class, e.g. ``ThrottlingException``
        """
        repeats = self.of(model).repeats
        repeats[kind] = repeats.get(kind, 0) + 1

    def failed(self, model: str, kind: str, *, records: int) -> None:
        """Count records that ended in an error of a class.

        :param records: fewer than 0 of a failure that was counted before and is tried again now
        """
        add_each(self.of(model).failures, {kind: records})

    def loaded(self, model: str, *, began: float, ended: float) -> None:
        """Count a cold start."""
        one = self.of(model)
        interval = _interval(began, ended)
        one.loads += 1
        one.load_milliseconds += interval[1] - interval[0]
        one.loading = _with(one.loading, interval)

    def worked(self, model: str, *, began: float, ended: float) -> None:
        """Note that the model was being invoked."""
        one = self.of(model)
        one.working = _with(one.working, _interval(began, ended))

    def sample(self, *, at: float, in_flight: int, bound: int, warm: int, loading: int) -> None:
        """Note how much is in flight and may be, and how many models are warm and loading; about once a second."""
        now = self.bins.at(int(at))
        now.samples += 1
        now.in_flight += in_flight
        now.bound += bound
        now.warm += warm
        now.loading += loading

    def take(self) -> dict[str, Any]:
        """Return what was collected as JSON's types, and begin anew with nothing."""
        taken = self.as_json()
        self.models, self.bins = {}, TimeBins()
        return taken

    def as_json(self) -> dict[str, Any]:
        """Return what was collected as JSON's types, for :meth:`add`."""
        models = {name: one.as_json() for name, one in sorted(self.models.items())}
        return {"models": models, "series": self.bins.as_json()}

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add what :meth:`take` gave, here or in another process; an empty mapping is nothing."""
        for name, one in delta.get("models", {}).items():
            self.of(name).add(one)
        if series := delta.get("series"):
            self.bins.add(series)

    def of(self, model: str) -> ModelStatistics:
        """Return what is known of one model; it begins to exist."""
        found = self.models.get(model)
        if found is None:
            found = self.models[model] = ModelStatistics()
        return found


def add_each(counts: dict[str, int], added: Mapping[str, int]) -> None:
    """Add counts by name; what adds up to nothing is left out."""
    for name, count in added.items():
        together = counts.pop(name, 0) + count
        if together:
            counts[name] = together


def _interval(began: float, ended: float) -> Interval:
    return int(began * _MILLISECONDS), max(int(began * _MILLISECONDS), int(ended * _MILLISECONDS))


def _with(intervals: list[Interval], added: Interval) -> list[Interval]:
    """Return them with one more, joined once there are many."""
    intervals.append(added)
    return intervals if len(intervals) < _UNJOINED else joined(intervals)
