"""Decide what one failed invocation means for its payload, and what many failures prove of a model or an endpoint."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from airflow_sm_plugin.core.service_errors import Meaning, meaning_of
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    CredentialsExpired,
    EndpointNotFound,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    InvalidRequest,
    ModelError,
    ModelUnavailable,
    RecordTooLarge,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    TargetModelNotFound,
    Throttled,
)
from airflow_sm_plugin.invoke.failure import CallFailure, ContainerError, container_error


class PayloadFate(enum.Enum):
    """The consequence of a failed invocation."""

    RETRY = "the payload is sent again, a few times"
    LOADING = "the model is not loaded: it is probed until its deadline"
    NO_MEMORY = "the endpoint has no memory for the model: fewer models at once"
    FAILED = "the payload has failed"
    NO_MODEL = "there is no such model: all its records have failed"
    ENDPOINT = "the endpoint cannot be used: the task fails"


_NO_MEMORY = 507
_OVERLOADED = frozenset({429, 503, _NO_MEMORY})

_NO_ANSWER = 0
"""OriginalStatusCode of a container that gave no answer within a minute, or whose process has exited."""

_PASSING = {Meaning.CREDENTIALS_EXPIRED: CredentialsExpired, Meaning.THROTTLED: Throttled}
"""Fresh credentials were tried at once, but the system that renews them may be late."""

_SETTLED: dict[Meaning, tuple[PayloadFate, type[SageMakerInferenceError]]] = {
    Meaning.NOT_FOUND: (PayloadFate.ENDPOINT, EndpointNotFound),
    Meaning.WRONG_KIND: (PayloadFate.ENDPOINT, EndpointNotRealTime),
    Meaning.NOT_MULTI_MODEL: (PayloadFate.ENDPOINT, EndpointNotMultiModel),
    Meaning.ACCESS_DENIED: (PayloadFate.ENDPOINT, AccessDenied),
    Meaning.NO_MODEL_DATA: (PayloadFate.NO_MODEL, TargetModelNotFound),
    Meaning.NO_CAPACITY: (PayloadFate.LOADING, ModelUnavailable),
    Meaning.TOO_LARGE: (PayloadFate.FAILED, RecordTooLarge),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The meaning of a failed invocation.

    :param error: our exception class, which knows whether a retry of the task can help
    :param status: HTTP status, or the container's status; None without an answer
    :param slow_down: whether fewer invocations should be in flight
    :param loaded: whether only a loaded model gives this answer
    :param message: text for the row of errors
    """

    fate: PayloadFate
    error: type[SageMakerInferenceError]
    status: int | None
    slow_down: bool = False
    loaded: bool = False
    message: str = ""


def judge(failure: CallFailure) -> Judgement:
    """Decide what a failed invocation means."""
    if failure.kind == "local":
        return Judgement(PayloadFate.ENDPOINT, InvalidRequest, None)
    if failure.kind != "answered":
        return Judgement(PayloadFate.RETRY, ServiceUnavailable, None, slow_down=failure.kind == "unanswered")
    if failure.code == "ModelNotReadyException":
        return Judgement(PayloadFate.LOADING, ModelUnavailable, failure.status)
    if failure.code == "ModelError":
        return _of_container(failure)
    return _of_service(failure)


def _of_container(failure: CallFailure) -> Judgement:
    status = failure.original_status
    error = container_error(status, failure.original_message or "")
    if error is ContainerError.REFUSED:
        return Judgement(PayloadFate.FAILED, ModelError, status, loaded=True)
    if error is ContainerError.NO_ROOM:
        return Judgement(PayloadFate.NO_MEMORY, ModelUnavailable, status, slow_down=True)
    slow_down = error is ContainerError.OVERLOADED or status == _NO_ANSWER
    return Judgement(PayloadFate.RETRY, ModelUnavailable, status, slow_down=slow_down, loaded=True)


def _of_service(failure: CallFailure) -> Judgement:
    status = failure.status
    meaning = meaning_of(failure.code, failure.message, status)
    if meaning in _SETTLED:
        return Judgement(*_SETTLED[meaning], status)
    if status == _NO_MEMORY:
        return Judgement(PayloadFate.NO_MEMORY, ServiceUnavailable, status, slow_down=True)
    if meaning in _PASSING:
        return Judgement(PayloadFate.RETRY, _PASSING[meaning], status, slow_down=meaning is Meaning.THROTTLED)
    if meaning is Meaning.UNAVAILABLE:
        return Judgement(PayloadFate.RETRY, ServiceUnavailable, status, slow_down=status in _OVERLOADED)
    return Judgement(PayloadFate.FAILED, RequestRefused, status)


_EXHAUSTED = 20
"""Payloads that failed at every attempt, or that were all there was to try. Fewer would condemn a model for bad records
that lie side by side; with five attempts each, twenty cost a hundred invocations in vain."""

_DENIED = 8
"""Payloads that AWS refused because there is no such endpoint, permission or artefact, or the model did not load. Such
an answer is clearer than a failure, so fewer suffice; one alone can be a change that has not reached all of AWS yet."""

_TRIALS, _OF_A_TRIAL = 3, 4
"""Payloads are tried from three positions of the queue: its front, halfway behind that, and halfway again. From the
second and third position four have to fail: eight more payloads that reach beyond bad records at one spot."""


class Evidence:
    """Counts of failures since the last success; payloads that were sent before that success prove nothing.

    Mutable and single-threaded, because it is asked after each failed invocation. The caller reads the clock.
    ``began`` is the time when a payload was first sent.
    """

    __slots__ = ("_denied", "_exhausted", "_since", "_success", "_total", "trials", "unready")

    def __init__(self) -> None:
        self.clear(0.0)

    def clear(self, now: float) -> None:
        """Forget all failures: a payload has succeeded."""
        self._exhausted = self._denied = self._total = 0
        self.trials = 0
        """How often payloads from elsewhere in the queue were to be tried first."""
        self._since = self._success = now
        self.unready = 0
        """Payloads that found the model not loaded."""

    def exhausted(self, *, began: float) -> bool:
        """Count a payload that failed at every attempt; report whether there are enough of these."""
        self._exhausted += began >= self._since
        self._total += began >= self._success
        return max(self._exhausted, self._total) >= _EXHAUSTED

    def denied(self, *, began: float, first: bool) -> bool:
        """Count a payload that was denied at its first attempt; report whether there are enough of these."""
        self._denied += first and began >= self._since
        self._total += first and began >= self._success
        return self._denied >= _DENIED or self._total >= _EXHAUSTED

    def is_late(self) -> bool:
        """Decide whether enough payloads have found the model not loaded; they probe it one after the other."""
        return self.unready >= _DENIED

    def concludes(self, now: float, *, can_try_others: bool) -> bool:
        """Decide whether the failures suffice, or payloads from elsewhere in the queue have to be tried first.

        :param can_try_others: whether the queue holds a payload that was never sent
        """
        if not can_try_others:
            return self._total >= _EXHAUSTED
        if self._exhausted < _EXHAUSTED and self._denied < _DENIED:
            return False  # the payloads of this trial have not ended yet
        self.trials += 1
        if self.trials >= _TRIALS:
            return True
        self._exhausted, self._denied = _EXHAUSTED - _OF_A_TRIAL, _DENIED - _OF_A_TRIAL
        self._since = now
        return False
