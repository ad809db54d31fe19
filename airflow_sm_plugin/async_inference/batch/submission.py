"""Send a round's requests concurrently, at an adaptive rate, and record intents and answers in the ledger.

A fixed set of workers takes the numbers from one source, so memory does not grow with the batch. A request that is
throttled or answered 5xx was not accepted: it waits outside of the workers and is sent again, never dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.batch.ledger_store import BLOCK, SubmissionRecord
from airflow_sm_plugin.batches.adaptive import SendRate
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.number_sets import numbers_of
from airflow_sm_plugin.exceptions import (
    AnswerLost,
    CredentialsExpired,
    FencedOff,
    InvalidRequest,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    TaskKilled,
    Throttled,
)
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest

log = get_log(__name__)

PROGRESS_SECONDS = 10.0
"""Seconds between two lines of progress: six lines a minute, so 360 in the log of an hour's sending."""
_MAX_PAUSE = 20.0
"""Seconds; the exponential backoff grows no further."""

_RESENDS = 3
"""Further sends of a request whose answer was lost, with ``resend``. Each may run the model again, so they are few; a
request that is lost four times stays in doubt."""
_MAX_PUT_OFF = 500
"""Requests that wait for another attempt. With more, no new one is sent, so that memory stays bounded."""

_MOMENT = 0.02
"""Seconds; such a short wait is not interrupted by answers, which come faster."""

_CLOSING_SECONDS = 15.0
"""Limit for writing the ledger's last parts, which are a few PutObjects. Airflow follows SIGTERM by SIGKILL, so that a
longer wait would not save more; what is not written by then is in doubt for the next try."""
_LAST_ANSWERS_SECONDS = 2.0
"""The wait of a cancelled run for requests in flight. InvokeEndpointAsync answers within a tenth of it, and Airflow
kills a task later than that after SIGTERM."""


@dataclass(order=True)
class _Sending:
    """A request and its attempts, in the order of the next attempt's time."""

    due: float
    order: int
    number: int
    request: AsyncRequest
    attempt: int = 1
    lost: int = 0


