"""Addresses of requests as botocore finds them: buckets in path or virtual style, dual-stack, FIPS, redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.access import Address, ServiceAccess
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.errors import status_of, words_of

log = get_log(__name__)

Probe = tuple[str, Mapping[str, Any]]
"""An operation and its parameters."""

_ELSEWHERE = frozenset({301, 302, 307, 308})
_BAD_REQUEST = 400
_WRONG_REGION = frozenset({"400", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})


class ServiceAddresses:
    """Cache of addresses; one unsent request for each.

    :param probe: a call whose address all calls share; None for S3, where each bucket has its own
    """

    def __init__(
        self, access: ServiceAccess, through_botocore: BotocoreCalls, probe: Probe | None = None
    ) -> None:
        self._access = access
        self._botocore = through_botocore
        self._probe = probe
        self._known: dict[str, Address | None] = {}
        self._relearnt: set[str] = set()
        self._lock = asyncio.Lock()

    async def address(self, bucket: str) -> Address | None:
        """Find the address for a bucket (``""`` for other services); None when botocore must carry the requests.

        :raises BotoCoreError: as a request would
        """
        if bucket not in self._known:
            async with self._lock:
                if bucket not in self._known:
                    self._known[bucket] = await asyncio.to_thread(self._learn, bucket)
        return self._known[bucket]

    async def moved(self, bucket: str, address: Address, error: ClientError) -> bool:
        """Check whether an error answer meant that the bucket is elsewhere, and store its address.

        botocore finds the address, with a HeadBucket, at most once for a bucket.
        """
        if not bucket or not _is_elsewhere(error):
            return False
        async with self._lock:
            if bucket not in self._relearnt:
                self._relearnt.add(bucket)
                await self._ask_botocore(bucket)
                self._known[bucket] = await asyncio.to_thread(self._learn, bucket)
        return self._known[bucket] != address

    async def _ask_botocore(self, bucket: str) -> None:
        try:
            await self._botocore.call("HeadBucket", Bucket=bucket)
        except ClientError as error:
            log.debug("s3:HeadBucket %s answered %d", bucket, status_of(error))

    def _learn(self, bucket: str) -> Address | None:
        operation, parameters = self._probe or ("ListObjectsV2", {"Bucket": bucket})
        request = self._access.unsent(operation, parameters)
        if reason := self._access.unmapped(request):
            what = f"requests for bucket {bucket}" if bucket else f"calls like {operation}"
            log.info("%s go through botocore: %s", what, reason)
            return None
        return self._access.address(request)


def _is_elsewhere(error: ClientError) -> bool:
    """Recognize a redirect to another address; one without an address would send botocore in circles."""
    status = status_of(error)
    if status in _ELSEWHERE:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return "x-amz-bucket-region" in headers or "Region" in error.response.get("Error", {})
    return status == _BAD_REQUEST and words_of(error)[0] in _WRONG_REGION
