"""Plan a multi-model batch: which inputs there are, whose model each is, and which shard does it.

Nothing is invoked. The plan lies in S3, so that a retry, and every worker, works on the very inputs that were planned.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.claim import RACES, fenced_off
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.batches.task_try import Origin
from airflow_sm_plugin.exceptions import ServiceUnavailable
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan.draft import Draft, spool_inputs
from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, shard_reference
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.plan.store import Choice, PlanStore, StoredPlan, read_shard_plan
from airflow_sm_plugin.multi_model.plan.writer import write_shards
from airflow_sm_plugin.multi_model.state.folder import PlanFolder
from airflow_sm_plugin.multi_model.state.store import read_journal

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_READ_AT_ONCE = 16


async def make_plan(
    s3: S3Objects, settings: PlanSettings, endpoint: EndpointModels | None
) -> tuple[MultiModelPlan, PlanFolder]:
    """Return the plan of a batch and where it lies: one that is there already, or a new one.

    A retry goes on with the plan that its run has made, until all of it is done. Another run (the task was cleared)
    gets the last plan too while it is still true; else a new one without what was done before (``resume``), or always a
    new one of everything (``restart``). A DAG run that was deleted and created again always plans everything.

    :param endpoint: as :func:`~airflow_sm_plugin.hooks.endpoint_facts.EndpointFacts.models` found it; None looks for
        no artefacts
    :raises InvalidRequest: an argument or an input breaks a limit, or there is no input
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist
    :raises TargetModelNotFound: an artefact is missing, with ``fail_on_missing``
    :raises FencedOff: a later try has planned
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    settings = settings.checked().apart_from(endpoint)
    plans = PlanStore(s3, settings.folder)
    for _ in range(RACES):
        latest = await plans.latest()
        stored = await _goes_on(s3, plans, settings, latest) or await _planned(
            s3, plans, settings, endpoint, latest
        )
        if await plans.choose(stored.folder, settings.writer, after=latest):
            _tell(stored)
            return stored.plan, stored.folder
        log.info("another process planned this batch meanwhile; its plan is looked at")
    raise ServiceUnavailable(
        f"{settings.folder.location}: {RACES} other processes planned this batch meanwhile; a retry plans again"
    )


async def shard_references(s3: S3Objects, plan: MultiModelPlan, folder: PlanFolder) -> list[dict[str, Any]]:
    """Return what XCom tells of each shard: ``{"plan_location", "shard", "inputs", "models", "bytes"}``.

    :raises InputNotFound: the plan was deleted
    """

    async def reference(number: int) -> dict[str, Any]:
        return shard_reference(folder.location, await read_shard_plan(s3, folder.shard(number)))

    return await side_by_side(reference, range(plan.shards), at_once=_READ_AT_ONCE)


async def _goes_on(
    s3: S3Objects, plans: PlanStore, settings: PlanSettings, latest: Choice | None
) -> StoredPlan | None:
    """Return this very run's plan, whatever has changed since, while not all of it is done.

    Where no start date tells a DAG run made anew from an orphan of the old one, a lower try number may be either. What
    finds the plan done counts as made anew.

    :raises FencedOff: a later try chose the plan that counts
    """
    if latest is None:
        return None
    is_later = settings.writer.origin_of(latest.writer) is Origin.LATER_TRY
    if not (is_later or settings.writer.surely_goes_on_from(latest.writer)):
        return None
    stored = await plans.stored(latest.plan_location)
    is_over = stored is None or await is_done(s3, stored)
    if is_later and (settings.writer.is_dated or not is_over):
        raise fenced_off(settings.folder.location)
    return None if is_over else stored


async def _planned(
    s3: S3Objects,
    plans: PlanStore,
    settings: PlanSettings,
    endpoint: EndpointModels | None,
    latest: Choice | None,
) -> StoredPlan:
    """List the inputs, and return the last plan if that is still true, else a new one."""
    before = None if latest is None else await plans.stored(latest.plan_location)
    earlier = earlier_plans(settings, latest, before)
    with PlanSpool.opened() as spool:
        passed_over = await spool_inputs(s3, settings, spool, endpoint)
        if before is not None and earlier and _is_still_true(settings, spool, before):
            return before
        draft = await Draft.of(s3, settings, endpoint, spool, earlier)
        number = 0 if latest is None else PlanFolder(latest.plan_location).number + 1
        draft = dataclasses.replace(draft, passed_over=passed_over)
        return await _written(s3, settings, draft, number, earlier)


def earlier_plans(
    settings: PlanSettings, latest: Choice | None, before: StoredPlan | None
) -> tuple[str, ...]:
    """Return where the plans lie whose results need not be made again, the earliest first.

    None where the last plan is a deleted DAG run's, or may be (a later try's, where no start date tells), or is deleted
    itself: nobody knows then which came before it.
    """
    if latest is None or before is None:
        return ()
    origin = settings.writer.origin_of(latest.writer)
    if origin in (Origin.DELETED_RUN, Origin.LATER_TRY) or (origin is Origin.CLEARED and settings.restart):
        return ()
    return (*before.plan.earlier, latest.plan_location)


def _is_still_true(settings: PlanSettings, spool: PlanSpool, stored: StoredPlan) -> bool:
    """Say whether no input has changed since.

    A missing model that was brought meanwhile changes nothing: batch tasks that are cleared try again what failed.
    """
    is_refused = bool(stored.plan.missing_models) and settings.fail_on_missing
    return stored.plan.digest == spool.digest and not is_refused


async def _written(
    s3: S3Objects, settings: PlanSettings, draft: Draft, number: int, earlier: tuple[str, ...]
) -> StoredPlan:
    nonce = uuid.uuid4().hex[:16]
    folder = settings.folder.plan(number, nonce)
    await write_shards(
        s3,
        draft.spool,
        draft.packed,
        folder=folder,
        missing=frozenset(draft.missing),
    )
    plan = MultiModelPlan(
        number=number,
        nonce=nonce,
        endpoint_name=settings.endpoint_name,
        outputs=settings.outputs.rstrip("/"),
        digest=draft.digest,
        inputs=draft.inputs,
        bytes=draft.bytes,
        models=len(draft.models),
        shards=len(draft.packed),
        missing_models=draft.missing,
        carried=draft.carried,
        passed_over=draft.passed_over,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        writer=settings.writer,
        earlier=earlier,
    )
    await s3.write(folder.plan, plan.as_json(), only_if_new=True)
    return StoredPlan(plan, folder)


def _tell(stored: StoredPlan) -> None:
    plan = stored.plan
    log.info(
        "%d inputs of %d models, %d bytes, in %d shards; %d inputs were done before; the plan lies in %s",
        plan.inputs,
        plan.models,
        plan.bytes,
        plan.shards,
        plan.carried,
        stored.folder.location,
    )


async def is_done(s3: S3Objects, stored: StoredPlan) -> bool:
    """Say whether all inputs of a plan have ended, with nothing that a retry would do again."""
    for number in range(stored.plan.shards):
        journal = await read_journal(s3, stored.folder.shard(number), lambda _: 0, keep=False)
        if not journal.is_finished or any(ended.retryable for ended in journal.failed.values()):
            return False
    return True
