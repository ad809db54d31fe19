"""SageMaker's runtime: invoke endpoints. Callable without any operator.

Retries here are ours, botocore's are off: its modes disagree about what to repeat, and repeating an invocation whose
answer was lost sends it twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.answers import UnreadableAnswer, result_locations
from airflow_sm_plugin.aws.errors import meaning, stumbles_as_botocore, translate, translated
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    InvalidRequest,
    ModelError,
    ModelLoadTimeout,
    ModelUnavailable,
    RecordTooLarge,
    SageMakerInferenceError,
)
from airflow_sm_plugin.hooks.calls import ClientHook
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from airflow_sm_plugin.invoke.errors import explained, failure_of, unanswered
from airflow_sm_plugin.invoke.failure import Attempt, is_size_suspect
from airflow_sm_plugin.invoke.request import (
    MODEL_LOAD_SECONDS,
    READ_TIMEOUT,
    TOO_LARGE_PERHAPS,
    InvokeReply,
    InvokeRequest,
)

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

ATTEMPTS = 5
"""Calls in all, as many as botocore makes by default: four full-jitter pauses, together at most 15 s."""

ERROR_TEXT_LIMIT = 1_000
"""Characters of a container's error text: about a traceback's last frames. Such texts can hold data, so a log should
not get them at any length."""
_NOT_ACCEPTED = frozenset({Meaning.CREDENTIALS_EXPIRED, Meaning.THROTTLED, Meaning.UNAVAILABLE})


class SageMakerRuntimeHook(ClientHook):
    """Invoke SageMaker endpoints. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "sagemaker-runtime"

    def _get_config(self, config: Config | None = None) -> Config:
        """Disable botocore's retries; default the read time-out to 70 s, below the user's configuration."""
        once = Config(retries={"mode": "standard", "total_max_attempts": 1})
        return Config(read_timeout=READ_TIMEOUT).merge(super()._get_config(config)).merge(once)

    @property
    def client(self) -> SageMakerRuntimeClient:
        return cast("SageMakerRuntimeClient", self.get_conn())

    def invoke_endpoint(
        self,
        request: InvokeRequest,
        *,
        attempts: int = ATTEMPTS,
        model_load_seconds: float = MODEL_LOAD_SECONDS,
        error_text_limit: int = ERROR_TEXT_LIMIT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> InvokeReply:
        """Send one real-time invocation and return its reply.

        Throttling, 5xx answers, time-outs, broken connections and containers that time out are tried again up to
        ``attempts`` times in all, with full-jitter pauses of up to 8 s; ModelNotReadyException until the model's own
        deadline. A repeated invocation runs the model again.

        :param attempts: calls in all, those that found a model still loading not counted
        :param model_load_seconds: how long a cold model is waited for, from the first call on
        :param error_text_limit: how much of a container's error text a message shows; 0 shows none
        :param sleep: pauses for so many seconds between calls; an exception it raises ends the retries
        :raises InvalidRequest: a limit is broken, or the installed botocore does not know a parameter
        :raises RecordTooLarge: the payload is larger than the endpoint takes
        :raises ModelError: the container raised or answered an error
        :raises ModelUnavailable: it timed out or was overloaded at every attempt
        :raises ModelLoadTimeout: a cold model was not loaded in time
        :raises EndpointNotFound: no endpoint of that name serves
        :raises EndpointNotRealTime: the endpoint is asynchronous
        :raises ServiceError: AWS refused, throttled, or did not answer
        """
        parameters = request.checked().parameters()
        _check_attempts(attempts)
        self._check_known("InvokeEndpoint", parameters)
        began, failed, call = time.monotonic(), 0, 0
        while True:
            call += 1
            try:
                with stumbles_as_botocore():
                    return _reply(self.client.invoke_endpoint(**parameters), call)
            except (ClientError, BotoCoreError) as error:
                failure = failure_of(error)
                wanted = failure.attempt
                failed += wanted is not Attempt.MODEL_LOADS
                if failed > 1 and is_size_suspect(failure, len(request.body)):
                    raise RecordTooLarge(
                        f"sagemaker:InvokeEndpoint {request.endpoint_name}, payload of {len(request.body)} bytes: "
                        f"{TOO_LARGE_PERHAPS}"
                    ) from None
                late = wanted is Attempt.MODEL_LOADS and time.monotonic() - began >= model_load_seconds
                if wanted is Attempt.FINAL or failed >= attempts or late:
                    raise _failure(error, request, error_text_limit) from None
                answered = error
            # Outside the handler: an exception of the pause must not carry a container's words in its context.
            self._pause(request.endpoint_name, answered, call, sleep)

    def invoke_endpoint_async(self, request: AsyncRequest, *, attempts: int = ATTEMPTS) -> AsyncInvocation:
        """Send one asynchronous invocation and return the location of its result.

        Throttling and 5xx answers, which mean "not accepted", are repeated with full-jitter pauses of up to 8 s; an
        answer that was lost is not, since the invocation may have been accepted.

        :param attempts: calls in all
        :raises InvalidRequest: a limit is broken, or the installed botocore does not know a parameter
        :raises EndpointNotFound: no endpoint of that name serves
        :raises EndpointNotAsynchronous: the endpoint serves real-time requests only
        :raises ServiceError: AWS refused, throttled, or did not answer
        """
        parameters = request.checked().parameters()
        self._check_known("InvokeEndpointAsync", parameters)
        for attempt in range(1, attempts + 1):
            try:
                with stumbles_as_botocore():
                    answer = self.client.invoke_endpoint_async(**parameters)
            except ClientError as error:
                if meaning(error) not in _NOT_ACCEPTED or attempt == attempts:
                    raise explained(error, "InvokeEndpointAsync", request.endpoint_name) from None
                self._pause(request.endpoint_name, error, attempt, time.sleep)
            except BotoCoreError as error:
                raise unanswered(error, request.endpoint_name) from None
            else:
                try:
                    output, failure = result_locations(
                        answer.get("OutputLocation"), answer.get("FailureLocation")
                    )
                except UnreadableAnswer as lost:
                    raise unanswered(lost, request.endpoint_name) from None
                return AsyncInvocation(
                    output_location=output,
                    failure_location=failure,
                    inference_id=answer.get("InferenceId"),
                    input_location=request.input_location,
                    submitted_at=time.time(),
                )
        raise InvalidRequest(f"attempts must be 1 or more, not {attempts}")

    def _pause(
        self,
        endpoint_name: str,
        error: ClientError | BotoCoreError,
        attempt: int,
        sleep: Callable[[float], None],
    ) -> None:
        seconds = pause_after(attempt, jitter=random.random())  # noqa: S311 - jitter
        self.log.warning(
            "endpoint %s answered %s at attempt %d; again in %.1f s",
            endpoint_name,
            failure_of(error).code,
            attempt,
            seconds,
        )
        sleep(seconds)

    def _check_known(self, operation: str, parameters: dict[str, Any]) -> None:
        """Refuse parameters that the installed botocore is too old for, with a clear message."""
        with translated(f"sagemaker:{operation}"):
            model = self.client.meta.service_model.operation_model(operation).input_shape
        unknown = sorted(set(parameters) - set(model.members)) if model is not None else []
        if unknown:
            raise InvalidRequest(
                f"the installed botocore does not know {', '.join(unknown)} of {operation}: upgrade boto3, "
                f"or do without (an inline body can be uploaded and passed as input_location)"
            )


def _check_attempts(attempts: int) -> None:
    if attempts < 1:
        raise InvalidRequest(f"attempts must be 1 or more, not {attempts}")


def _reply(answer: Mapping[str, Any], attempts: int) -> InvokeReply:
    return InvokeReply(
        body=answer["Body"].read(),
        content_type=answer.get("ContentType"),
        custom_attributes=answer.get("CustomAttributes"),
        invoked_production_variant=answer.get("InvokedProductionVariant"),
        new_session_id=answer.get("NewSessionId"),
        closed_session_id=answer.get("ClosedSessionId"),
        attempts=attempts,
    )


_CONTAINER_REMEDIES: Mapping[type[SageMakerInferenceError], str] = {
    ModelUnavailable: "retry later; where it happens often, give the endpoint more instances, or the model more time",
    ModelError: "correct the payload, its content_type or the model, as the reason and the log lines require",
}


def _failure(
    error: ClientError | BotoCoreError, request: InvokeRequest, limit: int
) -> SageMakerInferenceError:
    if not isinstance(error, ClientError):
        return translate(error, f"sagemaker:InvokeEndpoint {request.endpoint_name}")
    failure, model = failure_of(error), request.target_model or "its model"
    if failure.code == "ModelNotReadyException":
        return ModelLoadTimeout(
            f"endpoint {request.endpoint_name} did not load {model} in time",
            do="retry: it may be loaded by then; or raise model_load_seconds",
        )
    if failure.code != "ModelError":
        return explained(error, "InvokeEndpoint", request.endpoint_name)
    kind = ModelUnavailable if failure.attempt is Attempt.AGAIN else ModelError
    status = failure.original_status or "nothing in time"
    return kind(
        f"a container of endpoint {request.endpoint_name} answered {status}",
        reason=(failure.original_message or "")[:limit],
        do=_CONTAINER_REMEDIES[kind],
    )
