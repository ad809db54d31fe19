"""InvokeEndpointAsync as one request, whoever carries it out; raises botocore's own errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.access import Address, ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.answers import result_locations
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.aws.http import HttpRequest, SignedHttp
from airflow_sm_plugin.aws.service_requests import ServiceRequests
from airflow_sm_plugin.exceptions import InvalidRequest

log = get_log(__name__)

_OPERATION = "InvokeEndpointAsync"
_PREFIX = "X-Amzn-SageMaker-"
_OUTPUT_LOCATION = f"{_PREFIX}OutputLocation".lower()
_FAILURE_LOCATION = f"{_PREFIX}FailureLocation".lower()
_HEADERS = {
    "InputLocation": "InputLocation",
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "Custom-Attributes",
    "InferenceId": "Inference-Id",
    "RequestTTLSeconds": "RequestTTLSeconds",
    "InvocationTimeoutSeconds": "InvocationTimeoutSeconds",
    "Filename": "Filename",
    "S3OutputPathExtension": "S3OutputPathExtension",
}
"""The names of botocore's model, sent whether or not the installed botocore knows them."""

_ANY_ENDPOINT = {"EndpointName": "x", "InputLocation": "s3://x/x"}


@dataclass(frozen=True)
class Accepted:
    """What SageMaker says of an accepted invocation."""

    output_location: str
    failure_location: str | None
    inference_id: str | None


class InvokeCalls(Protocol):
    """One InvokeEndpointAsync."""

    async def invoke(self, parameters: Mapping[str, Any]) -> Accepted:
        """Send it, once."""

    def knows(self, parameters: AbstractSet[str]) -> bool:
        """Say whether these parameters can be sent."""


class BotocoreInvocations:
    """InvokeEndpointAsync through botocore, in threads."""

    def __init__(self, access: ServiceAccess, calls: BotocoreCalls) -> None:
        shape = access.client.meta.service_model.operation_model(_OPERATION).input_shape
        self._members = frozenset(shape.members if shape else ())
        self._calls = calls

    async def invoke(self, parameters: Mapping[str, Any]) -> Accepted:
        """Send it, once."""
        if unknown := sorted(set(parameters) - self._members):
            raise InvalidRequest(
                f"the installed botocore does not know {', '.join(unknown)} of {_OPERATION}: upgrade boto3, or do "
                f"without (an inline body can be uploaded and passed as input_location)"
            )
        answer = await self._calls.call("invoke_endpoint_async", **parameters)
        return _accepted(
            answer.get("OutputLocation"), answer.get("FailureLocation"), answer.get("InferenceId")
        )

    def knows(self, parameters: AbstractSet[str]) -> bool:
        """Say whether the installed botocore can send these parameters."""
        return parameters <= self._members


class HttpInvocations:
    """InvokeEndpointAsync over the fast transport."""

    def __init__(self, access: ServiceAccess, http: SignedHttp, address: Address) -> None:
        self._service = ServiceRequests(access.client, http, "rest-json")
        self._address = address

    async def invoke(self, parameters: Mapping[str, Any]) -> Accepted:
        """Send it, once."""
        headers = {_PREFIX + _HEADERS[name]: str(parameters[name]) for name in _HEADERS if name in parameters}
        path = f"/endpoints/{parameters['EndpointName']}/async-invocations"
        body: bytes = parameters.get("Body", b"")
        request = HttpRequest("POST", path, headers=headers, body=body)
        answer = await self._service.send(self._address, request, _OPERATION)
        return _accepted(
            answer.header(_OUTPUT_LOCATION),
            answer.header(_FAILURE_LOCATION),
            answer.json_object().get("InferenceId"),
        )

    def knows(self, parameters: AbstractSet[str]) -> bool:
        """Say that every parameter can be sent: the headers are written here."""
        return parameters <= {"EndpointName", "Body", *_HEADERS}


def _accepted(output: object, failure: object, inference_id: object) -> Accepted:
    return Accepted(*result_locations(output, failure), str(inference_id) if inference_id else None)


@asynccontextmanager
async def invoke_calls(
    connection: AwsConnection, *, max_connections: int | None
) -> AsyncIterator[InvokeCalls]:
    """Open connections to SageMaker's runtime for the block.

    :param max_connections: how many at once; None is what the botocore configuration says
    :raises SageMakerInferenceError: no credentials, no region
    """
    with translated("sagemaker-runtime"):
        hook = UnrepeatedHook(client_type="sagemaker-runtime", **connection.hook_arguments())
        access = await ServiceAccess.connect(hook)
        request = await asyncio.to_thread(access.dry_run, "invoke_endpoint_async", _ANY_ENDPOINT, b"{}")
        wire = await asyncio.to_thread(access.wire, max_connections=max_connections)
    if reason := access.unmapped(request):
        log.info("%s goes through botocore: %s", _OPERATION, reason)
        calls = BotocoreCalls(access.client)
        try:
            yield BotocoreInvocations(access, calls)
        finally:
            calls.close()
        return
    address = access.address(request, path="/endpoints/x/async-invocations")
    async with SignedHttp(access, wire) as http:
        yield HttpInvocations(access, http, address)
