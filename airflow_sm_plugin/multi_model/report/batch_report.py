"""The report of a whole batch: counts that add up, a row for each model, what went on over time.

It holds the beginning of containers' texts where a failure row does, so it stays in S3; only
:meth:`BatchReport.summary` goes to XCom and the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from airflow_sm_plugin.exceptions import InferenceError
from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.statistics.counters import Interval, ModelStatistics, add_each, length_of
from airflow_sm_plugin.multi_model.statistics.series import BatchSeries
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, ShardReport, seconds_between

MOST_FAILURES = 100
"""How many failure rows a batch's report keeps."""

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """One target model, over all shards.

    :param unreported: its inputs in shards without a report
    :param missing: whether the plan found no artefact of it
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
        """Attempts that failed and went again."""
        return sum(self.statistics.repeats.values())

    @property
    def cold_start_seconds(self) -> float:
        """How long it was loading, all cold starts together."""
        return self.statistics.load_milliseconds / 1_000

    @property
    def working_seconds(self) -> float:
        """How long it was being invoked."""
        return length_of(self.statistics.working)

    def as_json(self) -> dict[str, Any]:
        """Return its row in the report; latencies are seconds."""
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
        """Return when it was loading and when it was invoked, as pairs of epoch seconds."""
        return {
            "target_model": self.target_model,
            "loading": _in_seconds(self.statistics.loading),
            "working": _in_seconds(self.statistics.working),
        }


def _in_seconds(intervals: Iterable[Interval]) -> list[list[float]]:
    return [[began / 1_000, ended / 1_000] for began, ended in intervals]


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """The whole batch.

    :param total: of all shards with a report
    :param models: by name; those of shards without a report as well
    :param missing_shards: numbers of those without a report: killed for good, failed, or never run
    :param failures: the first failure rows of each shard
    :param started_at: ISO 8601, when the first shard began; ``finished_at``, when the last ended
    :param report_location: its own
    """

    plan: MultiModelPlan
    started_at: str
    finished_at: str
    total: ModelCounts
    models: Sequence[ModelReport] = field(repr=False)
    missing_shards: Sequence[int] = ()
    failures: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    series: BatchSeries = field(default_factory=BatchSeries, repr=False)
    report_location: str | None = None
    report_page_location: str | None = None

    @property
    def unreported(self) -> int:
        """Inputs in shards without a report."""
        return sum(model.unreported for model in self.models)

    @property
    def succeeded(self) -> int:
        """Records with an output."""
        return self.total.records - self.total.records_failed

    @property
    def failed_models(self) -> list[ModelReport]:
        """Those of which something failed, the worst first."""
        failed = [model for model in self.models if model.failed]
        return sorted(
            failed,
            key=lambda model: (-model.counts.records_failed, -model.counts.inputs_failed, model.target_model),
        )

    @property
    def failures_by_class(self) -> dict[str, int]:
        """How many records failed of each error class, the most first."""
        return _by_class(model.statistics.failures for model in self.models)

    @property
    def retries_by_class(self) -> dict[str, int]:
        """How many attempts failed and went again, by error class, the most first."""
        return _by_class(model.statistics.repeats for model in self.models)

    @property
    def invocations(self) -> int:
        """How many were sent, whatever was answered."""
        return sum(model.statistics.invocations for model in self.models)

    def lying_at(self, *, report: str, page: str) -> BatchReport:
        return replace(self, report_location=report, report_page_location=page)

    def checked(self) -> BatchReport:
        """Return the report itself when its counts add up.

        :raises InferenceError: they do not, so it must not be believed
        """
        if wrong := self._contradictions():
            raise InferenceError(
                f"the report on endpoint {self.plan.endpoint_name} (plan {self.plan.digest}) does not add up: "
                f"{'; '.join(wrong)}. No report was written; outputs are below {self.plan.outputs}"
            )
        return self

    def _contradictions(self) -> list[str]:
        wrong = [
            f"those of {model.target_model} contradict each other"
            for model in self.models
            if not model.counts.adds_up
        ]
        of_models = sum((model.counts for model in self.models), ModelCounts())
        if of_models != self.total:
            wrong.append(f"the models have {of_models.records} records, the shards {self.total.records}")
        wrong = wrong[:_SHOWN]
        if self.total.inputs + self.unreported != self.plan.inputs:
            inputs = f"of {self.plan.inputs} planned inputs {self.total.inputs} are reported on"
            wrong.insert(0, f"{inputs} and {self.unreported} are not")
        return wrong

    def summary(self) -> dict[str, str | int | float | None]:
        """Return what goes to XCom: flat, small, with JSON values and no secrets."""
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
            "models_failed": sum(1 for model in self.models if model.failed),
            "invocations": self.invocations,
            "retries": sum(model.retries for model in self.models),
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
        """Return the content of ``report.json``: the summary, then what it is made of."""
        whole = self.summary() | {
            "inputs_unread": self.total.inputs_unread,
            "inputs_unreported": self.unreported,
            "missing_shards": list(self.missing_shards),
            "failed_by_class": self.failures_by_class,
            "retries_by_class": self.retries_by_class,
            "first_failures": [dict(row) for row in self.failures],
        }
        parts = {
            "model_rows": [model.as_json() for model in self.models],
            "timeline": [model.timeline() for model in self.models],
            "series": self.series.as_json(),
        }
        return (json.dumps(whole, indent=1)[:-2] + "".join(map(_part, parts.items())) + "\n}\n").encode()


def _part(part: tuple[str, Any]) -> str:
    """Return a part with a line for each of its rows, so that it can be read and searched by the line."""
    name, value = part
    if isinstance(value, list):
        rows = ",\n".join(f"  {json.dumps(row, separators=(',', ':'))}" for row in value)
        return f',\n "{name}": [\n{rows}\n ]' if rows else f',\n "{name}": []'
    return f',\n "{name}": {json.dumps(value, separators=(",", ":"))}'


def _by_class(counted: Iterable[Mapping[str, int]]) -> dict[str, int]:
    together: dict[str, int] = {}
    for counts in counted:
        add_each(together, counts)
    return dict(sorted(together.items(), key=lambda item: (-item[1], item[0])))


class ReportSum:
    """The sum of the shards' reports so far.

    :param plan: the plan that they carry out
    """

    def __init__(self, plan: MultiModelPlan) -> None:
        self._plan = plan
        self._seen: set[int] = set()
        self._missing: list[int] = []
        self._total = ModelCounts()
        self._counts: dict[str, ModelCounts] = {}
        self._unreported: dict[str, int] = {}
        self._statistics: dict[str, ModelStatistics] = {}
        self._series = BatchSeries()
        self._failures: list[tuple[int, Mapping[str, Any]]] = []
        self._started: list[str] = []
        self._finished: list[str] = []

    def add(self, shard: ShardReport) -> None:
        """Add one shard's report.

        :raises InferenceError: it is of another plan, or there was one of that shard already
        """
        if (shard.plan_nonce, shard.endpoint_name) != (self._plan.nonce, self._plan.endpoint_name):
            raise InferenceError(
                f"the report of shard {shard.shard} is of plan {shard.plan_nonce} for endpoint {shard.endpoint_name}, "
                f"not of plan {self._plan.nonce} for endpoint {self._plan.endpoint_name}"
            )
        self._count(shard.shard)
        self._total += shard.total
        for name, counts in shard.counts.items():
            self._counts[name] = self._counts.get(name, ModelCounts()) + counts
        for name, statistics in shard.statistics.get("models", {}).items():
            self._statistics.setdefault(name, ModelStatistics()).add(statistics)
        if series := shard.statistics.get("series"):
            self._series.add(series)
        self._failures = sorted(
            [*self._failures, *((shard.shard, row) for row in shard.failures)], key=lambda row: row[0]
        )[:MOST_FAILURES]
        self._started.append(shard.started_at)
        self._finished.append(shard.finished_at)

    def miss(self, shard: ShardPlan) -> None:
        """Add a shard that has no report: its inputs are unreported.

        :raises InferenceError: there was a report of that shard
        """
        self._count(shard.number)
        self._missing.append(shard.number)
        for work in shard.models:
            self._unreported[work.target_model] = self._unreported.get(work.target_model, 0) + work.count

    def _count(self, number: int) -> None:
        if number in self._seen or not 0 <= number < self._plan.shards:
            raise InferenceError(
                f"shard {number} of plan {self._plan.digest} is reported twice, or is none of its {self._plan.shards}"
            )
        self._seen.add(number)

    def report(self) -> BatchReport:
        """Return the whole batch's report.

        :raises InferenceError: it does not add up
        """
        missing = set(self._plan.missing_models)
        names = sorted({*self._counts, *self._unreported, *self._statistics})
        return BatchReport(
            plan=self._plan,
            started_at=min(self._started, key=datetime.fromisoformat, default=self._plan.created_at),
            finished_at=max(self._finished, key=datetime.fromisoformat, default=self._plan.created_at),
            total=self._total,
            models=[
                ModelReport(
                    target_model=name,
                    counts=self._counts.get(name, ModelCounts()),
                    unreported=self._unreported.get(name, 0),
                    missing=name in missing,
                    statistics=self._statistics.get(name) or ModelStatistics(),
                )
                for name in names
            ],
            missing_shards=sorted(self._missing),
            failures=[row for _, row in self._failures],
            series=self._series,
        ).checked()
