"""Which inputs a batch has: objects below a prefix, or those of a manifest, each checked before any is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.retry import repeated
from airflow_sm_plugin.aws.s3.objects import ObjectPage, S3Objects
from airflow_sm_plugin.batches.folder import state_in
from airflow_sm_plugin.batches.input_origins import with_checked_origins
from airflow_sm_plugin.batches.inputs import ASYNC_LIMITS, BatchInput, InputLimits
from airflow_sm_plugin.batches.manifest_check import looked_at
from airflow_sm_plugin.batches.manifest_reading import manifest_entries
from airflow_sm_plugin.batches.templates import fields_of, relative_key, render
from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import choice
from airflow_sm_plugin.exceptions import InvalidRequest

log = get_log(__name__)

S3_PREFIX = "S3Prefix"
MANIFEST_FILE = "ManifestFile"
INPUTS_TYPES = (S3_PREFIX, MANIFEST_FILE)
"""As Batch Transform calls them."""


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """Where a batch's inputs come from.

    :param location: ``s3://bucket/prefix``: the objects whose keys begin so, in the order of the keys, but for what is
        hidden (:mod:`airflow_sm_plugin.core.input_selection`); or ``s3://bucket/key`` of a manifest
        (:mod:`airflow_sm_plugin.batches.inputs`, :mod:`airflow_sm_plugin.core.manifest_array`), of which every
        object is taken
    :param inputs_type: ``S3Prefix`` or ``ManifestFile``
    :param include: patterns of relative keys below a prefix, empty for all
    :param exclude: patterns of relative keys below a prefix that are no inputs
    :param custom_attributes: template over :func:`~airflow_sm_plugin.batches.templates.fields_of` the key, ``run`` and
        ``{number}``, the input's place in the plan from 0; an input that a manifest gives attributes keeps them as they
        are
    :param run: further fields, e.g. ``dag_id``; they go before Hive partitions of the same name
    :param check_inputs: whether a manifest's objects are looked at (a HeadObject each): that they exist, how large they
        are, and which content they have
    :param target_models: whether a manifest may say which model is an input's
    """

    location: str
    inputs_type: str = S3_PREFIX
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    custom_attributes: str | None = field(default=None, repr=False)
    run: Mapping[str, str] = field(default_factory=dict)
    limits: InputLimits = ASYNC_LIMITS
    check_inputs: bool = True
    target_models: bool = False

    def checked(self) -> InputSource:
        """Return the source itself when it can be read.

        :raises InvalidRequest: ``inputs_type`` is another, the location is none, or a manifest has patterns
        """
        if choice(self.inputs_type, "inputs_type", INPUTS_TYPES) == MANIFEST_FILE:
            S3Uri.parse_object(self.location, name="inputs")
            if self.include or self.exclude:
                raise InvalidRequest(
                    "include and exclude choose among the objects below a prefix; a manifest says by itself which are "
                    "meant: leave them out, or give inputs_type='S3Prefix'"
                )
        else:
            S3Uri.parse(self.location, name="inputs")
        return self

    def selection(self) -> InputSelection:
        """Return what chooses among the objects below the prefix, and counts for one listing."""
        prefix = S3Uri.parse(self.location, name="inputs").key
        return InputSelection(prefix, include=self.include, exclude=self.exclude)


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
