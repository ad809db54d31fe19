"""How far shards are: what has ended, the report that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.claim import names_below
from airflow_sm_plugin.multi_model.state.folder import ShardFolder
from airflow_sm_plugin.multi_model.state.store import read_journal
from airflow_sm_plugin.multi_model.statistics.shard_report import ShardReport

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.multi_model.plan.store import StoredPlan
    from airflow_sm_plugin.multi_model.state.journal import Journal


async def is_done(s3: S3Objects, stored: StoredPlan) -> bool:
    """Say whether all inputs of a plan have ended, with nothing that a retry would do again."""
    for number in range(stored.plan.shards):
        journal = await _journal(s3, stored.folder.shard(number))
        if not journal.is_finished or any(ended.retryable for ended in journal.failed.values()):
            return False
    return True


async def clean_entries(s3: S3Objects, shard: ShardFolder) -> int:
    """Return the set of the shard's inputs that are done without any failure."""
    return (await _journal(s3, shard)).clean


async def latest_report(s3: S3Objects, shard: ShardFolder) -> ShardReport | None:
    """Return the report of the process that claimed the shard last; None when it has not written one."""
    claims = await names_below(s3, shard.claims)
    if not claims:
        return None
    claim = int(claims[-1].rpartition("/")[2].removesuffix(".json"))
    body = await s3.read_if_any(shard.report(claim))
    return None if body is None else ShardReport.from_json(body)


async def _journal(s3: S3Objects, shard: ShardFolder) -> Journal:
    return await read_journal(s3, shard, lambda _: 0, keep=False)
