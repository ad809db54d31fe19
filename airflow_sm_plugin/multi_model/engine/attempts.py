"""What follows from an answer that is no result: another attempt, a failed payload, a lost model, an error of the task.

What a failure means is decided in :mod:`airflow_sm_plugin.multi_model.engine.judgement`. A payload that waits for
its next attempt holds no place among those on their way.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.errors import cause_of, translate
from airflow_sm_plugin.batches.in_flight import InFlightBound
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.exceptions import (
    CredentialsExpired,
    EndpointNotInService,
    ModelLoadTimeout,
    RecordTooLarge,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.invoke.errors import explained, failure_of
from airflow_sm_plugin.invoke.failure import is_size_suspect
from airflow_sm_plugin.invoke.request import TOO_LARGE_PERHAPS
from airflow_sm_plugin.multi_model.engine.feed import Job, OpenInput, Result
from airflow_sm_plugin.multi_model.engine.judgement import Evidence, Judgement, Verdict, judge
from airflow_sm_plugin.multi_model.engine.model_queue import Lane
from airflow_sm_plugin.multi_model.engine.schedule import Turns
from airflow_sm_plugin.multi_model.engine.settings import WAITING_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.payloads.payload import Payload, split_in_two

if TYPE_CHECKING:
    from airflow_sm_plugin.invoke.failure import CallFailure
    from airflow_sm_plugin.multi_model.engine.feed import ModelFeed
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_FIRST_PROBE_PAUSE, _LONGEST_PROBE_PAUSE = 0.1, 0.5
"""Seconds: SageMaker itself holds a call for up to a minute while the model loads."""

_OUTAGE_SECONDS = 60.0
"""For so long nothing at all may succeed without a payload being given up for it."""

_PAUSING, _PAUSING_PER_PLACE = 16, 4
"""Payloads that may wait for their next attempt before no fresh ones are sent: where the endpoint takes fewer requests
than a single one in flight makes, they wait for it longer and longer, instead of spending their attempts."""

_UNSERVED = 20
"""Payloads that failed at every attempt, of a batch that got no answer at all: fewer fail each for itself."""

_MODELS = 3
"""So many models whose payloads are denied speak of the endpoint, whatever others do."""

_TRIES_OF_A_HALF = 2
"""Attempts of a part of a payload that failed at every attempt: it is known by now to be slow, or to end a worker."""

_EVICTIONS = 20
"""Times that a payload met a loaded model and was told that the model is not loaded: then the payload is at fault."""

_OF_ENDPOINT = (CredentialsExpired, ServiceUnavailable, Throttled)


class Settler(Protocol):
    """Who is told what became of payloads."""

    def succeeded(self, job: Job, result: Result) -> None:
        """Take a payload's result."""

    def failed(
        self,
        one: OpenInput,
        payload: Payload,
        error: type[SageMakerInferenceError],
        *,
        status: int | None,
        message: str,
        attempts: int,
    ) -> None:
        """Take a payload that has failed for good."""

    def halved(self, one: OpenInput) -> None:
        """Take note that a payload became two."""

    def died(self) -> None:
        """Take note that none of a model's payloads can be invoked any more."""


