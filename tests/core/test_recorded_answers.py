"""Every recorded answer has the meaning, the error and, of InvokeEndpoint, the verdict that it deserves."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import meaning, translate, words_of
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    CredentialsExpired,
    EndpointNotFound,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    ExecutionRoleNotAssumable,
    ImageNotAccessible,
    ModelDataNotAccessible,
    ModelDataNotFound,
    ModelError,
    ModelUnavailable,
    RecordTooLarge,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    TargetModelNotFound,
    Throttled,
)
from airflow_sm_plugin.invoke.errors import explained, failure_of
from airflow_sm_plugin.invoke.failure import Attempt
from airflow_sm_plugin.local.faults.recorded import GRADES, recorded_answers
from airflow_sm_plugin.multi_model.engine.judgement import PayloadFate, judge
from airflow_sm_plugin.resources.model import refusal
from tests.recorded_calls import ALL_SITUATIONS, SITUATIONS, recorded_error

BAD_RECORD = (PayloadFate.FAILED, ModelError, False, Attempt.FINAL)
DIED = (PayloadFate.RETRY, ModelUnavailable, False, Attempt.AGAIN)
BUSY = (PayloadFate.RETRY, ModelUnavailable, True, Attempt.AGAIN)
REFUSED = (PayloadFate.FAILED, RequestRefused, False, Attempt.FINAL)
TOO_LARGE = (PayloadFate.FAILED, RecordTooLarge, False, Attempt.FINAL)
LOADING = (PayloadFate.LOADING, ModelUnavailable, False, Attempt.MODEL_LOADS)

MEANT: dict[str, tuple[PayloadFate, type[SageMakerInferenceError], bool, Attempt]] = {
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
    "the load ran out of memory": (PayloadFate.NO_MEMORY, ModelUnavailable, True, Attempt.AGAIN),
    "no memory for the model": (PayloadFate.NO_MEMORY, ModelUnavailable, True, Attempt.AGAIN),
    "the model process exited": BUSY,
    "no answer within 60 seconds": BUSY,
    "too many requests at the container": BUSY,
    "a gateway before the model": DIED,
    "the model failed to load": BAD_RECORD,
    "a response over the limit": BAD_RECORD,
    "a target model is no tar.gz archive": BAD_RECORD,
    "a container answered an error": BAD_RECORD,
    "the container could not be asked": BUSY,
    "throttled at the runtime": (PayloadFate.RETRY, Throttled, True, Attempt.AGAIN),
    "the target model is being loaded": LOADING,
    "an inference component is scaled to zero": LOADING,
    "a body over a serverless endpoint's limit": TOO_LARGE,
    "a body over the limit": TOO_LARGE,
    "no such endpoint at the runtime": (PayloadFate.ENDPOINT, EndpointNotFound, False, Attempt.FINAL),
    "the endpoint is of the other kind": (PayloadFate.ENDPOINT, EndpointNotRealTime, False, Attempt.FINAL),
    "the endpoint has no target models": (PayloadFate.ENDPOINT, EndpointNotMultiModel, False, Attempt.FINAL),
    "a target model must be named": REFUSED,
    "a target model's artefact is missing": (PayloadFate.NO_MODEL, TargetModelNotFound, False, Attempt.FINAL),
    "no instance serves": (PayloadFate.RETRY, ServiceUnavailable, True, Attempt.AGAIN),
    "the instance was taken away": (PayloadFate.RETRY, ServiceUnavailable, True, Attempt.AGAIN),
    "an internal failure of the runtime": (PayloadFate.RETRY, ServiceUnavailable, False, Attempt.AGAIN),
    "an internal dependency failed": (PayloadFate.RETRY, ServiceUnavailable, False, Attempt.AGAIN),
    "the role of a call is not permitted": (PayloadFate.ENDPOINT, AccessDenied, False, Attempt.FINAL),
    "the token has expired": (PayloadFate.RETRY, CredentialsExpired, False, Attempt.AGAIN),
    "the variant is not known": REFUSED,
    "a direct endpoint needs a container's name": REFUSED,
    "an endpoint that is not direct": REFUSED,
    "a container's name is not known": REFUSED,
}


IS_REFUSED = (Meaning.REFUSED, RequestRefused)
IS_THERE, IS_MISSING = (Meaning.ALREADY_EXISTS, RequestRefused), (Meaning.NOT_FOUND, RequestRefused)
MEANINGS: dict[str, tuple[Meaning, type[SageMakerInferenceError]]] = {
    "the model's artefact is missing": (Meaning.MODEL_DATA_MISSING, ModelDataNotFound),
    "the model's artefact cannot be read": (Meaning.MODEL_DATA_UNREADABLE, ModelDataNotAccessible),
    "the execution role cannot be assumed": (Meaning.ROLE_NOT_ASSUMABLE, ExecutionRoleNotAssumable),
    "the execution role may not pull the image": (Meaning.IMAGE_UNREADABLE, ImageNotAccessible),
    "the image's repository does not admit SageMaker": (Meaning.IMAGE_UNREADABLE, ImageNotAccessible),
    "neither image nor model package": IS_REFUSED,
    "more provisioned than permitted concurrency": IS_REFUSED,
    "a multi-model container with a ModelDataSource": IS_REFUSED,
    "neither PrimaryContainer nor Containers, or both": IS_REFUSED,
    "containers share a host name": IS_REFUSED,
    "direct invocation without several named containers": IS_REFUSED,
    "model data given in two ways": IS_REFUSED,
    "a container's environment is too large": IS_REFUSED,
    "the model's name is taken": IS_THERE,
    "no such model": IS_MISSING,
    "the model package is not approved": IS_REFUSED,
    "the model package has no containers": IS_REFUSED,
    "no such model package": IS_REFUSED,
    "tags may not be added": (Meaning.ACCESS_DENIED, AccessDenied),
    "throttled at the runtime": (Meaning.THROTTLED, Throttled),
    "the target model is being loaded": (Meaning.THROTTLED, Throttled),
    "an inference component is scaled to zero": (Meaning.NO_CAPACITY, ModelUnavailable),
    "a body over a serverless endpoint's limit": (Meaning.TOO_LARGE, RecordTooLarge),
    "a body over the limit": (Meaning.TOO_LARGE, RecordTooLarge),
    "no such endpoint at the runtime": (Meaning.NOT_FOUND, EndpointNotFound),
    "the endpoint is of the other kind": (Meaning.WRONG_KIND, EndpointNotRealTime),
    "the endpoint has no target models": (Meaning.NOT_MULTI_MODEL, EndpointNotMultiModel),
    "a target model must be named": IS_REFUSED,
    "a target model's artefact is missing": (Meaning.NO_MODEL_DATA, TargetModelNotFound),
    "no instance serves": (Meaning.UNAVAILABLE, ServiceUnavailable),
    "the instance was taken away": (Meaning.UNAVAILABLE, ServiceUnavailable),
    "an internal failure of the runtime": (Meaning.UNAVAILABLE, ServiceUnavailable),
    "an internal dependency failed": (Meaning.UNAVAILABLE, ServiceUnavailable),
    "the role of a call is not permitted": (Meaning.ACCESS_DENIED, AccessDenied),
    "the token has expired": (Meaning.CREDENTIALS_EXPIRED, CredentialsExpired),
    "the variant is not known": IS_REFUSED,
    "a direct endpoint needs a container's name": IS_REFUSED,
    "an endpoint that is not direct": IS_REFUSED,
    "a container's name is not known": IS_REFUSED,
    "neither body nor location, or both": IS_REFUSED,
    "a variant that changes is a scalable target": IS_REFUSED,
    "a scaled variant may not be deregistered": (Meaning.ACCESS_DENIED, AccessDenied),
    "another change of the scaling is under way": (Meaning.THROTTLED, Throttled),
    "a serverless endpoint with what it excludes": IS_REFUSED,
    "serverless and instances in one variant": IS_REFUSED,
    "a memory size that serverless does not have": IS_REFUSED,
    "an endpoint changes between instances and serverless": IS_REFUSED,
    "a variant without instances": IS_REFUSED,
    "a variant without a model": IS_REFUSED,
    "managed instance scaling with a model": IS_REFUSED,
    "variants share a name": IS_REFUSED,
    "asynchronous with direct invocation": IS_REFUSED,
    "no such endpoint configuration": IS_MISSING,
    "the endpoint configuration exists already": IS_THERE,
    "no such endpoint": IS_MISSING,
    "the endpoint exists already": IS_THERE,
    "the endpoint is in progress": (Meaning.IN_PROGRESS, RequestRefused),
    "the endpoint has failed": IS_REFUSED,
    "a variant is named twice": IS_REFUSED,
    "a variant is not in the configuration": IS_REFUSED,
    "guardrails with other variants": IS_REFUSED,
    "a rolling update of several or serverless variants": IS_REFUSED,
    "two update policies": IS_REFUSED,
    "no update policy": IS_REFUSED,
    "traffic routing without its size": IS_REFUSED,
    "a first step of more than half": IS_REFUSED,
}
"""Of every answer but ModelError, which :data:`MEANT` tells apart by what the container said. The error is the one that
the operation's hook raises where it does not go on by the meaning, as it does when a resource is there or missing."""