@dataclass(eq=False, kw_only=True)
class Submission:
    """One submission of a set of numbers.

    :param invoke: sends one request, once
    :param request_of: builds the request of a number; called in the order of the numbers
    :param at_once: requests in flight
    :param resend: send again up to three times after a lost answer, instead of counting the request as sent
    :param patience: seconds without any accepted request until the submission gives up; a retry goes on
    :param about: the endpoint, for the log
    """

    invoke: Callable[[AsyncRequest], Awaitable[AsyncInvocation]]
    request_of: Callable[[int], Awaitable[AsyncRequest]]
    record: SubmissionRecord
    send_rate: SendRate
    at_once: int
    resend: bool
    patience: float
    about: str

    def __post_init__(self) -> None:
        self._fresh: deque[int] = deque()
        self._again: list[_Sending] = []
        self._not_accepted: list[int] = []
        self._order = itertools.count()
        self._in_flight = 0
        self._next_lock = asyncio.Lock()
        self._wakeup = asyncio.Event()
        self._error: Exception | None = None
        self._throttled = 0
        self._accepted = 0
        self._last_accepted = time.monotonic()

    async def run(self, numbers: int, *, doubts: int = 0) -> None:
        """Send the numbers; return when each is accepted, refused or in doubt, and the ledger has it.

        :param numbers: unsent numbers of the ledger
        :param doubts: doubtful numbers of the ledger that are sent again
        :raises EndpointError: the endpoint does not exist or is not asynchronous
        :raises AccessDenied: the role is not permitted to invoke it
        :raises RequestRefused: it refused each of the first hundred
        :raises ServiceUnavailable: it accepted nothing for ``patience`` seconds; or Throttled
        :raises FencedOff: another process has taken over
        """
        self._fresh.extend(numbers_of(doubts))
        self.record.begin(numbers, self.send_rate.rate, self._allow)
        keeper = asyncio.create_task(self.record.keep())
        reporter = asyncio.create_task(self._report(numbers.bit_count() + doubts.bit_count()))
        keeper.add_done_callback(self._keeper_ended)
        workers = [asyncio.create_task(self._work()) for _ in range(self.at_once)]
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError:
            self.stop(TaskKilled(f"{self.about}: the task was killed while it sent"))
            await asyncio.wait(workers, timeout=_LAST_ANSWERS_SECONDS)
            raise
        finally:
            reporter.cancel()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._close(keeper)
        if self._error is not None:
            raise self._error

    def stop(self, error: Exception) -> None:
        """Send nothing more. :meth:`run` raises the error after the requests in flight are answered and recorded."""
        self._error = self._error or error
        self._wakeup.set()

    def _allow(self, numbers: Iterator[int]) -> None:
        self._fresh.extend(numbers)
        self._wakeup.set()

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and keeper.exception() is not None:
            error = keeper.exception()
            self.stop(error if isinstance(error, Exception) else ServiceUnavailable(f"ledger: {error!r}"))

    async def _close(self, keeper: asyncio.Task[None]) -> None:
        """Record the last answers, also when this process is being killed."""
        put_off = (sending.number for sending in self._again if not sending.lost)
        never_sent = [*self._fresh, *put_off, *self._not_accepted]
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self.record.close(keeper, never_sent)
        except FencedOff:
            raise
        except Exception as error:
            if self._error is None:
                raise
            log.warning("%s: the ledger's last part could not be written: %s", self.about, error)

    async def _work(self) -> None:
        try:
            while (sending := await self._next()) is not None:
                self._in_flight += 1
                try:
                    await self._send(sending)
                finally:
                    self._in_flight -= 1
                    self._wakeup.set()
        except Exception as error:  # noqa: BLE001 - any error of a worker ends the run, with all answers recorded
            self.stop(error)

    async def _next(self) -> _Sending | None:
        """Wait until the next request can be sent, and return it; None if there is none left."""
        async with self._next_lock:
            while not self._is_over:
                now = time.monotonic()
                pause = self._pause(now)
                if pause > 0:
                    await self._sleep(pause)
                    continue
                self.send_rate.sent(now)
                if self._again and self._again[0].due <= now:
                    return heapq.heappop(self._again)
                if (first := await self._first_time(self._fresh[0])) is not None:
                    return first
        return None

    @property
    def _is_over(self) -> bool:
        left = self._fresh or self._again or self._in_flight or self.record.todo
        return self._error is not None or not left

    def _pause(self, now: float) -> float:
        """Return the seconds until a request can be sent; infinity if that depends on an answer or the ledger."""
        due = self._again[0].due if self._again else math.inf
        if self._fresh and len(self._again) < _MAX_PUT_OFF:
            due = now
        return max(0.0, due - now, self.send_rate.next_send_at(now) - now)

    async def _first_time(self, number: int) -> _Sending | None:
        request = await self.request_of(number)
        if self._error is not None:
            return None
        self._fresh.popleft()
        self.record.low_water(len(self._fresh), self.send_rate.rate)
        return _Sending(0.0, next(self._order), number, request)

    async def _sleep(self, seconds: float) -> None:
        """Wait for so long, or until an answer comes or the ledger intends more."""
        if seconds < _MOMENT:
            await asyncio.sleep(seconds)
            return
        self._wakeup.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._wakeup.wait()

    async def _send(self, sending: _Sending) -> None:
        try:
            answer = await self.invoke(sending.request)
        except Throttled as error:
            self._throttled += 1
            self.send_rate.answered(time.monotonic(), slow_down=True)
            self._put_off(sending, error)
        except AnswerLost as error:
            self._doubt(sending, error)
        except (CredentialsExpired, ServiceUnavailable) as error:
            self._put_off(sending, error)
        except (RequestRefused, InvalidRequest) as error:
            self._refuse(sending, error)
        except SageMakerInferenceError as error:
            self._not_accepted.append(sending.number)
            self.stop(error)
        else:
            self._last_accepted = now = time.monotonic()
            self._accepted += 1
            self.send_rate.answered(now, slow_down=False)
            self.record.accepted(sending.number, sending.request, answer)

    def _put_off(self, sending: _Sending, error: SageMakerInferenceError) -> None:
        now = time.monotonic()
        if now - self._last_accepted > self.patience:
            self.stop(error)
        pause = pause_after(sending.attempt, jitter=random.random(), longest=_MAX_PAUSE)  # noqa: S311 - jitter
        sending.due, sending.attempt = now + pause, sending.attempt + 1
        heapq.heappush(self._again, sending)
        log.debug("%s: number %d again in %.1f s: %s", self.about, sending.number, pause, error)

    def _doubt(self, sending: _Sending, error: AnswerLost) -> None:
        sending.lost += 1
        self.record.in_doubt(sending.number)
        log.warning("%s: number %d is in doubt: %s", self.about, sending.number, error)
        if self.resend and sending.lost <= _RESENDS:
            self._put_off(sending, error)

    def _refuse(self, sending: _Sending, error: SageMakerInferenceError) -> None:
        refused = self.record.refused(sending.number, type(error).__name__, error.as_sentence)
        log.warning("%s: %s was refused: %s", self.about, sending.request.input_location, error)
        if refused >= BLOCK and not self.record.anything_accepted:
            self._not_accepted += self.record.forget_refusals()
            self.stop(
                error.during(
                    f"{self.about} refused each of the first {refused} inputs, so no more were sent; the last"
                )
            )

    async def _report(self, total: int) -> None:
        before = 0
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            log.info(
                "%s: %d of %d sent, %.0f a second, %d throttled, %d put off, allowed rate %.0f a second",
                self.about,
                self._accepted,
                total,
                (self._accepted - before) / PROGRESS_SECONDS,
                self._throttled,
                len(self._again),
                self.send_rate.rate,
            )
            before = self._accepted
