"""S3's calls through botocore's own client."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any, cast

from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.s3.calls import OpenObject
from airflow_sm_plugin.aws.s3.listing import ListedObject, ObjectPage, Page
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions, UploadCalls, conditions
from airflow_sm_plugin.aws.s3.uploads_over_botocore import BotocoreUploads
from airflow_sm_plugin.core.s3 import S3Uri

_CHUNK = 65_536


class BotocoreS3:
    """S3's calls through botocore (see :class:`~airflow_sm_plugin.aws.s3.calls.S3Calls`)."""

    def __init__(self, calls: BotocoreCalls) -> None:
        self._calls = calls
        self.uploads: UploadCalls = BotocoreUploads(calls)

    async def names(self, bucket: str, prefix: str, start_after: str, token: str = "") -> Page:
        """List one page, key names only."""
        page = await self.objects(bucket, prefix, start_after, token)
        return Page(page.names, page.is_truncated, page.token, page.bucket)

    async def objects(self, bucket: str, prefix: str, start_after: str, token: str = "") -> ObjectPage:
        """List one page."""
        behind = {"StartAfter": start_after} if start_after else {}
        behind |= {"ContinuationToken": token} if token else {}
        answer = await self._calls.call("list_objects_v2", Bucket=bucket, Prefix=prefix, **behind)
        objects = [
            ListedObject(each["Key"], each["Size"], each["ETag"].strip('"'))
            for each in answer.get("Contents", [])
        ]
        token, name = answer.get("NextContinuationToken", ""), answer.get("Name", "")
        return ObjectPage(objects, answer["IsTruncated"], token, name)

    async def head(self, uri: S3Uri) -> ListedObject:
        """Return the object as a listing tells of it."""
        answer = await self._calls.call("head_object", Bucket=uri.bucket, Key=uri.key)
        size, etag = answer.get("ContentLength", 0), answer.get("ETag", "")
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        return ListedObject(uri.key, size, etag.strip('"'), metadata or None)

    async def get(self, uri: S3Uri, bytes_range: str | None) -> bytes:
        """Return an object or a part of it."""
        part = {} if bytes_range is None else {"Range": bytes_range}
        answer = await self._calls.call("get_object", Bucket=uri.bucket, Key=uri.key, **part)
        with closing(answer["Body"]) as stream:  # as its own context it is another, that checks nothing
            return cast("bytes", await self._calls.run(stream.read))

    @asynccontextmanager
    async def opened(self, uri: S3Uri, start: int, etag: str) -> AsyncIterator[OpenObject]:
        """Read an object piece by piece."""
        rest = {"Range": f"bytes={start}-"} if start else {}
        if etag:
            rest["IfMatch"] = etag
        answer = await self._calls.call("get_object", Bucket=uri.bucket, Key=uri.key, **rest)
        with closing(answer["Body"]) as stream:  # as its own context it is another, that checks nothing
            yield OpenObject(str(answer["ETag"]), self._chunks(stream))

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - botocore's stream has no public type
        while chunk := cast("bytes", await self._calls.run(functools.partial(stream.read, _CHUNK))):
            yield chunk

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
        more = options.parameters() | conditions(only_if_new=only_if_new, if_match=if_match)
        await self._calls.call(
            "put_object", Bucket=uri.bucket, Key=uri.key, Body=body, ContentType=content_type, **more
        )

    async def delete(self, uri: S3Uri, *, if_match: str | None = None) -> None:
        """Delete an object."""
        condition = conditions(only_if_new=False, if_match=if_match)
        await self._calls.call("delete_object", Bucket=uri.bucket, Key=uri.key, **condition)
