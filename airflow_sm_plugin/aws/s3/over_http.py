"""S3's calls over the fast transport, with the requests that botocore would send.

Two things differ: a new object's body follows at once, without ``Expect: 100-continue``, and over TLS its checksum goes
in a header instead of in a trailer behind a chunked body.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from botocore.exceptions import ChecksumError

from airflow_sm_plugin.aws.access import ServiceAccess
from airflow_sm_plugin.aws.answers import UnreadableAnswer
from airflow_sm_plugin.aws.http import HttpAnswer, HttpRequest, encoded_path
from airflow_sm_plugin.aws.s3.buckets import BucketRequests
from airflow_sm_plugin.aws.s3.calls import OpenObject, S3Calls
from airflow_sm_plugin.aws.s3.listing import ListedObject, ObjectPage, Page, names_of, objects_of
from airflow_sm_plugin.aws.s3.object_options import (
    METADATA,
    PLAIN,
    ObjectOptions,
    UploadCalls,
    as_headers,
    conditions,
)
from airflow_sm_plugin.aws.s3.uploads_over_http import HttpUploads
from airflow_sm_plugin.core.s3 import S3Uri

_OK = 200
_WHEN_SUPPORTED = "when_supported"
_CRC32 = "x-amz-checksum-crc32"
_DIGESTS: Mapping[str, Callable[[bytes], bytes]] = {
    _CRC32: lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
}


class HttpS3:
    """S3's calls (see :class:`~airflow_sm_plugin.aws.s3.calls.S3Calls`); a bucket that needs botocore gets it."""

    def __init__(self, access: ServiceAccess, requests: BucketRequests, through_botocore: S3Calls) -> None:
        self._requests = requests
        self._botocore = through_botocore
        self._checks = access.options.get("response_checksum_validation") == _WHEN_SUPPORTED
        self._sums = access.options.get("request_checksum_calculation") == _WHEN_SUPPORTED
        asked = (access.options.get("s3") or {}).get("payload_signing_enabled")
        secure = str(access.client.meta.endpoint_url).startswith("https:")
        self._signs = asked is not False
        self._signs_objects: bool = self._signs if asked is not None else not (secure and self._sums)
        self.uploads: UploadCalls = HttpUploads(
            requests,
            through_botocore.uploads,
            sums=self._sums,
            signs=self._signs,
            signs_parts=self._signs_objects,
        )

    async def names(self, bucket: str, prefix: str, start_after: str, token: str = "") -> Page:
        """List one page, key names only."""
        if (body := await self._listed(bucket, prefix, start_after, token)) is None:
            return await self._botocore.names(bucket, prefix, start_after, token)
        return names_of(body)

    async def objects(self, bucket: str, prefix: str, start_after: str, token: str = "") -> ObjectPage:
        """List one page."""
        if (body := await self._listed(bucket, prefix, start_after, token)) is None:
            return await self._botocore.objects(bucket, prefix, start_after, token)
        return objects_of(body)

    async def _listed(self, bucket: str, prefix: str, start_after: str, token: str) -> bytes | None:
        behind = [("start-after", start_after)] if start_after else []
        behind += [("continuation-token", token)] if token else []
        query = [("list-type", "2"), ("prefix", prefix), *behind, ("encoding-type", "url")]
        request = HttpRequest("GET", query=query, sign_body=self._signs)
        answer = await self._requests.send("ListObjectsV2", bucket, request)
        return answer.body if answer else None

    async def head(self, uri: S3Uri) -> ListedObject:
        """Return the object as a listing tells of it."""
        request = HttpRequest("HEAD", encoded_path(uri.key), sign_body=self._signs)
        answer = await self._requests.send("HeadObject", uri.bucket, request)
        if answer is None:
            return await self._botocore.head(uri)
        size, etag = answer.headers.get("content-length", "0"), answer.headers.get("etag", "")
        if not (size.isascii() and size.isdigit()):
            raise UnreadableAnswer(error="S3's answer tells no size")
        metadata = {
            name.lower().removeprefix(METADATA): value
            for name, value in answer.headers.items()
            if name.lower().startswith(METADATA)
        }
        return ListedObject(uri.key, int(size), etag.strip('"'), metadata or None)

    async def get(self, uri: S3Uri, bytes_range: str | None) -> bytes:
        """Return an object or a part of it."""
        part = {} if bytes_range is None else {"Range": bytes_range}
        request = self._get_request(uri, part)
        answer = await self._requests.send("GetObject", uri.bucket, request)
        if answer is None:
            return await self._botocore.get(uri, bytes_range)
        if answer.status == _OK:
            _check_sum(answer)
        return answer.body

    @asynccontextmanager
    async def opened(self, uri: S3Uri, start: int, etag: str) -> AsyncIterator[OpenObject]:
        """Read an object piece by piece."""
        rest = {"Range": f"bytes={start}-"} if start else {}
        if etag:
            rest["If-Match"] = etag
        request = self._get_request(uri, rest)
        async with self._requests.opened("GetObject", uri.bucket, request) as answer:
            if answer is not None:
                yield OpenObject(answer.headers.get("etag", ""), answer.chunks)
                return
        async with self._botocore.opened(uri, start, etag) as found:
            yield found

    def _get_request(self, uri: S3Uri, part: Mapping[str, str]) -> HttpRequest:
        headers = {"x-amz-checksum-mode": "ENABLED", **part} if self._checks else part
        return HttpRequest("GET", encoded_path(uri.key), headers=headers, sign_body=self._signs)

    async def put(
        self,
        uri: S3Uri,
        body: bytes,
        content_type: str,
        *,
        only_if_new: bool,
        if_match: str | None = None,
        options: ObjectOptions = PLAIN,
    ) -> None:
        """Write an object."""
        conditional = as_headers(conditions(only_if_new=only_if_new, if_match=if_match))
        headers = {"Content-Type": content_type, **options.headers(), **conditional}
        if self._sums:
            headers["x-amz-sdk-checksum-algorithm"] = "CRC32"
            headers[_CRC32] = base64.b64encode(_DIGESTS[_CRC32](body)).decode()
        path, signs = encoded_path(uri.key), self._signs_objects
        request = HttpRequest("PUT", path, headers=headers, body=body, sign_body=signs)
        if await self._requests.send("PutObject", uri.bucket, request) is None:
            await self._botocore.put(
                uri, body, content_type, only_if_new=only_if_new, if_match=if_match, options=options
            )

    async def delete(self, uri: S3Uri, *, if_match: str | None = None) -> None:
        """Delete an object."""
        headers = as_headers(conditions(only_if_new=False, if_match=if_match))
        request = HttpRequest("DELETE", encoded_path(uri.key), headers=headers, sign_body=self._signs)
        if await self._requests.send("DeleteObject", uri.bucket, request) is None:
            await self._botocore.delete(uri, if_match=if_match)


def _check_sum(answer: HttpAnswer) -> None:
    """Compare an object with the checksum it was stored with, where S3 tells one of the kinds known here."""
    for name, digest in _DIGESTS.items():
        told = answer.headers.get(name)
        if told is None or "-" in told:  # that of an upload in parts is a sum of sums
            continue
        if (actual := base64.b64encode(digest(answer.body)).decode()) != told:
            raise ChecksumError(checksum_type=name, expected_checksum=told, actual_checksum=actual)
