"""What the runtime's refusals mean: no such endpoint, the wrong kind of endpoint, or AWS's own words."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from airflow_sm_plugin.aws.errors import meaning, translate, words_of
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    AnswerLost,
    EndpointNotAsynchronous,
    EndpointNotFound,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    SageMakerInferenceError,
    TargetModelNotFound,
)


def explained(error: ClientError, operation: str, endpoint_name: str) -> SageMakerInferenceError:
    """Return our error for an error answer of the runtime.

    :param operation: ``InvokeEndpoint`` or ``InvokeEndpointAsync``
    """
    said = meaning(error)
    if said is Meaning.NOT_FOUND:
        return EndpointNotFound(
            f"no endpoint {endpoint_name} serves in this account and region: deploy it first, or mend its name"
        )
    if said is Meaning.WRONG_KIND and operation == "InvokeEndpoint":
        return EndpointNotRealTime(
            f"endpoint {endpoint_name} is asynchronous: use SageMakerInvokeEndpointAsyncOperator"
        )
    if said is Meaning.NOT_MULTI_MODEL:
        return EndpointNotMultiModel(
            f"endpoint {endpoint_name} serves no target models: deploy it with a model of mode MultiModel, or do "
            f"without target_model"
        )
    if said is Meaning.NO_MODEL_DATA:
        return TargetModelNotFound(
            f"endpoint {endpoint_name} found no artefact of the target model below its model prefix: "
            f"{words_of(error)[1]}"
        )
    if said is Meaning.WRONG_KIND:
        return EndpointNotAsynchronous(
            f"endpoint {endpoint_name} is not asynchronous: deploy it with async_output_path, or invoke it in real time"
        )
    return translate(error, f"sagemaker:{operation} {endpoint_name}")


def unanswered(error: BotoCoreError, endpoint_name: str) -> SageMakerInferenceError:
    """Return our error for an InvokeEndpointAsync without an error answer: it may have been accepted all the same."""
    doing = f"sagemaker:InvokeEndpointAsync {endpoint_name}"
    if isinstance(error, HTTPClientError) and not isinstance(error, BotoConnectionError):
        return AnswerLost(f"{doing}: sent, but no answer came: {error}. It may have been accepted")
    return translate(error, doing)
