"""Wait for the results of asynchronous invocations, however many, in one deferral."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.hints import CompletionHints, is_stale
from airflow_sm_plugin.async_inference.watch import Watch
from airflow_sm_plugin.async_inference.watch_state import LAST_LOOKS_SECONDS, Verdict, WatchState
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.failed_polls import FailedLooks
from airflow_sm_plugin.exceptions import InvalidRequest, ServiceError
from airflow_sm_plugin.triggers.polling import OneEventTrigger

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.queue import CompletionQueue, QueueMessage

log = get_log(__name__)

_SHORTEST_PAUSE = 0.05
_FIRST_PAUSE = 5.0
"""At most: the task looked before it deferred, and a trigger that ends at once can overtake the scheduler's notice of
the deferral, on which a busy Airflow 3.3.2 fails the task (see :class:`PollingTrigger`)."""
_PAUSE_AFTER_DEADLINE = 5.0
_SLOWEST_WITH_QUEUE = 60.0
_LONG_POLL = 20
_PAUSE_AFTER_FOREIGN = 1.0
_STALE_SECONDS = 300.0


class AsyncInferenceTrigger(OneEventTrigger):
    """Look for outputs and failure objects of what is still pending; end when nothing is, or time is up.

    State is kept in memory, two bits a result: a triggerer that begins anew looks once at everything unfinished. The
    event is ``{"status": "over", "why": "complete" | "deadline" | "room" | "unreachable", "counts": {"succeeded",
    "failed", "timed_out", "pending"}, "failed_looks", "note"}``, or ``{"status": "error", "error", "message",
    "note"}``; the task looks for itself then.

    :param watch: :meth:`Watch.as_mapping`; or
    :param watch_location: ``s3://bucket/key`` where that lies as JSON; it is read once
    :param until_pending: end as soon as no more than this are pending
    :param completion_queue: URL of an SQS queue with this wait's notifications; then S3 is looked at when they have
        told of everything that is waited for, and else every minute (or ``poll_interval``, where that is longer)
    :param deadline: epoch seconds at which the wait ends whatever the results' own deadlines
    :param poll_interval: seconds between looks
    :param note: comes back in the event: what the task has to remember (``dag.test()`` loses ``defer``'s own kwargs)
    :param aws: :meth:`AwsConnection.as_mapping`
    """

    def __init__(
        self,
        *,
        deadline: float,
        poll_interval: float,
        aws: Mapping[str, Any],
        watch: Mapping[str, Any] | None = None,
        watch_location: str | None = None,
        until_pending: int = 0,
        completion_queue: str | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow annotates only in part
        self.watch = None if watch is None else dict(watch)
        self.watch_location = watch_location
        self.until_pending = until_pending
        self.completion_queue = completion_queue
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.note = dict(note or {})
        self.aws = dict(aws)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments, as JSON values."""
        return {
            "watch": self.watch,
            "watch_location": self.watch_location,
            "until_pending": self.until_pending,
            "completion_queue": self.completion_queue,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "note": self.note,
            "aws": self.aws,
        }

    def error_event(self, error: Exception) -> dict[str, Any]:
        """Return the event of a wait that broke."""
        return super().error_event(error) | {"note": self.note}

    async def wait(self) -> dict[str, Any]:
        """Look until the wait is over."""
        connection = AwsConnection(**self.aws)
        await asyncio.sleep(
            min(self.poll_interval, _FIRST_PAUSE, max(_SHORTEST_PAUSE, self.deadline - time.time()))
        )
        async with AsyncExitStack() as stack:
            s3, queue, watch = await self._opened(stack, connection)
            bell = _Bell(queue, watch, poll_interval=self.poll_interval)
            verdict = await self._look_until_over(ResultWatcher(s3), watch, bell)
        return {"status": "over", **verdict.as_mapping(), "note": self.note}

    async def _opened(
        self, stack: AsyncExitStack, connection: AwsConnection
    ) -> tuple[S3Objects, CompletionQueue | None, Watch]:
        """Open what the wait needs. What fails for a moment, such as missing credentials, is a failed look."""
        failed = FailedLooks()
        while True:
            try:
                async with AsyncExitStack() as opening:
                    s3 = await opening.enter_async_context(S3Objects.open(connection))
                    queue = await opening.enter_async_context(self._queue(connection))
                    watch = await self._read_watch(s3)
                    stack.push_async_exit(opening.pop_all())
                    return s3, queue, watch
            except ServiceError as error:
                failed = failed.one_more()
                if failed.end_the_wait(error) or time.time() >= self.deadline + LAST_LOOKS_SECONDS:
                    raise
                log.info("tolerated: %s", error)
            await asyncio.sleep(self._pause_after_failure())

    def _pause_after_failure(self) -> float:
        left = self.deadline - time.time()
        return min(self.poll_interval, max(_SHORTEST_PAUSE, left) if left > 0 else _PAUSE_AFTER_DEADLINE)

    @asynccontextmanager
    async def _queue(self, connection: AwsConnection) -> AsyncIterator[CompletionQueue | None]:
        if not self.completion_queue:
            yield None
            return
        from airflow_sm_plugin.async_inference.queue import CompletionQueue

        async with CompletionQueue.open(connection, self.completion_queue) as queue:
            yield queue

    async def _read_watch(self, s3: S3Objects) -> Watch:
        if self.watch is not None:
            return await asyncio.to_thread(
                Watch.from_mapping, self.watch
            )  # names told one by one may be many
        if not self.watch_location:
            raise InvalidRequest("give either watch or watch_location")
        body = await s3.read(self.watch_location)
        return await asyncio.to_thread(lambda: Watch.from_mapping(json.loads(body)))

    async def _look_until_over(self, watcher: ResultWatcher, watch: Watch, bell: _Bell) -> Verdict:
        state = WatchState.begin(watch)
        while True:
            now = time.time()
            late = now >= self.deadline
            state = await watcher.look(watch, state, now=now, thorough=late)
            verdict = state.verdict(watch, now=now, until_pending=self.until_pending)
            if verdict is None and late:
                verdict = self._too_late(watch, state, now)
            if verdict is not None:
                return verdict
            if state.failed.in_a_row:
                log.info("S3 gave no useful answer at %d looks in a row", state.failed.in_a_row)
            log.debug("%s", state.counts(watch))
            await bell.ring(state, self._time_left(watch), until_pending=self.until_pending)

    def _too_late(self, watch: Watch, state: WatchState, now: float) -> Verdict | None:
        """Return the verdict of a look after the deadline; None when S3 did not answer and may do so soon."""
        if not state.failed.in_a_row:
            return Verdict("deadline", state.counts(watch))
        if now < self.deadline + LAST_LOOKS_SECONDS:
            return None
        return Verdict("unreachable", state.counts(watch), state.failed.in_a_row)

    def _time_left(self, watch: Watch) -> float:
        """Return the longest pause before the next look: until the deadline, and then only to outlast an outage."""
        left = min(self.deadline, watch.last_deadline) - time.time()
        return max(_SHORTEST_PAUSE, left) if left > 0 else _PAUSE_AFTER_DEADLINE


class _Bell:
    """Sleeps until the next look is due, or notifications tell that it is worth while."""

    def __init__(self, queue: CompletionQueue | None, watch: Watch, *, poll_interval: float) -> None:
        self._queue = queue
        self._hints = CompletionHints(watch)
        self._poll_interval = poll_interval
        self._began = time.time()
        self._warned = False

    async def ring(self, state: WatchState, longest: float, *, until_pending: int) -> None:
        """Return when it is time for the next look, after ``longest`` seconds at the latest.

        :raises QueueNotFound: the queue does not exist
        """
        if self._queue is None or state.failed.in_a_row:
            await asyncio.sleep(min(self._poll_interval, longest))
            return
        self._hints.forget()
        loop = asyncio.get_running_loop()
        until = loop.time() + min(longest, max(self._poll_interval, _SLOWEST_WITH_QUEUE))
        while (left := until - loop.time()) > 0 and not self._hints.cover(state, until_pending=until_pending):
            try:
                await self._listen(self._queue, left)
            except ServiceError as error:
                log.warning("the completion queue fails, S3 is looked at meanwhile: %s", error)
                await asyncio.sleep(min(self._poll_interval, left))
                return

    async def _listen(self, queue: CompletionQueue, seconds: float) -> None:
        messages = await queue.receive(wait_seconds=max(1, min(_LONG_POLL, math.ceil(seconds))))
        ours = [message for message in messages if self._is_ours(message)]
        if ours:
            await queue.delete([message.receipt for message in ours])
        if len(ours) < len(messages):
            self._warn_of_foreign()
            if not ours:  # they come again and again
                await asyncio.sleep(min(_PAUSE_AFTER_FOREIGN, seconds))

    def _is_ours(self, message: QueueMessage) -> bool:
        """Take a message in; say whether it may be deleted: what an earlier wait left behind would stay for ever."""
        told = message.notification
        if message.foreign or told is None:
            return not message.foreign
        return self._hints.take(told) or is_stale(told, before=self._began - _STALE_SECONDS)

    def _warn_of_foreign(self) -> None:
        if not self._warned:
            log.warning(
                "the completion queue holds messages that are not about what is waited for; they are left there. Give "
                "each waiter a queue of its own, subscribed to the endpoint's topics"
            )
            self._warned = True
