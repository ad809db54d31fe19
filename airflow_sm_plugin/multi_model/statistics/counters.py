"""Counts of one process. The journal's parts hold them, so the counts of a killed process are kept.

Whole numbers only (microseconds, milliseconds, counts): sums do not depend on the order of additions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any, TypeVar

from airflow_sm_plugin.batches.report.failures import FailureGroup, FailureGroups
from airflow_sm_plugin.multi_model.statistics.latencies import MICROSECONDS, SCALE, Latencies
from airflow_sm_plugin.multi_model.statistics.series import TimeBins

Interval = tuple[int, int]
"""Begin and end in epoch milliseconds."""

Time = TypeVar("Time", int, float)

_NEARLY = 500
"""Milliseconds. A shorter gap between two intervals is not worth showing, so it is closed."""

MOST_INTERVALS = 24
"""Intervals kept of one kind for one model: a report holds thousands of models. More close the smallest gaps."""

_UNJOINED = 64
"""Intervals of one kind that are collected before they are joined: joining sorts them all."""


def union(intervals: Iterable[Sequence[Time]], *, within: Time) -> list[tuple[Time, Time]]:
    """Join intervals that overlap, or whose gap is at most *within*; an end before its begin counts as the begin."""
    apart: list[tuple[Time, Time]] = []
    for began, ended in sorted((began, max(began, ended)) for began, ended in intervals):
        if apart and began - apart[-1][1] <= within:
            apart[-1] = (apart[-1][0], max(apart[-1][1], ended))
        else:
            apart.append((began, ended))
    return apart


def joined(intervals: Iterable[Sequence[int]]) -> list[Interval]:
    """Cover all *intervals* with sorted ones that lie apart, :data:`MOST_INTERVALS` at most."""
    apart = union(intervals, within=_NEARLY)
    if len(apart) <= MOST_INTERVALS:
        return apart
    widest = sorted(range(1, len(apart)), key=lambda index: apart[index - 1][1] - apart[index][0])
    begins = [0, *sorted(widest[: MOST_INTERVALS - 1])]
    ends = [*begins[1:], len(apart)]
    return [(apart[begin][0], apart[end - 1][1]) for begin, end in zip(begins, ends, strict=True)]


def length_of(intervals: Iterable[Interval]) -> float:
    """Add up the lengths of *intervals*, in seconds."""
    return sum(ended - began for began, ended in intervals) / 1_000


_COUNTS = ("records", "failed_calls", "loads", "load_milliseconds")
_BY_NAME = ("repeats", "failures")
_INTERVALS = ("loading", "working")


@dataclass(slots=True, eq=False)
class ModelStatistics:
    """Counts, latencies and times of one target model."""

    records: int = 0
    failed_calls: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    repeats: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    groups: FailureGroups = field(default_factory=FailureGroups)
    loads: int = 0
    load_milliseconds: int = 0
    loading: list[Interval] = field(default_factory=list)
    working: list[Interval] = field(default_factory=list)

    def add(self, other: Mapping[str, Any]) -> None:
        """Add another process's counts of the model, as :meth:`as_json` writes them."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + other.get(name, 0))
        for name in _BY_NAME:
            add_each(getattr(self, name), other.get(name, {}))
        for name in _INTERVALS:
            if name in other:
                setattr(self, name, joined([*getattr(self, name), *other[name]]))
        if "latencies" in other:
            self.latencies.add(other["latencies"])
        self.groups.add_json(other.get("groups", ()))

    @property
    def invocations(self) -> int:
        """Requests sent, with and without a result."""
        return self.latencies.count + self.failed_calls

    def as_json(self) -> dict[str, Any]:
        """Convert to JSON's types for :meth:`add`, without zeros."""
        values: dict[str, Any] = {name: getattr(self, name) for name in (*_COUNTS, *_BY_NAME)}
        values |= {name: joined(getattr(self, name)) for name in _INTERVALS}
        values["latencies"] = self.latencies.as_json() if self.latencies.counts else None
        values["groups"] = self.groups.as_json()
        return {name: value for name, value in values.items() if value}


