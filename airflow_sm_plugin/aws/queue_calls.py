"""Two calls of SQS, whoever carries them out; they raise botocore's own errors. Bodies are never logged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.access import Address, ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.aws.http import HttpRequest, SignedHttp
from airflow_sm_plugin.aws.service_requests import ServiceRequests

log = get_log(__name__)

LONGEST_POLL = 20
"""Seconds: SQS's limit."""

_ANSWER_SECONDS = 15.0
"""What an answer may take beside the poll."""

_METHODS = {"ReceiveMessage": "receive_message", "DeleteMessageBatch": "delete_message_batch"}
_HEADERS = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-query-mode": "true"}


class QueueCalls(Protocol):
    """One request of SQS."""

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send it, once."""


class BotocoreQueue:
    """SQS through botocore, in threads."""

    def __init__(self, calls: BotocoreCalls) -> None:
        self._calls = calls

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send it, once."""
        return await self._calls.call(_METHODS[operation], **parameters)


class HttpQueue:
    """SQS over the fast transport, in its JSON protocol."""

    def __init__(self, access: ServiceAccess, http: SignedHttp, address: Address) -> None:
        self._service = ServiceRequests(access.client, http, "json")
        self._address = address

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send it, once."""
        headers = {"X-Amz-Target": f"AmazonSQS.{operation}", **_HEADERS}
        body = json.dumps(parameters).encode()
        request = HttpRequest("POST", headers=headers, body=body)
        answer = await self._service.send(self._address, request, operation)
        return self._service.parsed(answer, operation)


@asynccontextmanager
async def queue_calls(connection: AwsConnection, queue_url: str) -> AsyncIterator[QueueCalls]:
    """Open a connection to SQS for the block; its read time-out outlasts the longest poll.

    :raises SageMakerInferenceError: no credentials, no region
    """
    with translated("sqs"):
        hook = UnrepeatedHook(
            client_type="sqs",
            least_read_timeout=LONGEST_POLL + _ANSWER_SECONDS,
            **connection.hook_arguments(),
        )
        access = await ServiceAccess.connect(hook)
        asked = {"QueueUrl": queue_url}
        request = await asyncio.to_thread(access.dry_run, "receive_message", asked, b"{}")
        wire = await asyncio.to_thread(access.wire, max_connections=None)
    if reason := access.unmapped(request):
        log.info("the queue is asked through botocore: %s", reason)
        calls = BotocoreCalls(access.client)
        try:
            yield BotocoreQueue(calls)
        finally:
            calls.close()
        return
    async with SignedHttp(access, wire) as http:
        yield HttpQueue(access, http, access.address(request))
