"""What earlier plans of a batch have done already: those inputs need not be done again while they are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sm_plugin.batch.plan_folder import ShardFolder
from airflow_sm_plugin.batch.plan_spool import PlanSpool
from airflow_sm_plugin.batch.plan_store import PlanStore
from airflow_sm_plugin.batch.shard_inputs import read_shard_plan
from airflow_sm_plugin.core.number_sets import window
from airflow_sm_plugin.core.shard_plan import CHUNK

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects


async def note_what_is_done(s3: S3Objects, plans: PlanStore, spool: PlanSpool) -> None:
    """Tell the spool which entries of all earlier plans were done without any failed record.

    All plans are read, not only the last: what one carried over from another is no entry of its own.
    """
    async for stored in plans.all():
        for number in range(stored.plan.shards):
            await _note_shard(s3, stored.folder.shard(number), spool)


async def _note_shard(s3: S3Objects, folder: ShardFolder, spool: PlanSpool) -> None:
    from airflow_sm_plugin.batch.shard_state import clean_entries

    clean = await clean_entries(s3, folder)
    shard = await read_shard_plan(s3, folder)
    for chunk in range(shard.chunks):
        lines = (await s3.read(folder.inputs(chunk))).decode().splitlines()
        done = window(clean, chunk * CHUNK, CHUNK)
        spool.note_done((line, bool(done >> place & 1)) for place, line in enumerate(lines))
