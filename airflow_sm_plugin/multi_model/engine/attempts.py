"""Act on an answer that is no result: retry, fail the payload, give the model up, or raise the task's error.

:mod:`airflow_sm_plugin.multi_model.engine.judgement` decides what one failure means, and
:mod:`airflow_sm_plugin.multi_model.engine.conclusions` what many of them prove. A payload that waits for its next
attempt does not count as in flight.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.errors import cause_of, translate
from airflow_sm_plugin.batches.adaptive import InFlightLimit
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.exceptions import EndpointNotInService, ModelLoadTimeout, RecordTooLarge
from airflow_sm_plugin.invoke.errors import explained, failure_of
from airflow_sm_plugin.invoke.failure import is_size_suspect
from airflow_sm_plugin.invoke.request import TOO_LARGE_PERHAPS
from airflow_sm_plugin.multi_model.engine.conclusions import Conclusions
from airflow_sm_plugin.multi_model.engine.feed import Job, OpenInput, Result, failed_records
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate, judge
from airflow_sm_plugin.multi_model.engine.schedule import Schedule
from airflow_sm_plugin.multi_model.engine.settings import WAITING_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.payloads.payload import split_in_two

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import ModelFeed
    from airflow_sm_plugin.multi_model.state.records import FailedRecords
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_FIRST_PROBE_PAUSE, _LONGEST_PROBE_PAUSE = 0.1, 0.5
"""Seconds: SageMaker itself holds a call for up to a minute while the model loads."""

_PAUSING, _PAUSING_PER_SLOT = 16, 4
"""Payloads that may wait for their next attempt before no fresh payloads are sent. An endpoint may take fewer requests
than a single one in flight makes: then fresh payloads wait, instead of spending their attempts."""

_TRIES_OF_A_HALF = 2
"""Attempts of half a payload that failed at every attempt: it is known to be slow, or to end the container's worker."""

_EVICTIONS = 20
"""A payload that so often found a loaded model not loaded is itself at fault."""


class Settler(Protocol):
    """Receives each payload's end, a result or records that failed for good, and notes that a model is given up."""

    def succeeded(self, job: Job, result: Result) -> None: ...
    def failed(self, open_input: OpenInput, failed: FailedRecords) -> None: ...
    def model_lost(self) -> None: ...


