"""The queue between the reader and the invocations: payloads by model, within a budget of bytes.

:mod:`airflow_sm_plugin.multi_model.engine.schedule` chooses the next payload, and how many models may be open;
:mod:`airflow_sm_plugin.batches.adaptive` limits how many invocations are in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.adaptive import InFlightLimit
from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue, ModelState
from airflow_sm_plugin.multi_model.engine.schedule import Schedule
from airflow_sm_plugin.multi_model.engine.settings import WAITING_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.engine.work import Job, OpenModel

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.judgement import Judgement
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_LEAST_BUDGET = 65_536
"""Bytes of waiting payloads that every model may have, however many models are open: one chunk of an input. With less,
a model waits for S3 after each payload."""

_PAUSING, _PAUSING_PER_SLOT = 16, 4
"""Payloads that may wait for their next attempt before no fresh payloads are sent. An endpoint may take fewer requests
than a single one in flight makes: then fresh payloads wait, instead of spending their attempts."""


_TICK = 0.001
"""Seconds: the loop may call a moment early by its clock's resolution, and then the probe would not be due yet."""


class PayloadQueue:
    """The models with work left, and their payloads.

    The reader calls :meth:`open`, :meth:`put`, :meth:`end` and :meth:`close`; the invocations :meth:`take`, and then
    for each payload the method that says what its answer was, and :meth:`settled` when it is done.
    """

    def __init__(self, settings: EngineSettings, statistics: Statistics) -> None:
        self._loop = asyncio.get_running_loop()
        self._statistics = statistics
        self.clock = self._loop.time
        self.epoch = time.time() - self.clock()
        """Epoch seconds at the clock's zero."""
        self.schedule: Schedule[Job] = Schedule(max_warm_models=settings.max_warm_models)
        self.in_flight = InFlightLimit(settings.max_concurrent_transforms, now=self.clock())
        self._models: set[OpenModel] = set()
        self._has_room = asyncio.Event()
        self._takers: deque[asyncio.Future[Job | None]] = deque()
        self._pausing: dict[Job, asyncio.TimerHandle] = {}
        self._pausing_bytes = 0
        self._due = 0
        """Payloads whose pause is over; they are first in their queues."""
        self._is_closed = False

    # The reader's end

    async def open(self, target_model: str) -> OpenModel:
        """Open a model, once the schedule permits a further one."""
        while not self.schedule.has_room:
            self._has_room.clear()
            await self._has_room.wait()
        model = OpenModel(self.schedule.open(target_model))
        self._models.add(model)
        return model

    @property
    def budget(self) -> int:
        """Bytes that the payloads of one model may take."""
        return max(_LEAST_BUDGET, WAITING_BYTES // max(1, self.schedule.active))

    def put(self, model: OpenModel, jobs: Sequence[Job]) -> None:
        """Add payloads behind the model's others."""
        model.outstanding += len(jobs)
        for job in jobs:
            self._add(job)
        self._hand_out()

    async def until_room(self, model: OpenModel) -> None:
        """Wait until the model's payloads take no more bytes than the budget, or the model is given up."""
        while model.waiting_bytes > self.budget and model.lost is None:
            model.changed.clear()
            await model.changed.wait()

    def end(self, model: OpenModel) -> None:
        """Note that all payloads of a model were put into the queue."""
        model.is_read = True
        self._close_if_done(model)

    def close(self) -> None:
        """Note that no further model comes: :meth:`take` ends with the last payload."""
        self._is_closed = True
        self._end_if_done()

    # The invocations' end

    async def take(self) -> Job | None:
        """Take the next payload as soon as one may be sent; None when all have been settled."""
        job = self._next()
        if job is None:
            if self._is_over:
                return None
            taker = self._loop.create_future()
            self._takers.append(taker)
            job = await taker
        if self._takers:
            self._hand_out()  # the limit may have risen
        return job

    def loaded(self, model: OpenModel, now: float, *, seconds: float | None = None) -> None:
        """Note an answer that only a loaded model gives.

        :param seconds: its latency; None when it was an error
        """
        began = self.schedule.answered(model.queue, now=now, seconds=seconds)
        if began is not None:
            model.probes = 0
            model.worked_from = self.epoch + now
            self._statistics.loaded(model.queue.model, began=self.epoch + began, ended=self.epoch + now)
            self._has_room.set()
            self._hand_out()

    def inconclusive(self, model: OpenModel) -> None:
        """Note an answer that does not show whether the model is loaded."""
        self.schedule.inconclusive(model.queue)

    def not_ready(self, model: OpenModel, *, seconds: float, is_full: bool) -> bool:
        """Note that the model is not loaded; report whether it was evicted, so that it had answered before.

        :param seconds: the pause before it is probed again
        :param is_full: whether the endpoint has no memory for it
        """
        was_evicted = self.schedule.not_ready(model.queue, probe_at=self.clock() + seconds, is_full=is_full)
        self._loop.call_later(seconds + _TICK, self._hand_out)
        return was_evicted

    def put_again(self, job: Job) -> None:
        """Put a payload back behind its model's others."""
        self._add(job)
        self._hand_out()

    def pause(self, job: Job, seconds: float) -> None:
        """Put a payload back before its model's others, after a pause in which it does not count as in flight."""
        self._pausing[job] = self._loop.call_later(seconds, self._resume, job)
        self._pausing_bytes += job.size

    def lose(self, model: OpenModel, judgement: Judgement) -> list[Job]:
        """Give a model up; return its waiting payloads, none of which can be sent any more."""
        model.lost = judgement
        waiting = list(model.queue.ready)
        model.queue.ready.clear()
        for job in [job for job in self._pausing if job.model is model]:
            self._end_pause(job)
            waiting.append(job)
        model.waiting_bytes = 0
        self.schedule.close(model.queue)
        model.changed.set()
        self._has_room.set()
        return waiting

    def has_untried(self, model: OpenModel | None) -> bool:
        """Decide whether a payload that was never sent waits, of one model or, with None, of any."""
        return any(not job.was_tried for jobs in self._waiting(model) for job in jobs)

    def try_others(self, model: OpenModel | None) -> None:
        """Let payloads from the middle of the queue go next, of one model or, with None, of each."""
        for jobs in self._waiting(model):
            jobs.rotate(len(jobs) // 2 + 1)

    def _waiting(self, model: OpenModel | None) -> list[deque[Job]]:
        queues = self.schedule.queues() if model is None else (model.queue,)
        return [queue.ready for queue in queues]

    def settled(self, model: OpenModel) -> None:
        """Note that a payload has a result, or has failed."""
        model.outstanding -= 1
        if model.is_read:
            self._close_if_done(model)

    # Statistics

    def note_work(self) -> None:
        """Record until when each loaded model was in work."""
        for model in self._models:
            self._note_work(model)

    def gauges(self) -> dict[str, int]:
        """Count the invocations in flight, and permitted; the models that are warm, and loading."""
        return {
            "in_flight": self.schedule.in_flight,
            "bound": self.in_flight.limit,
            "warm": self.schedule.count(ModelState.WARM),
            "loading": self.schedule.count(ModelState.COLD),
        }

    # Inside

    @property
    def _is_over(self) -> bool:
        return self._is_closed and not self._models

    def _add(self, job: Job) -> None:
        job.model.waiting_bytes += job.size
        self.schedule.add(job.model.queue, job)

    def _next(self) -> Job | None:
        if self._pausing and self._holds_back:
            return None
        schedule = self.schedule
        scheduled = schedule.take(self.clock(), limit=self.in_flight.limit)
        if scheduled is None:
            return None
        job = scheduled[1]
        if self._due:
            self._due -= 1
        model = job.model
        model.waiting_bytes -= job.size
        if model.waiting_bytes <= self.budget:  # else its readers would wake for nothing
            model.changed.set()
        self.in_flight.sent(schedule.in_flight)
        return job

    @property
    def _holds_back(self) -> bool:
        """Decide whether fresh payloads are held back, since too many wait for their next attempt."""
        many = len(self._pausing) > _PAUSING + _PAUSING_PER_SLOT * self.in_flight.limit
        return (many or self._pausing_bytes > WAITING_BYTES) and not self._due

    def _hand_out(self) -> None:
        """Give payloads to those who wait for one."""
        takers = self._takers
        while takers:
            if takers[0].done():  # cancelled
                takers.popleft()
                continue
            job = self._next()
            if job is None:
                return
            takers.popleft().set_result(job)

    def _end_pause(self, job: Job) -> None:
        self._pausing.pop(job).cancel()
        self._pausing_bytes -= job.size

    def _resume(self, job: Job) -> None:
        self._end_pause(job)
        self._due += 1
        job.model.waiting_bytes += job.size
        self.schedule.put_back(job.model.queue, job)
        self._hand_out()

    def _close_if_done(self, model: OpenModel) -> None:
        if not model.is_read or model.outstanding or model not in self._models:
            return
        self._models.discard(model)
        self.schedule.close(model.queue)
        self._note_work(model)
        self._has_room.set()
        self._hand_out()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_over:
            while self._takers:
                taker = self._takers.popleft()
                if not taker.done():
                    taker.set_result(None)

    def _note_work(self, model: OpenModel) -> None:
        if model.worked_from is not None:
            now = time.time()
            self._statistics.worked(model.queue.model, began=model.worked_from, ended=now)
            model.worked_from = now


def unopened(target_model: str, lost: Judgement) -> OpenModel:
    """Make a model that is never invoked: its inputs are read only to count the records that fail."""
    return OpenModel(ModelQueue(target_model), lost=lost)
