"""A plan before anything of it is written: inputs listed and named, done ones dropped, models looked for, packed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.inputs import CHUNK, MANIFEST_FILE, InputSource
from airflow_sm_plugin.batches.listing import batch_inputs, listed_page
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.number_sets import window
from airflow_sm_plugin.core.s3 import Presence, S3Uri, check_inputs_apart
from airflow_sm_plugin.exceptions import AccessDenied, InputNotFound, InvalidRequest, TargetModelNotFound
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan.packing import ModelSize, Piece, pack
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.plan.store import read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.state.folder import PlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.state.store import clean_entries

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


MOST_LOOKS = 1_000
"""Models that are looked at one by one; of more the prefix is listed, which tells of a thousand objects at once."""

LOOKS_AT_ONCE = 32


async def missing_models(s3: S3Objects, endpoint: EndpointModels, models: Sequence[str]) -> tuple[str, ...]:
    """Return those target models of which an artefact is not there, in the order of their names.

    Where nobody may look, none is taken for missing, and the log tells so.

    :raises ServiceError: S3 refused otherwise, or did not answer at any attempt
    """
    missing: set[str] = set()
    names = {model.lstrip("/"): model for model in models}
    for prefix in endpoint.prefixes if names else ():
        absent = _looked_for if len(names) <= MOST_LOOKS else _listed
        try:
            missing |= {names[name] for name in await absent(s3, prefix, names)}
        except AccessDenied as error:
            log.info("the models below %s are not looked for: %s", prefix, error)
    return tuple(sorted(missing))


async def _looked_for(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    """Return which of the names below the prefix are no objects, by a HeadObject each."""
    asked = list(names)
    found = await side_by_side(s3.stat, (f"{prefix}{name}" for name in asked), at_once=LOOKS_AT_ONCE)
    if forbidden := found.count(Presence.FORBIDDEN):
        log.info(
            "%d models below %s cannot be looked at: S3 answered 403, as it does without s3:GetObject, and for what is "
            "missing without s3:ListBucket; the endpoint has its own role, so they are tried",
            forbidden,
            prefix,
        )
    return {name for name, seen in zip(asked, found, strict=True) if seen is Presence.ABSENT}


async def _listed(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    """Return which of the names below the prefix are no objects, by a listing up to the last of them."""
    uri, absent = S3Uri.parse(prefix), set(names)
    last = f"{uri.key}{max(absent)}"
    after: str | None = ""
    while after is not None and after < last:
        page = await listed_page(s3, uri, after)
        absent.difference_update(listed.key.removeprefix(uri.key) for listed in page.objects)
        after = page.next_start_after
    return absent


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