def error_for(error: ClientError) -> SageMakerInferenceError:
    """Return our error, as the hooks make it of an answer."""
    operation = error.operation_name
    if operation.startswith("InvokeEndpoint"):
        return explained(error, operation, "e")
    refused = None
    if operation == "CreateModel":
        text = words_of(error)[1]
        refused = refusal(meaning(error), text, model_name="m", role="r", region="eu-west-1", waited=61)
    return refused or translate(error, f"sagemaker:{operation}")


def test_every_row_of_the_table_is_in_the_tables_here() -> None:
    of_containers = {name for name, row in recorded_answers().items() if row.code == "ModelError"}
    assert set(MEANINGS) == set(ALL_SITUATIONS) - of_containers
    assert set(MEANT) == set(SITUATIONS)


@pytest.mark.parametrize("situation", ALL_SITUATIONS)
def test_an_answer_means_what_its_code_and_words_say(situation: str) -> None:
    error, row = recorded_error(situation), recorded_answers()[situation]
    assert words_of(error)[0] == row.code
    found = (meaning(error), type(error_for(error)))
    assert found == (IS_REFUSED if row.code == "ModelError" else MEANINGS[situation])


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_recorded_answer_means_what_it_says(situation: str) -> None:
    failure = failure_of(recorded_error(situation))
    judgement = judge(failure)
    found = (judgement.fate, judgement.error, judgement.slow_down, failure.attempt)
    assert found == MEANT[situation]


@pytest.mark.parametrize("situation", ALL_SITUATIONS)
def test_no_recorded_answer_is_shown_without_words(situation: str) -> None:
    error = recorded_error(situation)
    assert failure_of(error).words
    assert "None" not in failure_of(error).words
    assert "None" not in str(error_for(error))


def test_the_table_says_of_each_answer_where_it_comes_from() -> None:
    for answer in recorded_answers().values():
        assert answer.grade in GRADES
        assert answer.source
        assert 400 <= answer.status <= 599


def test_what_only_another_imitation_of_aws_says_is_not_recorded() -> None:
    assert [
        row.situation
        for row in recorded_answers().values()
        if "moto" in row.source and row.grade != "invented"
    ] == []
