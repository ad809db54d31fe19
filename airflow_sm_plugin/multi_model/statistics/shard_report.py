"""The report of one shard: counts for each target model, statistics, and the first failure rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from airflow_sm_plugin.batches.report.elements import cause_in
from airflow_sm_plugin.multi_model.statistics.counters import ModelStatistics, Statistics

MOST_FAILURES = 20
"""Failure rows in a shard's report; the ``.errors.jsonl`` of the inputs hold all of them."""


@dataclass(frozen=True, kw_only=True)
class ModelCounts:
    """Counts of a model's inputs and records.

    :param inputs: with and without failures
    :param inputs_failed: inputs with at least one failed record, and those that could not be read to their end
    :param records: with and without success
    :param inputs_unread: failed inputs that could not be read to their end, so that not all of their records are
        counted
    """

    inputs: int = 0
    inputs_failed: int = 0
    records: int = 0
    records_failed: int = 0
    inputs_unread: int = 0

    def __add__(self, other: ModelCounts) -> ModelCounts:
        return ModelCounts(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def failed(self) -> bool:
        return bool(self.inputs_failed or self.records_failed)

    @property
    def fits(self) -> bool:
        """Check that no part exceeds its total."""
        return (
            0 <= self.inputs_unread <= self.inputs_failed <= self.inputs
            and 0 <= self.records_failed <= self.records
        )

    @property
    def adds_up(self) -> bool:
        """Check the same, and that inputs failed if and only if a record or the reading failed."""
        return self.fits and bool(self.inputs_failed) == bool(self.records_failed or self.inputs_unread)


@dataclass(frozen=True)
class StopReason:
    """The error that stopped a shard.

    :param error: name of its class
    :param message: what happened, and the reason
    """

    error: str
    message: str

    @classmethod
    def of(cls, error: str, text: str) -> StopReason:
        return cls(error, cause_in(text))


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """The report of one shard: of all its inputs, or of what was done before the shard stopped.

    :param plan_digest: of the plan's inputs
    :param plan_nonce: of the plan itself
    :param counts: by target model
    :param statistics: the sum of :meth:`Statistics.take` over all processes that worked on the shard
    :param failures: the first rows of ``.errors.jsonl``; they hold the beginning of containers' texts
    :param started_at: ISO 8601, when the first process began
    :param finished_at: ISO 8601, when the last output was written, or the last result recorded
    :param stopped: why inputs are left; None also if the process was killed
    """

    shard: int
    plan_digest: str
    plan_nonce: str
    endpoint_name: str
    started_at: str
    finished_at: str
    counts: Mapping[str, ModelCounts]
    stopped: StopReason | None = None
    failures: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    statistics: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def total(self) -> ModelCounts:
        return sum(self.counts.values(), ModelCounts())

    def statistics_by_model(self) -> list[tuple[str, ModelStatistics]]:
        statistics = Statistics()
        statistics.add(self.statistics)
        return list(statistics.models.items())

    def summary(self) -> dict[str, str | int | float | None]:
        """Make the XCom value: flat, small, with JSON values and no secrets."""
        total = self.total
        models = [statistics for _, statistics in self.statistics_by_model()]
        return {
            "endpoint_name": self.endpoint_name,
            "shard": self.shard,
            "inputs": total.inputs,
            "inputs_failed": total.inputs_failed,
            "records": total.records,
            "succeeded": total.records - total.records_failed,
            "failed": total.records_failed,
            "models": len(self.counts),
            "models_failed": sum(1 for counts in self.counts.values() if counts.failed),
            "invocations": sum(model.invocations for model in models),
            "retries": sum(sum(model.repeats.values()) for model in models),
            "cold_starts": sum(model.loads for model in models),
            "seconds": seconds_between(self.started_at, self.finished_at),
            "plan_digest": self.plan_digest,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
        }

    def as_json(self) -> bytes:
        """Encode the report, with the first :data:`MOST_FAILURES` failures."""
        content = vars(self) | {"failures": self.failures[:MOST_FAILURES]}
        return json.dumps(content, separators=(",", ":"), default=asdict).encode()

    @classmethod
    def from_json(cls, body: bytes | str) -> ShardReport:
        fields: dict[str, Any] = json.loads(body)
        counts = {name: ModelCounts(**numbers) for name, numbers in fields.pop("counts").items()}
        stopped = fields.pop("stopped", None)
        return cls(
            counts=counts,
            failures=tuple(fields.pop("failures")),
            stopped=None if stopped is None else StopReason(**stopped),
            **fields,
        )


def seconds_between(started_at: str, finished_at: str) -> float:
    """Subtract two times in ISO 8601, to a tenth of a second; 0 if workers' clocks disagree on their order."""
    elapsed = datetime.fromisoformat(finished_at) - datetime.fromisoformat(started_at)
    return max(0.0, round(elapsed.total_seconds(), 1))
