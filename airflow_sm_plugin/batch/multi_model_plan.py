"""Plan a multi-model batch: which inputs there are, whose model each is, and which shard does it.

Nothing is invoked. The plan lies in S3, so that a retry, and every worker, works on the very inputs that were planned.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batch.plan_draft import Draft, spool_inputs
from airflow_sm_plugin.batch.plan_folder import PlanFolder
from airflow_sm_plugin.batch.plan_settings import PlanSettings
from airflow_sm_plugin.batch.plan_spool import PlanSpool
from airflow_sm_plugin.batch.plan_store import PlanStore, StoredPlan
from airflow_sm_plugin.batch.plan_writer import write_shards
from airflow_sm_plugin.batch.shard_inputs import read_shard_plan
from airflow_sm_plugin.batch.side_by_side import side_by_side
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.core.shard_plan import MultiModelPlan, shard_reference
from airflow_sm_plugin.hooks.multi_model_endpoint import EndpointModels

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects

__all__ = ["PlanSettings", "make_plan", "shard_references"]

log = get_log(__name__)

_READ_AT_ONCE = 16


async def make_plan(
    s3: S3Objects, settings: PlanSettings, endpoint: EndpointModels | None
) -> tuple[MultiModelPlan, PlanFolder]:
    """Return the plan of a batch and where it lies: one that is there already, or a new one.

    A retry gets the plan that its run has made. Another run (the task was cleared) gets the last plan too while it is
    still true; else a new one without what was done before (``resume``), or always a new one of everything
    (``restart``).

    :param endpoint: as :func:`~airflow_sm_plugin.hooks.multi_model_endpoint.endpoint_models` found it; None looks for
        no artefacts
    :raises InvalidRequest: an argument or an input breaks a limit, or there is no input
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist
    :raises TargetModelNotFound: an artefact is missing, with ``fail_on_missing``
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    settings = settings.checked()
    plans = PlanStore(s3, settings.folder)
    locations = await plans.locations()
    latest = await plans.stored(locations[-1]) if locations else None
    if latest is not None and settings.run is not None and latest.plan.run == settings.run:
        log.info("this run's plan is made already; it lies in %s", latest.folder.location)
        return latest.plan, latest.folder
    with PlanSpool.opened() as spool:
        await spool_inputs(s3, settings, spool)
        stored = _still_true(settings, spool, latest)
        if stored is None:
            earlier = () if settings.restart else locations
            draft = await Draft.of(s3, settings, endpoint, spool, earlier)
            stored = await _written(s3, settings, draft, plans, len(locations))
    _tell(stored)
    return stored.plan, stored.folder


async def shard_references(s3: S3Objects, plan: MultiModelPlan, folder: PlanFolder) -> list[dict[str, Any]]:
    """Return what XCom tells of each shard: ``{"plan_location", "shard", "inputs", "models", "bytes"}``.

    :raises InputNotFound: the plan was deleted
    """

    async def reference(number: int) -> dict[str, Any]:
        return shard_reference(folder.location, await read_shard_plan(s3, folder.shard(number)))

    return await side_by_side(reference, range(plan.shards), at_once=_READ_AT_ONCE)


def _still_true(settings: PlanSettings, spool: PlanSpool, latest: StoredPlan | None) -> StoredPlan | None:
    """Return the last plan if no input has changed since.

    A missing model that was brought meanwhile changes nothing: batch tasks that are cleared try again what failed.
    """
    if latest is None or settings.restart or latest.plan.digest != spool.digest:
        return None
    return None if latest.plan.missing_models and settings.fail_on_missing else latest


async def _written(
    s3: S3Objects, settings: PlanSettings, draft: Draft, plans: PlanStore, number: int
) -> StoredPlan:
    content = digest([draft.digest, draft.which_carried, settings.max_shards, draft.missing])
    folder = plans.folder(number, content)
    await write_shards(s3, draft.spool, draft.packed, folder=folder, missing=frozenset(draft.missing))
    plan = MultiModelPlan(
        number=number,
        endpoint_name=settings.endpoint_name,
        outputs=settings.outputs.rstrip("/"),
        digest=draft.digest,
        inputs=draft.inputs,
        bytes=draft.bytes,
        models=len(draft.models),
        shards=len(draft.packed),
        missing_models=draft.missing,
        carried=draft.carried,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        run=settings.run,
    )
    return await plans.publish(plan, folder)


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
