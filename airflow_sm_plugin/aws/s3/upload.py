"""Write an object in parts: its bytes never are in memory as a whole, and it appears only when it is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import cause_of, status_of, translate, translated
from airflow_sm_plugin.aws.retry import NOT_FOUND, is_race_lost, is_upload_gone, repeated
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions, UploadedPart
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed

__all__ = ["LEAST_PART_BYTES", "MOST_PARTS", "MultipartUpload", "ObjectOptions", "abort_upload"]

LEAST_PART_BYTES = 5 * 1024 * 1024
"""S3 wants every part but the last to be as large."""

MOST_PARTS = 10_000

_RACE_LOST = "somebody else has written or deleted this object meanwhile, or given this upload up"

_Result = TypeVar("_Result")


class MultipartUpload:
    """One upload. Requests are repeated over an outage of a minute; parts count in the order they are added in.

    :attr location: of the object
    :attr id: S3's, of the upload
    :attr size: bytes added and copied so far
    """

    def __init__(self, s3: S3Objects, location: str, upload: str) -> None:
        self._s3 = s3
        self.location = location
        self._uri = S3Uri.parse_object(location)
        self.id = upload
        self._parts: list[UploadedPart] = []
        self.size = 0

    @classmethod
    async def begin(
        cls,
        s3: S3Objects,
        location: str,
        *,
        content_type: str = "application/octet-stream",
        options: ObjectOptions | None = None,
    ) -> MultipartUpload:
        """Begin an upload; :meth:`complete` or :meth:`abort` ends it, until then S3 keeps (and bills) its parts.

        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        uri = S3Uri.parse_object(location)
        doing = f"s3:CreateMultipartUpload {location}"
        with translated(doing):
            upload = await repeated(doing, lambda: s3.uploads.begin(uri, content_type, options or PLAIN))
        return cls(s3, location, upload)

    async def add(self, body: bytes) -> None:
        """Upload a part of 5 MiB to 5 GiB; the last one may be smaller.

        :raises PreconditionFailed: somebody else gave this upload up
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        number = len(self._parts) + 1
        self._parts.append(
            await self._asked("UploadPart", lambda: self._s3.uploads.add(self._uri, self.id, number, body))
        )
        self.size += len(body)

    async def copy(self, source_location: str, start: int, length: int) -> None:
        """Have S3 copy a part from another object, with the limits of :meth:`add`; no byte comes by here.

        :raises PreconditionFailed: somebody else gave this upload up
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        source = S3Uri.parse_object(source_location, name="source_location")
        number, part = len(self._parts) + 1, f"bytes={start}-{start + length - 1}"
        self._parts.append(
            await self._asked(
                "UploadPartCopy",
                lambda: self._s3.uploads.copy(self._uri, self.id, number, source, part),
            )
        )
        self.size += length

    async def complete(self, *, only_if_new: bool = False, if_match: str | None = None) -> None:
        """Make the object of its parts; at least one was added.

        :param only_if_new: as in :meth:`~airflow_sm_plugin.aws.s3.objects.S3Objects.write`
        :param if_match: as there
        :raises PreconditionFailed: one of these did not hold, or somebody else gave this upload up: begin another. Also
            when an attempt whose answer was lost may have completed it, but what is there cannot be told to be it
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        attempts = 0
        doing = f"s3:CompleteMultipartUpload {self.location}"

        async def request() -> None:
            nonlocal attempts
            attempts += 1
            try:
                await self._s3.uploads.complete(
                    self._uri, self.id, self._parts, only_if_new=only_if_new, if_match=if_match
                )
            except ClientError as error:
                if not is_race_lost(error):
                    raise
                raise PreconditionFailed(f"{doing}: {_RACE_LOST}") from error

        try:
            with translated(doing):
                await repeated(doing, request)
        except PreconditionFailed:
            # S3 does not know an upload any more when an attempt whose answer was lost has completed it.
            if attempts == 1 or not await self._is_there():
                raise

    async def abort(self) -> None:
        """Give the upload up, and its parts; that there is none any more is fine.

        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        await abort_upload(self._s3, self.location, self.id)

    async def _is_there(self) -> bool:
        """Say whether the object is surely this upload's; with a KMS key ETags may not tell."""
        found = await self._s3.stat(self.location)
        return isinstance(found, ListedObject) and (found.size, found.etag) == (
            self.size,
            etag_of(self._parts),
        )

    async def _asked(self, operation: str, request: Callable[[], Awaitable[_Result]]) -> _Result:
        doing = f"s3:{operation} {self.location}"
        with translated(doing):
            try:
                return await repeated(doing, request)
            except ClientError as error:
                if not is_upload_gone(error):
                    raise
                raise PreconditionFailed(f"{doing}: {_RACE_LOST}") from error


def etag_of(parts: Sequence[UploadedPart]) -> str | None:
    """Return the ETag, without quotes, of an object in parts whose ETags are MD5 sums; None of others."""
    try:
        sums = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"


async def abort_upload(s3: S3Objects, location: str, upload: str) -> None:
    """Give an upload up, and its parts; that there is none any more is fine.

    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    uri = S3Uri.parse_object(location)
    doing = f"s3:AbortMultipartUpload {location}"
    try:
        await repeated(doing, lambda: s3.uploads.abort(uri, upload))
    except ClientError as error:
        if status_of(error) != NOT_FOUND:
            raise translate(error, doing) from cause_of(error)
