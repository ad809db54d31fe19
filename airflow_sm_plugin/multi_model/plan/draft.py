"""Draft a plan: list and name the inputs, leave out finished ones, check for missing models, pack shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.input_chunks import read_lines
from airflow_sm_plugin.batches.inputs import CHUNK, MANIFEST_FILE
from airflow_sm_plugin.batches.listing import batch_inputs, listed_page
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.number_sets import window
from airflow_sm_plugin.core.s3 import Presence, S3Uri, check_inputs_apart
from airflow_sm_plugin.exceptions import AccessDenied, InputNotFound, TargetModelNotFound
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan.packing import ModelSize, Piece, pack
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.plan.store import read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.state.store import read_journal

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

MAX_HEADS = 1_000
"""Models that are checked by a HeadObject each; for more the prefix is listed, a thousand objects a request."""

_HEADS_AT_ONCE = 32
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A plan of which nothing is written yet.

    :param spool: its entries
    :param carried: inputs that earlier plans have done
    :param inputs: to be done
    :param bytes: of these, as far as their size is known
    :param models: what there is of each model
    :param missing: models without an artefact, in order
    :param packed: what each shard has
    """

    spool: PlanSpool
    carried: int
    inputs: int
    bytes: int
    models: Sequence[ModelSize]
    missing: tuple[str, ...]
    packed: Sequence[Sequence[Piece]]

    @classmethod
    async def of(
        cls,
        s3: S3Objects,
        settings: PlanSettings,
        endpoint: EndpointModels | None,
        spool: PlanSpool,
        earlier: Sequence[str],
    ) -> Draft:
        """Draft a plan of the inputs in the spool.

        :param earlier: locations of the plans whose work need not be done again, the earliest first
        :raises TargetModelNotFound: an artefact is missing, with ``fail_on_missing``
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        await reuse_finished_inputs(s3, earlier, spool)
        carried = spool.drop_done()
        models = spool.models()
        missing: tuple[str, ...] = ()
        if endpoint is not None and settings.check_models:
            missing = await missing_models(s3, endpoint, [model.target_model for model in models])
            _report_missing(missing, endpoint, fail=settings.fail_on_missing)
        inputs, size = spool.totals()
        packed = pack(models, shards=settings.max_shards, weights_of=spool.weights_of)
        return cls(
            spool=spool,
            carried=carried,
            inputs=inputs,
            bytes=size,
            models=models,
            missing=missing,
            packed=packed,
        )


# The inputs


async def spool_inputs(
    s3: S3Objects, settings: PlanSettings, spool: PlanSpool, endpoint: EndpointModels | None
) -> int:
    """List the inputs, name each, and put them into the spool.

    :param settings: checked
    :return: how many objects below the prefix are no inputs
    :raises InvalidRequest: there are no inputs, one breaks a limit, or two would write the same output
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist
    """
    source, selection = settings.source, settings.source.selection()
    if source.inputs_type == MANIFEST_FILE:
        await _spool_manifest(s3, settings, spool, endpoint)
    else:
        names = settings.names()
        async with aclosing(batch_inputs(s3, source, selection)) as inputs:
            async for entry in inputs:
                spool.add(names.named(entry))
    spool.finish()
    if not spool.count and not settings.empty_ok:
        raise source.no_inputs(selection, "nothing was planned", remedy="; empty_ok=True makes an empty plan")
    return selection.passed_over


async def _spool_manifest(
    s3: S3Objects, settings: PlanSettings, spool: PlanSpool, endpoint: EndpointModels | None
) -> None:
    """Name a manifest's inputs when all are known: the names depend on whether they lie in one bucket."""
    buckets, places = set[str](), settings.written_places(endpoint)
    async with aclosing(batch_inputs(s3, settings.source)) as inputs:
        async for entry in inputs:
            check_inputs_apart(entry.source, places, is_object=True)
            buckets.add(S3Uri.parse(entry.source).bucket)
            spool.put_aside(entry)
    names = settings.names(many_buckets=len(buckets) > 1)
    for entry in spool.put_aside_inputs():
        spool.add(names.named(entry))


# What earlier plans have done


async def reuse_finished_inputs(s3: S3Objects, locations: Iterable[str], spool: PlanSpool) -> None:
    """Note in the spool which entries of earlier plans were done without any failed record.

    All plans are read, not only the last: what one carried over from another is no entry of its own. Where one is not
    whole any more, it is unknown which outputs it replaced, so that nothing up to it counts as done.

    :param locations: of the plans, the earliest first
    """
    for location in locations:
        try:
            plan = await read_plan(s3, location)
            for number in range(plan.shards):
                await _note_finished(s3, MultiModelPlanFolder(location).shard(number), spool)
        except InputNotFound as error:
            log.warning(
                "what was done up to %s is done again, since its plan is not whole: %s", location, error
            )
            spool.forget_done()


async def _note_finished(s3: S3Objects, folder: ShardFolder, spool: PlanSpool) -> None:
    clean = (await read_journal(s3, folder, lambda _: 0, keep=False)).clean
    shard = await read_shard_plan(s3, folder)
    for chunk in range(shard.chunks):
        lines = await read_lines(s3, folder.location, chunk)
        done = window(clean, chunk * CHUNK, CHUNK)
        spool.note_done((line, bool(done >> place & 1)) for place, line in enumerate(lines))


# Missing models


async def missing_models(s3: S3Objects, endpoint: EndpointModels, models: Sequence[str]) -> tuple[str, ...]:
    """Return the target models without an artefact, in the order of their names.

    Where S3 denies access, none counts as missing, and the log says so.

    :raises ServiceError: S3 refused otherwise, or did not answer at any attempt
    """
    missing: set[str] = set()
    names = {model.lstrip("/"): model for model in models}
    for prefix in endpoint.prefixes if names else ():
        absent = _absent_by_head if len(names) <= MAX_HEADS else _absent_by_listing
        try:
            missing |= {names[name] for name in await absent(s3, prefix, names)}
        except AccessDenied as error:
            log.info("the models below %s are not looked for: %s", prefix, error)
    return tuple(sorted(missing))


async def _absent_by_head(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    asked = list(names)
    answers = await side_by_side(s3.stat, (f"{prefix}{name}" for name in asked), at_once=_HEADS_AT_ONCE)
    if forbidden := answers.count(Presence.FORBIDDEN):
        log.info(
            "%d models below %s cannot be looked at: S3 answered 403, as it does without s3:GetObject, and for what is "
            "missing without s3:ListBucket; the endpoint has its own role, so they are tried",
            forbidden,
            prefix,
        )
    return {name for name, answer in zip(asked, answers, strict=True) if answer is Presence.ABSENT}


async def _absent_by_listing(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    """List up to the last of the names."""
    uri, absent = S3Uri.parse(prefix), set(names)
    last = f"{uri.key}{max(absent)}"
    after: str | None = ""
    while after is not None and after < last:
        page = await listed_page(s3, uri, after)
        absent.difference_update(listed.key.removeprefix(uri.key) for listed in page.objects)
        after = page.next_start_after
    return absent


def _report_missing(missing: Sequence[str], endpoint: EndpointModels, *, fail: bool) -> None:
    if not missing:
        return
    where = ", ".join(endpoint.prefixes)
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
