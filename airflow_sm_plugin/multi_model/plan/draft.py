"""Draft a plan: list and name the inputs, leave out finished inputs, check for missing models, pack shards."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.input_chunks import JSON_LINES, chunk_location, read_lines
from airflow_sm_plugin.batches.inputs import CHUNK, MANIFEST_FILE
from airflow_sm_plugin.batches.listing import batch_inputs, listed_page
from airflow_sm_plugin.batches.parallel import bounded_tasks, side_by_side
from airflow_sm_plugin.core.number_sets import window
from airflow_sm_plugin.core.s3 import Presence, S3Uri, check_inputs_apart
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import AccessDenied, InputNotFound, TargetModelNotFound
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan.packing import Piece, pack
from airflow_sm_plugin.multi_model.plan.plan import ModelWork, ShardPlan
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.plan.store import read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.state.store import read_journal

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

MAX_HEADS = 1_000
"""Up to this many models are checked by a HeadObject each; for more the prefix is listed, 1,000 objects a request."""

_CONCURRENT_HEADS = 32
"""As many as the plan has connections to S3: more would only wait for one. The 1,000 take 32 round trips."""

_CONCURRENT_WRITES = 8
"""Objects of shards written, and so in memory, at the same time; a chunk of inputs has 250 lines."""

_MAX_NAMES_SHOWN = 10
"""Names in an error's text. The number of the others follows them."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A plan of which nothing is written yet.

    :param spool: the entries to be processed
    :param earlier: locations of the plans whose finished inputs are left out, the earliest first
    :param carried: inputs that earlier plans have finished
    :param models: all entries of each model
    :param missing: models without an artefact, sorted
    :param packed: the pieces of each shard
    """

    spool: PlanSpool
    earlier: tuple[str, ...]
    carried: int
    models: Sequence[Piece]
    missing: tuple[str, ...]
    packed: Sequence[Sequence[Piece]]

    @classmethod
    async def of(
        cls,
        s3: S3Objects,
        settings: PlanSettings,
        endpoint: EndpointModels | None,
        spool: PlanSpool,
        earlier: tuple[str, ...],
    ) -> Draft:
        """Draft a plan of the inputs in the spool.

        :raises TargetModelNotFound: an artefact is missing, with ``fail_on_missing``
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        await reuse_finished_inputs(s3, earlier, spool)
        carried = spool.drop_finished()
        models = spool.models()
        missing: tuple[str, ...] = ()
        if endpoint is not None and settings.check_models:
            missing = await missing_models(s3, endpoint, [model.target_model for model in models])
            _report_missing(missing, endpoint, fail=settings.fail_on_missing)
        packed = pack(models, shards=settings.max_shards, weights_of=spool.weights_of)
        return cls(
            spool=spool, earlier=earlier, carried=carried, models=models, missing=missing, packed=packed
        )

    async def write_shards(self, s3: S3Objects, folder: MultiModelPlanFolder) -> None:
        """Write all shards: the chunks of their inputs, then their models. Only the bodies being sent are in memory.

        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        async with bounded_tasks(at_once=_CONCURRENT_WRITES) as start:
            for number, pieces in enumerate(self.packed):
                for location, body in self._shard_objects(folder.shard(number), number, pieces):
                    await start(functools.partial(s3.write, location, body, content_type=JSON_LINES))

    def _shard_objects(
        self, folder: ShardFolder, number: int, pieces: Sequence[Piece]
    ) -> Iterator[tuple[str, bytes]]:
        """Yield the location and the body of each object of a shard."""
        works: list[ModelWork] = []
        lines = self._lines_of(pieces, works)
        for chunk in itertools.count():
            body = "".join(itertools.islice(lines, CHUNK)).encode()
            if not body:
                break
            yield chunk_location(folder.location, chunk), body
        inputs, size = sum(work.count for work in works), sum(work.bytes for work in works)
        shard = ShardPlan(number=number, inputs=inputs, bytes=size, models=tuple(works))
        yield folder.plan, shard.as_json()

    def _lines_of(self, pieces: Sequence[Piece], works: list[ModelWork]) -> Iterator[str]:
        """Yield a shard's entries as lines, and append the work of each model to *works*."""
        missing, first = frozenset(self.missing), 0
        for model, model_pieces in itertools.groupby(pieces, operator.attrgetter("target_model")):
            count = total = 0
            for line, size in itertools.chain.from_iterable(map(self.spool.lines_of, model_pieces)):
                count += 1
                total += size
                yield f"{line}\n"
            is_missing = model in missing
            works.append(
                ModelWork(target_model=model, first=first, count=count, bytes=total, missing=is_missing)
            )
            first += count


