"""The SQS queue of SageMaker's notifications about finished inferences: they only bring the next poll of S3 forward."""

from __future__ import annotations

import asyncio
import datetime
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.watch import AwaitedResults, ObjectKind, ResultPosition
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.aws.calls import AwsCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import translate, words_of
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
"""Time for an answer beside the long poll."""

_AT_ONCE = 10
"""Messages of one call: SQS's limit."""

_PAUSE_WITH_QUEUE = 60.0
"""Seconds between polls of S3 while the queue works: they find the results whose notifications are lost."""

_PAUSE_AFTER_FOREIGN = 1.0
"""Seconds without a receive after foreign messages only: they come again at once, and a receive costs money."""

_STALE_SECONDS = 300.0
"""Notifications of results from so long before the wait are kept: clocks differ, and notifications can be late."""

_NO_QUEUE = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress", "NonExistentQueue"}
)
_SLOWER = frozenset({"RequestThrottled", "KmsThrottled", "OverLimit"})
"""SQS's own words for "slow down", which come with status 400."""


@dataclass(frozen=True)
class QueueMessage:
    """One message. ``notification`` is None for SageMaker's test notification and for a foreign message."""

    receipt: str = field(repr=False)  # it suffices to delete the message
    notification: InferenceNotification | None
    foreign: bool


class CompletionQueue:
    """The queue's messages. Calls are not repeated here, and no body is ever logged."""

    def __init__(self, calls: AwsCalls, queue_url: str) -> None:
        self._calls = calls
        self._url = queue_url

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: AwsConnection, queue_url: str) -> AsyncIterator[CompletionQueue]:
        """Open a connection for the block.

        :param queue_url: ``https://sqs.<region>.amazonaws.com/<account>/<name>``
        :raises InvalidRequest: another URL, or no region
        :raises AccessDenied: no credentials
        """
        check_queue_url(queue_url)
        probe = ("ReceiveMessage", {"QueueUrl": queue_url})
        timeout = LONGEST_POLL + _ANSWER_SECONDS
        async with open_calls(connection, "sqs", probe=probe, least_read_timeout=timeout) as calls:
            yield cls(calls, queue_url)

    async def check_it_exists(self) -> None:
        """Receive once, which needs no further permission and leaves the message visible; other errors are only logged.

        :raises QueueNotFound: there is no such queue in this region and account
        """
        try:
            await self._call("ReceiveMessage", MaxNumberOfMessages=1, WaitTimeSeconds=0, VisibilityTimeout=0)
        except ServiceError as error:
            log.warning("could not check the completion queue beforehand: %s", error)

    async def receive(self, *, wait_seconds: int = LONGEST_POLL) -> list[QueueMessage]:
        """Receive up to ten messages; none when none came within ``wait_seconds`` (0 to 20).

        They stay invisible to others for the queue's visibility time-out and come back unless deleted.

        :raises QueueNotFound: there is no such queue in this region and account
        :raises ServiceError: SQS refused, throttled, or did not answer
        """
        response = await self._call(
            "ReceiveMessage", MaxNumberOfMessages=_AT_ONCE, WaitTimeSeconds=wait_seconds
        )
        return [_read(message) for message in response.get("Messages") or ()]

    async def delete(self, receipts: Sequence[str]) -> None:
        """Delete messages; errors as :meth:`receive`. A message that cannot be deleted comes back."""
        for begin in range(0, len(receipts), _AT_ONCE):
            batch = receipts[begin : begin + _AT_ONCE]
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(batch)]
            response = await self._call("DeleteMessageBatch", Entries=entries)
            if undeleted := response.get("Failed"):
                codes = ", ".join(sorted({str(message.get("Code")) for message in undeleted}))
                log.info("%d messages of %s could not be deleted: %s", len(undeleted), self._url, codes)

    async def _call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        try:
            return await self._calls.call(operation, QueueUrl=self._url, **parameters)
        except (ClientError, BotoCoreError) as error:
            raise self._failure(error, operation) from None

    def _failure(self, error: ClientError | BotoCoreError, operation: str) -> SageMakerInferenceError:
        code = words_of(error)[0] if isinstance(error, ClientError) else None
        if code in _SLOWER:
            return Throttled(f"sqs:{operation} {self._url}: AWS answered {code}", do="retry later")
        if code in _NO_QUEUE:
            return QueueNotFound(
                f"the completion queue {self._url} does not exist in this region and account",
                do="correct its URL, or create it and subscribe it to the endpoint's SNS topics",
            )
        return translate(error, f"sqs:{operation} {self._url}")


async def check_queue(connection: AwsConnection, queue_url: str) -> None:
    """Check that the queue exists, over a connection of its own, before anything costs money; errors as above."""
    async with CompletionQueue.open(connection, queue_url) as queue:
        await queue.check_it_exists()


