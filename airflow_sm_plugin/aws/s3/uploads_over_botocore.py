"""Uploads in parts through botocore's own client."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.s3.object_options import CRC32, ObjectOptions, UploadedPart, conditions
from airflow_sm_plugin.core.s3 import S3Uri


class BotocoreUploads:
    """See :class:`~airflow_sm_plugin.aws.s3.object_options.UploadCalls`."""

    def __init__(self, calls: BotocoreCalls) -> None:
        self._calls = calls
        sums = getattr(calls.client.meta.config, "request_checksum_calculation", None)
        self._sums = {"ChecksumAlgorithm": CRC32} if sums == "when_supported" else {}

    async def begin(self, uri: S3Uri, content_type: str, options: ObjectOptions) -> str:
        """Begin an upload and return its id."""
        answer = await self._calls.call(
            "create_multipart_upload",
            Bucket=uri.bucket,
            Key=uri.key,
            ContentType=content_type,
            **self._sums,
            **options.parameters(),
        )
        return str(answer["UploadId"])

    async def add(self, uri: S3Uri, upload: str, number: int, body: bytes) -> UploadedPart:
        """Upload a part."""
        answer = await self._calls.call(
            "upload_part",
            Bucket=uri.bucket,
            Key=uri.key,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            **self._sums,
        )
        return UploadedPart.of(number, answer)

    async def copy(
        self, uri: S3Uri, upload: str, number: int, source: S3Uri, bytes_range: str
    ) -> UploadedPart:
        """Have S3 copy a part from another object."""
        answer = await self._calls.call(
            "upload_part_copy",
            Bucket=uri.bucket,
            Key=uri.key,
            UploadId=upload,
            PartNumber=number,
            CopySource={"Bucket": source.bucket, "Key": source.key},
            CopySourceRange=bytes_range,
        )
        return UploadedPart.of(number, answer["CopyPartResult"])

    async def complete(
        self,
        uri: S3Uri,
        upload: str,
        parts: Sequence[UploadedPart],
        *,
        only_if_new: bool = False,
        if_match: str | None = None,
    ) -> None:
        """Make the object of its parts."""
        named = {"Parts": [part.as_parameter() for part in parts]}
        await self._calls.call(
            "complete_multipart_upload",
            Bucket=uri.bucket,
            Key=uri.key,
            UploadId=upload,
            MultipartUpload=named,
            **conditions(only_if_new=only_if_new, if_match=if_match),
        )

    async def abort(self, uri: S3Uri, upload: str) -> None:
        """Give an upload up, and what it has of parts."""
        await self._calls.call("abort_multipart_upload", Bucket=uri.bucket, Key=uri.key, UploadId=upload)
