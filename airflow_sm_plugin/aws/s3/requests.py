"""Requests to S3's buckets over the fast transport, each to where its bucket is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.access import ServiceAccess
from airflow_sm_plugin.aws.error_answers import ServiceRequests
from airflow_sm_plugin.aws.errors import has_expired_in_words, meaning
from airflow_sm_plugin.aws.http import HttpAnswer, HttpRequest, OpenAnswer, SignedHttp
from airflow_sm_plugin.aws.s3.buckets import BucketAddresses
from airflow_sm_plugin.core.service_errors import Meaning


class BucketRequests:
    """Send requests; raise botocore's errors for error answers. A bucket that botocore must serve answers None."""

    def __init__(self, access: ServiceAccess, http: SignedHttp, buckets: BucketAddresses) -> None:
        self._buckets = buckets
        self.service = ServiceRequests(access.client, http, "rest-xml")

    async def send(self, operation: str, bucket: str, request: HttpRequest) -> HttpAnswer | None:
        """Send a request and return its answer."""
        renewed = False
        while (address := await self._buckets.address(bucket)) is not None:
            try:
                return await self.service.send(address, request, operation)
            except ClientError as error:
                if await self._buckets.moved(bucket, address, error):
                    continue
                if (
                    renewed
                    or has_expired_in_words(error)
                    or meaning(error) is not Meaning.CREDENTIALS_EXPIRED
                ):
                    raise
                await self.service.renew_credentials()  # a HEAD's 400, and the bucket is where it was
                renewed = True
        return None

    @asynccontextmanager
    async def opened(
        self, operation: str, bucket: str, request: HttpRequest
    ) -> AsyncIterator[OpenAnswer | None]:
        """Send a request and hand over its answer before the body is read."""
        async with AsyncExitStack() as stack:
            while (address := await self._buckets.address(bucket)) is not None:
                try:
                    opened = self.service.opened(address, request, operation)
                    answer: OpenAnswer | None = await stack.enter_async_context(opened)
                    break
                except ClientError as error:
                    if not await self._buckets.moved(bucket, address, error):
                        raise
            else:
                answer = None
            yield answer
