"""What follows from an answer that is no result: another attempt, a failed payload, a lost model, an error of the task.

What a failure means is decided in :mod:`airflow_sm_plugin.multi_model.engine.judgement`, what failures prove in
:mod:`airflow_sm_plugin.multi_model.engine.conclusions`. A payload that waits for its next attempt takes no place among
those in flight.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.errors import cause_of, translate
from airflow_sm_plugin.batches.adaptive import InFlightLimit
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.exceptions import (
    EndpointNotInService,
    ModelLoadTimeout,
    RecordTooLarge,
    SageMakerInferenceError,
)
from airflow_sm_plugin.invoke.errors import explained, failure_of
from airflow_sm_plugin.invoke.failure import is_size_suspect
from airflow_sm_plugin.invoke.request import TOO_LARGE_PERHAPS
from airflow_sm_plugin.multi_model.engine.conclusions import Conclusions
from airflow_sm_plugin.multi_model.engine.feed import Job, OpenInput, Result, failed_records
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate, judge
from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue
from airflow_sm_plugin.multi_model.engine.schedule import Schedule
from airflow_sm_plugin.multi_model.engine.settings import WAITING_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.payloads.payload import split_in_two

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import ModelFeed
    from airflow_sm_plugin.multi_model.state.records import FailedRecords
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_FIRST_PROBE_PAUSE, _LONGEST_PROBE_PAUSE = 0.1, 0.5
"""Seconds: SageMaker itself holds a call for up to a minute while the model loads."""

_PAUSING, _PAUSING_PER_PLACE = 16, 4
"""Payloads that may wait for their next attempt before no fresh ones are sent: where the endpoint takes fewer requests
than a single one in flight makes, they wait for it longer and longer, instead of spending their attempts."""

_TRIES_OF_A_HALF = 2
"""Attempts of a part of a payload that failed at every attempt: it is known by now to be slow, or to end a worker."""

_EVICTIONS = 20
"""Times that a payload met a loaded model and found it not loaded: then the payload is at fault."""


class Settler(Protocol):
    """The engine, as far as payloads are settled there."""

    def succeeded(self, job: Job, result: Result) -> None:
        """Take a payload's result."""

    def failed(self, open_input: OpenInput, failed: FailedRecords) -> None:
        """Take the records of a payload that has failed for good."""

    def halved(self, open_input: OpenInput) -> None:
        """Note that a payload became two."""

    def model_lost(self) -> None:
        """Note that none of a model's payloads can be invoked any more."""


