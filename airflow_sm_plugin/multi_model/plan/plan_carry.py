"""What earlier plans of a batch have done already: those inputs need not be done again while they are the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.shard_inputs import read_plan, read_shard_plan
from airflow_sm_plugin.core.number_sets import window
from airflow_sm_plugin.exceptions import InputNotFound
from airflow_sm_plugin.multi_model.plan.plan import CHUNK
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.state.folder import PlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.state.shard_state import clean_entries

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)


async def note_what_is_done(s3: S3Objects, locations: Iterable[str], spool: PlanSpool) -> None:
    """Tell the spool which entries of earlier plans were done without any failed record.

    All plans are read, not only the last: what one carried over from another is no entry of its own. Where one is not
    whole any more, nobody knows which outputs it replaced, so that nothing up to it is taken for done.

    :param locations: of the plans, the earliest first
    """
    for location in locations:
        try:
            await _note_plan(s3, PlanFolder(location), spool)
        except InputNotFound as error:
            log.warning(
                "what was done up to %s is done again, since its plan is not whole: %s", location, error
            )
            spool.forget_done()


async def _note_plan(s3: S3Objects, folder: PlanFolder, spool: PlanSpool) -> None:
    plan = await read_plan(s3, folder.location)
    for number in range(plan.shards):
        await _note_shard(s3, folder.shard(number), spool)


async def _note_shard(s3: S3Objects, folder: ShardFolder, spool: PlanSpool) -> None:
    clean = await clean_entries(s3, folder)
    shard = await read_shard_plan(s3, folder)
    for chunk in range(shard.chunks):
        lines = (await s3.read(folder.inputs(chunk))).decode().splitlines()
        done = window(clean, chunk * CHUNK, CHUNK)
        spool.note_done((line, bool(done >> place & 1)) for place, line in enumerate(lines))
