"""When failed invocations prove that a model, or the whole endpoint, does not serve.

Payloads of other models, and from elsewhere in the queues, are tried first: a few bad records are no proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from airflow_sm_plugin.exceptions import (
    CredentialsExpired,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.multi_model.engine.judgement import Evidence, Judgement

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import Job, ModelFeed
    from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue
    from airflow_sm_plugin.multi_model.engine.schedule import Schedule
    from airflow_sm_plugin.multi_model.engine.settings import EngineSettings

_OUTAGE_SECONDS = 60.0
"""For so long nothing at all may succeed without a payload being given up for it."""

_UNSERVED = 20
"""Payloads that failed at every attempt, of a batch that got no answer at all: fewer fail each for itself."""

_MODELS = 3
"""So many models whose payloads are denied prove it of the endpoint, whatever others do."""

_OF_ENDPOINT = (CredentialsExpired, ServiceUnavailable, Throttled)


class Conclusions:
    """The evidence against one endpoint; that against a model is its feed's.

    :param clock: seconds, as of the event loop
    """

    def __init__(
        self, settings: EngineSettings, schedule: Schedule[Job], *, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._schedule = schedule
        self._clock = clock
        self._evidence = Evidence()
        self._denied_models: set[str] = set()
        self._denial: SageMakerInferenceError | None = None
        self._outage: SageMakerInferenceError | None = None
        self._unserved = 0
        self._answered: set[str] = set()
        self._succeeded_at = clock()

    def succeeded(self, feed: ModelFeed, now: float) -> None:
        """Note a result: whatever failed before, the endpoint serves."""
        feed.evidence.clear(now)
        self._evidence.clear(now)
        self._denied_models.clear()
        self._succeeded_at = now
        self._answered.add(feed.queue.model)

    def is_outage(self, job: Job, judgement: Judgement, now: float) -> bool:
        """Decide whether a failure is no fault of its payload: for a while nothing at all has succeeded."""
        return (
            judgement.error in _OF_ENDPOINT
            and self._succeeded_at < job.began
            and now - self._succeeded_at < _OUTAGE_SECONDS
        )

    def denied_by_endpoint(
        self, job: Job, denial: SageMakerInferenceError, cause: BaseException | None
    ) -> bool:
        """Count a payload that the endpoint denied; return whether that proves it of the model.

        :raises SageMakerInferenceError: the denial; it is proved of the endpoint
        """
        feed, first = job.open_input.feed, job.attempts == 1
        self._denial = denial
        self._denied_models.add(feed.queue.model)
        of_all = self._evidence.denied(began=job.began, first=first)
        of_model = feed.evidence.denied(began=job.began, first=first)
        others = self._schedule.busy() - self._denied_models
        if of_all and (len(self._denied_models) >= _MODELS or not others) and self._concludes_of_all():
            raise denial from cause
        return of_model and bool(others or self._others_answered(feed)) and self._concludes_of(feed)

    def denied_by_model(self, job: Job) -> bool:
        """Count a payload whose model has no artefact; return whether that proves it of the model."""
        feed = job.open_input.feed
        return feed.evidence.denied(began=job.began, first=job.attempts == 1) and self._concludes_of(feed)

    def exhausted(self, job: Job, judgement: Judgement, message: str) -> bool:
        """Count a payload that failed at every attempt; return whether that proves that the model does not serve.

        :raises SageMakerInferenceError: the endpoint does not serve
        """
        feed, of_endpoint = job.open_input.feed, judgement.error in _OF_ENDPOINT
        self._unserved += of_endpoint
        enough = feed.evidence.exhausted(began=job.began)
        if enough and (not of_endpoint or self._others_answered(feed)) and self._concludes_of(feed):
            return True
        if of_endpoint:
            enough = self._evidence.exhausted(began=job.began)
            self._outage = judgement.error(
                f"endpoint {self._settings.endpoint_name}: payload after payload failed at each of its "
                f"{self._settings.attempts} attempts, none between them succeeded; the last said: {message:.200}. What "
                f"succeeded before is kept, and a retry does the rest"
            )
            if enough and self._concludes_of_all():
                raise self._outage
        return False

    def check_served(self) -> None:
        """Raise the endpoint's own error where no payload got an answer: rows of each payload say less.

        :raises SageMakerInferenceError: the endpoint cannot be used
        """
        if self._answered:
            return
        if self._denial is not None:
            raise self._denial
        if self._outage is not None and self._unserved >= _UNSERVED:
            raise self._outage

    def _others_answered(self, feed: ModelFeed) -> bool:
        return bool(self._answered - {feed.queue.model})

    def _concludes_of(self, feed: ModelFeed) -> bool:
        return self._concludes(feed.evidence, (feed.queue,))

    def _concludes_of_all(self) -> bool:
        return self._concludes(self._evidence, self._schedule.queues())

    def _concludes(self, evidence: Evidence, queues: Iterable[ModelQueue[Job]]) -> bool:
        """Decide whether enough payloads failed, or else let those from elsewhere in the queues go next."""
        waiting = [queue.ready for queue in queues]
        untried = any(not job.attempts for jobs in waiting for job in jobs)
        if not untried and not self._answered:
            return True
        trials = evidence.trials
        concludes = evidence.concludes(self._clock(), can_try_others=untried)
        if evidence.trials > trials:
            for jobs in waiting:
                jobs.rotate(len(jobs) // 2 + 1)
        return concludes
