"""The report of a whole batch: counts that add up, a row for each model, and series over time.

Failure rows hold the beginning of containers' texts, so the report stays in S3; only :meth:`BatchReport.summary` goes
to XCom and the log.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from airflow_sm_plugin.batches.report.failures import FailureGroup, FailureGroups
from airflow_sm_plugin.exceptions import InferenceError
from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.statistics.counters import Interval, ModelStatistics, length_of
from airflow_sm_plugin.multi_model.statistics.series import BatchSeries
from airflow_sm_plugin.multi_model.statistics.shard_report import (
    ModelCounts,
    ShardReport,
    StopReason,
    seconds_between,
)

MOST_FAILURES = 100
"""Failure rows in a batch's report; the ``.errors.jsonl`` of the inputs hold all of them."""

MOST_GROUPS = 500
"""Groups of failures in a batch's report, the greatest first."""

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_SHOWN = 5
"""Contradictions named in an error."""


@dataclass(kw_only=True)
class ModelReport:
    """One target model, over all shards.

    :param unreported: the model's inputs that are not done, in shards that did not finish
    :param missing: whether the plan found no artefact of the model
    """

    target_model: str
    counts: ModelCounts = field(default_factory=ModelCounts)
    unreported: int = 0
    missing: bool = False
    statistics: ModelStatistics = field(default_factory=ModelStatistics, repr=False)

    @property
    def failed(self) -> bool:
        return self.counts.failed

    @property
    def retries(self) -> int:
        return sum(self.statistics.repeats.values())

    @property
    def cold_start_seconds(self) -> float:
        return self.statistics.load_milliseconds / 1_000

    @property
    def working_seconds(self) -> float:
        return length_of(self.statistics.working)

    def as_json(self) -> dict[str, Any]:
        """Make the model's row of ``report.json``; latencies are seconds."""
        counts, statistics, latencies = self.counts, self.statistics, self.statistics.latencies
        quantiles = {name: latencies.quantile(share) for name, share in _QUANTILES.items()}
        seconds = {"mean": latencies.mean, **quantiles, "max": latencies.longest}
        return {
            "target_model": self.target_model,
            "inputs": counts.inputs,
            "inputs_failed": counts.inputs_failed,
            "inputs_unread": counts.inputs_unread,
            "inputs_unreported": self.unreported,
            "records": counts.records,
            "succeeded": counts.records - counts.records_failed,
            "failed": counts.records_failed,
            "failures": statistics.failures,
            "invocations": statistics.invocations,
            "retries": self.retries,
            "retried": statistics.repeats,
            "cold_starts": statistics.loads,
            "cold_start_seconds": self.cold_start_seconds,
            "working_seconds": self.working_seconds,
            "latency": {name: None if value is None else round(value, 6) for name, value in seconds.items()},
            "artefact_missing": self.missing,
        }

    def timeline(self) -> dict[str, Any]:
        """List when the model was loaded and when it was invoked, as pairs of epoch seconds."""
        return {
            "target_model": self.target_model,
            "loading": _in_seconds(self.statistics.loading),
            "working": _in_seconds(self.statistics.working),
        }


def _in_seconds(intervals: Iterable[Interval]) -> list[list[float]]:
    return [[began / 1_000, ended / 1_000] for began, ended in intervals]


class ModelFailures(NamedTuple):
    """A group of failures of one target model, or of all where the name is empty."""

    target_model: str
    group: FailureGroup

    def as_json(self) -> dict[str, Any]:
        group = self.group
        return {
            "target_model": self.target_model,
            "error": group.error,
            "status": group.status,
            "message": group.message,
            "records": group.count,
            "failures": group.times,
            "examples": [example._asdict() for example in group.examples],
        }


class Stop(NamedTuple):
    """Shards that ended early for one reason.

    :param reason: None where no error was recorded: the process was killed, still runs, or never began
    """

    reason: StopReason | None
    shards: Sequence[int]

    def as_json(self) -> dict[str, Any]:
        reason = self.reason
        return {
            "error": None if reason is None else reason.error,
            "message": None if reason is None else reason.message,
            "shards": list(self.shards),
        }


