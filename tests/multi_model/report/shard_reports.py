"""Plans and shard reports in S3, as the plan task and the batch tasks write them."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_sm_plugin.batches.folder import numbered
from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder
from airflow_sm_plugin.multi_model.statistics.shard_report import ShardReport
from tests.multi_model.report.reports import plan_of, work_of
from tests.support import Account, unique


def put(account: Account, location: str, body: bytes) -> None:
    account.upload(body, location.removeprefix(f"s3://{account.bucket}/"))


def lay_out(
    account: Account, shards: Sequence[ShardReport | None]
) -> tuple[MultiModelPlanFolder, MultiModelPlan]:
    """Write a plan, and a report of each shard; None is a shard that has begun and not ended."""
    root = f"s3://{account.bucket}/{unique('merge')}"
    folder = MultiModelPlanFolder(f"{root}/out/_batch/owner/arguments/plan-000-n1")
    planned = [_planned(number, shard) for number, shard in enumerate(shards)]
    plan = plan_of(
        inputs=sum(shard.inputs for shard in planned),
        shards=len(shards),
        models=len({work.target_model for shard in planned for work in shard.models}),
        outputs=f"{root}/out/",
    )
    put(account, folder.plan, plan.as_json())
    for shard, report in zip(planned, shards, strict=True):
        shard_folder = folder.shard(shard.number)
        put(account, shard_folder.plan, shard.as_json())
        put(account, numbered(shard_folder.claims, 0), b"{}")
        if report is not None:
            put(account, shard_folder.report(0), report.as_json())
    return folder, plan


def _planned(number: int, shard: ShardReport | None) -> ShardPlan:
    if shard is None:
        return work_of(number, {"a.tar.gz": 1})
    return work_of(number, {name: counts.inputs for name, counts in shard.counts.items()})
