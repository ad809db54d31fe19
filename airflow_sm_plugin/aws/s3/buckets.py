"""Where a bucket's requests go, as botocore finds it: path or virtual style, dual-stack, FIPS, redirects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.access import Address, ServiceAccess
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.errors import has_expired_in_words, meaning, status_of, words_of
from airflow_sm_plugin.aws.http import HttpAnswer, HttpRequest, OpenAnswer, SignedHttp
from airflow_sm_plugin.aws.service_requests import ServiceRequests
from airflow_sm_plugin.core.service_errors import Meaning

log = get_log(__name__)

_EMPTY_LISTING = b"<ListBucketResult/>"
_SOMEWHERE_ELSE = frozenset({301, 302, 307, 308})
_BAD_REQUEST = 400
_WRONG_REGION = frozenset({"400", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})


class BucketAddresses:
    """The addresses of the buckets asked for so far; one dry run each."""

    def __init__(self, access: ServiceAccess, through_botocore: BotocoreCalls) -> None:
        self._access = access
        self._botocore = through_botocore
        self._known: dict[str, Address | None] = {}
        self._relearnt: set[str] = set()
        self._lock = asyncio.Lock()

    async def address(self, bucket: str) -> Address | None:
        """Return a bucket's address; None when its requests must go through botocore.

        :raises BotoCoreError: as a request would
        """
        if bucket not in self._known:
            async with self._lock:
                if bucket not in self._known:
                    self._known[bucket] = await asyncio.to_thread(self._learn, bucket)
        return self._known[bucket]

    async def moved(self, bucket: str, address: Address, error: ClientError) -> bool:
        """Say whether an error answer meant that the bucket is elsewhere, and learn where.

        botocore itself finds out where, with a HeadBucket, at most once for a bucket.
        """
        if not _elsewhere(error):
            return False
        async with self._lock:
            if bucket not in self._relearnt:
                self._relearnt.add(bucket)
                await self._ask_botocore(bucket)
                self._known[bucket] = await asyncio.to_thread(self._learn, bucket)
        return self._known[bucket] != address

    async def _ask_botocore(self, bucket: str) -> None:
        try:
            await self._botocore.call("head_bucket", Bucket=bucket)
        except ClientError as error:
            log.debug("s3:HeadBucket %s answered %d", bucket, status_of(error))

    def _learn(self, bucket: str) -> Address | None:
        parameters: dict[str, Any] = {"Bucket": bucket}
        request = self._access.dry_run("list_objects_v2", parameters, _EMPTY_LISTING)
        if reason := self._access.unmapped(request):
            log.info("requests for bucket %s go through botocore: %s", bucket, reason)
            return None
        return self._access.address(request)


def _elsewhere(error: ClientError) -> bool:
    """Say whether an answer sends elsewhere; one that does not say where would send botocore in circles."""
    status = status_of(error)
    if status in _SOMEWHERE_ELSE:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return "x-amz-bucket-region" in headers or "Region" in error.response.get("Error", {})
    return status == _BAD_REQUEST and words_of(error)[0] in _WRONG_REGION


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