def failure_groups(models: Iterable[tuple[str, ModelStatistics]]) -> list[ModelFailures]:
    """List failures by model, error class and message, those of most records first."""
    found = [ModelFailures(name, group) for name, statistics in models for group in statistics.groups]
    return sorted(found, key=lambda each: (-each.group.count, -each.group.times, each.target_model))


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """The whole batch.

    :param started_at: ISO 8601, when the first shard began
    :param finished_at: ISO 8601, when the last shard ended
    :param models: by name; those of shards without a report as well
    :param missing_shards: numbers of the shards that did not finish: they were killed, failed, or did not run. What
        they did is counted
    :param stops: the same shards by the reason, that of most shards first
    :param failures: the first failure rows of each shard
    """

    plan: MultiModelPlan
    started_at: str
    finished_at: str
    models: Sequence[ModelReport] = field(repr=False)
    missing_shards: Sequence[int] = ()
    stops: Sequence[Stop] = ()
    failures: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    series: BatchSeries = field(default_factory=BatchSeries, repr=False)
    report_location: str | None = None
    report_page_location: str | None = None

    @cached_property
    def total(self) -> ModelCounts:
        return sum((model.counts for model in self.models), ModelCounts())

    @property
    def unreported(self) -> int:
        """Inputs that are not done, in shards that did not finish."""
        return sum(model.unreported for model in self.models)

    @property
    def succeeded(self) -> int:
        return self.total.records - self.total.records_failed

    @property
    def failed_models(self) -> list[ModelReport]:
        """Models with failures, those with most failed records first."""
        failed = [model for model in self.models if model.failed]
        return sorted(
            failed,
            key=lambda model: (-model.counts.records_failed, -model.counts.inputs_failed, model.target_model),
        )

    @property
    def done(self) -> int:
        """Inputs that ended without a failure."""
        return self.total.inputs - self.total.inputs_failed

    @cached_property
    def failure_groups(self) -> list[ModelFailures]:
        """Failures by model, error class and message; those with the error that stopped shards are one group."""
        stopping = {stop.reason.error for stop in self.stops if stop.reason is not None}
        groups = failure_groups((model.target_model, model.statistics) for model in self.models)
        of_stops = FailureGroups(most=len(stopping))
        for _, group in groups:
            if group.error in stopping:
                of_stops.add(group)
        others = [each for each in groups if each.group.error not in stopping]
        return [*(ModelFailures("", group) for group in of_stops), *others]

    @property
    def failed_by_stops(self) -> int:
        """Records that failed with the error that stopped shards, before that was certain."""
        return sum(group.count for target_model, group in self.failure_groups if not target_model)

    @property
    def failures_by_class(self) -> dict[str, int]:
        """Failed records by error class, the most frequent first."""
        return _by_class(model.statistics.failures for model in self.models)

    @property
    def retries_by_class(self) -> dict[str, int]:
        """Repeated attempts by error class, the most frequent first."""
        return _by_class(model.statistics.repeats for model in self.models)

    @property
    def retries(self) -> int:
        return sum(model.retries for model in self.models)

    @property
    def invocations(self) -> int:
        return sum(model.statistics.invocations for model in self.models)

    def summary(self) -> dict[str, str | int | float | None]:
        """Make the XCom value: flat, small, with JSON values and no secrets."""
        return {
            "endpoint_name": self.plan.endpoint_name,
            "inputs": self.plan.inputs,
            "inputs_failed": self.total.inputs_failed,
            "inputs_carried": self.plan.carried,
            "inputs_passed_over": self.plan.passed_over,
            "records": self.total.records,
            "succeeded": self.succeeded,
            "failed": self.total.records_failed,
            "models": len(self.models),
            "models_failed": len(self.failed_models),
            "invocations": self.invocations,
            "retries": self.retries,
            "cold_starts": sum(model.statistics.loads for model in self.models),
            "seconds": seconds_between(self.started_at, self.finished_at),
            "shards": self.plan.shards,
            "shards_missing": len(self.missing_shards),
            "plan_digest": self.plan.digest,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "outputs": self.plan.outputs,
            "report_location": self.report_location,
            "report_page_location": self.report_page_location,
        }

    def as_json(self) -> bytes:
        """Encode ``report.json``: the summary, then its details.

        A line for each model makes the file easy to read and to search.
        """
        head = self.summary() | {
            "inputs_unread": self.total.inputs_unread,
            "inputs_unreported": self.unreported,
            "missing_shards": list(self.missing_shards),
            "failed_by_class": self.failures_by_class,
            "retries_by_class": self.retries_by_class,
            "first_failures": [dict(row) for row in self.failures],
        }
        details = (
            _lines("stopped", [stop.as_json() for stop in self.stops]),
            _lines("failure_groups", [each.as_json() for each in self.failure_groups[:MOST_GROUPS]]),
            _lines("model_rows", [model.as_json() for model in self.models]),
            _lines("timeline", [model.timeline() for model in self.models]),
            f' "series": {json.dumps(self.series.as_json(), separators=(",", ":"))}',
        )
        return (",\n".join([json.dumps(head, indent=1)[:-2], *details]) + "\n}\n").encode()


