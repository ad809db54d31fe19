"""Botocore's own client in an event loop, in threads: for what the fast transport does not do as botocore does."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, cast

from botocore.client import BaseClient

from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.hooks.s3_calls import OpenObject
from airflow_sm_plugin.hooks.s3_listing import ListedObject, ObjectPage, Page

_CHUNK = 65_536


class BotocoreCalls:
    """A boto3 client's calls, each in a thread; as many at once as its connection pool holds."""

    def __init__(self, client: BaseClient) -> None:
        self.client: Any = client
        most = int(getattr(client.meta.config, "max_pool_connections", 10) or 10)
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="botocore")

    async def call(self, operation: str, /, **parameters: object) -> Mapping[str, Any]:
        """Call a method of the client, e.g. ``head_object``."""
        method = functools.partial(getattr(self.client, operation), **parameters)
        return cast("Mapping[str, Any]", await self.run(method))

    async def run(self, blocking: Callable[[], object]) -> object:
        """Run something blocking in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, blocking)

    def close(self) -> None:
        """Let the threads end; what they are doing is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class BotocoreS3:
    """S3's calls through botocore (see :class:`~airflow_sm_plugin.hooks.s3_calls.S3Calls`)."""

    def __init__(self, calls: BotocoreCalls) -> None:
        self._calls = calls

    async def names(self, bucket: str, prefix: str, start_after: str) -> Page:
        """List one page, key names only."""
        page = await self.objects(bucket, prefix, start_after)
        return Page([listed.key for listed in page.objects], page.next_start_after)

    async def objects(self, bucket: str, prefix: str, start_after: str) -> ObjectPage:
        """List one page."""
        behind = {"StartAfter": start_after} if start_after else {}
        answer = await self._calls.call("list_objects_v2", Bucket=bucket, Prefix=prefix, **behind)
        objects = [
            ListedObject(each["Key"], each["Size"], each["ETag"].strip('"'))
            for each in answer.get("Contents", [])
        ]
        return ObjectPage(objects, objects[-1].key if objects and answer.get("IsTruncated") else None)

    async def head(self, uri: S3Uri) -> ListedObject:
        """Return the object as a listing tells of it."""
        answer = await self._calls.call("head_object", Bucket=uri.bucket, Key=uri.key)
        size, etag = answer.get("ContentLength", 0), answer.get("ETag", "")
        return ListedObject(uri.key, size, etag.strip('"'))

    async def get(self, uri: S3Uri, first_bytes: int | None) -> bytes:
        """Return an object or its beginning."""
        part = {} if first_bytes is None else {"Range": f"bytes=0-{first_bytes - 1}"}
        answer = await self._calls.call("get_object", Bucket=uri.bucket, Key=uri.key, **part)
        with answer["Body"] as stream:
            return cast("bytes", await self._calls.run(stream.read))

    @asynccontextmanager
    async def opened(self, uri: S3Uri, start: int, etag: str) -> AsyncIterator[OpenObject]:
        """Read an object piece by piece."""
        rest = {"Range": f"bytes={start}-", "IfMatch": etag} if start else {}
        answer = await self._calls.call("get_object", Bucket=uri.bucket, Key=uri.key, **rest)
        with answer["Body"] as stream:
            yield OpenObject(str(answer["ETag"]), self._chunks(stream))

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - botocore's stream has no public type
        while chunk := cast("bytes", await self._calls.run(functools.partial(stream.read, _CHUNK))):
            yield chunk

    async def put(self, uri: S3Uri, body: bytes, content_type: str, *, only_if_new: bool) -> None:
        """Write an object."""
        new = {"IfNoneMatch": "*"} if only_if_new else {}
        await self._calls.call(
            "put_object", Bucket=uri.bucket, Key=uri.key, Body=body, ContentType=content_type, **new
        )

    async def delete(self, uri: S3Uri) -> None:
        """Delete an object."""
        await self._calls.call("delete_object", Bucket=uri.bucket, Key=uri.key)
