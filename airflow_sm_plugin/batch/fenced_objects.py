"""Write and delete objects only while the batch is ours: what its next owner wrote is never replaced.

Asking first is not enough: a process may be stopped between the answer and its write, and go on hours later. So each
write says what it replaces, learnt before it was asked whose the batch is: whatever the next owner writes from then on
makes it fail, and whatever that had written before, had been claimed before, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.async_inference import Sight
from airflow_sm_plugin.exceptions import PreconditionFailed, ServiceError
from airflow_sm_plugin.hooks.s3_listing import ListedObject
from airflow_sm_plugin.hooks.s3_upload import MultipartUpload, abort_uploads

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects
    from airflow_sm_plugin.hooks.s3_upload_calls import ObjectOptions

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
    :param check: finds out whether the batch was somebody else's before it was called, and raises FencedOff then
    :param check_lately: the same, or whether it was so a moment ago: cheap enough for every object
    """

    def __init__(self, s3: S3Objects, options: ObjectOptions, *, check: Check, check_lately: Check) -> None:
        self._s3 = s3
        self._options = options
        self._check = check
        self._check_lately = check_lately

    async def write(self, location: str, body: bytes, *, content_type: str) -> bool:
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
        self, location: str, fill: Callable[[MultipartUpload], Awaitable[None]], *, content_type: str
    ) -> bool:
        """Write an object in parts, and say whether one was there before.

        :param fill: adds the parts to an upload; called again for each that failed because of somebody else
        :raises FencedOff: and others, as :meth:`write`
        """
        for attempt in range(1, _UPLOADS):
            try:
                return await self._upload(location, fill, content_type)
            except PreconditionFailed as error:
                log.info("upload %d of %s: %s", attempt, location, error)
        try:
            return await self._upload(location, fill, content_type)
        except PreconditionFailed:
            await self._check()
            raise

    async def delete(self, location: str) -> None:
        """Delete an object; that there was none is fine.

        :raises FencedOff: the batch is somebody else's
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        await self._check()
        await self._s3.delete(location)

    async def delete_if_any(self, location: str) -> None:
        """Delete an object where one is seen, as :meth:`delete`: nobody needs to be allowed what is not done."""
        if isinstance(await self._s3.stat(location), ListedObject):
            await self.delete(location)

    async def _upload(
        self, location: str, fill: Callable[[MultipartUpload], Awaitable[None]], content_type: str
    ) -> bool:
        await self._check()
        await abort_uploads(self._s3, location)
        upload = await MultipartUpload.begin(
            self._s3, location, content_type=content_type, options=self._options
        )
        try:
            await fill(upload)
            condition = await self._found(location)
            await upload.complete(only_if_new=condition.only_if_new, if_match=condition.if_match)
        except BaseException:
            await asyncio.shield(self._give_up(upload))
            raise
        return condition is not _NEW

    async def _give_up(self, upload: MultipartUpload) -> None:
        try:
            await upload.abort()
        except ServiceError as error:  # what it was given up for matters more
            log.info("an upload stays until the next one of its object: %s", error)

    async def _found(self, location: str) -> _Condition:
        """Return what the next write is to replace; in this order, see above."""
        found = await self._s3.stat(location)
        await self._check()
        if found is Sight.ABSENT:
            return _NEW
        return _Condition(if_match=found.etag) if isinstance(found, ListedObject) else _Condition()
