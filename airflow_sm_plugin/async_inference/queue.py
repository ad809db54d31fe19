"""The SQS queue to which SageMaker's notifications of finished inferences come: hints, not the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.calls import AwsCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import cause_of, translate, words_of
from airflow_sm_plugin.core.notifications import InferenceNotification, check_queue_url, parse
from airflow_sm_plugin.exceptions import (
    InvalidRequest,
    QueueNotFound,
    SageMakerInferenceError,
    ServiceError,
    Throttled,
)

log = get_log(__name__)

LONGEST_POLL = 20
"""Seconds: SQS's limit."""

_ANSWER_SECONDS = 15.0
"""What an answer may take beside the poll."""

_AT_ONCE = 10
_NO_QUEUE = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress", "NonExistentQueue"}
)
_SLOWER = frozenset({"RequestThrottled", "KmsThrottled", "OverLimit"})
"""SQS's own words for "slow down", which come with status 400."""


@dataclass(frozen=True)
class QueueMessage:
    """One message. ``notification`` is None for SageMaker's test notification and for a foreign message.

    ``foreign`` marks what SageMaker did not send. The repr leaves the receipt out: it is enough to delete the message.
    """

    receipt: str = field(repr=False)
    notification: InferenceNotification | None
    foreign: bool


class CompletionQueue:
    """Receive and delete notifications. Nothing is repeated here, and no body is ever logged."""

    def __init__(self, calls: AwsCalls, queue_url: str) -> None:
        self._calls = calls
        self._url = queue_url

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: AwsConnection, queue_url: str) -> AsyncIterator[CompletionQueue]:
        """Open a connection for the block; the queue itself is not asked for.

        :param queue_url: ``https://sqs.<region>.amazonaws.com/<account>/<name>``
        :raises InvalidRequest: the URL is none, or there is no region
        :raises AccessDenied: no credentials
        """
        check_queue_url(queue_url)
        probe = ("ReceiveMessage", {"QueueUrl": queue_url})
        patience = LONGEST_POLL + _ANSWER_SECONDS
        async with open_calls(connection, "sqs", probe=probe, least_read_timeout=patience) as calls:
            yield cls(calls, queue_url)

    async def check_it_exists(self) -> None:
        """Ask once for the queue, and leave its messages as they are; an SQS that does not answer proves nothing.

        It is a receive, since no other permission is needed then; its messages stay visible to all consumers.

        :raises QueueNotFound: there is no such queue in this region and account
        """
        parameters = {
            "QueueUrl": self._url,
            "MaxNumberOfMessages": 1,
            "WaitTimeSeconds": 0,
            "VisibilityTimeout": 0,
        }
        try:
            await self._call("ReceiveMessage", parameters)
        except ServiceError as error:
            log.warning("cannot tell beforehand whether the completion queue serves: %s", error)

    async def receive(self, *, wait_seconds: int = LONGEST_POLL) -> list[QueueMessage]:
        """Return up to ten messages; an empty list when none came within ``wait_seconds`` (0 to 20).

        What is received stays invisible to others for the queue's visibility time-out and comes back unless deleted.

        :raises QueueNotFound: there is no such queue in this region and account
        :raises ServiceError: SQS refused, throttled, or did not answer
        """
        parameters = {"QueueUrl": self._url, "MaxNumberOfMessages": _AT_ONCE, "WaitTimeSeconds": wait_seconds}
        response = await self._call("ReceiveMessage", parameters)
        return [_read(message) for message in response.get("Messages") or ()]

    async def delete(self, receipts: Sequence[str]) -> None:
        """Delete messages; one that cannot be deleted comes back, which costs nothing but a poll.

        :raises QueueNotFound: as :meth:`receive`
        :raises ServiceError: as :meth:`receive`
        """
        for begin in range(0, len(receipts), _AT_ONCE):
            batch = receipts[begin : begin + _AT_ONCE]
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(batch)]
            response = await self._call("DeleteMessageBatch", {"QueueUrl": self._url, "Entries": entries})
            if kept := response.get("Failed"):
                codes = ", ".join(sorted({str(message.get("Code")) for message in kept}))
                log.info("%d messages of %s could not be deleted: %s", len(kept), self._url, codes)

    async def _call(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await self._calls.call(operation, **parameters)
        except (ClientError, BotoCoreError) as error:
            raise self._failure(error, operation) from cause_of(error)

    def _failure(self, error: ClientError | BotoCoreError, operation: str) -> SageMakerInferenceError:
        code = words_of(error)[0] if isinstance(error, ClientError) else None
        if code in _SLOWER:
            return Throttled(f"sqs:{operation} {self._url}: AWS answered {code}; a later retry helps")
        if code in _NO_QUEUE:
            return QueueNotFound(
                f"the completion queue {self._url} does not exist in this region and account: mend its URL, or create "
                f"it and subscribe it to the endpoint's SNS topics"
            )
        return translate(error, f"sqs:{operation} {self._url}")


async def check_queue(connection: AwsConnection, queue_url: str) -> None:
    """Check that the queue exists, over a connection of its own: before anything is paid.

    :raises InvalidRequest: as :meth:`CompletionQueue.open`
    :raises QueueNotFound: there is no such queue in this region and account
    """
    async with CompletionQueue.open(connection, queue_url) as queue:
        await queue.check_it_exists()


def _read(message: Mapping[str, Any]) -> QueueMessage:
    try:
        return QueueMessage(message["ReceiptHandle"], parse(message.get("Body", "")), foreign=False)
    except InvalidRequest:
        return QueueMessage(message["ReceiptHandle"], None, foreign=True)
