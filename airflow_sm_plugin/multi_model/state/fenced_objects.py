"""Write and delete objects only while the batch is ours: what its next owner wrote is never replaced.

Asking first is not enough: a process may be stopped between the answer and its write, and go on hours later. So each
write says what it replaces, learnt before it was asked whose the batch is: whatever the next owner writes from then on
makes it fail, and whatever that had written before, had been claimed before, too.

Each object carries a mark, which batch and process wrote it. Only what has such a mark is ever deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.aws.s3.upload import MultipartUpload
from airflow_sm_plugin.batches.folder import MARK
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import FencedOff, PlanReplaced, PreconditionFailed, ServiceError

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.multi_model.state.upload_records import UploadRecords

log = get_log(__name__)

Check = Callable[[], Awaitable[None]]

_WRITES = 5
_UPLOADS = 3
"""How often in all an object is written that somebody else writes at the same time."""


class _Condition(NamedTuple):
    only_if_new: bool = False
    if_match: str | None = None


_NEW = _Condition(only_if_new=True)


class FencedObjects:
    """Objects that the owner of a batch writes.

    :param options: how they are kept
    :param mark: which batch and process writes them; no other process's
    :param check: finds out whether the batch was somebody else's before it was called, and raises FencedOff or
        PlanReplaced then
    :param check_lately: the same, or whether it was so a moment ago: cheap enough for every object
    """

    def __init__(
        self, s3: S3Objects, options: ObjectOptions, *, mark: str, check: Check, check_lately: Check
    ) -> None:
        self._s3 = s3
        self._mark = mark
        self._options = replace(options, metadata={MARK: mark})
        self._check = check
        self._check_lately = check_lately

    async def write(self, location: str, body: bytes, *, content_type: str = "application/json") -> bool:
        """Write an object, and say whether one was there before.

        :raises FencedOff: the batch is somebody else's
        :raises PreconditionFailed: somebody else writes it again and again
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        condition = _NEW
        await self._check_lately()
        for attempt in range(1, _WRITES + 1):
            try:
                await self._s3.write(
                    location,
                    body,
                    content_type=content_type,
                    options=self._options,
                    only_if_new=condition.only_if_new,
                    if_match=condition.if_match,
                )
                break
            except PreconditionFailed:
                condition = await self._found(location)
                if attempt == _WRITES:
                    raise
        return condition is not _NEW

    async def upload(
        self,
        location: str,
        fill: Callable[[MultipartUpload], Awaitable[None]],
        *,
        content_type: str,
        records: UploadRecords,
    ) -> bool:
        """Write an object in parts, and say whether one was there before.

        :param fill: adds the parts to an upload; called again for each that failed because of somebody else
        :param records: where the upload is recorded until it has ended
        :raises FencedOff: and others, as :meth:`write`
        """
        for attempt in range(1, _UPLOADS):
            try:
                return await self._upload(location, fill, content_type, records)
            except PreconditionFailed as error:
                log.info("upload %d of %s: %s", attempt, location, error)
        try:
            return await self._upload(location, fill, content_type, records)
        except PreconditionFailed:
            await self._check()
            raise

    async def confirm(self, location: str) -> None:
        """Make sure that the batch was ours when a new object was written, and take that back where it was not.

        For objects that the next owner may have none of its own to put in their place.

        :raises FencedOff: the batch is somebody else's
        """
        try:
            await self._check()
        except (FencedOff, PlanReplaced):
            found = await self._s3.stat(location)
            if isinstance(found, ListedObject) and _mark_of(found) == self._mark:
                await self._delete(found, location)
            raise

    async def delete(self, location: str) -> None:
        """Delete an object that a batch wrote; one that has no batch's mark stays, which the log tells.

        :raises FencedOff: the batch is somebody else's
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        found = await self._s3.stat(location)
        if not isinstance(found, ListedObject):
            return
        await self._check()
        if _mark_of(found) is None:
            log.warning(
                "%s is out of date, but stays: nothing shows that a batch wrote it; delete it yourself",
                location,
            )
        else:
            await self._delete(found, location)

    async def _delete(self, found: ListedObject, location: str) -> None:
        try:
            await self._s3.delete(location, if_match=found.etag)
        except PreconditionFailed as error:
            log.info("%s stays: %s", location, error)  # whoever wrote it anew means it

    async def _upload(
        self,
        location: str,
        fill: Callable[[MultipartUpload], Awaitable[None]],
        content_type: str,
        records: UploadRecords,
    ) -> bool:
        await self._check()
        upload = await MultipartUpload.begin(
            self._s3, location, content_type=content_type, options=self._options
        )
        record: str | None = None
        try:
            record = await records.begun(upload)
            await fill(upload)
            condition = await self._found(location)
            await upload.complete(only_if_new=condition.only_if_new, if_match=condition.if_match)
        except BaseException:
            await asyncio.shield(self._give_up(upload, record, records))
            raise
        await records.ended(record)
        return condition is not _NEW

    async def _give_up(self, upload: MultipartUpload, record: str | None, records: UploadRecords) -> None:
        try:
            await upload.abort()
        except ServiceError as error:  # what it was given up for matters more
            log.info("an upload stays until the next process gives it up: %s", error)
            return
        if record is not None:
            await records.ended(record)

    async def _found(self, location: str) -> _Condition:
        """Return what the next write is to replace; in this order, see above."""
        found = await self._s3.stat(location)
        await self._check()
        if found is Presence.ABSENT:
            return _NEW
        return _Condition(if_match=found.etag) if isinstance(found, ListedObject) else _Condition()


def _mark_of(found: ListedObject) -> str | None:
    return (found.metadata or {}).get(MARK)
