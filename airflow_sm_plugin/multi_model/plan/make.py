"""Plan a multi-model batch: its inputs, the model of each input, and the shard that processes it.

Nothing is invoked. The plan is stored in S3, so that a retry, and every worker, works on exactly the planned inputs.
"""

from __future__ import annotations

import datetime
import functools
import uuid
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.claim import RACES, fenced_off
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.batches.task_try import Origin
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import ServiceUnavailable
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan.draft import Draft, spool_inputs
from airflow_sm_plugin.multi_model.plan.plan import Choice, MultiModelPlan
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.plan.store import PlanStore, StoredPlan, read_shard_plan
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder
from airflow_sm_plugin.multi_model.state.store import read_journal

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_CONCURRENT_READS = 16
"""Plans of shards read at the same time: half of the task's 32 connections to S3, and 16 plans in memory."""


async def make_plan(s3: S3Objects, settings: PlanSettings, endpoint: EndpointModels | None) -> StoredPlan:
    """Return the plan of a batch and its folder: an existing plan that still holds, or a new plan.

    A retry continues with the plan that its run has made, until all of it is finished. Another run (the task was
    cleared) gets the last plan too, as long as no input has changed; else a new plan without the inputs that are
    finished (``resume``), or always a new plan of all inputs (``restart``). A DAG run that was deleted and created
    again always plans all inputs.

    :param endpoint: from :func:`~airflow_sm_plugin.hooks.endpoint_facts.EndpointFacts.models`; None checks for no
        artefacts
    :raises InvalidRequest: an argument or an input breaks a limit, or there is no input
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist
    :raises TargetModelNotFound: an artefact is missing, with ``fail_on_missing``
    :raises FencedOff: a later try has planned
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    settings = settings.checked(endpoint)
    store = PlanStore(s3, settings.folder)
    for _ in range(RACES):
        latest = await store.latest()
        stored = await _plan_of_this_run(s3, store, settings, latest)
        stored = stored or await _plan_of_inputs(s3, store, settings, endpoint, latest)
        if await store.choose(stored.folder, settings.writer, after=latest):
            plan = stored.plan
            log.info(
                "plan of %s of %s, %s, in %s; finished before: %d; location: %s",
                plural(plan.inputs, "input"),
                plural(plan.models, "model"),
                plural(plan.bytes, "byte"),
                plural(plan.shards, "shard"),
                plan.carried,
                stored.folder.location,
            )
            return stored
        log.info("another process planned this batch meanwhile; its plan is read")
    raise ServiceUnavailable(
        f"{settings.folder.location}: {RACES} other processes planned this batch meanwhile",
        do="retry, which plans again",
    )


async def shard_references(
    s3: S3Objects, plan: MultiModelPlan, folder: MultiModelPlanFolder
) -> list[dict[str, Any]]:
    """Return the XCom reference of each shard: ``{"plan_location", "shard", "inputs", "models", "bytes"}``.

    :raises InputNotFound: the plan was deleted
    """
    folders = map(folder.shard, range(plan.shards))
    shards = await side_by_side(functools.partial(read_shard_plan, s3), folders, at_once=_CONCURRENT_READS)
    return [shard.reference(folder.location) for shard in shards]


async def _plan_of_this_run(
    s3: S3Objects, store: PlanStore, settings: PlanSettings, latest: Choice | None
) -> StoredPlan | None:
    """Return this very run's plan as long as it is unfinished, whatever has changed since.

    If no start date is known, a lower try number means either a DAG run that was created again, or an orphan of the
    old run. A try that finds the plan finished counts as created again.

    :raises FencedOff: a later try chose the current plan
    """
    if latest is None:
        return None
    is_later = settings.writer.origin_of(latest.writer) is Origin.LATER_TRY
    if not (is_later or settings.writer.surely_goes_on_from(latest.writer)):
        return None
    stored = await store.stored(latest)
    is_over = stored is None or await _is_finished(s3, stored)
    if is_later and (settings.writer.is_dated or not is_over):
        raise fenced_off(settings.folder.location)
    return None if is_over else stored


async def _plan_of_inputs(
    s3: S3Objects,
    store: PlanStore,
    settings: PlanSettings,
    endpoint: EndpointModels | None,
    latest: Choice | None,
) -> StoredPlan:
    """List the inputs; return the last plan if none has changed, else a new plan.

    A missing model that was uploaded meanwhile is no change: batch tasks that are cleared retry the failed records.
    """
    before = await store.stored(latest)
    earlier = earlier_plans(settings, latest, before)
    with PlanSpool.opened() as spool:
        passed_over = await spool_inputs(s3, settings, spool, endpoint)
        if before is not None and earlier and before.plan.digest == spool.digest:
            is_refused = bool(before.plan.missing_models) and settings.fail_on_missing
            if not is_refused:
                return before
        draft = await Draft.of(s3, settings, endpoint, spool, earlier)
        number = 0 if latest is None else MultiModelPlanFolder(latest.plan_location).number + 1
        return await _written(s3, settings, draft, number=number, passed_over=passed_over)


def earlier_plans(
    settings: PlanSettings, latest: Choice | None, before: StoredPlan | None
) -> tuple[str, ...]:
    """Return the locations of the plans whose results are kept, the earliest first.

    None are kept if the last plan is, or could be, a deleted DAG run's (a later try's, if no start date is known), or
    if the last plan was deleted: then the plans before it are unknown.
    """
    if latest is None or before is None:
        return ()
    origin = settings.writer.origin_of(latest.writer)
    if origin in (Origin.DELETED_RUN, Origin.LATER_TRY) or (origin is Origin.CLEARED and settings.restart):
        return ()
    return (*before.plan.earlier, latest.plan_location)


async def _written(
    s3: S3Objects, settings: PlanSettings, draft: Draft, *, number: int, passed_over: int
) -> StoredPlan:
    nonce = uuid.uuid4().hex[:16]
    folder = settings.folder.plan(number, nonce)
    inputs, size = draft.spool.totals()
    await draft.write_shards(s3, folder)
    plan = MultiModelPlan(
        number=number,
        nonce=nonce,
        endpoint_name=settings.endpoint_name,
        outputs=settings.outputs.rstrip("/"),
        digest=draft.spool.digest,
        inputs=inputs,
        bytes=size,
        models=len(draft.models),
        shards=len(draft.packed),
        missing_models=draft.missing,
        carried=draft.carried,
        passed_over=passed_over,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        writer=settings.writer,
        earlier=draft.earlier,
    )
    await s3.write(folder.plan, plan.as_json(), only_if_new=True)
    return StoredPlan(plan, folder)


async def _is_finished(s3: S3Objects, stored: StoredPlan) -> bool:
    """Check that all inputs of a plan have ended, with no failure that a retry would process again."""
    for shard_number in range(stored.plan.shards):
        journal = await read_journal(s3, stored.folder.shard(shard_number), lambda _: 0, keep=False)
        if not journal.is_finished or any(ended.retryable for ended in journal.failed.values()):
            return False
    return True
