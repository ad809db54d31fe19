"""A plan before anything of it is written: inputs listed and named, done ones dropped, models looked for, packed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.listing import MANIFEST_FILE, InputSource, batch_inputs
from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.separate_places import check_inputs_apart
from airflow_sm_plugin.exceptions import InvalidRequest, TargetModelNotFound
from airflow_sm_plugin.hooks.multi_model_endpoint import EndpointModels
from airflow_sm_plugin.multi_model.plan.model_check import missing_models
from airflow_sm_plugin.multi_model.plan.packing import ModelSize, Piece, pack
from airflow_sm_plugin.multi_model.plan.plan_carry import note_what_is_done
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a plan is to hold.

    :param spool: its entries
    :param digest: of all inputs, those carried over included
    :param carried: inputs that earlier plans have done
    :param inputs: to be done
    :param bytes: of these, as far as their size is known
    :param models: what there is of each model
    :param missing: models whose artefact is not there, in order
    :param packed: what each shard has
    :param passed_over: objects below the inputs' prefix that are no inputs
    """

    spool: PlanSpool
    digest: str
    carried: int
    inputs: int
    bytes: int
    models: Sequence[ModelSize]
    missing: tuple[str, ...]
    packed: Sequence[Sequence[Piece]]
    passed_over: int = 0

    @classmethod
    async def of(
        cls,
        s3: S3Objects,
        settings: PlanSettings,
        endpoint: EndpointModels | None,
        spool: PlanSpool,
        earlier: Sequence[str],
    ) -> Draft:
        """Make it of the inputs in the spool.

        :param earlier: locations of the plans whose work need not be done again, the earliest first

        :raises TargetModelNotFound: an artefact is missing, and that is to fail
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        await note_what_is_done(s3, earlier, spool)
        carried = spool.drop_done()
        models = spool.models()
        missing = await missing_of(s3, settings, endpoint, [model.target_model for model in models])
        if missing:
            _tell_missing(missing, endpoint, fail=settings.fail_on_missing)
        inputs, size = spool.totals()
        return cls(
            spool=spool,
            digest=spool.digest,
            carried=carried,
            inputs=inputs,
            bytes=size,
            models=models,
            missing=missing,
            packed=pack(models, shards=settings.max_shards, weights_of=spool.weights_of),
        )


async def missing_of(
    s3: S3Objects, settings: PlanSettings, endpoint: EndpointModels | None, models: Sequence[str]
) -> tuple[str, ...]:
    """Return those models whose artefact is not there; none where that is not to be known, or cannot be."""
    if endpoint is None or not settings.check_models:
        return ()
    return await missing_models(s3, endpoint, models)


def _tell_missing(missing: Sequence[str], endpoint: EndpointModels | None, *, fail: bool) -> None:
    where = ", ".join(endpoint.prefixes) if endpoint else ""
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    names = ", ".join(missing[:_SHOWN]) + more
    if fail:
        raise TargetModelNotFound(
            f"{len(missing)} target models have no artefact below {where}: {names}. Nothing was planned: upload them, "
            f"mend target_model, or say on_missing_model='record' to have their inputs' records counted as failed"
        )
    log.warning(
        "%d target models have no artefact below %s: %s; the records of their inputs will fail",
        len(missing),
        where,
        names,
    )


async def spool_inputs(
    s3: S3Objects, settings: PlanSettings, spool: PlanSpool, endpoint: EndpointModels | None
) -> int:
    """List the inputs, name each, and put them into the spool.

    :param settings: checked
    :return: how many objects below the prefix are no inputs
    :raises InvalidRequest: there are no inputs, one is not what it must be, or two would write the same output
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist
    """
    source, selection = settings.source, settings.source.selection()
    if source.inputs_type == MANIFEST_FILE:
        await _spool_manifest(s3, settings, spool, endpoint)
    else:
        names = settings.names()
        async with aclosing(batch_inputs(s3, source, selection)) as inputs:
            async for one in inputs:
                spool.add(names.named(one))
    spool.finish()
    if not spool.count and not settings.empty_ok:
        raise InvalidRequest(_why_empty(source, selection))
    return selection.passed_over


async def _spool_manifest(
    s3: S3Objects, settings: PlanSettings, spool: PlanSpool, endpoint: EndpointModels | None
) -> None:
    """Name a manifest's inputs when all are known: the names depend on whether they lie in one bucket."""
    buckets, places = set[str](), settings.written_places(endpoint)
    async with aclosing(batch_inputs(s3, settings.source)) as inputs:
        async for one in inputs:
            check_inputs_apart(one.source, places, is_object=True)
            buckets.add(S3Uri.parse(one.source).bucket)
            spool.put_aside(one)
    names = settings.names(many_buckets=len(buckets) > 1)
    for one in spool.put_aside_inputs():
        spool.add(names.named(one))


def _why_empty(source: InputSource, selection: InputSelection) -> str:
    if source.inputs_type == MANIFEST_FILE:
        return f"the manifest {source.location} lists no inputs: nothing was planned; empty_ok=True makes an empty plan"
    return (
        f"there are no inputs below {source.location}: nothing was planned{selection.why_nothing()}; check the prefix, "
        f"wait for the data before this task, or say empty_ok=True for an empty plan"
    )
