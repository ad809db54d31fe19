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
    apart: list[Interval] = []
    for began, ended in sorted((began, max(began, ended)) for began, ended in intervals):
        if apart and began - apart[-1][1] <= _NEARLY:
            apart[-1] = (apart[-1][0], max(apart[-1][1], ended))
        else:
            apart.append((began, ended))
    return apart if len(apart) <= MOST else _with_smallest_gaps_closed(apart)


def _with_smallest_gaps_closed(intervals: Sequence[Interval]) -> list[Interval]:
    gaps = sorted(range(1, len(intervals)), key=lambda place: intervals[place - 1][1] - intervals[place][0])
    begins = [0, *sorted(gaps[: MOST - 1])]
    ends = [*(place - 1 for place in begins[1:]), len(intervals) - 1]
    return [(intervals[begin][0], intervals[end][1]) for begin, end in zip(begins, ends, strict=True)]


def length_of(intervals: Iterable[Interval]) -> float:
    """Return how long they are together, in seconds."""
    return sum(ended - began for began, ended in intervals) / 1_000


_UNJOINED = 64
"""How many intervals of a kind wait until they are joined."""

_COUNTS = ("records", "failed_calls", "loads", "load_milliseconds")
_BY_NAME = ("repeats", "failures")
_INTERVALS = ("loading", "working")


class ModelStatistics:
    """What is known of one target model."""

    __slots__ = (*_COUNTS, *_BY_NAME, *_INTERVALS, "latencies")

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
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + other.get(name, 0))
        for name in _BY_NAME:
            add_each(getattr(self, name), other.get(name, {}))
        for name in _INTERVALS:
            if name in other:
                setattr(self, name, joined([*getattr(self, name), *other[name]]))
        if "latencies" in other:
            self.latencies.add(other["latencies"])

    @property
    def invocations(self) -> int:
        """How many were sent, whatever was answered."""
        return self.latencies.count + self.failed_calls

    def as_json(self) -> dict[str, Any]:
        """Return it for :meth:`add`, without zeros."""
        values = {
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
        return {name: value for name, value in values.items() if value}


class Statistics:
    """What one process counted since the last :meth:`take`, or a sum of that over processes.

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
        statistics = self.models.get(model) or self.of(model)
        bins = self.bins
        bin_ = bins.bins.get(int(at) >> bins.shift) or bins.at(int(at))
        microseconds = int(seconds * MICROSECONDS)
        if microseconds < 1:  # noqa: PLR1730 - a call of max() takes a tenth of all this
            microseconds = 1
        bucket = int(log(microseconds) * SCALE)
        statistics.records += records
        latencies = statistics.latencies
        latencies.microseconds += microseconds
        if microseconds > latencies.slowest:  # noqa: PLR1730 - as above
            latencies.slowest = microseconds
        counts = latencies.counts
        counts[bucket] = counts.get(bucket, 0) + 1
        bin_.records += records
        counts = bin_.counts
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
        statistics = self.of(model)
        interval = _interval(began, ended)
        statistics.loads += 1
        statistics.load_milliseconds += interval[1] - interval[0]
        statistics.loading = _with(statistics.loading, interval)

    def worked(self, model: str, *, began: float, ended: float) -> None:
        """Note that the model was being invoked."""
        statistics = self.of(model)
        statistics.working = _with(statistics.working, _interval(began, ended))

    def sample(self, *, at: float, in_flight: int, bound: int, warm: int, loading: int) -> None:
        """Note how much is in flight and may be, and how many models are warm and loading; about once a second."""
        self.bins.at(int(at)).add_samples((1, in_flight, bound, warm, loading))

    def take(self) -> dict[str, Any]:
        """Return what was collected as JSON's types, and begin again with nothing."""
        taken = self.as_json()
        self.models, self.bins = {}, TimeBins()
        return taken

    def as_json(self) -> dict[str, Any]:
        """Return what was collected as JSON's types, for :meth:`add`."""
        models = {name: model.as_json() for name, model in sorted(self.models.items())}
        return {"models": models, "series": self.bins.as_json()}

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add what :meth:`take` gave, here or in another process; an empty mapping is nothing."""
        for name, model in delta.get("models", {}).items():
            self.of(name).add(model)
        if series := delta.get("series"):
            self.bins.add(series)

    def of(self, model: str) -> ModelStatistics:
        """Return what is known of one model, made where nothing is."""
        statistics = self.models.get(model)
        if statistics is None:
            statistics = self.models[model] = ModelStatistics()
        return statistics


def add_each(counts: dict[str, int], added: Mapping[str, int]) -> None:
    """Add counts by name; what adds up to nothing is left out."""
    for name, count in added.items():
        together = counts.pop(name, 0) + count
        if together:
            counts[name] = together


def _interval(began: float, ended: float) -> Interval:
    begin = int(began * 1_000)
    return begin, max(begin, int(ended * 1_000))


def _with(intervals: list[Interval], added: Interval) -> list[Interval]:
    """Return them with one more, joined once there are many."""
    intervals.append(added)
    return intervals if len(intervals) < _UNJOINED else joined(intervals)
