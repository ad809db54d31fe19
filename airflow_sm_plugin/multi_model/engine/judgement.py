"""What a failed invocation of a batch means: for the payload, its model, the endpoint, and the pace."""

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
from airflow_sm_plugin.invoke.container_errors import ContainerError, container_error
from airflow_sm_plugin.invoke.failure import CallFailure

_NO_MEMORY = 507
_OVERLOADED = frozenset({429, 503, _NO_MEMORY})

_NO_ANSWER = 0
"""OriginalStatusCode of a container that gave no answer within a minute, or whose process has exited."""
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


_SETTLED: dict[Meaning, tuple[Verdict, type[SageMakerInferenceError]]] = {
    Meaning.NOT_FOUND: (Verdict.ENDPOINT, EndpointNotFound),
    Meaning.WRONG_KIND: (Verdict.ENDPOINT, EndpointNotRealTime),
    Meaning.NOT_MULTI_MODEL: (Verdict.ENDPOINT, EndpointNotMultiModel),
    Meaning.ACCESS_DENIED: (Verdict.ENDPOINT, AccessDenied),
    Meaning.NO_MODEL_DATA: (Verdict.NO_MODEL, TargetModelNotFound),
    Meaning.NO_CAPACITY: (Verdict.LOADING, ModelUnavailable),
    Meaning.TOO_LARGE: (Verdict.FAILED, RecordTooLarge),
}


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
    if failure.kind == "local":
        return Judgement(Verdict.ENDPOINT, InvalidRequest, None)
    if failure.kind != "answered":
        return Judgement(Verdict.AGAIN, ServiceUnavailable, None, slow_down=failure.kind == "unanswered")
    if failure.code == "ModelNotReadyException":
        return Judgement(Verdict.LOADING, ModelUnavailable, failure.status)
    if failure.code == "ModelError":
        return _of_container(failure)
    return _of_service(failure)


def _of_container(failure: CallFailure) -> Judgement:
    status = failure.original_status
    error = container_error(status, failure.original_message or "")
    if error is ContainerError.REFUSED:
        return Judgement(Verdict.FAILED, ModelError, status, loaded=True)
    if error is ContainerError.NO_ROOM:
        return Judgement(Verdict.NO_MEMORY, ModelUnavailable, status, slow_down=True)
    slow_down = error is ContainerError.OVERLOADED or status == _NO_ANSWER
    return Judgement(Verdict.AGAIN, ModelUnavailable, status, slow_down=slow_down, loaded=True)


def _of_service(failure: CallFailure) -> Judgement:
    status = failure.status
    said = meaning_of(failure.code, failure.message, status)
    if said in _SETTLED:
        return Judgement(*_SETTLED[said], status)
    if status == _NO_MEMORY:
        return Judgement(Verdict.NO_MEMORY, ServiceUnavailable, status, slow_down=True)
    if said in _PASSING:
        return Judgement(Verdict.AGAIN, _PASSING[said], status, slow_down=said is Meaning.THROTTLED)
    if said is Meaning.UNAVAILABLE:
        return Judgement(Verdict.AGAIN, ServiceUnavailable, status, slow_down=status in _OVERLOADED)
    return Judgement(Verdict.FAILED, RequestRefused, status)
