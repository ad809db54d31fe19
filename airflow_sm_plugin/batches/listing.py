"""Which inputs a batch has: objects below a prefix, or those of a manifest, each checked before any is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.retry import repeated
from airflow_sm_plugin.aws.s3.objects import ObjectPage, S3Objects
from airflow_sm_plugin.batches.folder import state_in
from airflow_sm_plugin.batches.input_origins import with_checked_origins
from airflow_sm_plugin.batches.inputs import MANIFEST_FILE, BatchInput, InputSource
from airflow_sm_plugin.batches.manifest_check import looked_at
from airflow_sm_plugin.batches.manifest_reading import manifest_entries
from airflow_sm_plugin.batches.templates import fields_of, render
from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.s3 import S3Uri, relative_key

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.listing import Page

log = get_log(__name__)


async def batch_inputs(
    s3: S3Objects, source: InputSource, selection: InputSelection | None = None
) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs in order, a page or a line in memory at a time. Close it (``contextlib.aclosing``).

    :param selection: of the source, where the caller wants to know what was passed over

    :raises InvalidRequest: an input breaks a limit or is what a batch wrote about itself, or a manifest's line (whose
        number it says) is none
    :raises InputNotFound: there is no such manifest, or (at the end) objects that it lists do not exist
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    source = source.checked()
    is_manifest = source.inputs_type == MANIFEST_FILE
    listed = (
        _in_manifest(s3, source)
        if is_manifest
        else _below_prefix(s3, source, selection or source.selection())
    )
    number = 0
    manifest = source.location if is_manifest else None
    async with (
        aclosing(listed) as found,
        aclosing(with_checked_origins(s3, found, manifest=manifest)) as inputs,
    ):
        async for one in inputs:
            yield source.limits.check(_with_attributes(one, source, number))
            number += 1


def _with_attributes(one: BatchInput, source: InputSource, number: int) -> BatchInput:
    if source.custom_attributes is None or one.custom_attributes is not None:
        return one
    fields = {
        **fields_of(S3Uri.parse(one.source).key, relative=one.relative),
        **source.run,
        "number": str(number),
    }
    rendered = render(source.custom_attributes, fields, what="custom_attributes")
    return dataclasses.replace(one, custom_attributes=rendered)


async def _in_manifest(s3: S3Objects, source: InputSource) -> AsyncGenerator[BatchInput, None]:
    entries = manifest_entries(s3, source.location, target_models=source.target_models)
    async with aclosing(entries) as listed:
        if not source.check_inputs:
            async for entry in listed:
                yield entry.input
            return
        async with aclosing(looked_at(s3, listed, manifest=source.location)) as inputs:
            async for one in inputs:
                yield one


async def _below_prefix(
    s3: S3Objects, source: InputSource, selection: InputSelection
) -> AsyncGenerator[BatchInput, None]:
    uri = S3Uri.parse(source.location)
    start_after = ""
    while True:
        page = await listed_page(s3, uri, start_after)
        for listed in page.objects:
            is_state = state_in(listed.key) is not None  # of a batch: refused where no pattern leaves it out
            if selection.takes(listed.key, even_hidden=is_state):
                yield BatchInput(
                    source=f"s3://{uri.bucket}/{listed.key}",
                    size=listed.size,
                    etag=listed.etag,
                    relative=relative_key(uri.key, listed.key),
                )
        if not page.next_start_after:
            break
        start_after = page.next_start_after
    if selection.passed_over:
        counts = selection.counts_in_words()
        log.info("%s: %d objects are no inputs: %s", source.location, selection.passed_over, counts)
    if idle := selection.idle_include:
        log.warning("%s: no object there matches include %s", source.location, ", ".join(idle))
    if idle := selection.idle_exclude:
        log.info("%s: no object there matches exclude %s", source.location, ", ".join(idle))


async def listed_page(s3: S3Objects, uri: S3Uri, start_after: str) -> ObjectPage:
    """List one page; S3Objects repeats no listing by itself, since for a wait a failed one is a failed look.

    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    return await repeated(
        f"s3:ListObjectsV2 {uri}", lambda: s3.list_objects(uri.bucket, uri.key, start_after=start_after)
    )


async def listed_names(s3: S3Objects, bucket: str, prefix: str, *, start_after: str = "") -> Page:
    """Return one page of a listing that nobody waits with, so that what may pass is endured as in a read.

    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    return await repeated(
        f"s3:ListObjectsV2 s3://{bucket}/{prefix}",
        lambda: s3.list_names(bucket, prefix, start_after=start_after),
    )


async def pages_below(s3: S3Objects, prefix: str) -> AsyncIterator[list[str]]:
    """Yield all keys below a prefix, in order, page by page.

    :raises ServiceError: as :func:`listed_names`
    """
    uri, after = S3Uri.parse(prefix), ""
    while True:
        page = await listed_names(s3, uri.bucket, uri.key, start_after=after)
        yield page.names
        if page.next_start_after is None:
            return
        after = page.next_start_after


async def names_below(s3: S3Objects, prefix: str) -> list[str]:
    """Return all keys below a prefix, in order.

    :raises ServiceError: as :func:`listed_names`
    """
    return [name async for page in pages_below(s3, prefix) for name in page]
