"""Merge the reports of a batch's shards, one after another, so that only their sum is ever held."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_sm_plugin.exceptions import InferenceError
from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.model_report import ModelReport
from airflow_sm_plugin.multi_model.statistics.counters import ModelStatistics
from airflow_sm_plugin.multi_model.statistics.series import BatchSeries
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, ShardReport

MOST_FAILURES = 100
"""How many failure rows a batch's report keeps."""


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
        self._see(shard.shard)
        self._total += shard.total
        for name, counts in shard.counts.items():
            self._counts[name] = self._counts.get(name, ModelCounts()) + counts
        for name, one in shard.statistics.get("models", {}).items():
            self._statistics.setdefault(name, ModelStatistics()).add(one)
        if series := shard.statistics.get("series"):
            self._series.add(series)
        self._failures = sorted(
            [*self._failures, *((shard.shard, row) for row in shard.failures)], key=lambda row: row[0]
        )[:MOST_FAILURES]
        self._started = [min([*self._started, shard.started_at], key=datetime.fromisoformat)]
        self._finished = [max([*self._finished, shard.finished_at], key=datetime.fromisoformat)]

    def miss(self, shard: ShardPlan) -> None:
        """Add a shard that has no report: its inputs are unreported.

        :raises InferenceError: there was a report of that shard
        """
        self._see(shard.number)
        self._missing.append(shard.number)
        for work in shard.models:
            self._unreported[work.target_model] = self._unreported.get(work.target_model, 0) + work.count

    def _see(self, number: int) -> None:
        if number in self._seen or not 0 <= number < self._plan.shards:
            raise InferenceError(
                f"shard {number} of plan {self._plan.digest} is reported twice, or is none of its {self._plan.shards}"
            )
        self._seen.add(number)

    def report(self) -> BatchReport:
        """Return the whole batch's report.

        :raises InferenceError: it does not add up
        """
        gone = set(self._plan.missing_models)
        names = sorted({*self._counts, *self._unreported, *self._statistics})
        return BatchReport(
            plan=self._plan,
            started_at=next(iter(self._started), self._plan.created_at),
            finished_at=next(iter(self._finished), self._plan.created_at),
            total=self._total,
            models=[
                ModelReport(
                    target_model=name,
                    counts=self._counts.get(name, ModelCounts()),
                    unreported=self._unreported.get(name, 0),
                    missing=name in gone,
                    statistics=self._statistics.get(name) or ModelStatistics(),
                )
                for name in names
            ],
            missing_shards=sorted(self._missing),
            failures=[row for _, row in self._failures],
            series=self._series,
        ).checked()