def _read(message: Mapping[str, Any]) -> QueueMessage:
    try:
        return QueueMessage(message["ReceiptHandle"], parse(message.get("Body", "")), foreign=False)
    except InvalidRequest:
        return QueueMessage(message["ReceiptHandle"], None, foreign=True)


class CompletionHints:
    """The results notified since the last poll, as a mask for each folder. They decide when to poll, not outcomes."""

    def __init__(self, watch: AwaitedResults) -> None:
        self._watch = watch
        self._hinted = [0] * len(watch.folders)
        self._by_folder: dict[str, list[int]] = {}
        for folder_index, folder in enumerate(watch.folders):
            self._by_folder.setdefault(folder.outputs, []).append(folder_index)

    def take(self, notification: InferenceNotification) -> bool:
        """Add a notification; return whether it is about a request of this owner, awaited or not."""
        result = self._position_of(notification)
        if result is not None:
            self._hinted[result.folder] |= 1 << result.position
        own = self._watch.own_ids
        return result is not None or bool(own and (notification.inference_id or "").startswith(own))

    def _position_of(self, notification: InferenceNotification) -> ResultPosition | None:
        folder, slash, name = (notification.output_location or "").rpartition("/")
        for folder_index in self._by_folder.get(folder + slash, ()):
            for position in self._watch.folders[folder_index].names.positions([name], ObjectKind.OUTPUTS):
                return ResultPosition(folder_index, position)
        for folder_index, awaited in enumerate(self._watch.folders):
            if (position := awaited.names.id_at(notification.inference_id or "")) >= 0:
                return ResultPosition(folder_index, position)
        return None

    def cover(self, state: WatchState, *, until_pending: int = 0) -> bool:
        """Check whether a poll now would end the wait, if every hint is true."""
        left = sum(
            (folder_state.pending(folder) & ~hinted).bit_count()
            for folder, folder_state, hinted in zip(
                self._watch.folders, state.folders, self._hinted, strict=True
            )
        )
        return left <= until_pending

    def forget(self) -> None:
        self._hinted = [0] * len(self._hinted)


def is_stale(notification: InferenceNotification, *, before: float) -> bool:
    """Check whether an inference had finished before that time, in epoch seconds."""
    try:
        finished = datetime.datetime.fromisoformat(notification.event_time or "")
        return finished.replace(tzinfo=finished.tzinfo or datetime.UTC).timestamp() < before
    except (ValueError, OverflowError):
        return False


class Wakeup:
    """Pauses between polls that end as soon as every awaited result was notified.

    :param poll_interval: seconds of a pause while the queue fails, and of every pause if longer than a minute
    """

    def __init__(self, queue: CompletionQueue, watch: AwaitedResults, *, poll_interval: float) -> None:
        self._queue = queue
        self._hints = CompletionHints(watch)
        self._poll_interval = poll_interval
        self._began = time.time()
        self._warned = False

    async def pause(self, state: WatchState, longest: float, *, until_pending: int) -> None:
        """Wait until the next poll is due, at most ``longest`` seconds.

        :raises QueueNotFound: the queue does not exist
        """
        self._hints.forget()
        loop = asyncio.get_running_loop()
        until = loop.time() + min(longest, max(self._poll_interval, _PAUSE_WITH_QUEUE))
        while (seconds_left := until - loop.time()) > 0 and not self._hints.cover(
            state, until_pending=until_pending
        ):
            try:
                await self._listen(seconds_left)
            except ServiceError as error:
                log.warning("the completion queue fails, S3 is polled meanwhile: %s", error)
                await asyncio.sleep(min(self._poll_interval, seconds_left))
                return

    async def _listen(self, seconds: float) -> None:
        messages = await self._queue.receive(wait_seconds=max(1, min(LONGEST_POLL, math.ceil(seconds))))
        ours = [message for message in messages if self._is_ours(message)]
        if ours:
            await self._queue.delete([message.receipt for message in ours])
        if len(ours) < len(messages) and not self._warned:
            self._warned = True
            log.warning(
                "the completion queue holds messages that are not about what is waited for; they are left there. Give "
                "each waiter a queue of its own, subscribed to the endpoint's topics"
            )
        if messages and not ours:  # they come again and again
            await asyncio.sleep(min(_PAUSE_AFTER_FOREIGN, seconds))

    def _is_ours(self, message: QueueMessage) -> bool:
        """Read a message; return whether to delete it. Messages of an earlier wait would otherwise stay for ever."""
        notification = message.notification
        if message.foreign or notification is None:
            return not message.foreign
        return self._hints.take(notification) or is_stale(notification, before=self._began - _STALE_SECONDS)
