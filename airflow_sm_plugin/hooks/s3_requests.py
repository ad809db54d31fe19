"""Requests to S3's buckets over the fast transport, each to where its bucket is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from airflow_sm_plugin.hooks.error_answers import ErrorAnswers
from airflow_sm_plugin.hooks.s3_buckets import BucketAddresses
from airflow_sm_plugin.hooks.service_access import ServiceAccess
from airflow_sm_plugin.hooks.signed_http import HttpAnswer, HttpRequest, OpenAnswer, SignedHttp

_ERROR = 300


class BucketRequests:
    """Send requests; raise botocore's errors for error answers. A bucket that botocore must serve answers None."""

    def __init__(self, access: ServiceAccess, http: SignedHttp, buckets: BucketAddresses) -> None:
        self._http = http
        self._buckets = buckets
        self.answers = ErrorAnswers(access.client, "rest-xml")

    async def send(self, operation: str, bucket: str, request: HttpRequest) -> HttpAnswer | None:
        """Send a request and return its answer."""
        while (address := await self._buckets.address(bucket)) is not None:
            answer = await self._http.send(address, request)
            if answer.status < _ERROR:
                return answer
            error = self.answers.error(answer, operation)
            if not await self._buckets.moved(bucket, address, error):
                raise error
        return None

    @asynccontextmanager
    async def opened(
        self, operation: str, bucket: str, request: HttpRequest
    ) -> AsyncIterator[OpenAnswer | None]:
        """Send a request and hand over its answer before the body is read."""
        address = await self._buckets.address(bucket)
        if address is None:
            yield None
            return
        async with self._http.opened(address, request) as answer:
            if answer.status < _ERROR:
                yield answer
                return
            error = self.answers.error(await _whole(answer), operation)
        if not await self._buckets.moved(bucket, address, error):
            raise error
        async with self.opened(operation, bucket, request) as found:
            yield found


async def _whole(answer: OpenAnswer) -> HttpAnswer:
    return HttpAnswer(answer.status, answer.headers, b"".join([chunk async for chunk in answer.chunks]))
