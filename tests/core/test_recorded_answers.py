"""Every recorded answer of InvokeEndpoint has the verdict that it deserves, for one invocation and for a batch."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.core.invocation import Attempt
from airflow_sm_plugin.core.payload_verdict import Verdict, judge
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    CredentialsExpired,
    EndpointNotFound,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    ModelError,
    ModelUnavailable,
    RecordTooLarge,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    TargetModelNotFound,
    Throttled,
)
from airflow_sm_plugin.hooks.endpoint_errors import explained
from airflow_sm_plugin.hooks.invoke_failures import failure_of
from airflow_sm_plugin.local.recorded import GRADES, recorded_answers
from tests.recorded_calls import SITUATIONS, recorded_error

BAD_RECORD = (Verdict.FAILED, ModelError, False, Attempt.FINAL)
DIED = (Verdict.AGAIN, ModelUnavailable, False, Attempt.AGAIN)
BUSY = (Verdict.AGAIN, ModelUnavailable, True, Attempt.AGAIN)
REFUSED = (Verdict.FAILED, RequestRefused, False, Attempt.FINAL)
TOO_LARGE = (Verdict.FAILED, RecordTooLarge, False, Attempt.FINAL)
LOADING = (Verdict.LOADING, ModelUnavailable, False, Attempt.MODEL_LOADS)

MEANT: dict[str, tuple[Verdict, type[SageMakerInferenceError], bool, Attempt]] = {
    "a handler raised (MMS, TorchServe)": BAD_RECORD,
    "a handler answered what is no answer (MMS, TorchServe)": BAD_RECORD,
    "a handler answered another number of records (MMS, TorchServe)": BAD_RECORD,
    "a handler raised (inference toolkit)": BAD_RECORD,
    "a handler refused the content type (inference toolkit)": BAD_RECORD,
    "the queue of a model's workers is full": BUSY,
    "no worker takes requests": BUSY,
    "a worker died with the request": DIED,
    "a worker was killed for its memory": DIED,
    "a payload does not fit in memory": DIED,
    "the load ran out of memory": (Verdict.NO_MEMORY, ModelUnavailable, True, Attempt.AGAIN),
    "no memory for the model": (Verdict.NO_MEMORY, ModelUnavailable, True, Attempt.AGAIN),
    "the model process exited": BUSY,
    "no answer within 60 seconds": BUSY,
    "too many requests at the container": BUSY,
    "a gateway before the model": DIED,
    "the model failed to load": BAD_RECORD,
    "a response over the limit": BAD_RECORD,
    "a target model is no tar.gz archive": BAD_RECORD,
    "a container answered an error": BAD_RECORD,
    "the container could not be asked": BUSY,
    "throttled at the runtime": (Verdict.AGAIN, Throttled, True, Attempt.AGAIN),
    "the target model is being loaded": LOADING,
    "an inference component is scaled to zero": LOADING,
    "a body over a serverless endpoint's limit": TOO_LARGE,
    "a body over the limit": TOO_LARGE,
    "no such endpoint at the runtime": (Verdict.ENDPOINT, EndpointNotFound, False, Attempt.FINAL),
    "the endpoint is of the other kind": (Verdict.ENDPOINT, EndpointNotRealTime, False, Attempt.FINAL),
    "the endpoint has no target models": (Verdict.ENDPOINT, EndpointNotMultiModel, False, Attempt.FINAL),
    "a target model must be named": REFUSED,
    "a target model's artefact is missing": (Verdict.NO_MODEL, TargetModelNotFound, False, Attempt.FINAL),
    "no instance serves": (Verdict.AGAIN, ServiceUnavailable, True, Attempt.AGAIN),
    "the instance was taken away": (Verdict.AGAIN, ServiceUnavailable, True, Attempt.AGAIN),
    "an internal failure of the runtime": (Verdict.AGAIN, ServiceUnavailable, False, Attempt.AGAIN),
    "an internal dependency failed": (Verdict.AGAIN, ServiceUnavailable, False, Attempt.AGAIN),
    "the role of a call is not permitted": (Verdict.ENDPOINT, AccessDenied, False, Attempt.FINAL),
    "the token has expired": (Verdict.AGAIN, CredentialsExpired, False, Attempt.AGAIN),
    "the variant is not known": REFUSED,
    "a direct endpoint needs a container's name": REFUSED,
    "an endpoint that is not direct": REFUSED,
    "a container's name is not known": REFUSED,
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_recorded_answer_means_what_it_says(situation: str) -> None:
    failure = failure_of(recorded_error(situation))
    judgement = judge(failure)
    found = (judgement.verdict, judgement.error, judgement.slow_down, failure.attempt)
    assert found == MEANT[situation]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_recorded_answer_is_told_without_words(situation: str) -> None:
    error = recorded_error(situation)
    assert failure_of(error).words
    assert "None" not in failure_of(error).words
    assert "None" not in str(explained(error, "InvokeEndpoint", "e"))


def test_the_table_says_of_each_answer_where_it_comes_from() -> None:
    for answer in recorded_answers().values():
        assert answer.grade in GRADES
        assert answer.source
        assert 400 <= answer.status <= 599