@dataclass(eq=False, repr=False)
class Attempts:
    """All payloads' attempts through one endpoint.

    :param pump: sends as many payloads as permitted
    """

    settings: EngineSettings
    statistics: Statistics
    settler: Settler
    pump: Callable[[], None]

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self.epoch = time.time() - self._loop.time()
        """Epoch seconds at the clock's zero."""
        self._pausing = self._pausing_bytes = 0
        self._due = 0
        """Payloads whose pause is over; they are first in their queues."""
        self._stopped = False
        self.repeats = 0
        """Attempts that failed and were followed by another."""
        self.schedule: Schedule[Job] = Schedule(max_warm_models=self.settings.max_warm_models)
        self.in_flight = InFlightLimit(self.settings.max_concurrent_transforms, now=self.clock())
        self.conclusions = Conclusions(self.settings, self.schedule, clock=self.clock)

    def stop(self) -> None:
        self._stopped = True

    @property
    def holds_back(self) -> bool:
        """Decide whether fresh payloads are held back, since too many wait for their next attempt."""
        many = self._pausing > _PAUSING + _PAUSING_PER_SLOT * self.in_flight.limit
        return (many or self._pausing_bytes > WAITING_BYTES) and not self._due

    def add(self, job: Job) -> None:
        """Add a payload behind its model's others. Call the pump afterwards."""
        feed = job.open_input.feed
        feed.waiting_bytes += job.size
        self.schedule.add(feed.queue, job)

    def taken(self) -> None:
        """Note that a payload is sent."""
        if self._due:
            self._due -= 1

    def loaded(self, job: Job, now: float, *, seconds: float | None = None) -> None:
        """Note an answer that only a loaded model gives.

        :param seconds: its latency; None when it was an error
        """
        feed = job.open_input.feed
        began = self.schedule.answered(feed.queue, now=now, seconds=seconds)
        if began is not None:
            feed.probes = 0
            feed.worked_from = self.epoch + now
            self.statistics.loaded(feed.queue.model, began=self.epoch + began, ended=self.epoch + now)
            self.pump()

    def succeeded(self, job: Job, now: float) -> None:
        feed = job.open_input.feed
        self.conclusions.succeeded(feed, now)
        feed.isolated_good += job.is_half

    def failed(self, job: Job, error: ClientError | BotoCoreError) -> None:
        """Act on a failed invocation.

        :raises SageMakerInferenceError: the endpoint cannot be used, or does not serve
        """
        failure, now = failure_of(error), self.clock()
        judgement = replace(judge(failure), message=failure.words[: self.settings.error_text_limit])
        self.in_flight.answered(now, slow_down=judgement.slow_down)
        if judgement.fate in (PayloadFate.LOADING, PayloadFate.NO_MEMORY):
            self._wait_for_model(job, judgement, now)
            return
        feed = job.open_input.feed
        if judgement.loaded:
            self.loaded(job, now)
        else:
            self.schedule.unsettled(feed.queue)
        job.attempts += 1
        kind = failure.code or judgement.error.__name__
        if feed.lost is not None:
            self._fail(job, feed.lost)
        elif judgement.fate is PayloadFate.FAILED:
            self.refused(job, judgement)
        elif job.attempts > 1 and is_size_suspect(failure, len(job.payload.body)):
            text = f"{TOO_LARGE_PERHAPS}: {judgement.message}"
            self.refused(job, Judgement(PayloadFate.FAILED, RecordTooLarge, None, message=text))
        elif judgement.fate in (PayloadFate.ENDPOINT, PayloadFate.NO_MODEL):
            self._denied(job, judgement, error, kind)
        elif self._is_spent(job, judgement):
            self._give_up(job, judgement)
        else:
            self._pause(job, kind)

    def refused(self, job: Job, judgement: Judgement, *, is_spent: bool = False) -> None:
        """Let a payload fail for good, or halve it to find the bad record.

        :param is_spent: whether it failed at every attempt, so that its halves have fewer
        """
        open_input, feed = job.open_input, job.open_input.feed
        if not self._may_split(job):
            feed.isolated_bad += job.is_half
            job.attempts = max(1, job.attempts)
            self._fail(job, judgement)
            return
        self._repeated(feed.queue.model, f"{judgement.error.__name__} (isolated)")
        open_input.unsettled += 1  # one payload becomes two
        feed.outstanding += 1
        for half in split_in_two(job.payload):
            # Behind the model's others: these may prove that the model serves.
            part = Job(open_input, half, is_half=True, evictions=job.evictions)
            if is_spent:
                part.attempts = max(0, self.settings.attempts - _TRIES_OF_A_HALF)
            self.add(part)
        self.pump()

    def _fail(self, job: Job, judgement: Judgement) -> None:
        self.settler.failed(job.open_input, failed_records(job.payload, judgement, attempts=job.attempts))

    def _may_split(self, job: Job) -> bool:
        isolates = self.settings.isolate_bad_records and job.payload.records > 1
        return isolates and job.open_input.feed.may_isolate

    def _wait_for_model(self, job: Job, judgement: Judgement, now: float) -> None:
        """Probe the model a little later, with another payload if there is one, until its deadline."""
        feed, limit = job.open_input.feed, self.settings.model_load_seconds
        queue, is_full = feed.queue, judgement.fate is PayloadFate.NO_MEMORY
        feed.probes += 1
        jitter = 0.5 + random.random() / 2  # noqa: S311 - jitter
        pause = pause_after(
            feed.probes, jitter=jitter, first=_FIRST_PROBE_PAUSE, longest=_LONGEST_PROBE_PAUSE
        )
        job.evictions += self.schedule.not_ready(queue, probe_at=now + pause, is_full=is_full)
        kind = f"{judgement.error.__name__} ({judgement.status})" if is_full else "ModelNotReadyException"
        self._repeated(queue.model, kind)
        late = queue.first_probe_at is not None and now - queue.first_probe_at >= limit
        message = f"the endpoint did not load the model within {limit:g} s"
        not_loaded = Judgement(PayloadFate.NO_MODEL, ModelLoadTimeout, judgement.status, message=message)
        feed.evidence.unready += not job.was_unready
        job.was_unready = True
        if late and feed.evidence.is_late():
            self._lose_model(feed, not_loaded)
        self._loop.call_later(pause + 0.001, self.pump)
        if feed.lost is not None:
            self._fail(job, feed.lost)
        elif late or job.evictions >= _EVICTIONS:
            job.evictions = _EVICTIONS - 1  # its halves have to meet the loaded model once
            self.refused(job, not_loaded)
        else:
            job.began = 0.0  # the time until the model is loaded is not the payload's
            self.add(job)

    def _lose_model(self, feed: ModelFeed, judgement: Judgement) -> None:
        """Give a model up: its remaining payloads fail without an invocation."""
        if feed.lost is not None:
            return
        feed.lost = judgement
        waiting = list(feed.queue.ready)
        feed.queue.ready.clear()
        self.schedule.close(feed.queue)
        for job in waiting:
            feed.waiting_bytes -= job.size
            self._fail(job, judgement)
        feed.wake()
        self.settler.model_lost()

    def _denied(self, job: Job, judgement: Judgement, error: ClientError | BotoCoreError, kind: str) -> None:
        """Try other payloads, of other models too, before the model or the endpoint is given up."""
        if judgement.fate is PayloadFate.ENDPOINT:
            of_payload = replace(judgement, error=EndpointNotInService)
            name = self.settings.endpoint_name
            if isinstance(error, ClientError):
                denial = explained(error, "InvokeEndpoint", name)
            else:
                denial = translate(error, f"sagemaker:InvokeEndpoint {name}")
            is_proved = self.conclusions.denied_by_endpoint(job, denial, cause_of(error))
        else:
            of_payload = judgement
            is_proved = self.conclusions.denied_by_model(job)
        if is_proved:
            self._lose_model(job.open_input.feed, judgement)
            self._fail(job, judgement)
        elif job.attempts >= self.settings.attempts or self._may_split(job):
            self.refused(job, of_payload)
        else:
            self._pause(job, kind)

    def _is_spent(self, job: Job, judgement: Judgement) -> bool:
        """Decide whether a payload has no further attempt; in an outage only its time counts."""
        now = self.clock()
        if now - job.began >= self.settings.payload_seconds:
            return True
        return job.attempts >= self.settings.attempts and not self.conclusions.is_outage(job, judgement, now)

    def _give_up(self, job: Job, judgement: Judgement) -> None:
        """Let a payload fail that failed at every attempt. Too many of these in a row are the model's fault."""
        self.refused(job, judgement, is_spent=True)
        if self.conclusions.exhausted(job, judgement):
            text = (
                f"payload after payload failed at each of its attempts; the last error: {judgement.message}"
            )
            self._lose_model(job.open_input.feed, replace(judgement, message=text))

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
            self._fail(job, feed.lost)
            return
        self._due += 1
        feed.waiting_bytes += job.size
        self.schedule.put_back(feed.queue, job)
        self.pump()

    def _repeated(self, model: str, kind: str) -> None:
        self.statistics.repeated(model, kind)
        self.repeats += 1
