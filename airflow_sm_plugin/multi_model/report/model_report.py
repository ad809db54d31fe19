"""The row of one target model in a batch's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.multi_model.statistics.counters import ModelStatistics
from airflow_sm_plugin.multi_model.statistics.intervals import length_of
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """What became of one target model, over all shards.

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
        """Whether anything of it failed."""
        return self.counts.failed

    @property
    def retries(self) -> int:
        """How many attempts failed and went again."""
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
        latencies = self.statistics.latencies
        quantiles = {name: latencies.quantile(share) for name, share in _QUANTILES.items()}
        return {
            "target_model": self.target_model,
            "inputs": self.counts.inputs,
            "inputs_failed": self.counts.inputs_failed,
            "inputs_unread": self.counts.inputs_unread,
            "inputs_unreported": self.unreported,
            "records": self.counts.records,
            "succeeded": self.counts.records - self.counts.records_failed,
            "failed": self.counts.records_failed,
            "failures": self.statistics.failures,
            "invocations": self.statistics.invocations,
            "retries": self.retries,
            "retried": self.statistics.repeats,
            "cold_starts": self.statistics.loads,
            "cold_start_seconds": self.cold_start_seconds,
            "working_seconds": self.working_seconds,
            "latency": _rounded({"mean": latencies.mean, **quantiles, "max": latencies.longest}),
            "artefact_missing": self.missing,
        }

    def timeline(self) -> dict[str, Any]:
        """Return when it was loading and when it was invoked, as pairs of epoch seconds."""
        return {
            "target_model": self.target_model,
            "loading": [[began / 1_000, ended / 1_000] for began, ended in self.statistics.loading],
            "working": [[began / 1_000, ended / 1_000] for began, ended in self.statistics.working],
        }


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in values.items()}
