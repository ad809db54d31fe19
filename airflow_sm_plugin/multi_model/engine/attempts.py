"""Act on an answer that is no result: retry, fail the payload, give the model up, or raise the task's error.

:mod:`airflow_sm_plugin.multi_model.engine.judgement` decides what one failure means, and
:mod:`airflow_sm_plugin.multi_model.engine.conclusions` what many of them prove.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.errors import translate
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.exceptions import EndpointNotInService, ModelLoadTimeout, RecordTooLarge, Throttled
from airflow_sm_plugin.invoke.errors import explained, failure_of
from airflow_sm_plugin.invoke.failure import is_size_suspect
from airflow_sm_plugin.invoke.request import TOO_LARGE_PERHAPS
from airflow_sm_plugin.multi_model.engine.conclusions import Conclusions
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate, judge
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.engine.work import Job, OpenModel, failed_records
from airflow_sm_plugin.multi_model.payloads.payload import split_in_two

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.payload_queue import PayloadQueue
    from airflow_sm_plugin.multi_model.engine.result_queue import ResultQueue
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_FIRST_PROBE_PAUSE, _LONGEST_PROBE_PAUSE = 0.1, 0.5
"""Seconds. SageMaker itself holds a call for up to a minute while the model loads, so that a probe seldom comes back;
where it answers at once, longer pauses leave a loaded model unused, and shorter ones only add calls."""

_TRIES_OF_A_HALF = 2
"""Attempts of half a payload that failed at every attempt: it is known to be slow, or to end the container's worker.
One would fail good records for a single lost connection."""

_EVICTIONS = 20
"""A payload that so often found a loaded model not loaded is itself at fault: it ends the model's process. Fewer can be
evictions, which come in a row while the limit of warm models is being found."""


@dataclass(eq=False, repr=False)
class Attempts:
    """All payloads' failed attempts through one endpoint."""

    settings: EngineSettings
    statistics: Statistics
    payloads: PayloadQueue
    results: ResultQueue

    def __post_init__(self) -> None:
        self.repeats = 0
        """Attempts that failed and were followed by another."""
        self.conclusions = Conclusions(self.settings, self.payloads)

    def succeeded(self, job: Job, now: float) -> None:
        model = job.model
        self.conclusions.succeeded(model, now)
        model.isolated_good += job.is_half

    def failed(self, job: Job, error: ClientError | BotoCoreError) -> None:
        """Act on a failed invocation.

        :raises SageMakerInferenceError: the endpoint cannot be used, or does not serve
        """
        failure, now = failure_of(error), self.payloads.clock()
        judgement = replace(judge(failure), message=failure.words[: self.settings.error_text_limit])
        self.payloads.in_flight.answered(now, slow_down=judgement.slow_down)
        if judgement.fate in (PayloadFate.LOADING, PayloadFate.NO_MEMORY):
            self._wait_for_model(job, judgement, now)
            return
        model = job.model
        if judgement.loaded:
            self.payloads.loaded(model, now)
        else:
            self.payloads.inconclusive(model)
        if judgement.error is Throttled and self.conclusions.is_serving(now):
            job.throttled += 1  # others are served: this one is not at fault
        else:
            job.attempts += 1
        kind = failure.code or judgement.error.__name__
        if model.lost is not None:
            self._fail(job, model.lost)
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
            self._pause(job, kind, slow_down=judgement.slow_down)

    def refused(self, job: Job, judgement: Judgement, *, is_spent: bool = False) -> None:
        """Let a payload fail for good, or halve it to find the bad record.

        :param is_spent: whether it failed at every attempt, so that its halves have fewer
        """
        model = job.model
        if not self._may_split(job):
            model.isolated_bad += job.is_half
            job.attempts = max(1, job.attempts)
            self._fail(job, judgement)
            return
        self._repeated(model, f"{judgement.error.__name__} (isolated)")
        halves = [
            Job(job.open_input, half, is_half=True, evictions=job.evictions)
            for half in split_in_two(job.payload)
        ]
        if is_spent:
            for half in halves:
                half.attempts = max(0, self.settings.attempts - _TRIES_OF_A_HALF)
        # Behind the model's others: these may prove that the model serves.
        self.payloads.put(model, halves)
        self.payloads.settled(model)

    def _fail(self, job: Job, judgement: Judgement) -> None:
        self.results.put(
            job.open_input, failed_records(job.payload, judgement, attempts=job.attempts + job.throttled)
        )
        self.payloads.settled(job.model)

    def _may_split(self, job: Job) -> bool:
        return self.settings.isolate_bad_records and job.payload.records > 1 and job.model.may_isolate

    def _wait_for_model(self, job: Job, judgement: Judgement, now: float) -> None:
        """Probe the model a little later, with another payload if there is one, until its deadline."""
        model, limit = job.model, self.settings.model_load_seconds
        queue, is_full = model.queue, judgement.fate is PayloadFate.NO_MEMORY
        model.probes += 1
        jitter = 0.5 + random.random() / 2  # noqa: S311 - jitter
        pause = pause_after(
            model.probes, jitter=jitter, first=_FIRST_PROBE_PAUSE, longest=_LONGEST_PROBE_PAUSE
        )
        job.evictions += self.payloads.not_ready(model, seconds=pause, is_full=is_full)
        kind = f"{judgement.error.__name__} ({judgement.status})" if is_full else "ModelNotReadyException"
        self._repeated(model, kind)
        late = queue.first_probe_at is not None and now - queue.first_probe_at >= limit
        message = f"the endpoint did not load the model within {limit:g} s"
        not_loaded = Judgement(PayloadFate.NO_MODEL, ModelLoadTimeout, judgement.status, message=message)
        model.evidence.unready += not job.was_unready
        job.was_unready = True
        if late and model.evidence.is_late():
            self._lose_model(model, not_loaded)
        if model.lost is not None:
            self._fail(job, model.lost)
        elif late or job.evictions >= _EVICTIONS:
            job.evictions = _EVICTIONS - 1  # its halves have to meet the loaded model once
            self.refused(job, not_loaded)
        else:
            job.began = 0.0  # the time until the model is loaded is not the payload's
            self.payloads.put_again(job)

    def _lose_model(self, model: OpenModel, judgement: Judgement) -> None:
        """Give a model up: its remaining payloads fail without an invocation."""
        if model.lost is not None:
            return
        for job in self.payloads.lose(model, judgement):
            self._fail(job, judgement)

    def _denied(self, job: Job, judgement: Judgement, error: ClientError | BotoCoreError, kind: str) -> None:
        """Try other payloads, of other models too, before the model or the endpoint is given up."""
        if judgement.fate is PayloadFate.ENDPOINT:
            of_payload = replace(judgement, error=EndpointNotInService)
            name = self.settings.endpoint_name
            if isinstance(error, ClientError):
                denial = explained(error, "InvokeEndpoint", name)
            else:
                denial = translate(error, f"sagemaker:InvokeEndpoint {name}")
            is_proved = self.conclusions.denied_by_endpoint(job, denial)
        else:
            of_payload = judgement
            is_proved = self.conclusions.denied_by_model(job)
        if is_proved:
            self._lose_model(job.model, judgement)
            self._fail(job, judgement)
        elif job.attempts >= self.settings.attempts or self._may_split(job):
            self.refused(job, of_payload)
        else:
            self._pause(job, kind)

    def _is_spent(self, job: Job, judgement: Judgement) -> bool:
        """Decide whether a payload has no further attempt; in an outage only its time counts."""
        now = self.payloads.clock()
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
            self._lose_model(job.model, replace(judgement, message=text))

    def _pause(self, job: Job, kind: str, *, slow_down: bool = False) -> None:
        self._repeated(job.model, kind)
        pause = self.payloads.in_flight.pause if slow_down else pause_after
        self.payloads.pause(job, pause(job.attempts + job.throttled, jitter=random.random()))  # noqa: S311 - jitter

    def _repeated(self, model: OpenModel, kind: str) -> None:
        self.statistics.repeated(model.queue.model, kind)
        self.repeats += 1
