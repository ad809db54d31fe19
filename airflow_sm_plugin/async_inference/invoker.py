"""InvokeEndpointAsync from an event loop: exactly one call for each request, many at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import cause_of
from airflow_sm_plugin.aws.invoke_calls import InvokeCalls, invoke_calls
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from airflow_sm_plugin.invoke.errors import explained, unanswered


class AsyncInvoker:
    """Send asynchronous invocations. Nothing is repeated here; nothing of a request is logged."""

    def __init__(self, calls: InvokeCalls) -> None:
        self._calls = calls

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AwsConnection, *, max_connections: int | None = None
    ) -> AsyncIterator[AsyncInvoker]:
        """Open connections for the block.

        :param max_connections: how many invocations are sent at once; None takes ``botocore_config``'s (botocore's
            default: 10)
        :raises AccessDenied: no credentials
        :raises InvalidRequest: no region
        """
        async with invoke_calls(connection, max_connections=max_connections) as calls:
            yield cls(calls)

    @property
    def names_outputs(self) -> bool:
        """Whether ``filename`` and ``s3_output_path_extension`` can be sent."""
        return self._calls.knows({"Filename", "S3OutputPathExtension"})

    async def invoke(self, request: AsyncRequest) -> AsyncInvocation:
        """Send one request, once.

        :raises InvalidRequest: a limit is broken, or the installed botocore does not know a parameter
        :raises Throttled: not accepted
        :raises ServiceUnavailable: answered 5xx, or no connection: not accepted
        :raises AnswerLost: sent, but no answer came: it may have been accepted
        :raises EndpointNotFound: no endpoint of that name serves
        :raises EndpointNotAsynchronous: the endpoint serves real-time requests only
        :raises AccessDenied: ``sagemaker:InvokeEndpointAsync`` is not allowed, or there are no credentials
        :raises RequestRefused: SageMaker refused the request
        """
        parameters = request.checked().parameters()
        try:
            accepted = await self._calls.invoke(parameters)
        except (ClientError, BotoCoreError) as error:
            raise _failure(error, request.endpoint_name) from cause_of(error)
        return AsyncInvocation(
            output_location=accepted.output_location,
            failure_location=accepted.failure_location,
            inference_id=accepted.inference_id,
            input_location=request.input_location,
            submitted_at=time.time(),
        )


def _failure(error: ClientError | BotoCoreError, endpoint_name: str) -> SageMakerInferenceError:
    if isinstance(error, ClientError):
        return explained(error, "InvokeEndpointAsync", endpoint_name)
    return unanswered(error, endpoint_name)