class Statistics:
    """Counts of one process since the last :meth:`take`, or a sum of such counts over processes.

    Times are epoch seconds, so that processes on different workers fit together; durations are seconds.
    """

    __slots__ = ("bins", "models")

    def __init__(self) -> None:
        self.models: dict[str, ModelStatistics] = {}
        self.bins = TimeBins()

    def invoked(self, model: str, *, seconds: float, records: int, epoch_seconds: float) -> None:
        """Count a successful invocation. The engine calls this for every payload, so it is written to be quick.

        :param epoch_seconds: when the invocation ended
        """
        statistics = self.models.get(model) or self.of(model)
        bins = self.bins
        bin_ = bins.bins.get(int(epoch_seconds) >> bins.shift) or bins.bin_of(int(epoch_seconds))
        microseconds = int(seconds * MICROSECONDS)
        if microseconds < 1:  # noqa: PLR1730 - a call of max() takes a tenth of the whole function
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
        """Count an attempt that failed and is repeated.

        :param kind: the error's class, e.g. ``ThrottlingException``
        """
        add_each(self.of(model).repeats, {kind: 1})

    def failed(self, model: str, kind: str, *, records: int) -> None:
        """Count records that ended in an error of a class.

        :param records: negative takes back a failure that was counted before and is tried again
        """
        add_each(self.of(model).failures, {kind: records})

    def explained(self, model: str, row: Mapping[str, Any], *, epoch_seconds: float) -> None:
        """Add a row of ``.errors.jsonl`` to the groups of failures, and its records to the series."""
        group = FailureGroup.of_row(row)
        self.of(model).groups.add(group)
        self.bins.bin_of(int(epoch_seconds)).failed += group.count

    def loaded(self, model: str, *, began: float, ended: float) -> None:
        """Count a cold start."""
        statistics = self.of(model)
        interval = _interval(began, ended)
        statistics.loads += 1
        statistics.load_milliseconds += interval[1] - interval[0]
        statistics.loading = _with(statistics.loading, interval)

    def worked(self, model: str, *, began: float, ended: float) -> None:
        """Record a time in which the model was invoked."""
        statistics = self.of(model)
        statistics.working = _with(statistics.working, _interval(began, ended))

    def sample(self, *, epoch_seconds: float, in_flight: int, bound: int, warm: int, loading: int) -> None:
        """Record gauges, about once a second: invocations in flight, and permitted; models warm, and loading."""
        self.bins.bin_of(int(epoch_seconds)).add_samples((1, in_flight, bound, warm, loading))

    def take(self) -> dict[str, Any]:
        """Convert the counts to JSON's types for :meth:`add`, and reset them."""
        taken = self.as_json()
        self.models, self.bins = {}, TimeBins()
        return taken

    def as_json(self) -> dict[str, Any]:
        """Convert the counts to JSON's types for :meth:`add`."""
        models = {name: model.as_json() for name, model in sorted(self.models.items())}
        return {"models": models, "series": self.bins.as_json()}

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add the result of :meth:`take`, of this or another process; an empty mapping adds nothing."""
        for name, model in delta.get("models", {}).items():
            self.of(name).add(model)
        if series := delta.get("series"):
            self.bins.add(series)

    def of(self, model: str) -> ModelStatistics:
        """Get the statistics of a model; create them for a new model."""
        statistics = self.models.get(model)
        if statistics is None:
            statistics = self.models[model] = ModelStatistics()
        return statistics


def add_each(counts: dict[str, int], added: Mapping[str, int]) -> None:
    """Add counts by name; a sum of 0 is removed."""
    for name, count in added.items():
        total = counts.pop(name, 0) + count
        if total:
            counts[name] = total


def _interval(began: float, ended: float) -> Interval:
    begin = int(began * 1_000)
    return begin, max(begin, int(ended * 1_000))


def _with(intervals: list[Interval], added: Interval) -> list[Interval]:
    intervals.append(added)
    return intervals if len(intervals) < _UNJOINED else joined(intervals)
