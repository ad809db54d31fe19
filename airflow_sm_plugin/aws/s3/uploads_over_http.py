"""Uploads in parts over the fast transport, with the requests that boto3's own uploads send."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from airflow_sm_plugin.aws.answers import UnreadableAnswer
from airflow_sm_plugin.aws.http import HttpAnswer, HttpRequest, encoded_path
from airflow_sm_plugin.aws.s3.buckets import BucketRequests
from airflow_sm_plugin.aws.s3.object_options import (
    CRC32,
    ObjectOptions,
    UploadCalls,
    UploadedPart,
    as_headers,
    conditions,
)
from airflow_sm_plugin.core.s3 import S3Uri

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_FAILED = 500


class HttpUploads:
    """See :class:`~airflow_sm_plugin.aws.s3.object_options.UploadCalls`; a bucket that needs botocore gets it.

    :param signs: whether the requests' own bodies are signed
    :param signs_parts: whether those of parts are
    """

    def __init__(
        self,
        requests: BucketRequests,
        through_botocore: UploadCalls,
        *,
        sums: bool,
        signs: bool,
        signs_parts: bool,
    ) -> None:
        self._requests = requests
        self._botocore = through_botocore
        self._sums = sums
        self._signs = signs
        self._signs_parts = signs_parts

    async def begin(self, uri: S3Uri, content_type: str, options: ObjectOptions) -> str:
        """Begin an upload and return its id."""
        headers = {"Content-Type": content_type, **options.headers()}
        if self._sums:
            headers["x-amz-checksum-algorithm"] = CRC32
        request = HttpRequest(
            "POST", encoded_path(uri.key), [("uploads", None)], headers=headers, sign_body=self._signs
        )
        told = await self._told("CreateMultipartUpload", uri.bucket, request)
        if told is None:
            return await self._botocore.begin(uri, content_type, options)
        return str(_said(told, "UploadId"))

    async def add(self, uri: S3Uri, upload: str, number: int, body: bytes) -> UploadedPart:
        """Upload a part."""
        headers = {}
        if self._sums:
            headers["x-amz-sdk-checksum-algorithm"] = CRC32
            headers["x-amz-checksum-crc32"] = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        request = HttpRequest(
            "PUT",
            encoded_path(uri.key),
            [("uploadId", upload), ("partNumber", str(number))],
            headers=headers,
            body=body,
            sign_body=self._signs_parts,
        )
        told = await self._told("UploadPart", uri.bucket, request)
        if told is None:
            return await self._botocore.add(uri, upload, number, body)
        _said(told, "ETag")
        return UploadedPart.of(number, told)

    async def copy(
        self, uri: S3Uri, upload: str, number: int, source: S3Uri, bytes_range: str
    ) -> UploadedPart:
        """Have S3 copy a part from another object."""
        headers = {
            "x-amz-copy-source": source.bucket + encoded_path(source.key),
            "x-amz-copy-source-range": bytes_range,
        }
        query = [("uploadId", upload), ("partNumber", str(number))]
        request = HttpRequest("PUT", encoded_path(uri.key), query, headers=headers, sign_body=self._signs)
        told = await self._told("UploadPartCopy", uri.bucket, request)
        if told is None:
            return await self._botocore.copy(uri, upload, number, source, bytes_range)
        _said(result := told.get("CopyPartResult", {}), "ETag")
        return UploadedPart.of(number, result)

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
        named = "".join(f"<Part>{_as_xml(part.as_parameter())}</Part>" for part in parts)
        body = f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{named}</CompleteMultipartUpload>'
        request = HttpRequest(
            "POST",
            encoded_path(uri.key),
            [("uploadId", upload)],
            headers=as_headers(conditions(only_if_new=only_if_new, if_match=if_match)),
            body=body.encode(),
            sign_body=self._signs,
        )
        told = await self._told("CompleteMultipartUpload", uri.bucket, request)
        if told is None:
            await self._botocore.complete(uri, upload, parts, only_if_new=only_if_new, if_match=if_match)
            return
        _said(told, "ETag")

    async def abort(self, uri: S3Uri, upload: str) -> None:
        """Give an upload up, and what it has of parts."""
        query = [("uploadId", upload)]
        request = HttpRequest("DELETE", encoded_path(uri.key), query, sign_body=self._signs)
        if await self._requests.send("AbortMultipartUpload", uri.bucket, request) is None:
            await self._botocore.abort(uri, upload)

    async def _told(self, operation: str, bucket: str, request: HttpRequest) -> Mapping[str, Any] | None:
        """Return an answer as botocore reads it; S3 may find out that it fails after it has said 200."""
        answer = await self._requests.send(operation, bucket, request)
        if answer is None:
            return None
        if b"<Error>" in answer.body[:200]:
            failed = HttpAnswer(_FAILED, answer.headers, answer.body)
            raise self._requests.service.error(failed, operation)
        return self._requests.service.parsed(answer, operation)


def _said(told: Mapping[str, Any], name: str) -> object:
    """Return what an answer must say; one that does not is as good as lost."""
    if not told.get(name):
        raise UnreadableAnswer(error=f"S3's answer has no {name}")
    return told[name]


def _as_xml(values: Mapping[str, object]) -> str:
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items())
