"""How far a shard is: its generations, what has ended in the latest one, its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sm_plugin.batch.journal_store import read_journal
from airflow_sm_plugin.batch.plan_folder import GenerationFolder, ShardFolder
from airflow_sm_plugin.core.batch_report import ShardReport

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects


async def latest_generation(s3: S3Objects, shard: ShardFolder, *, above: int = -1) -> int | None:
    """Return the number of the generation that counts; None when nobody has begun with one ``above`` that."""
    number = above + 1
    while await s3.read_if_any(shard.generation(number).claim(0)) is not None:
        number += 1
    return number - 1 if number > above + 1 else None


async def latest_folder(s3: S3Objects, shard: ShardFolder) -> GenerationFolder | None:
    """Return the folder of the generation that counts; None when nobody has begun with the shard."""
    number = await latest_generation(s3, shard)
    return None if number is None else shard.generation(number)


async def clean_entries(s3: S3Objects, shard: ShardFolder) -> int:
    """Return the set of the shard's inputs that are done without any failure."""
    folder = await latest_folder(s3, shard)
    if folder is None:
        return 0
    return (await read_journal(s3, folder, lambda _: 0, keep=False)).clean


async def latest_report(s3: S3Objects, shard: ShardFolder) -> ShardReport | None:
    """Return the shard's report; None when it has none yet."""
    folder = await latest_folder(s3, shard)
    body = await s3.read_if_any(folder.report) if folder else None
    return None if body is None else ShardReport.from_json(body)