async def spool_inputs(
    s3: S3Objects, settings: PlanSettings, spool: PlanSpool, endpoint: EndpointModels | None
) -> int:
    """List the inputs, name each, and add them to the spool.

    :param settings: checked
    :return: the number of objects below the prefix that are no inputs
    :raises InvalidRequest: there are no inputs, one breaks a limit, or two would write the same output
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist
    """
    source, selection = settings.source, settings.source.selection()
    if source.inputs_type == MANIFEST_FILE:
        await _spool_manifest(s3, settings, spool, endpoint)
    else:
        async with aclosing(batch_inputs(s3, source, selection)) as inputs:
            async for entry in inputs:
                spool.add(settings.named(entry))
    spool.finish()
    if not spool.count and not settings.empty_ok:
        raise source.no_inputs(selection, "nothing was planned", remedy="; empty_ok=True makes an empty plan")
    return selection.passed_over


async def _spool_manifest(
    s3: S3Objects, settings: PlanSettings, spool: PlanSpool, endpoint: EndpointModels | None
) -> None:
    """Name a manifest's inputs after all are read: the names depend on whether the inputs share one bucket."""
    buckets, written = set[str](), settings.written_locations(endpoint)
    async with aclosing(batch_inputs(s3, settings.source)) as inputs:
        async for entry in inputs:
            check_inputs_apart(entry.source, written, is_object=True)
            buckets.add(S3Uri.parse(entry.source).bucket)
            spool.stage(entry)
    for entry in spool.staged():
        spool.add(settings.named(entry, many_buckets=len(buckets) > 1))


async def reuse_finished_inputs(s3: S3Objects, locations: Iterable[str], spool: PlanSpool) -> None:
    """Note in the spool which entries of earlier plans were finished without any failed record.

    All plans are read, not only the last: inputs that a plan carried from another plan are no entries of its own. If a
    plan is incomplete, the outputs that it replaced are unknown, so nothing up to that plan counts as finished.

    :param locations: of the plans, the earliest first
    """
    for location in locations:
        try:
            plan = await read_plan(s3, location)
            for shard_number in range(plan.shards):
                await _note_finished(s3, MultiModelPlanFolder(location).shard(shard_number), spool)
        except InputNotFound as error:
            log.warning(
                "the inputs up to plan %s are processed again, as it is incomplete: %s", location, error
            )
            spool.forget_finished()


async def _note_finished(s3: S3Objects, folder: ShardFolder, spool: PlanSpool) -> None:
    clean = (await read_journal(s3, folder, lambda _: 0, keep=False)).clean
    shard = await read_shard_plan(s3, folder)
    for first in range(0, shard.inputs, CHUNK):
        lines = await read_lines(s3, folder.location, first // CHUNK)
        finished = window(clean, first, CHUNK)
        spool.note_finished((line, bool(finished >> index & 1)) for index, line in enumerate(lines))


async def missing_models(s3: S3Objects, endpoint: EndpointModels, models: Sequence[str]) -> tuple[str, ...]:
    """Return the target models without an artefact, sorted.

    If S3 denies access, none counts as missing, and the log says so.

    :raises ServiceError: S3 refused otherwise, or did not answer at any attempt
    """
    missing: set[str] = set()
    names = {model.lstrip("/"): model for model in models}
    for prefix in endpoint.prefixes if names else ():
        absent = _absent_by_head if len(names) <= MAX_HEADS else _absent_by_listing
        try:
            missing |= {names[name] for name in await absent(s3, prefix, names)}
        except AccessDenied as error:
            log.info("the models below %s are not checked: %s", prefix, error)
    return tuple(sorted(missing))


async def _absent_by_head(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    names = list(names)
    presences = await side_by_side(s3.stat, (f"{prefix}{name}" for name in names), at_once=_CONCURRENT_HEADS)
    if forbidden := presences.count(Presence.FORBIDDEN):
        log.info(
            "%d models below %s cannot be checked: S3 answered 403, as it does without s3:GetObject, and for missing "
            "objects without s3:ListBucket; the endpoint has its own role, so the models are tried",
            forbidden,
            prefix,
        )
    return {name for name, presence in zip(names, presences, strict=True) if presence is Presence.ABSENT}


async def _absent_by_listing(s3: S3Objects, prefix: str, names: Iterable[str]) -> set[str]:
    """List the prefix up to the last of the names."""
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
    prefixes = ", ".join(endpoint.prefixes)
    more = f" and {len(missing) - _MAX_NAMES_SHOWN} more" if len(missing) > _MAX_NAMES_SHOWN else ""
    verb = "has" if len(missing) == 1 else "have"
    message = f"{plural(len(missing), 'target model')} {verb} no artefact below {prefixes}: "
    message += ", ".join(missing[:_MAX_NAMES_SHOWN]) + more
    if fail:
        raise TargetModelNotFound(
            f"nothing was planned: {message}",
            do="upload what is missing, correct target_model, or set on_missing_model='record' to have its inputs' "
            "records counted as failed",
        )
    log.warning("%s; the records of their inputs will fail", message)
