"""InvokeEndpointAsync from an event loop: one call for each request, many at the same time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.answers import result_locations
from airflow_sm_plugin.aws.calls import AwsCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from airflow_sm_plugin.invoke.errors import explained, unanswered

_OPERATION = "InvokeEndpointAsync"
_PROBE = (_OPERATION, {"EndpointName": "x", "InputLocation": "s3://x/x"})


class AsyncInvoker:
    """Asynchronous invocations. They are not repeated here, and nothing of a request is logged."""

    def __init__(self, calls: AwsCalls) -> None:
        self._calls = calls

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AwsConnection, *, max_connections: int | None = None
    ) -> AsyncIterator[AsyncInvoker]:
        """Open connections for the block.

        :param max_connections: invocations sent at the same time; None takes ``botocore_config``'s (default 10)
        :raises ServiceUnavailable: no credentials
        :raises InvalidRequest: no region
        """
        async with open_calls(
            connection, "sagemaker-runtime", probe=_PROBE, max_connections=max_connections
        ) as calls:
            yield cls(calls)

    @property
    def names_outputs(self) -> bool:
        """Check whether the installed botocore can send ``filename`` and ``s3_output_path_extension``."""
        return self._calls.members(_OPERATION) >= {"Filename", "S3OutputPathExtension"}

    @property
    def takes_bodies(self) -> bool:
        """Check whether the installed botocore can send a payload inline."""
        return "Body" in self._calls.members(_OPERATION)

    async def invoke(self, request: AsyncRequest) -> AsyncInvocation:
        """Send one request, once.

        :raises InvalidRequest: a limit is broken, or the installed botocore does not know a parameter
        :raises Throttled: not accepted
        :raises ServiceUnavailable: answered 5xx, or not reachable: not accepted
        :raises AnswerLost: sent, but no answer came: it may have been accepted
        :raises EndpointNotFound: no endpoint of that name serves
        :raises EndpointNotAsynchronous: the endpoint serves real-time requests only
        :raises AccessDenied: ``sagemaker:InvokeEndpointAsync`` is not permitted
        :raises CredentialsExpired: AWS did not accept the credentials, fresh ones neither
        :raises RequestRefused: SageMaker refused the request
        """
        parameters = request.checked().parameters()
        if unknown := sorted(set(parameters) - self._calls.members(_OPERATION)):
            raise InvalidRequest(
                f"the installed botocore does not know {', '.join(unknown)} of {_OPERATION}: upgrade boto3, or do "
                f"without (an inline body can be uploaded and passed as input_location)"
            )
        try:
            response = await self._calls.call(_OPERATION, **parameters)
            output, failure = result_locations(
                response.get("OutputLocation"), response.get("FailureLocation")
            )
        except ClientError as error:
            raise explained(error, _OPERATION, request.endpoint_name) from None
        except BotoCoreError as error:
            raise unanswered(error, request.endpoint_name) from None
        return AsyncInvocation(
            output_location=output,
            failure_location=failure,
            inference_id=response.get("InferenceId") or None,
            input_location=request.input_location,
            submitted_at=time.time(),
        )
