"""Objects that only the owner of a batch writes and deletes: what a later owner wrote is never replaced.

A check of the ownership before each write is not enough: a process can be suspended between the check and its write,
and resume hours later. So each write is conditional on the object that it replaces, and the process reads that
object's ETag *before* it checks the ownership. Whatever a later owner writes from then on makes the write fail; if a
later owner had written anything before, the check fails.

Each object has a mark in its metadata: the batch and the process that wrote it. Only objects with a mark are deleted.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.aws.s3.upload import MultipartUpload, abort_upload
from airflow_sm_plugin.batches.folder import MARK
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.core.s3 import Presence, S3Uri
from airflow_sm_plugin.exceptions import FencedOff, PlanReplaced, PreconditionFailed, ServiceError

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

Check = Callable[[], Awaitable[None]]

_WRITES = 5
_UPLOADS = 3
"""Total attempts to write an object while another process writes it. Only a process left behind does, and stops within
a second, so that a second attempt succeeds mostly; an upload sends all parts again, so it has fewer."""


class _Condition(NamedTuple):
    only_if_new: bool = False
    if_match: str | None = None


_NEW = _Condition(only_if_new=True)


class UploadRecords:
    """Records in S3 of multipart uploads in progress, by which the next process gives up those of a killed one.

    S3 keeps, and bills, the parts of such an upload until it is given up. S3's own listing of uploads has only keys,
    and another program can be uploading to the same key: only recorded uploads are given up.

    :param prefix: of the records, with a slash at its end
    """

    def __init__(self, s3: S3Objects, prefix: str) -> None:
        self._s3 = s3
        self._prefix = prefix

    async def begun(self, upload: MultipartUpload) -> str:
        """Record an upload, and return the record's location."""
        record = f"{self._prefix}{uuid.uuid4().hex}.json"
        body = json.dumps({"location": upload.location, "upload": upload.id}).encode()
        await self._s3.write(record, body)
        return record

    async def ended(self, record: str) -> None:
        """Delete a record; without permission it stays."""
        try:
            await self._s3.delete(record)
        except ServiceError as error:
            log.info("%s stays: %s", record, error)

    async def give_up_all(self, check: Check) -> None:
        """Give up the uploads of earlier processes.

        :param check: as for :class:`FencedObjects`
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        bucket = S3Uri.parse(self._prefix).bucket
        records = [f"s3://{bucket}/{name}" for name in await names_below(self._s3, self._prefix)]
        if records:
            await check()
            await asyncio.gather(*map(self._give_up, records))

    async def _give_up(self, record: str) -> None:
        body = await self._s3.read_if_any(record)
        if body is None:
            return  # its process has ended it meanwhile
        recorded = json.loads(body)
        log.info("an upload of %s that a killed process left is given up", recorded["location"])
        await abort_upload(self._s3, recorded["location"], recorded["upload"])
        await self.ended(record)


class FencedObjects:
    """Objects of a batch that only its owner writes.

    :param mark: names the batch and this process; unique
    :param check: raises FencedOff or PlanReplaced if another process took the batch over before the call
    :param check_lately: the same, but its answer can be a second old: cheap enough for every object
    """

    def __init__(
        self, s3: S3Objects, options: ObjectOptions, *, mark: str, check: Check, check_lately: Check
    ) -> None:
        self._s3 = s3
        self._mark = mark
        self._options = replace(options, metadata={MARK: mark})
        self._check = check
        self._check_lately = check_lately

    async def write(
        self, location: str, body: bytes | bytearray, *, content_type: str = "application/json"
    ) -> bool:
        """Write an object, and return whether it replaced another.

        :raises FencedOff: another process owns the batch
        :raises PreconditionFailed: another process writes it again and again
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
                    **condition._asdict(),
                )
                break
            except PreconditionFailed:
                condition = await self._condition(location)
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
        """Write an object in parts, and return whether it replaced another.

        :param fill: adds the parts to an upload; called again after each upload that fails because of another writer
        :raises FencedOff: and the other errors of :meth:`write`
        """
        for attempt in range(1, _UPLOADS + 1):
            try:
                return await self._upload(location, fill, content_type, records)
            except PreconditionFailed as error:
                log.info("upload %d of %s: %s", attempt, location, error)
                failure = error
        await self._check()
        raise failure

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
            condition = await self._condition(location)
            await upload.complete(**condition._asdict())
        except BaseException:
            await asyncio.shield(self._give_up(upload, record, records))
            raise
        await records.ended(record)
        return condition is not _NEW

    async def _give_up(self, upload: MultipartUpload, record: str | None, records: UploadRecords) -> None:
        try:
            await upload.abort()
        except ServiceError as error:  # the error that ended the upload matters more
            log.info("an upload stays until the next process gives it up: %s", error)
            return
        if record is not None:
            await records.ended(record)

    async def _condition(self, location: str) -> _Condition:
        """Read the object that the next write replaces, then check the ownership: see the module for the order."""
        listed = await self._s3.stat(location)
        await self._check()
        if listed is Presence.ABSENT:
            return _NEW
        return _Condition(if_match=listed.etag) if isinstance(listed, ListedObject) else _Condition()

    async def confirm(self, location: str) -> None:
        """Check the ownership after a new object was written, and delete the object again if it was lost.

        For objects that the next owner does not always replace.

        :raises FencedOff: another process owns the batch
        """
        try:
            await self._check()
        except (FencedOff, PlanReplaced):
            listed = await self._s3.stat(location)
            if isinstance(listed, ListedObject) and _mark_of(listed) == self._mark:
                await self._delete(listed, location)
            raise

    async def delete(self, location: str) -> None:
        """Delete an object that a batch wrote; an object without a mark stays, with a warning in the log.

        :raises FencedOff: another process owns the batch
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        listed = await self._s3.stat(location)
        if not isinstance(listed, ListedObject):
            return
        await self._check()
        if _mark_of(listed) is None:
            log.warning(
                "%s is out of date, but stays: nothing shows that a batch wrote it; delete it yourself",
                location,
            )
        else:
            await self._delete(listed, location)

    async def _delete(self, listed: ListedObject, location: str) -> None:
        try:
            await self._s3.delete(location, if_match=listed.etag)
        except PreconditionFailed as error:
            log.info(
                "%s stays: %s", location, error
            )  # another process has written it meanwhile, and needs it


def _mark_of(listed: ListedObject) -> str | None:
    return (listed.metadata or {}).get(MARK)