def _lines(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    lines = ",\n".join(f"  {json.dumps(row, separators=(',', ':'))}" for row in rows)
    return f' "{name}": [\n{lines}\n ]' if lines else f' "{name}": []'


def _by_class(counted: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = sum(map(Counter[str], counted), Counter[str]())
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


class ReportSum:
    """The sum of the shards' reports so far."""

    def __init__(self, plan: MultiModelPlan) -> None:
        self._plan = plan
        self._missing_models = set(plan.missing_models)
        self._shards: set[int] = set()
        self._stops: dict[StopReason | None, list[int]] = {}
        self._models: dict[str, ModelReport] = {}
        self._series = BatchSeries()
        self._failures: list[tuple[int, Mapping[str, Any]]] = []
        self._started: list[str] = []
        self._finished: list[str] = []

    def add(self, shard: ShardReport) -> None:
        """Add the report of a shard.

        :raises InferenceError: the report is of another plan, or that shard was added before
        """
        self._check_new(shard.shard)
        self._count(shard)

    def miss(self, shard: ShardPlan, done: ShardReport | None = None) -> None:
        """Add the plan of a shard that did not finish: the inputs that are not done are unreported.

        :param done: the report on what is done; None where nothing is
        :raises InferenceError: the report is of another plan, or that shard was added before
        """
        self._check_new(shard.number)
        self._stops.setdefault(None if done is None else done.stopped, []).append(shard.number)
        if done is not None:
            self._count(done)
        for work in shard.models:
            ended = 0 if done is None else done.counts[work.target_model].inputs
            self._model(work.target_model).unreported += work.count - ended

    def _count(self, shard: ShardReport) -> None:
        if (shard.plan_nonce, shard.endpoint_name) != (self._plan.nonce, self._plan.endpoint_name):
            raise InferenceError(
                f"the report of shard {shard.shard} is of plan {shard.plan_nonce} for endpoint {shard.endpoint_name}, "
                f"not of plan {self._plan.nonce} for endpoint {self._plan.endpoint_name}"
            )
        for name, counts in shard.counts.items():
            self._model(name).counts += counts
        for name, statistics in shard.statistics.get("models", {}).items():
            self._model(name).statistics.add(statistics)
        if series := shard.statistics.get("series"):
            self._series.add(series)
        rows = [*self._failures, *((shard.shard, row) for row in shard.failures)]
        self._failures = sorted(rows, key=lambda row: row[0])[:MOST_FAILURES]
        self._started.append(shard.started_at)
        self._finished.append(shard.finished_at)

    def _check_new(self, shard_number: int) -> None:
        if shard_number in self._shards or not 0 <= shard_number < self._plan.shards:
            raise InferenceError(
                f"shard {shard_number} of plan {self._plan.digest} is reported twice, or is none of its "
                f"{self._plan.shards}"
            )
        self._shards.add(shard_number)

    def _model(self, name: str) -> ModelReport:
        if name not in self._models:
            self._models[name] = ModelReport(target_model=name, missing=name in self._missing_models)
        return self._models[name]

    def report(self) -> BatchReport:
        """Make the report of the whole batch.

        :raises InferenceError: the counts do not add up, so the report must not be trusted
        """
        plan = self._plan
        report = BatchReport(
            plan=plan,
            started_at=min(self._started, key=datetime.fromisoformat, default=plan.created_at),
            finished_at=max(self._finished, key=datetime.fromisoformat, default=plan.created_at),
            models=[model for _, model in sorted(self._models.items())],
            missing_shards=sorted(shard for shards in self._stops.values() for shard in shards),
            stops=sorted(
                (Stop(reason, sorted(shards)) for reason, shards in self._stops.items()),
                key=lambda stop: (-len(stop.shards), stop.shards),
            ),
            failures=[row for _, row in self._failures],
            series=self._series,
        )
        if wrong := _contradictions(report):
            raise InferenceError(
                f"the report on endpoint {plan.endpoint_name} (plan {plan.digest}) does not add up: "
                f"{'; '.join(wrong)}. No report was written; outputs are below {plan.outputs}"
            )
        return report


def _contradictions(report: BatchReport) -> list[str]:
    contradictions = []
    if report.total.inputs + report.unreported != report.plan.inputs:
        inputs = f"of {report.plan.inputs} planned inputs {report.total.inputs} are reported on"
        contradictions.append(f"{inputs} and {report.unreported} are not")
    wrong = [
        model.target_model
        for model in report.models
        if not (model.counts.fits if model.unreported else model.counts.adds_up)
    ]
    return contradictions + [f"those of {model} contradict each other" for model in wrong[:_SHOWN]]
