"""Read botocore's errors of one invocation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError

from airflow_sm_plugin.aws.errors import is_about_credentials, meaning, status_of, translate, words_of
from airflow_sm_plugin.core.service_errors import Meaning, status_in, text_of
from airflow_sm_plugin.exceptions import (
    AnswerLost,
    EndpointNotAsynchronous,
    EndpointNotFound,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    SageMakerInferenceError,
    TargetModelNotFound,
)
from airflow_sm_plugin.invoke.failure import CallFailure, FailureKind


def failure_of(error: ClientError | BotoCoreError) -> CallFailure:
    if not isinstance(error, ClientError):
        return CallFailure(type(error).__name__, str(error), kind=_kind(error))
    response = cast("Mapping[str, Any]", error.response)
    code, message = words_of(error)
    original = response.get("OriginalMessage")
    return CallFailure(
        code=code,
        message=message,
        status=status_of(error),
        original_status=status_in(response.get("OriginalStatusCode")),
        original_message=None if original is None else text_of(original),
    )


def _kind(error: BotoCoreError) -> FailureKind:
    if isinstance(error, BotoConnectionError) or is_about_credentials(error):
        return "unreachable"
    return "unanswered" if isinstance(error, HTTPClientError | IncompleteReadError) else "local"


def explained(error: ClientError, operation: str, endpoint_name: str) -> SageMakerInferenceError:
    """Convert an error answer of the runtime into this package's error.

    :param operation: ``InvokeEndpoint`` or ``InvokeEndpointAsync``
    """
    reason = meaning(error)
    if reason is Meaning.NOT_FOUND:
        return EndpointNotFound(
            f"no endpoint {endpoint_name} serves in this account and region",
            do="deploy it first, or correct its name, region_name or the account",
        )
    if reason is Meaning.WRONG_KIND and operation == "InvokeEndpoint":
        return EndpointNotRealTime(
            f"endpoint {endpoint_name} is asynchronous", do="use SageMakerInvokeEndpointAsyncOperator"
        )
    if reason is Meaning.NOT_MULTI_MODEL:
        return EndpointNotMultiModel(
            f"endpoint {endpoint_name} serves no target models",
            do="deploy it with a model of mode MultiModel, or leave target_model out",
        )
    if reason is Meaning.NO_MODEL_DATA:
        return TargetModelNotFound(
            f"endpoint {endpoint_name} found no artefact of the target model below its model prefix",
            reason=words_of(error)[1],
            do="upload it there, or correct target_model",
        )
    if reason is Meaning.WRONG_KIND:
        return EndpointNotAsynchronous(
            f"endpoint {endpoint_name} is not asynchronous",
            do="deploy it with async_output_path, or use SageMakerInvokeEndpointOperator",
        )
    return translate(error, f"sagemaker:{operation} {endpoint_name}")


def unanswered(error: BotoCoreError, endpoint_name: str) -> SageMakerInferenceError:
    """Make the error for an InvokeEndpointAsync without an answer: it may have been accepted."""
    doing = f"sagemaker:InvokeEndpointAsync {endpoint_name}"
    if isinstance(error, HTTPClientError) and not isinstance(error, BotoConnectionError):
        return AnswerLost(f"{doing}: sent, but no answer came; it may have been accepted", reason=str(error))
    return translate(error, doing)
