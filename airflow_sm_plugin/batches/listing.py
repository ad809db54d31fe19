"""List a batch's inputs, and check each before any is sent. List the state of batches below a prefix.

Inputs are the objects below a prefix, or those of a manifest. Objects that batches wrote about themselves (state,
reports, lists of failures) are refused: their invocations would cost money and give no predictions. All functions
raise ServiceError where S3 refuses, or does not answer at any attempt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.retry import repeated
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.aws.s3.objects import ObjectPage, S3Objects
from airflow_sm_plugin.batches.folder import MARK, result_if_marked, state_in
from airflow_sm_plugin.batches.inputs import MANIFEST_FILE, BatchInput, InputSource
from airflow_sm_plugin.batches.manifest_reading import HEADS_AT_ONCE, checked_inputs, manifest_entries
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.batches.templates import fields_of, render
from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.s3 import Presence, S3Uri, relative_key
from airflow_sm_plugin.exceptions import InvalidRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.listing import Page

log = get_log(__name__)

_MARKS_AT_A_TIME = 1_000
"""Locations in memory until they are checked: as many as a page of ListObjectsV2 lists."""


async def batch_inputs(
    s3: S3Objects, source: InputSource, selection: InputSelection | None = None
) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs in order, with one page or line in memory at a time. Close it (``contextlib.aclosing``).

    :param selection: of the source; pass it to read its counts afterwards
    :raises InvalidRequest: an input breaks a limit, a batch wrote it about itself, or a manifest's line, whose number
        is in the message, is not valid
    :raises InputNotFound: there is no such manifest, or (at the end) objects that it lists do not exist
    """
    source = source.checked()
    if source.inputs_type == MANIFEST_FILE:
        manifest, listed = source.location, _in_manifest(s3, source)
    else:
        manifest, listed = None, _below_prefix(s3, source, selection or source.selection())
    number = 0
    async with aclosing(listed), aclosing(_with_checked_origins(s3, listed, manifest=manifest)) as inputs:
        async for item in inputs:
            yield source.limits.check(_with_attributes(item, source, number))
            number += 1


def _with_attributes(item: BatchInput, source: InputSource, number: int) -> BatchInput:
    if source.custom_attributes is None or item.custom_attributes is not None:
        return item
    fields = {
        **fields_of(S3Uri.parse(item.source).key, relative=item.relative),
        **source.run,
        "number": str(number),
    }
    rendered = render(source.custom_attributes, fields, argument="custom_attributes")
    return dataclasses.replace(item, custom_attributes=rendered)


async def _in_manifest(s3: S3Objects, source: InputSource) -> AsyncGenerator[BatchInput, None]:
    entries = manifest_entries(s3, source.location, target_models=source.target_models)
    unchecked = (entry.input async for entry in entries)
    inputs = checked_inputs(s3, entries, manifest=source.location) if source.check_inputs else unchecked
    async with aclosing(entries), aclosing(inputs):
        async for item in inputs:
            yield item


async def _below_prefix(
    s3: S3Objects, source: InputSource, selection: InputSelection
) -> AsyncGenerator[BatchInput, None]:
    uri = S3Uri.parse(source.location)
    start_after: str | None = ""
    while start_after is not None:
        page = await listed_page(s3, uri, start_after)
        for listed in page.objects:
            is_state = state_in(listed.key) is not None  # taken although hidden, so that it is refused later
            if selection.takes(listed.key, even_hidden=is_state):
                yield BatchInput(
                    source=f"s3://{uri.bucket}/{listed.key}",
                    size=listed.size,
                    etag=listed.etag,
                    relative=relative_key(uri.key, listed.key),
                )
        start_after = page.next_start_after
    if selection.passed_over:
        counts = selection.counts_in_words()
        log.info("%s: %d objects are no inputs: %s", source.location, selection.passed_over, counts)
    if idle := selection.idle_include:
        log.warning("%s: no object there matches include %s", source.location, ", ".join(idle))
    if idle := selection.idle_exclude:
        log.info("%s: no object there matches exclude %s", source.location, ", ".join(idle))


async def _with_checked_origins(
    s3: S3Objects, inputs: AsyncIterable[BatchInput], *, manifest: str | None
) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs, and refuse an object that a batch wrote about itself, at the end at the latest.

    A name that both a batch and a user may have chosen costs a HeadObject, for the mark in the metadata.
    """
    unsure: list[str] = []
    async for item in inputs:
        key = S3Uri.parse(item.source).key
        kind = "the manifest itself" if item.source == manifest else state_in(key)
        if kind is not None:
            raise _refused(item.source, kind, manifest)
        if result_if_marked(key) is not None:
            unsure.append(item.source)
        if len(unsure) == _MARKS_AT_A_TIME:
            await _check_marks(s3, unsure, manifest)
            unsure.clear()
        yield item
    await _check_marks(s3, unsure, manifest)


async def _check_marks(s3: S3Objects, sources: list[str], manifest: str | None) -> None:
    answers = await side_by_side(s3.stat, sources, at_once=HEADS_AT_ONCE)
    for source, answer in zip(sources, answers, strict=True):
        if isinstance(answer, ListedObject) and MARK in (answer.metadata or {}):
            raise _refused(source, str(result_if_marked(S3Uri.parse(source).key)), manifest)
    if forbidden := answers.count(Presence.FORBIDDEN):
        log.warning(
            "%d inputs, among them %s, have names as a batch's reports and failures have, and cannot be checked: S3 "
            "answered 403, as it does without s3:GetObject; they are taken for inputs",
            forbidden,
            sources[answers.index(Presence.FORBIDDEN)],
        )


def _refused(source: str, kind: str, manifest: str | None) -> InvalidRequest:
    remedy = (
        "take a prefix without it, choose with include, e.g. ['*.out'], or list the objects in a manifest"
        if manifest is None
        else f"take its line out of {manifest}"
    )
    return InvalidRequest(
        f"the input {source} is {kind}, no data for a model: nothing was sent. To go on, {remedy}"
    )


# Pages with retries. S3Objects retries no listing, because a wait for results counts a failed one as a failed poll.


async def listed_page(s3: S3Objects, uri: S3Uri, start_after: str) -> ObjectPage:
    return await repeated(
        f"s3:ListObjectsV2 {uri}", lambda: s3.list_objects(uri.bucket, uri.key, start_after=start_after)
    )


async def listed_names(s3: S3Objects, bucket: str, prefix: str, *, start_after: str = "") -> Page:
    return await repeated(
        f"s3:ListObjectsV2 s3://{bucket}/{prefix}",
        lambda: s3.list_names(bucket, prefix, start_after=start_after),
    )


async def pages_below(s3: S3Objects, prefix: str) -> AsyncIterator[list[str]]:
    """Yield all keys below a prefix, in order, page by page."""
    uri = S3Uri.parse(prefix)
    after: str | None = ""
    while after is not None:
        page = await listed_names(s3, uri.bucket, uri.key, start_after=after)
        yield page.names
        after = page.next_start_after


async def names_below(s3: S3Objects, prefix: str) -> list[str]:
    return [name async for page in pages_below(s3, prefix) for name in page]
