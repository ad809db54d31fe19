"""The report of one shard: counts of each target model, statistics, the first failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from airflow_sm_plugin.multi_model.statistics.counters import Statistics

MOST_FAILURES = 20
"""How many failure rows a shard's report keeps."""


@dataclass(frozen=True, kw_only=True)
class ModelCounts:
    """How many of a model's inputs and records ended how.

    :param inputs: with and without failures
    :param inputs_failed: those of which at least one record failed, or that could not be read
    :param records: those that succeeded and those that failed
    :param inputs_unread: those of the failed inputs that could not be read to their end, so that their records are
        not all counted
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
        """Whether anything of it failed."""
        return bool(self.inputs_failed or self.records_failed)

    @property
    def adds_up(self) -> bool:
        """Whether no part is larger than its whole, and inputs failed where, and only where, something in them did."""
        return (
            0 <= self.inputs_unread <= self.inputs_failed <= self.inputs
            and 0 <= self.records_failed <= self.records
            and bool(self.inputs_failed) == bool(self.records_failed or self.inputs_unread)
        )


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """The whole shard; it is written once all of its inputs are settled.

    :param plan_digest: of the inputs, as the plan has it
    :param plan_nonce: of the plan itself
    :param counts: by target model
    :param statistics: what :meth:`Statistics.take` gave, summed over all processes that worked on the shard
    :param failures: the first rows of ``.errors.jsonl``; they hold the beginning of containers' texts
    :param started_at: ISO 8601, when the first process began; ``finished_at``, when the last output was written
    """

    shard: int
    plan_digest: str
    plan_nonce: str
    endpoint_name: str
    started_at: str
    finished_at: str
    counts: Mapping[str, ModelCounts]
    failures: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    statistics: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def total(self) -> ModelCounts:
        return sum(self.counts.values(), ModelCounts())

    def summary(self) -> dict[str, str | int | float | None]:
        """Return what goes to XCom: flat, small, with JSON values and no secrets."""
        total = self.total
        collected = Statistics()
        collected.add(self.statistics)
        models = collected.models.values()
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
            "seconds": seconds_between(self.started_at, self.finished_at),
            "plan_digest": self.plan_digest,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
        }

    def as_json(self) -> bytes:
        """Return the content of the shard's ``report.json``, as :meth:`from_json` reads it."""
        content = vars(self) | {"failures": self.failures[:MOST_FAILURES]}
        return json.dumps(content, separators=(",", ":"), default=asdict).encode()

    @classmethod
    def from_json(cls, body: bytes | str) -> ShardReport:
        """Read what :meth:`as_json` wrote."""
        given: dict[str, Any] = json.loads(body)
        counts = {name: ModelCounts(**fields) for name, fields in given.pop("counts").items()}
        return cls(counts=counts, failures=tuple(given.pop("failures")), **given)


def seconds_between(started_at: str, finished_at: str) -> float:
    """Return the seconds between two times in ISO 8601, to a tenth; never less than 0."""
    passed = datetime.fromisoformat(finished_at) - datetime.fromisoformat(started_at)
    return max(0.0, round(passed.total_seconds(), 1))
