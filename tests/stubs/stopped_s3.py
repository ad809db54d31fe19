"""Two processes that write the same objects, each of which can be stopped before any of its requests, as by SIGSTOP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.calls import OpenObject, S3Calls
from airflow_sm_plugin.aws.s3.object_options import ObjectOptions, UploadCalls, UploadedPart
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.aws.s3.transport import s3_calls
from airflow_sm_plugin.core.s3 import S3Uri


class Stop:
    """Where a process stops: before its request of this number, from 0; ``gone_on`` lets it go on."""

    def __init__(self, number: int | None = None) -> None:
        self._left = number
        self._reached = asyncio.Event()
        self.gone_on = asyncio.Event()

    async def request(self) -> None:
        """Count a request, and stop where it is time."""
        if self._left == 0:
            self._left = None
            self._reached.set()
            await self.gone_on.wait()
        elif self._left is not None:
            self._left -= 1

    async def reached(self, process: asyncio.Task[Any]) -> bool:
        """Wait until the process stops, or ends without having come so far."""
        reaching = asyncio.ensure_future(self._reached.wait())
        await asyncio.wait({reaching, process}, return_when=asyncio.FIRST_COMPLETED)
        reaching.cancel()
        return self._reached.is_set()


class StoppedCalls:
    """The calls of S3 of one process."""

    def __init__(self, calls: S3Calls, stop: Stop, live: set[str]) -> None:
        self._calls = calls
        self._stop = stop
        self.uploads: UploadCalls = _Uploads(calls, stop, live)

    @asynccontextmanager
    async def opened(self, uri: S3Uri, start: int, etag: str) -> AsyncIterator[OpenObject]:
        await self._stop.request()
        async with self._calls.opened(uri, start, etag) as found:
            yield found

    async def delete(self, uri: S3Uri, *, if_match: str | None = None) -> None:
        """Obey ``If-Match``, which moto does not."""
        await self._stop.request()
        if if_match is not None and (await self._calls.head(uri)).etag != if_match:
            raise _error(412, "PreconditionFailed")
        await self._calls.delete(uri)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: object, **options: object) -> object:
            await self._stop.request()
            return await getattr(self._calls, name)(*arguments, **options)

        return call


class _Uploads:
    """Adds what moto does not know: ``If-Match`` of a completion, and 404 for uploads that are gone (it answers 500).

    :param live: the uploads there are, of all processes
    """

    def __init__(self, calls: S3Calls, stop: Stop, live: set[str]) -> None:
        self._calls = calls
        self._stop = stop
        self._live = live

    async def begin(self, uri: S3Uri, content_type: str, options: ObjectOptions) -> str:
        await self._stop.request()
        upload = await self._calls.uploads.begin(uri, content_type, options)
        self._live.add(upload)
        return upload

    async def add(self, uri: S3Uri, upload: str, number: int, body: bytes) -> UploadedPart:
        await self._known(upload)
        return await self._calls.uploads.add(uri, upload, number, body)

    async def copy(
        self, uri: S3Uri, upload: str, number: int, source: S3Uri, bytes_range: str
    ) -> UploadedPart:
        await self._known(upload)
        return await self._calls.uploads.copy(uri, upload, number, source, bytes_range)

    async def complete(
        self,
        uri: S3Uri,
        upload: str,
        parts: Sequence[UploadedPart],
        *,
        only_if_new: bool = False,
        if_match: str | None = None,
    ) -> None:
        await self._known(upload)
        if if_match is not None and (await self._calls.head(uri)).etag != if_match:
            raise _error(412, "PreconditionFailed")
        await self._calls.uploads.complete(uri, upload, parts, only_if_new=only_if_new)
        self._live.discard(upload)

    async def abort(self, uri: S3Uri, upload: str) -> None:
        await self._known(upload)
        self._live.discard(upload)
        await self._calls.uploads.abort(uri, upload)

    async def _known(self, upload: str) -> None:
        await self._stop.request()
        if upload not in self._live:
            raise _error(404, "NoSuchUpload")


class SharedS3:
    """S3 as several processes see it."""

    def __init__(self, calls: S3Calls) -> None:
        self._calls = calls
        self._live: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[SharedS3]:
        """Open connections for the block."""
        async with s3_calls(AwsConnection(aws_conn_id=None), max_connections=None) as calls:
            yield cls(calls)

    @property
    def live(self) -> frozenset[str]:
        """The uploads that are under way."""
        return frozenset(self._live)

    def of(self, stop: Stop) -> S3Objects:
        """Return S3 as a process sees it that may be stopped."""
        return S3Objects(StoppedCalls(self._calls, stop, self._live))


def _error(status: int, code: str) -> ClientError:
    details: Any = {
        "Error": {"Code": code, "Message": "said the test"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(details, "CompleteMultipartUpload")
