"""Which inputs a batch has: every object below a prefix, or a manifest's lines, each checked before any is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batch.input_looks import looked_at
from airflow_sm_plugin.batch.input_origins import with_checked_origins
from airflow_sm_plugin.core.input_manifest import ASYNC_LIMITS, BatchInput, InputLimits, input_of
from airflow_sm_plugin.core.key_fields import fields_of, render
from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.core.template_values import choice
from airflow_sm_plugin.hooks.s3_objects import ListedObject, ObjectPage, S3Objects
from airflow_sm_plugin.hooks.s3_repeats import repeated

log = get_log(__name__)

S3_PREFIX = "S3Prefix"
MANIFEST_FILE = "ManifestFile"
INPUTS_TYPES = (S3_PREFIX, MANIFEST_FILE)
"""As Batch Transform calls them."""

_HADOOP_FOLDER = "_$folder$"


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """Where a batch's inputs come from.

    :param location: ``s3://bucket/prefix``: every object whose key begins so, in the order of the keys, but no "folder"
        markers; or ``s3://bucket/key`` of a manifest (:mod:`airflow_sm_plugin.core.input_manifest`)
    :param inputs_type: ``S3Prefix`` or ``ManifestFile``
    :param custom_attributes: template over :func:`~airflow_sm_plugin.core.key_fields.fields_of` the key (a manifest's
        has no prefix), ``run`` and ``{number}``, the input's place in the plan from 0; an input that a manifest gives
        attributes keeps them as they are
    :param run: further fields, e.g. ``dag_id``; they go before Hive partitions of the same name
    :param check_inputs: whether a manifest's objects are looked at (a HeadObject each): that they exist, how large they
        are, and which content they have
    :param target_models: whether a manifest may say which model is an input's
    """

    location: str
    inputs_type: str = S3_PREFIX
    custom_attributes: str | None = field(default=None, repr=False)
    run: Mapping[str, str] = field(default_factory=dict)
    limits: InputLimits = ASYNC_LIMITS
    check_inputs: bool = True
    target_models: bool = False

    def checked(self) -> InputSource:
        """Return the source itself when it can be read.

        :raises InvalidRequest: ``inputs_type`` is another, or the location is none
        """
        if choice(self.inputs_type, "inputs_type", INPUTS_TYPES) == MANIFEST_FILE:
            S3Uri.parse_object(self.location, name="inputs")
        else:
            S3Uri.parse(self.location, name="inputs")
        return self


async def batch_inputs(s3: S3Objects, source: InputSource) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs in order, a page or a line in memory at a time. Close it (``contextlib.aclosing``).

    :raises InvalidRequest: an input breaks a limit or is what a batch wrote about itself, or a manifest's line (whose
        number it says) is none
    :raises InputNotFound: there is no such manifest, or (at the end) objects that it lists do not exist
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    source = source.checked()
    is_manifest = source.inputs_type == MANIFEST_FILE
    prefix = "" if is_manifest else S3Uri.parse(source.location).key
    number = 0
    manifest = source.location if is_manifest else None
    async with (
        aclosing((_in_manifest if is_manifest else _below_prefix)(s3, source)) as found,
        aclosing(with_checked_origins(s3, found, manifest=manifest)) as inputs,
    ):
        async for one in inputs:
            yield source.limits.check(_with_attributes(one, source, prefix, number))
            number += 1


def _with_attributes(one: BatchInput, source: InputSource, prefix: str, number: int) -> BatchInput:
    if source.custom_attributes is None or one.custom_attributes is not None:
        return one
    fields = {
        **fields_of(S3Uri.parse(one.source).key, prefix=prefix),
        **source.run,
        "number": str(number),
    }
    rendered = render(source.custom_attributes, fields, what="custom_attributes")
    return dataclasses.replace(one, custom_attributes=rendered)


async def _in_manifest(s3: S3Objects, source: InputSource) -> AsyncGenerator[BatchInput, None]:
    async with aclosing(_listed_in_manifest(s3, source)) as listed:
        if not source.check_inputs:
            async for _, one in listed:
                yield one
            return
        async with aclosing(looked_at(s3, listed, manifest=source.location)) as inputs:
            async for one in inputs:
                yield one


async def _listed_in_manifest(
    s3: S3Objects, source: InputSource
) -> AsyncGenerator[tuple[int, BatchInput], None]:
    """Yield each input with the number of its line."""
    number = 0
    async with aclosing(s3.read_lines(source.location)) as lines:
        async for line in lines:
            number += 1
            one = input_of(line, number=number, target_models=source.target_models)
            if one is not None:
                yield number, one


async def _below_prefix(s3: S3Objects, source: InputSource) -> AsyncGenerator[BatchInput, None]:
    uri = S3Uri.parse(source.location)
    start_after, passed_over = "", 0
    while True:
        page = await listed_page(s3, uri, start_after)
        for listed in page.objects:
            if _is_folder(listed):
                passed_over += 1
                continue
            yield BatchInput(source=f"s3://{uri.bucket}/{listed.key}", size=listed.size, etag=listed.etag)
        if not page.next_start_after:
            break
        start_after = page.next_start_after
    if passed_over:
        log.info("%s: %d folder markers are no inputs", source.location, passed_over)


def _is_folder(listed: ListedObject) -> bool:
    return listed.key.endswith("/") or (listed.size == 0 and listed.key.endswith(_HADOOP_FOLDER))


async def listed_page(s3: S3Objects, uri: S3Uri, start_after: str) -> ObjectPage:
    """List one page; S3Objects repeats no listing by itself, since for a wait a failed one is a failed look.

    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    return await repeated(
        f"s3:ListObjectsV2 {uri}", lambda: s3.list_objects(uri.bucket, uri.key, start_after=start_after)
    )
