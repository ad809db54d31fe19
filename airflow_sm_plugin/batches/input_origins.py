"""Refuse inputs that a batch wrote about itself: its state, its report, its failures. They would be sent for money."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.batches.folder import MARK, result_if_marked, state_in
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.s3 import Presence, S3Uri
from airflow_sm_plugin.exceptions import InvalidRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_ASKED_TOGETHER = 1_000
_AT_ONCE = 32
"""HeadObject requests on their way at the same time."""


async def with_checked_origins(
    s3: S3Objects, inputs: AsyncIterable[BatchInput], *, manifest: str | None
) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs, and raise at the first that a batch wrote about itself; at the end at the latest.

    Objects with names that both a batch and its user may choose are asked for their metadata, a HeadObject each.

    :param manifest: where the inputs are listed; None where a prefix lists them
    :raises InvalidRequest: naming the object, what it is, and the remedy
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    asked: list[str] = []
    async for one in inputs:
        key = S3Uri.parse(one.source).key
        what = "the manifest itself" if one.source == manifest else state_in(key)
        if what is not None:
            raise _refused(one.source, what, manifest)
        if result_if_marked(key) is not None:
            asked.append(one.source)
        if len(asked) == _ASKED_TOGETHER:
            await _check_marks(s3, asked, manifest)
            asked.clear()
        yield one
    await _check_marks(s3, asked, manifest)


async def _check_marks(s3: S3Objects, sources: list[str], manifest: str | None) -> None:
    found = await side_by_side(s3.stat, sources, at_once=_AT_ONCE)
    for source, seen in zip(sources, found, strict=True):
        if isinstance(seen, ListedObject) and MARK in (seen.metadata or {}):
            raise _refused(source, str(result_if_marked(S3Uri.parse(source).key)), manifest)
    if forbidden := found.count(Presence.FORBIDDEN):
        log.warning(
            "%d inputs, among them %s, have names as a batch's reports and failures have, and cannot be looked at: S3 "
            "answered 403, as it does without s3:GetObject; they are taken for inputs",
            forbidden,
            sources[found.index(Presence.FORBIDDEN)],
        )


def _refused(source: str, what: str, manifest: str | None) -> InvalidRequest:
    remedy = (
        "take a prefix without it, choose with include, e.g. ['*.out'], or list the objects in a manifest"
        if manifest is None
        else f"take its line out of {manifest}"
    )
    return InvalidRequest(
        f"the input {source} is {what}, no data for a model: nothing was sent. To go on, {remedy}"
    )
