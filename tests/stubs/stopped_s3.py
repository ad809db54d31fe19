"""Two processes that write the same objects, each of which can be stopped before any of its requests, as by SIGSTOP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.calls import AwsCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects


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
    """The calls of S3 of one process.

    Adds what moto does not know: ``If-Match`` of deletions and completions, and 404 for uploads that are gone (it
    answers 500).

    :param live: the uploads there are, of all processes
    """

    def __init__(self, calls: AwsCalls, stop: Stop, live: set[str]) -> None:
        self._calls = calls
        self._stop = stop
        self._live = live
        self.adds_checksums = calls.adds_checksums

    def members(self, operation: str) -> frozenset[str]:
        return self._calls.members(operation)

    @asynccontextmanager
    async def opened(
        self,
        operation: str,
        /,
        **parameters: Any,  # noqa: ANN401 - botocore's
    ) -> AsyncIterator[Mapping[str, Any]]:
        await self._stop.request()
        async with self._calls.opened(operation, **parameters) as response:
            yield response

    async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        await self._stop.request()
        upload = parameters.get("UploadId")
        if upload is not None and upload not in self._live:
            raise _error(404, "NoSuchUpload")
        if operation in ("DeleteObject", "CompleteMultipartUpload"):
            await self._check(parameters["Bucket"], parameters["Key"], parameters.pop("IfMatch", None))
        response = await self._calls.call(operation, **parameters)
        if operation == "CreateMultipartUpload":
            self._live.add(response["UploadId"])
        if operation in ("CompleteMultipartUpload", "AbortMultipartUpload"):
            self._live.discard(parameters["UploadId"])
        return response

    async def _check(self, bucket: str, key: str, if_match: str | None) -> None:
        if if_match is None:
            return
        if (await self._calls.call("HeadObject", Bucket=bucket, Key=key))["ETag"] != if_match:
            raise _error(412, "PreconditionFailed")


class SharedS3:
    """S3 as several processes see it."""

    def __init__(self, calls: AwsCalls) -> None:
        self._calls = calls
        self._live: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[SharedS3]:
        """Open connections for the block."""
        async with open_calls(AwsConnection(aws_conn_id=None), "s3") as calls:
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