class Attempts:
    """All payloads' attempts through one endpoint.

    :param pump: sends what may go
    """

    def __init__(
        self, settings: EngineSettings, statistics: Statistics, settler: Settler, *, pump: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._statistics = statistics
        self._settler = settler
        self._pump = pump
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self.epoch = time.time() - self._loop.time()
        """What makes epoch seconds of the clock's."""
        self._pausing = self._pausing_bytes = 0
        self._due = 0
        """Payloads whose pause is over, before the others in their queues."""
        self._stopped = False
        self.repeats = 0
        """Attempts that failed and went again."""
        self.schedule: Schedule[Job] = Schedule(max_warm_models=settings.max_warm_models)
        self.in_flight = InFlightLimit(settings.max_concurrent_transforms, now=self.clock())
        self.conclusions = Conclusions(settings, self.schedule, clock=self.clock)

    def stop(self) -> None:
        """Try nothing again."""
        self._stopped = True

    @property
    def holds_back(self) -> bool:
        """Whether so many payloads wait for their next attempt that no fresh ones should go."""
        many = self._pausing > _PAUSING + _PAUSING_PER_PLACE * self.in_flight.limit
        return (many or self._pausing_bytes > WAITING_BYTES) and not self._due

    def taken(self) -> None:
        """Note that a payload goes."""
        if self._due:
            self._due -= 1

    def loaded(self, queue: ModelQueue[Job], job: Job, now: float, *, seconds: float | None = None) -> None:
        """Note an answer that only a loaded model gives.

        :param seconds: how long it took; None when it was an error
        """
        asked_at = self.schedule.answered(queue, now=now, seconds=seconds)
        if asked_at is not None:
            feed = job.open_input.feed
            feed.probes = 0
            feed.worked_from = self.epoch + now
            self._statistics.loaded(queue.model, began=self.epoch + asked_at, ended=self.epoch + now)
            self._pump()

    def succeeded(self, job: Job, now: float) -> None:
        """Note a result."""
        feed = job.open_input.feed
        self.conclusions.succeeded(feed, now)
        feed.isolated_good += job.is_half

    def failed(self, queue: ModelQueue[Job], job: Job, error: ClientError | BotoCoreError) -> None:
        """Do what follows from an invocation that failed.

        :raises SageMakerInferenceError: the endpoint cannot be used, or does not serve
        """
        failure, now = failure_of(error), self.clock()
        judgement = judge(failure)
        self.in_flight.answered(now, slow_down=judgement.slow_down)
        if judgement.fate in (PayloadFate.LOADING, PayloadFate.NO_MEMORY):
            self._wait_for_model(queue, job, judgement, now)
            return
        if judgement.loaded:
            self.loaded(queue, job, now)
        else:
            self.schedule.unsettled(queue)
        job.attempts += 1
        feed, message = job.open_input.feed, failure.words[: self._settings.error_text_limit]
        kind = failure.code or judgement.error.__name__
        if feed.lost is not None:
            self._fail_with_model(job, feed)
        elif judgement.fate is PayloadFate.FAILED:
            self.refused(job, judgement.error, status=judgement.status, message=message)
        elif job.attempts > 1 and is_size_suspect(failure, len(job.payload.body)):
            self.refused(job, RecordTooLarge, status=None, message=f"{TOO_LARGE_PERHAPS}: {message}")
        elif judgement.fate in (PayloadFate.ENDPOINT, PayloadFate.NO_MODEL):
            self._denied(job, judgement, error, message, kind)
        elif self._is_spent(job, judgement):
            self._give_up(job, judgement, message)
        else:
            self._pause(job, kind)

    def refused(
        self,
        job: Job,
        error: type[SageMakerInferenceError],
        *,
        status: int | None,
        message: str,
        is_spent: bool = False,
    ) -> None:
        """Let a payload fail for good, or search it for the bad record.

        :param is_spent: whether it failed at every attempt, so that its halves have fewer
        """
        open_input, feed = job.open_input, job.open_input.feed
        if not self._may_split(job):
            feed.isolated_bad += job.is_half
            attempts = max(1, job.attempts)
            failed = failed_records(job.payload, error, status=status, message=message, attempts=attempts)
            self._settler.failed(open_input, failed)
            return
        self._repeated(feed.queue.model, f"{error.__name__} (isolated)")
        self._settler.halved(open_input)
        for half in split_in_two(job.payload):
            # Behind the model's others: these may prove that the model serves.
            part = Job(open_input, half, is_half=True, evictions=job.evictions)
            if is_spent:
                part.attempts = max(0, self._settings.attempts - _TRIES_OF_A_HALF)
            feed.waiting_bytes += part.size
            self.schedule.add(feed.queue, part)
        self._pump()

    def _may_split(self, job: Job) -> bool:
        """Decide whether a payload that fails becomes two, in one of which the bad record is."""
        isolates = self._settings.isolate_bad_records and job.payload.records > 1
        return isolates and job.open_input.feed.may_isolate

    # Models that are not loaded, and those that never will be

    def _wait_for_model(self, queue: ModelQueue[Job], job: Job, judgement: Judgement, now: float) -> None:
        """Probe the model a little later, with another payload if there is one, until its time is over."""
        feed, limit = job.open_input.feed, self._settings.model_load_seconds
        feed.probes += 1
        jitter = 0.5 + random.random() / 2  # noqa: S311 - jitter
        pause = pause_after(
            feed.probes, jitter=jitter, first=_FIRST_PROBE_PAUSE, longest=_LONGEST_PROBE_PAUSE
        )
        if judgement.fate is PayloadFate.NO_MEMORY:
            job.evictions += self.schedule.no_memory(queue, probe_at=now + pause)
            self._repeated(queue.model, f"{judgement.error.__name__} ({judgement.status})")
        else:
            job.evictions += self.schedule.not_ready(queue, probe_at=now + pause)
            self._repeated(queue.model, "ModelNotReadyException")
        late = queue.asked_at is not None and now - queue.asked_at >= limit
        message = f"the endpoint did not load the model within {limit:g} s"
        feed.evidence.unready += not job.was_unready
        job.was_unready = True
        if feed.lost is None and late and feed.evidence.is_late():
            lost = Judgement(PayloadFate.NO_MODEL, ModelLoadTimeout, judgement.status)
            self._lose_model(feed, lost, message)
        self._loop.call_later(pause + 0.001, self._pump)
        if feed.lost is not None:
            self._fail_with_model(job, feed)
        elif late or job.evictions >= _EVICTIONS:
            job.evictions = _EVICTIONS - 1  # its halves have to meet the loaded model once
            self.refused(job, ModelLoadTimeout, status=judgement.status, message=message)
        else:
            job.began = 0.0  # what follows is not the payload's time
            feed.waiting_bytes += job.size
            self.schedule.add(queue, job)

    def _lose_model(self, feed: ModelFeed, judgement: Judgement, message: str) -> None:
        """End a model: none of its payloads can be invoked any more."""
        if feed.lost is not None:
            return
        feed.lost = (judgement, message)
        waiting = list(feed.queue.ready)
        feed.queue.ready.clear()
        self.schedule.close(feed.queue)
        for job in waiting:
            feed.waiting_bytes -= job.size
            self._fail_with_model(job, feed)
        feed.wake()
        self._settler.model_lost()

    def _fail_with_model(self, job: Job, feed: ModelFeed) -> None:
        failed = feed.failed_with_it(job.payload, attempts=job.attempts)
        self._settler.failed(job.open_input, failed)

    def _denied(
        self, job: Job, judgement: Judgement, error: ClientError | BotoCoreError, message: str, kind: str
    ) -> None:
        """Try other payloads, of other models too, before the model or the endpoint counts as lost."""
        feed, row_error = job.open_input.feed, judgement.error
        if judgement.fate is PayloadFate.ENDPOINT:
            row_error = EndpointNotInService
            denial = _about_endpoint(error, self._settings.endpoint_name)
            is_proved = self.conclusions.denied_by_endpoint(job, denial, cause_of(error))
        else:
            is_proved = self.conclusions.denied_by_model(job)
        if is_proved:
            self._lose_model(feed, judgement, message)
            self._fail_with_model(job, feed)
        elif job.attempts >= self._settings.attempts or self._may_split(job):
            self.refused(job, row_error, status=judgement.status, message=message)
        else:
            self._pause(job, kind)

    # Retries

    def _is_spent(self, job: Job, judgement: Judgement) -> bool:
        """Decide whether that was a payload's last attempt; in an outage that is not its fault."""
        now = self.clock()
        if now - job.began >= self._settings.payload_seconds:
            return True
        return job.attempts >= self._settings.attempts and not self.conclusions.is_outage(job, judgement, now)

    def _give_up(self, job: Job, judgement: Judgement, message: str) -> None:
        """Let a payload fail that failed at every attempt, or search it for the bad record.

        Too many of these in a row are about more than a payload.
        """
        self.refused(job, judgement.error, status=judgement.status, message=message, is_spent=True)
        if self.conclusions.exhausted(job, judgement, message):
            text = f"payload after payload failed at each of its attempts; the last said: {message}"
            self._lose_model(job.open_input.feed, judgement, text)

    def _pause(self, job: Job, kind: str) -> None:
        self._repeated(job.open_input.feed.queue.model, kind)
        pause = pause_after(job.attempts, jitter=random.random())  # noqa: S311 - jitter
        self._pausing += 1
        self._pausing_bytes += job.size
        self._loop.call_later(pause, self._retry, job)

    def _retry(self, job: Job) -> None:
        self._pausing -= 1
        self._pausing_bytes -= job.size
        if self._stopped:
            return
        feed = job.open_input.feed
        if feed.lost is not None:
            self._fail_with_model(job, feed)
            return
        self._due += 1
        feed.waiting_bytes += job.size
        self.schedule.put_back(feed.queue, job)
        self._pump()

    def _repeated(self, model: str, kind: str) -> None:
        self._statistics.repeated(model, kind)
        self.repeats += 1


def _about_endpoint(error: ClientError | BotoCoreError, name: str) -> SageMakerInferenceError:
    if isinstance(error, ClientError):
        return explained(error, "InvokeEndpoint", name)
    return translate(error, f"sagemaker:InvokeEndpoint {name}")
