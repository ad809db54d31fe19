"""Write an object in parts: its bytes are never in memory as a whole, and it appears only when complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.answers import UnreadableAnswer
from airflow_sm_plugin.aws.errors import status_of, translate, translated
from airflow_sm_plugin.aws.retry import NOT_FOUND, is_race_lost, is_upload_gone, repeated
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions, conditions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed

__all__ = ["LEAST_PART_BYTES", "MOST_PARTS", "MultipartUpload", "ObjectOptions", "abort_upload"]

LEAST_PART_BYTES = 5 * 1024 * 1024
"""Least size of every part but the last, by S3."""

MOST_PARTS = 10_000

_CHECKSUM = "ChecksumCRC32"
_RACE_LOST = "another process has written or deleted this object meanwhile, or aborted this upload"


class MultipartUpload:
    """One upload. Requests are repeated over an outage of a minute; parts count in the order they are added in.

    :attr location: of the object
    :attr id: S3's, of the upload
    :attr size: bytes added and copied so far
    """

    def __init__(self, s3: S3Objects, location: str, upload: str) -> None:
        self._s3 = s3
        self.location = location
        self.id = upload
        self.size = 0
        self._upload = {**_named(location), "UploadId": upload}
        self._parts: list[Mapping[str, Any]] = []

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
        doing = f"s3:CreateMultipartUpload {location}"
        # As boto3's own uploads: the parts' checksums, which botocore adds by itself, must be announced.
        checksums = {"ChecksumAlgorithm": "CRC32"} if s3.calls.adds_checksums else {}
        parameters = {
            **_named(location),
            "ContentType": content_type,
            **checksums,
            **(options or PLAIN).parameters(),
        }

        async def request() -> str:
            response = await s3.calls.call("CreateMultipartUpload", **parameters)
            return str(_member(response, "UploadId"))

        with translated(doing):
            return cls(s3, location, await repeated(doing, request))

    async def add(self, body: bytes | bytearray) -> None:
        """Upload a part of 5 MiB to 5 GiB; the last one may be smaller.

        :raises PreconditionFailed: another process aborted this upload
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        await self._add("UploadPart", len(body), Body=body)

    async def copy(self, source_location: str, start: int, length: int) -> None:
        """Have S3 copy a part from another object, with the limits of :meth:`add`; no byte passes through here.

        :raises PreconditionFailed: another process aborted this upload
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        source = _named(source_location, name="source_location")
        part = f"bytes={start}-{start + length - 1}"
        await self._add("UploadPartCopy", length, CopySource=source, CopySourceRange=part)

    async def complete(self, *, only_if_new: bool = False, if_match: str | None = None) -> None:
        """Make the object of its parts; at least one was added.

        :param only_if_new: as in :meth:`~airflow_sm_plugin.aws.s3.objects.S3Objects.write`
        :param if_match: as there
        :raises PreconditionFailed: one of these did not hold, or another process aborted this upload: begin another.
            Also when an attempt whose answer was lost may have completed it, but the object cannot be proved to be it
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        attempts = 0
        doing = f"s3:CompleteMultipartUpload {self.location}"
        parameters = {
            **self._upload,
            "MultipartUpload": {"Parts": self._parts},
            **conditions(only_if_new=only_if_new, if_match=if_match),
        }

        async def request() -> None:
            nonlocal attempts
            attempts += 1
            try:
                response = await self._s3.calls.call("CompleteMultipartUpload", **parameters)
            except ClientError as error:
                if not is_race_lost(error):
                    raise
                raise PreconditionFailed(f"{doing}: {_RACE_LOST}") from error
            _member(response, "ETag")

        try:
            with translated(doing):
                await repeated(doing, request)
        except PreconditionFailed:
            # S3 does not know an upload any more when an attempt whose answer was lost has completed it.
            if attempts == 1 or not await self._is_there():
                raise

    async def abort(self) -> None:
        """Give up the upload and its parts; errors as :func:`abort_upload`."""
        await abort_upload(self._s3, self.location, self.id)

    async def _is_there(self) -> bool:
        """Check for proof that the object is this upload's; with a KMS key ETags prove nothing."""
        listed = await self._s3.stat(self.location)
        return isinstance(listed, ListedObject) and (listed.size, listed.etag) == (
            self.size,
            _etag_of(self._parts),
        )

    async def _add(self, operation: str, size: int, **parameters: object) -> None:
        doing = f"s3:{operation} {self.location}"
        number = len(self._parts) + 1

        async def request() -> Mapping[str, Any]:
            response = await self._s3.calls.call(operation, **self._upload, PartNumber=number, **parameters)
            result = response.get("CopyPartResult", response)
            checksum = {_CHECKSUM: result[_CHECKSUM]} if _CHECKSUM in result else {}
            return {"ETag": _member(result, "ETag"), "PartNumber": number, **checksum}

        with translated(doing):
            try:
                self._parts.append(await repeated(doing, request))
            except ClientError as error:
                if not is_upload_gone(error):
                    raise
                raise PreconditionFailed(f"{doing}: {_RACE_LOST}") from error
        self.size += size


async def abort_upload(s3: S3Objects, location: str, upload: str) -> None:
    """Give up an upload and its parts; an upload that is gone is fine.

    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    doing = f"s3:AbortMultipartUpload {location}"
    parameters = {**_named(location), "UploadId": upload}
    try:
        await repeated(doing, lambda: s3.calls.call("AbortMultipartUpload", **parameters))
    except ClientError as error:
        if status_of(error) != NOT_FOUND:
            raise translate(error, doing) from None


def _named(location: str, *, name: str = "location") -> dict[str, str]:
    uri = S3Uri.parse_object(location, name=name)
    return {"Bucket": uri.bucket, "Key": uri.key}


def _member(response: Mapping[str, Any], name: str) -> object:
    """Read a required member of a response; a response without it counts as lost."""
    if not response.get(name):
        raise UnreadableAnswer(error=f"S3's answer has no {name}")
    return response[name]


def _etag_of(parts: Sequence[Mapping[str, Any]]) -> str | None:
    """Compute the ETag, without quotes, of an object in parts whose ETags are MD5 sums; None for others."""
    try:
        sums = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"
