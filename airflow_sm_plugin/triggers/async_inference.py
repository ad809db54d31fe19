"""Wait for the results of asynchronous invocations, however many, in one deferral."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.watch import AwaitedResults
from airflow_sm_plugin.async_inference.watch_state import OUTAGE_SECONDS, WatchResult, WatchState
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.failed_polls import FailedPolls
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import InvalidRequest, ServiceError
from airflow_sm_plugin.triggers.polling import SHORTEST_PAUSE, OneEventTrigger

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.queue import Wakeup

log = get_log(__name__)

_FIRST_PAUSE = 5.0
"""Seconds at most: a trigger that fires before the scheduler has noticed the deferral fails the task in a busy Airflow
3.3.2 (see :class:`PollingTrigger`). The task has polled before it deferred."""

_PAUSE_AFTER_DEADLINE = 5.0
"""Seconds between polls of an S3 that does not answer after the deadline: twelve in :data:`OUTAGE_SECONDS`."""


class AsyncInferenceTrigger(OneEventTrigger):
    """Poll for the outputs and failure objects of pending invocations; end when none is pending, or at the deadline.

    State is kept in memory, two bits a result: a restarted triggerer polls once for all unfinished results. The event
    is ``{"status": "over", "why": "complete" | "deadline" | "room" | "unreachable", "counts": {"succeeded", "failed",
    "timed_out", "pending"}, "failed_polls", "cause", "note"}``, or ``{"status": "error", "error", "message", "note"}``;
    the task then polls again.

    :param watch: :meth:`AwaitedResults.as_mapping`; or
    :param watch_location: ``s3://bucket/key`` of that mapping as JSON; it is read once
    :param until_pending: end as soon as no more than this are pending
    :param completion_queue: URL of an SQS queue with this wait's notifications; then S3 is polled when they have
        covered all awaited results, and else every minute (or ``poll_interval``, where that is longer)
    :param deadline: epoch seconds at which the wait ends whatever the results' own deadlines
    :param poll_interval: seconds between polls
    :param note: values for the task, returned in the event (``dag.test()`` loses ``defer``'s own kwargs)
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
        return super().error_event(error) | {"note": self.note}

    async def wait(self) -> dict[str, Any]:
        left = max(SHORTEST_PAUSE, self.deadline - time.time())
        await asyncio.sleep(min(self.poll_interval, _FIRST_PAUSE, left))
        async with AsyncExitStack() as stack:
            s3, watch, wakeup = await self._opened(stack)
            result = await self._poll_until_over(ResultWatcher(s3), watch, wakeup)
        return {"status": "over", **result.as_mapping(), "note": self.note}

    async def _opened(self, stack: AsyncExitStack) -> tuple[S3Objects, AwaitedResults, Wakeup | None]:
        """Open connections. A failure that can pass, such as missing credentials, counts as a failed poll."""
        failed, connection = FailedPolls(), self.new_connection()
        while True:
            try:
                async with AsyncExitStack() as opening:
                    s3 = await opening.enter_async_context(S3Objects.open(connection))
                    watch = await self._read_watch(s3)
                    wakeup = await opening.enter_async_context(self._wakeup(connection, watch))
                    stack.push_async_exit(opening.pop_all())
                    return s3, watch, wakeup
            except ServiceError as error:
                failed = failed.one_more(error.reason or error.as_sentence)
                if failed.end_the_wait(error) or time.time() >= self.deadline + OUTAGE_SECONDS:
                    raise
                log.warning("the wait for results goes on: %s", failed.in_words("S3"))
            await asyncio.sleep(min(self.poll_interval, self._time_left(self.deadline)))

    async def _read_watch(self, s3: S3Objects) -> AwaitedResults:
        if self.watch is not None:
            # In a thread, since there can be very many names.
            return await asyncio.to_thread(AwaitedResults.from_mapping, self.watch)
        if not self.watch_location:
            raise InvalidRequest("give either watch or watch_location")
        body = await s3.read(self.watch_location)
        return await asyncio.to_thread(lambda: AwaitedResults.from_mapping(json.loads(body)))

    @asynccontextmanager
    async def _wakeup(self, connection: AwsConnection, watch: AwaitedResults) -> AsyncIterator[Wakeup | None]:
        if not self.completion_queue:
            yield None
            return
        from airflow_sm_plugin.async_inference.queue import CompletionQueue, Wakeup

        async with CompletionQueue.open(connection, self.completion_queue) as queue:
            yield Wakeup(queue, watch, poll_interval=self.poll_interval)

    async def _poll_until_over(
        self, watcher: ResultWatcher, watch: AwaitedResults, wakeup: Wakeup | None
    ) -> WatchResult:
        state = WatchState.begin(watch)
        while True:
            now = time.time()
            late = now >= self.deadline
            state = await watcher.poll(watch, state, now=now, thorough=late)
            result = state.result(watch, now=now, until_pending=self.until_pending)
            if result is None and late:
                result = self._too_late(watch, state, now)
            if result is not None:
                return result
            if state.failed.in_a_row:
                pending = plural(state.counts(watch).pending, "result")
                log.warning("the wait for %s goes on: %s", pending, state.failed.in_words("S3"))
            log.debug("%s", state.counts(watch))
            longest = self._time_left(min(self.deadline, watch.last_deadline))
            if wakeup is None or state.failed.in_a_row:
                await asyncio.sleep(min(self.poll_interval, longest))
            else:
                await wakeup.pause(state, longest, until_pending=self.until_pending)

    def _too_late(self, watch: AwaitedResults, state: WatchState, now: float) -> WatchResult | None:
        """Judge a poll after the deadline; None when S3 did not answer, so that another poll follows."""
        if not state.failed.in_a_row:
            return WatchResult("deadline", state.counts(watch))
        if now < self.deadline + OUTAGE_SECONDS:
            return None
        return WatchResult("unreachable", state.counts(watch), state.failed.in_a_row, state.failed.cause)

    def _time_left(self, deadline: float) -> float:
        """Compute the longest pause before the next poll: until the deadline, then the pause of an outage."""
        left = deadline - time.time()
        return max(SHORTEST_PAUSE, left) if left > 0 else _PAUSE_AFTER_DEADLINE