class Attempts:
    """All payloads' attempts through one endpoint.

    :param pump: sends what may go
    """

    def __init__(
        self,
        settings: EngineSettings,
        statistics: Statistics,
        settler: Settler,
        *,
        pump: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._statistics = statistics
        self._settler = settler
        self._pump = pump
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self.epoch = time.time() - self._loop.time()
        """What makes epoch seconds of the clock's."""
        self._evidence = Evidence()
        self._denied_models: set[str] = set()
        self._denial: SageMakerInferenceError | None = None
        self._outage: SageMakerInferenceError | None = None
        self._unserved = 0
        self._answered: set[str] = set()
        self._pausing = self._pausing_bytes = 0
        self._ripe = 0
        self._succeeded_at = self.clock()
        self._stopped = False
        self.repeats = 0
        """Attempts that failed and went again."""
        self.turns: Turns[Job] = Turns(max_warm_models=settings.max_warm_models)
        self.bound = InFlightBound(settings.max_concurrent_transforms, now=self.clock())

    def stop(self) -> None:
        """Try nothing again."""
        self._stopped = True

    @property
    def holds_back(self) -> bool:
        """Whether so many payloads wait for their next attempt that no fresh ones should go."""
        many = self._pausing > _PAUSING + _PAUSING_PER_PLACE * self.bound.bound
        return (many or self._pausing_bytes > WAITING_BYTES) and not self._ripe

    def taken(self) -> None:
        """Take note that a payload goes."""
        if self._ripe:
            self._ripe -= 1

    def loaded(self, lane: Lane[Job], job: Job, now: float, *, seconds: float | None = None) -> None:
        """Take note of an answer that only a loaded model gives.

        :param seconds: how long it took; None when it was an error
        """
        asked_at = self.turns.answered(lane, now=now, seconds=seconds)
        if asked_at is not None:
            job.input.feed.probes = 0
            job.input.feed.worked_from = self.epoch + now
            self._statistics.loaded(lane.model, began=self.epoch + asked_at, ended=self.epoch + now)
            self._pump()

    def succeeded(self, lane: Lane[Job], job: Job, now: float) -> None:
        """Take note of a result: whatever failed before, somebody serves."""
        feed = job.input.feed
        feed.evidence.clear(now)
        self._evidence.clear(now)
        self._denied_models.clear()
        feed.isolated_good += job.is_half
        self._succeeded_at = now
        self._answered.add(lane.model)

    def kill(self, feed: ModelFeed, judgement: Judgement, message: str) -> None:
        """End a model: none of its payloads can be invoked any more."""
        if feed.dead is not None:
            return
        feed.dead = (judgement, message)
        waiting = list(feed.lane.ready)
        feed.lane.ready.clear()
        self.turns.close(feed.lane)
        for job in waiting:
            feed.waiting_bytes -= job.size
            self._bury(job)
        feed.moved()
        self._settler.died()

    def fell(self, lane: Lane[Job], job: Job, error: ClientError | BotoCoreError) -> None:
        """Do what follows from an invocation that failed.

        :raises SageMakerInferenceError: the endpoint cannot be used, or does not serve
        """
        failure, now = failure_of(error), self.clock()
        judgement = judge(failure)
        self.bound.answered(now, slow_down=judgement.slow_down)
        if judgement.verdict in (Verdict.LOADING, Verdict.NO_MEMORY):
            self._wait_for_model(lane, job, judgement, now)
            return
        if judgement.loaded:
            self.loaded(lane, job, now)
        else:
            self.turns.unsettled(lane)
        job.attempts += 1
        if job.input.feed.dead is not None:
            self._bury(job)
        elif judgement.verdict is Verdict.FAILED:
            self.refused(job, judgement.error, status=judgement.status, message=self._text(failure))
        elif job.attempts > 1 and is_size_suspect(failure, len(job.payload.body)):
            self.refused(
                job, RecordTooLarge, status=None, message=f"{TOO_LARGE_PERHAPS}: {self._text(failure)}"
            )
        elif judgement.verdict is Verdict.ENDPOINT:
            self._denied_by_endpoint(job, judgement, failure, error)
        elif judgement.verdict is Verdict.NO_MODEL:
            self._denied_by_model(job, judgement, failure)
        else:
            self._again(job, judgement, failure)

    def _wait_for_model(self, lane: Lane[Job], job: Job, judgement: Judgement, now: float) -> None:
        """Probe the model a little later, with another payload if there is one, until its time is over."""
        feed, limit = job.input.feed, self._settings.model_load_seconds
        pause = self._probe_pause(feed)
        no_room = judgement.verdict is Verdict.NO_MEMORY
        lost = self.turns.pressed if no_room else self.turns.not_ready
        job.evictions += lost(lane, probe_at=now + pause)
        self._repeated(
            lane.model,
            f"{judgement.error.__name__} ({judgement.status})" if no_room else "ModelNotReadyException",
        )
        late = lane.asked_at is not None and now - lane.asked_at >= limit
        message = f"the endpoint did not load the model within {limit:g} s"
        feed.evidence.unready += not job.was_unready
        job.was_unready = True
        if feed.dead is None and late and feed.evidence.is_late():
            self.kill(feed, Judgement(Verdict.NO_MODEL, ModelLoadTimeout, judgement.status), message)
        self._pump_after(pause)
        if feed.dead is not None:
            self._bury(job)
        elif late or job.evictions >= _EVICTIONS:
            job.evictions = _EVICTIONS - 1  # its halves have to meet the loaded model once
            self.refused(job, ModelLoadTimeout, status=judgement.status, message=message)
        else:
            job.began = 0.0  # what follows is not the payload's time
            feed.waiting_bytes += job.size
            self.turns.add(lane, job)

    def _denied_by_endpoint(
        self, job: Job, judgement: Judgement, failure: CallFailure, error: ClientError | BotoCoreError
    ) -> None:
        """Try other payloads, of other models too, before the endpoint counts as one that cannot be used."""
        feed, first = job.input.feed, job.attempts == 1
        denial = self._denial = self._about_endpoint(error)
        self._denied_models.add(feed.lane.model)
        of_all = self._evidence.denied(began=job.began, first=first)
        of_model = feed.evidence.denied(began=job.began, first=first)
        others = self.turns.busy() - self._denied_models
        if of_all and (len(self._denied_models) >= _MODELS or not others) and self._concludes_of_all():
            raise denial from cause_of(error)
        if of_model and (others or self._answered - {feed.lane.model}) and self._concludes_of(feed):
            self.kill(feed, judgement, self._text(failure))
            self._bury(job)
        else:
            self._try_others(job, EndpointNotInService, judgement, failure)

    def check_served(self) -> None:
        """Raise what was said of the endpoint where no payload got an answer: rows of each payload say less.

        :raises SageMakerInferenceError: the endpoint cannot be used
        """
        if self._answered:
            return
        if self._denial is not None:
            raise self._denial
        if self._outage is not None and self._unserved >= _UNSERVED:
            raise self._outage

    def _denied_by_model(self, job: Job, judgement: Judgement, failure: CallFailure) -> None:
        """Try a model's other payloads before its artefact counts as missing."""
        feed = job.input.feed
        if feed.evidence.denied(began=job.began, first=job.attempts == 1) and self._concludes_of(feed):
            self.kill(feed, judgement, self._text(failure))
            self._bury(job)
        else:
            self._try_others(job, judgement.error, judgement, failure)

    def _concludes_of(self, feed: ModelFeed) -> bool:
        return self._concludes(feed.evidence, (feed.lane,))

    def _concludes_of_all(self) -> bool:
        return self._concludes(self._evidence, self.turns.lanes())

    def _concludes(self, evidence: Evidence, lanes: Iterable[Lane[Job]]) -> bool:
        """Say whether enough payloads failed, or else have those from elsewhere in the queues go next."""
        queues = [lane.ready for lane in lanes]
        untried = any(not job.attempts for queue in queues for job in queue)
        if not untried and not self._answered:
            return True
        trials = evidence.trials
        concludes = evidence.concludes(self.clock(), can_try_others=untried)
        if evidence.trials > trials:
            for queue in queues:
                queue.rotate(len(queue) // 2 + 1)
        return concludes

    def _try_others(
        self,
        job: Job,
        error: type[SageMakerInferenceError],
        judgement: Judgement,
        failure: CallFailure,
    ) -> None:
        if job.attempts >= self._settings.attempts or self._may_split(job):
            self.refused(job, error, status=judgement.status, message=self._text(failure))
        else:
            self._pause(job, judgement, failure)

    def _pump_after(self, pause: float) -> None:
        self._loop.call_later(pause + 0.001, self._pump)

    def _probe_pause(self, feed: ModelFeed) -> float:
        feed.probes += 1
        jitter = 0.5 + random.random() / 2  # noqa: S311 - jitter
        return pause_after(feed.probes, jitter=jitter, first=_FIRST_PROBE_PAUSE, longest=_LONGEST_PROBE_PAUSE)

    def _again(self, job: Job, judgement: Judgement, failure: CallFailure) -> None:
        """Try a payload again after a pause, unless that was its last attempt."""
        if self._is_spent(job, judgement):
            self._give_up(job, judgement, self._text(failure))
        else:
            self._pause(job, judgement, failure)

    def _pause(self, job: Job, judgement: Judgement, failure: CallFailure) -> None:
        self._repeated(job.input.feed.lane.model, failure.code or judgement.error.__name__)
        pause = pause_after(job.attempts, jitter=random.random())  # noqa: S311 - jitter
        self._pausing += 1
        self._pausing_bytes += job.size
        self._loop.call_later(pause, self._back, job)

    def _repeated(self, model: str, kind: str) -> None:
        self._statistics.repeated(model, kind)
        self.repeats += 1

    def _is_spent(self, job: Job, judgement: Judgement) -> bool:
        """Say whether that was a payload's last attempt; while nobody gets an answer, that is not its fault."""
        now = self.clock()
        if now - job.began >= self._settings.payload_seconds:
            return True
        outage = (
            judgement.error in _OF_ENDPOINT
            and self._succeeded_at < job.began
            and now - self._succeeded_at < _OUTAGE_SECONDS
        )
        return job.attempts >= self._settings.attempts and not outage

    def _back(self, job: Job) -> None:
        self._pausing -= 1
        self._pausing_bytes -= job.size
        if self._stopped:
            return
        if job.input.feed.dead is not None:
            self._bury(job)
            return
        self._ripe += 1
        self._put_back(job)
        self._pump()

    def _put_back(self, job: Job) -> None:
        feed = job.input.feed
        feed.waiting_bytes += job.size
        self.turns.put_back(feed.lane, job)

    def _give_up(self, job: Job, judgement: Judgement, message: str) -> None:
        """Let a payload fail that failed at every attempt, or look for the bad record in it.

        Too many of these in a row are about more than a payload.
        """
        feed = job.input.feed
        of_endpoint, began = judgement.error in _OF_ENDPOINT, job.began
        self.refused(job, judgement.error, status=judgement.status, message=message, is_spent=True)
        self._unserved += of_endpoint
        enough = feed.evidence.exhausted(began=began)
        if enough and (not of_endpoint or self._answered - {feed.lane.model}) and self._concludes_of(feed):
            text = f"payload after payload failed at each of its attempts; the last said: {message}"
            self.kill(feed, judgement, text)
        elif of_endpoint:
            enough = self._evidence.exhausted(began=began)
            self._outage = judgement.error(
                f"endpoint {self._settings.endpoint_name}: payload after payload failed at each of its "
                f"{self._settings.attempts} attempts, none between them succeeded; the last said: {message:.200}. What "
                f"succeeded before is kept, and a retry does the rest"
            )
            if enough and self._concludes_of_all():
                raise self._outage

    def refused(
        self,
        job: Job,
        error: type[SageMakerInferenceError],
        *,
        status: int | None,
        message: str,
        is_spent: bool = False,
    ) -> None:
        """Let a payload fail for good, or look for the bad record in it.

        :param is_spent: whether it failed at every attempt, so that its halves have fewer
        """
        one = job.input
        if self._may_split(job):
            self._repeated(one.feed.lane.model, f"{error.__name__} (isolated)")
            self._settler.halved(one)
            for half in split_in_two(job.payload):
                # Behind the model's others: these may prove that the model serves.
                part = Job(one, half, is_half=True, evictions=job.evictions)
                if is_spent:
                    part.attempts = max(0, self._settings.attempts - _TRIES_OF_A_HALF)
                one.feed.waiting_bytes += part.size
                self.turns.add(one.feed.lane, part)
            self._pump()
            return
        one.feed.isolated_bad += job.is_half
        self._fail(job, error, status, message)

    def _may_split(self, job: Job) -> bool:
        """Say whether a payload that fails becomes two, in one of which the bad record is."""
        return self._settings.isolate_bad_records and job.payload.records > 1 and job.input.feed.may_isolate

    def _fail(self, job: Job, error: type[SageMakerInferenceError], status: int | None, message: str) -> None:
        attempts = max(1, job.attempts)
        self._settler.failed(job.input, job.payload, error, status=status, message=message, attempts=attempts)

    def _bury(self, job: Job) -> None:
        """Let a payload of a dead model fail."""
        if job.input.feed.dead is None:
            raise LookupError("only a dead model's payloads are buried")
        judgement, message = job.input.feed.dead
        self._settler.failed(
            job.input,
            job.payload,
            judgement.error,
            status=judgement.status,
            message=message,
            attempts=job.attempts,
        )

    def _text(self, failure: CallFailure) -> str:
        return failure.words[: self._settings.error_text_limit]

    def _about_endpoint(self, error: ClientError | BotoCoreError) -> SageMakerInferenceError:
        name = self._settings.endpoint_name
        if isinstance(error, ClientError):
            return explained(error, "InvokeEndpoint", name)
        return translate(error, f"sagemaker:InvokeEndpoint {name}")
