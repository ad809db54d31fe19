"""Conclude from failed invocations that a model, or the whole endpoint, does not serve.

Payloads of other models, and from elsewhere in the queues, are tried first: a few bad records are no proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.exceptions import (
    CredentialsExpired,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.multi_model.engine.judgement import Evidence, Judgement

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.payload_queue import PayloadQueue
    from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
    from airflow_sm_plugin.multi_model.engine.work import Job, OpenModel

_OUTAGE_SECONDS = 60.0
"""While no payload succeeds for at most this time, failures do not count against a payload. As long as for S3: shorter,
a brief outage uses the payloads' attempts up; longer, a task with an endpoint that is gone fails later."""

_UNSERVED = 20
"""Payloads that failed at every attempt, of a batch without any answer; fewer fail each for itself. As many as condemn
a model (``_EXHAUSTED``), so that both need the same evidence."""

_MODELS = 3
"""Denied payloads of so many models prove that the endpoint is at fault, whatever other models do. One or two can be
denied for themselves, by a policy that names target models; more would only delay the end."""

_OF_ENDPOINT = (CredentialsExpired, ServiceUnavailable, Throttled)


@dataclass(eq=False, repr=False)
class Conclusions:
    """The evidence against one endpoint; the evidence against a model is in its :class:`OpenModel`."""

    settings: EngineSettings
    payloads: PayloadQueue

    def __post_init__(self) -> None:
        self._evidence = Evidence()
        self._denied_models: set[str] = set()
        self._denial: SageMakerInferenceError | None = None
        self._outage: SageMakerInferenceError | None = None
        self._unserved = 0
        self._answered: set[str] = set()
        self._succeeded_at = self.payloads.clock()

    def succeeded(self, model: OpenModel, now: float) -> None:
        """Note a result: whatever failed before, the endpoint serves."""
        model.evidence.clear(now)
        self._evidence.clear(now)
        self._denied_models.clear()
        self._succeeded_at = now
        self._answered.add(model.queue.model)

    def is_serving(self, now: float) -> bool:
        """Decide whether the endpoint serves: a payload has succeeded within a minute."""
        return now - self._succeeded_at < _OUTAGE_SECONDS

    def is_outage(self, job: Job, judgement: Judgement, now: float) -> bool:
        """Decide whether the endpoint, not the payload, is at fault: no payload has succeeded for a while."""
        is_suspect = judgement.error in _OF_ENDPOINT and self._succeeded_at < job.began
        return is_suspect and self.is_serving(now)

    def denied_by_endpoint(self, job: Job, denial: SageMakerInferenceError) -> bool:
        """Count a payload that the endpoint denied; report whether the model does not serve.

        :raises SageMakerInferenceError: the denial, when the endpoint does not serve
        """
        model, first = job.model, job.attempts == 1
        self._denial = denial
        self._denied_models.add(model.queue.model)
        of_all = self._evidence.denied(began=job.began, first=first)
        of_model = model.evidence.denied(began=job.began, first=first)
        others = self.payloads.schedule.busy() - self._denied_models
        if of_all and (len(self._denied_models) >= _MODELS or not others) and self._concludes():
            raise denial
        return of_model and bool(others or self._others_answered(model)) and self._concludes(model)

    def denied_by_model(self, job: Job) -> bool:
        """Count a payload whose model has no artefact; report whether the model does not serve."""
        model = job.model
        return model.evidence.denied(began=job.began, first=job.attempts == 1) and self._concludes(model)

    def exhausted(self, job: Job, judgement: Judgement) -> bool:
        """Count a payload that failed at every attempt; report whether the model does not serve.

        :raises SageMakerInferenceError: the endpoint does not serve
        """
        model, of_endpoint = job.model, judgement.error in _OF_ENDPOINT
        self._unserved += of_endpoint
        enough = model.evidence.exhausted(began=job.began)
        if enough and (not of_endpoint or self._others_answered(model)) and self._concludes(model):
            return True
        if of_endpoint:
            enough = self._evidence.exhausted(began=job.began)
            self._outage = judgement.error(
                f"endpoint {self.settings.endpoint_name}: payload after payload failed at each of its "
                f"{self.settings.attempts} attempts, none between them succeeded; the last error: "
                f"{judgement.message:.200}. Results from before are kept, and a retry does the rest"
            )
            if enough and self._concludes():
                raise self._outage
        return False

    def check_served(self) -> None:
        """Raise the endpoint's own error when no payload got an answer: it says more than a row for each payload.

        :raises SageMakerInferenceError: the endpoint cannot be used
        """
        if self._answered:
            return
        if self._denial is not None:
            raise self._denial
        if self._outage is not None and self._unserved >= _UNSERVED:
            raise self._outage

    def _others_answered(self, model: OpenModel) -> bool:
        return bool(self._answered - {model.queue.model})

    def _concludes(self, model: OpenModel | None = None) -> bool:
        """Decide whether enough payloads failed, or else let payloads from elsewhere in the queues go next.

        :param model: the model in question; None is the endpoint
        """
        evidence = self._evidence if model is None else model.evidence
        can_try_others = self.payloads.has_untried(model)
        if not can_try_others and not self._answered:
            return True
        trials = evidence.trials
        concludes = evidence.concludes(self.payloads.clock(), can_try_others=can_try_others)
        if evidence.trials > trials:
            self.payloads.try_others(model)
        return concludes
