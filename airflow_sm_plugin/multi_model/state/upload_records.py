"""Records of multipart uploads that have begun and not ended, so that the next process gives up what a killed one left.

S3 keeps, and bills, the parts of such an upload for ever. Its own listing has only their keys, and under the same key
another program may be uploading: only what is recorded here is given up.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.s3.upload import MultipartUpload, abort_upload
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import ServiceError

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)


class UploadRecords:
    """One object for each upload.

    :param prefix: where they lie, with a slash at its end
    """

    def __init__(self, s3: S3Objects, prefix: str) -> None:
        self._s3 = s3
        self._prefix = prefix

    async def begun(self, upload: MultipartUpload) -> str:
        """Record an upload, and return where."""
        record = f"{self._prefix}{uuid.uuid4().hex}.json"
        body = json.dumps({"location": upload.location, "upload": upload.id}).encode()
        await self._s3.write(record, body)
        return record

    async def ended(self, record: str) -> None:
        """Remove a record; without permission it stays."""
        try:
            await self._s3.delete(record)
        except ServiceError as error:
            log.info("%s stays: %s", record, error)

    async def give_up_all(self, check: Callable[[], Awaitable[None]]) -> None:
        """Give up what processes before this one have left.

        :param check: makes sure that no process after this one had begun before it was called
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
        left = json.loads(body)
        log.info("an upload of %s that a killed process left is given up", left["location"])
        await abort_upload(self._s3, left["location"], left["upload"])
        await self.ended(record)
