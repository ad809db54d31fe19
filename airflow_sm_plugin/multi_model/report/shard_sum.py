"""The report of a shard from the sum of its journal, finished or not."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.state.journal import Journal
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, ShardReport, StopReason


def group_of(shard: ShardPlan) -> Callable[[int], int]:
    """Make the function that maps an input of the shard to the number of its model."""
    firsts = [work.first for work in shard.models]
    return lambda entry: bisect.bisect_right(firsts, entry) - 1


def shard_report(
    plan: MultiModelPlan,
    shard: ShardPlan,
    journal: Journal,
    *,
    finished_at: float,
    failures: Sequence[Mapping[str, Any]] = (),
    stopped: StopReason | None = None,
) -> ShardReport:
    """Make the report of a shard.

    Records of inputs that have not ended are counted too, because their results are kept.

    :param finished_at: epoch seconds
    :param failures: the first rows of errors
    """
    group = group_of(shard)
    counts = [
        ModelCounts(inputs=journal.clean_inputs[number], records=journal.clean_records[number])
        for number in range(len(shard.models))
    ]
    for entry, ended in journal.failed.items():
        counts[group(entry)] += ModelCounts(
            inputs=1,
            inputs_failed=1,
            records=ended.records,
            records_failed=ended.failed,
            inputs_unread=int(ended.unreadable),
        )
    for entry, progress in journal.progress.items():
        if entry not in journal.failed:
            failed = sum(stored.failure.records or 0 for stored in progress.failures)
            counts[group(entry)] += ModelCounts(records=progress.records + failed, records_failed=failed)
    began_at = finished_at if journal.began_at is None else journal.began_at
    return ShardReport(
        shard=shard.number,
        plan_digest=plan.digest,
        plan_nonce=plan.nonce,
        endpoint_name=plan.endpoint_name,
        counts={work.target_model: counted for work, counted in zip(shard.models, counts, strict=True)},
        statistics=journal.statistics.as_json(),
        failures=failures,
        started_at=_iso(began_at),
        finished_at=_iso(finished_at),
        stopped=stopped,
    )


def _iso(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds")
