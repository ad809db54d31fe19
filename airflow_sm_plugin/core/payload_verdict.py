"""What a failed invocation of a batch means: for the payload, its model, the endpoint, and the pace."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from airflow_sm_plugin.core.call_failure import CallFailure
from airflow_sm_plugin.core.invocation import Attempt, attempt_after
from airflow_sm_plugin.core.service_errors import Meaning, meaning_of
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    CredentialsExpired,
    EndpointNotFound,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    ModelError,
    ModelUnavailable,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    TargetModelNotFound,
    Throttled,
)

_NO_MEMORY = 507
_OVERLOADED = frozenset({429, 503, _NO_MEMORY})
_CONTAINER_OVERLOADED = frozenset({0, 429, 503})
"""OriginalStatusCode; 0 is a container's time-out."""

_ENDPOINT = {
    Meaning.NOT_FOUND: EndpointNotFound,
    Meaning.WRONG_KIND: EndpointNotRealTime,
    Meaning.NOT_MULTI_MODEL: EndpointNotMultiModel,
    Meaning.ACCESS_DENIED: AccessDenied,
}
_PASSING = {Meaning.CREDENTIALS_EXPIRED: CredentialsExpired, Meaning.THROTTLED: Throttled}
"""Fresh credentials were tried at once; whoever renews them may be late."""


class Verdict(enum.Enum):
    """What follows from a failed invocation."""

    AGAIN = "the payload goes again, a few times"
    LOADING = "the model is not loaded: it is probed until its deadline"
    NO_MEMORY = "the endpoint has no memory for the model: fewer models at once"
    FAILED = "the payload has failed"
    NO_MODEL = "there is no such model: all its records have failed"
    ENDPOINT = "the endpoint cannot be used: the task fails"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and what a row of errors tells.

    :param error: our class for it; it knows whether a retry of the task may help
    :param status: HTTP status, or what the container answered; None when nothing did
    :param slow_down: whether fewer should be on their way
    :param loaded: whether only a loaded model answers so
    """

    verdict: Verdict
    error: type[SageMakerInferenceError]
    status: int | None
    slow_down: bool = False
    loaded: bool = False


def judge(failure: CallFailure) -> Judgement:
    """Say what a failed invocation means."""
    if failure.code == "CredentialRetrievalError":  # whoever gives credentials did not answer just now
        return Judgement(Verdict.AGAIN, ServiceUnavailable, None)
    if failure.kind == "local":
        return Judgement(Verdict.ENDPOINT, AccessDenied, None)
    if failure.kind != "answered":
        return Judgement(Verdict.AGAIN, ServiceUnavailable, None, slow_down=failure.kind == "unanswered")
    if failure.code == "ModelNotReadyException":
        return Judgement(Verdict.LOADING, ModelUnavailable, failure.status)
    if failure.code == "ModelError":
        return _of_container(failure)
    return _of_service(failure)


def _of_container(failure: CallFailure) -> Judgement:
    status = failure.original_status
    if status == _NO_MEMORY:
        return Judgement(Verdict.NO_MEMORY, ModelUnavailable, status, slow_down=True)
    wanted = attempt_after(failure.code, failure.message, failure.status, original_status=status)
    if wanted is Attempt.FINAL:
        return Judgement(Verdict.FAILED, ModelError, status, loaded=True)
    return Judgement(
        Verdict.AGAIN, ModelUnavailable, status, slow_down=status in _CONTAINER_OVERLOADED, loaded=True
    )


def _of_service(failure: CallFailure) -> Judgement:
    status = failure.status
    said = meaning_of(failure.code, failure.message, status)
    if said is Meaning.NO_MODEL_DATA:
        return Judgement(Verdict.NO_MODEL, TargetModelNotFound, status)
    if said in _ENDPOINT:
        return Judgement(Verdict.ENDPOINT, _ENDPOINT[said], status)
    if status == _NO_MEMORY:
        return Judgement(Verdict.NO_MEMORY, ServiceUnavailable, status, slow_down=True)
    if said in _PASSING:
        return Judgement(Verdict.AGAIN, _PASSING[said], status, slow_down=said is Meaning.THROTTLED)
    if said is Meaning.UNAVAILABLE:
        passing = attempt_after(failure.code, failure.message, status) is Attempt.AGAIN
        verdict = Verdict.AGAIN if passing else Verdict.FAILED
        return Judgement(verdict, ServiceUnavailable, status, slow_down=status in _OVERLOADED)
    return Judgement(Verdict.FAILED, RequestRefused, status)
