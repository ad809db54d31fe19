"""Invented reports of shards and of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_sm_plugin.multi_model.plan.plan import ModelWork, MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ReportSum
from airflow_sm_plugin.multi_model.statistics.counters import Statistics
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, ShardReport

T0 = 1_795_000_000
"""18 November 2026, 11:06:40 UTC."""

GOOD = ModelCounts(inputs=2, records=10)
BAD = ModelCounts(inputs=2, inputs_failed=1, records=10, records_failed=3)


def plan_of(*, inputs: int = 2, shards: int = 1, **fields: Any) -> MultiModelPlan:  # noqa: ANN401 - the plan's own
    plan: dict[str, Any] = {
        "number": 0,
        "nonce": "n1",
        "endpoint_name": "stores",
        "outputs": "s3://bucket/scored",
        "digest": "d1",
        "inputs": inputs,
        "bytes": 1,
        "models": 1,
        "shards": shards,
        "created_at": "2026-11-18T11:06:00+00:00",
        **fields,
    }
    return MultiModelPlan(**plan)


def shard_of(shard: int = 0, counts: Mapping[str, ModelCounts] | None = None, **fields: Any) -> ShardReport:  # noqa: ANN401 - the report's own
    report: dict[str, Any] = {
        "shard": shard,
        "plan_digest": "d1",
        "plan_nonce": "n1",
        "endpoint_name": "stores",
        "counts": {"a.tar.gz": GOOD} if counts is None else counts,
        "started_at": "2026-11-18T11:06:40+00:00",
        "finished_at": "2026-11-18T11:07:40+00:00",
        **fields,
    }
    return ShardReport(**report)


def work_of(shard: int, inputs: Mapping[str, int]) -> ShardPlan:
    """Plan a shard with a number of inputs of each model."""
    works, first = [], 0
    for name, count in inputs.items():
        works.append(ModelWork(target_model=name, first=first, count=count, bytes=count))
        first += count
    return ShardPlan(number=shard, inputs=first, bytes=first, models=tuple(works))


def collected(*steps: Callable[[Statistics], None]) -> dict[str, Any]:
    statistics = Statistics()
    for step in steps:
        step(statistics)
    return statistics.take()


def busy(
    model: str, *, at: float = T0, invocations: int = 20, seconds: float = 0.05
) -> Callable[[Statistics], None]:
    """Make a step: the model loads for two seconds, then it is invoked twice a second."""

    def step(statistics: Statistics) -> None:
        statistics.loaded(model, began=at, ended=at + 2)
        for index in range(invocations):
            now = at + 2 + index / 2
            statistics.invoked(model, seconds=seconds, records=1, epoch_seconds=now)
            statistics.sample(epoch_seconds=now, in_flight=3, bound=8, warm=1, loading=0)
        statistics.worked(model, began=at + 2, ended=at + 2 + invocations / 2)

    return step


def failure_row(model: str = "a.tar.gz", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - the row's own
    return {
        "source": f"s3://bucket/in/{model}/1.jsonl",
        "target_model": model,
        "first_record": 4,
        "record_count": 3,
        "error": "ModelError",
        "status": 400,
        "message": "could not convert 'abc'",
        "attempts": 1,
        **fields,
    }


def explained(model: str = "a.tar.gz", **fields: Any) -> Callable[[Statistics], None]:  # noqa: ANN401 - the row's own
    """Make a step: records fail with a row of errors."""
    return lambda statistics: statistics.explained(model, failure_row(model, **fields), epoch_seconds=T0)


def merged(
    plan: MultiModelPlan,
    shards: Iterable[ShardReport],
    missing: Iterable[tuple[ShardPlan, ShardReport | None]] = (),
) -> BatchReport:
    """Merge the reports of shards, and the plans of shards that did not finish with what was done."""
    total = ReportSum(plan)
    for shard in shards:
        total.add(shard)
    for shard_plan, done in missing:
        total.miss(shard_plan, done)
    return total.report()


def batch_of(shards: Sequence[ShardReport], missing: Sequence[ShardPlan] = (), **fields: Any) -> BatchReport:  # noqa: ANN401 - the plan's own
    inputs = sum(shard.total.inputs for shard in shards) + sum(shard.inputs for shard in missing)
    plan = plan_of(**{"inputs": inputs, "shards": len(shards) + len(missing), **fields})
    return replace(
        merged(plan, shards, ((shard, None) for shard in missing)),
        report_location="s3://b/p/report.json",
        report_page_location="s3://b/p/report.html",
    )
