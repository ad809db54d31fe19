"""SageMaker's runtime: invoke endpoints. Callable without any operator.

Retries here are ours, botocore's are off: its modes disagree about what to repeat, and repeating an invocation whose
answer was lost sends it twice.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.core.async_inference import AsyncInvocation, AsyncRequest
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    EndpointNotAsynchronous,
    EndpointNotFound,
    InvalidRequest,
    SageMakerInferenceError,
)
from airflow_sm_plugin.hooks.errors import meaning, translate

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

ATTEMPTS = 5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_NOT_ACCEPTED = frozenset({Meaning.THROTTLED, Meaning.UNAVAILABLE})


class SageMakerRuntimeHook(AwsBaseHook):
    """Invoke SageMaker endpoints. Takes the arguments of the provider's ``AwsBaseHook``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = "sagemaker-runtime"
        super().__init__(*args, **kwargs)

    def _get_config(self, config: Config | None = None) -> Config:
        """Add to the user's botocore configuration that it repeats nothing."""
        once = Config(retries={"mode": "standard", "total_max_attempts": 1})
        return super()._get_config(config).merge(once)

    @property
    def client(self) -> SageMakerRuntimeClient:
        """Return the boto3 client."""
        return cast("SageMakerRuntimeClient", self.get_conn())

    def invoke_endpoint_async(self, request: AsyncRequest, *, attempts: int = ATTEMPTS) -> AsyncInvocation:
        """Send one asynchronous invocation and return where its result will be.

        Throttling and 5xx answers, which mean "not accepted", are repeated with full-jitter pauses of up to 8 s; an
        answer that was lost is not, since the invocation may have been accepted.

        :param attempts: calls in all
        :raises InvalidRequest: a limit is broken, or the installed botocore does not know a parameter
        :raises EndpointNotFound: no endpoint of that name serves
        :raises EndpointNotAsynchronous: the endpoint serves real-time requests only
        :raises ServiceError: AWS refused, throttled, or did not answer
        """
        parameters = request.checked().parameters()
        self._check_known(parameters)
        for attempt in range(1, attempts + 1):
            try:
                answer = self.client.invoke_endpoint_async(**parameters)
            except ClientError as error:
                if meaning(error) not in _NOT_ACCEPTED or attempt == attempts:
                    raise _explained(error, request.endpoint_name) from error
                self.log.warning(
                    "endpoint %s did not accept attempt %d of %d: %s",
                    request.endpoint_name,
                    attempt,
                    attempts,
                    error.response.get("Error", {}).get("Code"),
                )
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)))  # noqa: S311 - jitter
            except BotoCoreError as error:
                raise translate(error, f"sagemaker:InvokeEndpointAsync {request.endpoint_name}") from error
            else:
                return AsyncInvocation(
                    output_location=answer["OutputLocation"],
                    failure_location=answer.get("FailureLocation") or None,
                    inference_id=answer.get("InferenceId"),
                    input_location=request.input_location,
                    submitted_at=time.time(),
                )
        raise InvalidRequest(f"attempts must be 1 or more, not {attempts}")

    def _check_known(self, parameters: dict[str, Any]) -> None:
        """Refuse parameters that the installed botocore is too old for, instead of failing on its own words."""
        model = self.client.meta.service_model.operation_model("InvokeEndpointAsync").input_shape
        unknown = sorted(set(parameters) - set(model.members)) if model is not None else []
        if unknown:
            raise InvalidRequest(
                f"the installed botocore does not know {', '.join(unknown)} of InvokeEndpointAsync: upgrade boto3, "
                f"or do without (an inline body can be uploaded and passed as input_location)"
            )


def _explained(error: ClientError, endpoint_name: str) -> SageMakerInferenceError:
    said = meaning(error)
    if said is Meaning.NOT_FOUND:
        return EndpointNotFound(
            f"no endpoint {endpoint_name} serves in this account and region: deploy it first, or mend its name"
        )
    if said is Meaning.WRONG_KIND:
        return EndpointNotAsynchronous(
            f"endpoint {endpoint_name} is not asynchronous: deploy it with async_output_path, or invoke it in real time"
        )
    return translate(error, f"sagemaker:InvokeEndpointAsync {endpoint_name}")
