"""InvokeEndpoint from an event loop: exactly one call for each request, many at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Protocol, cast

from botocore.exceptions import ParamValidationError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.access import Address, ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.aws.http import HttpRequest, SignedHttp
from airflow_sm_plugin.aws.service_requests import ServiceRequests
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.invoke.request import READ_TIMEOUT

log = get_log(__name__)

_OPERATION = "InvokeEndpoint"
_CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": _CUSTOM_ATTRIBUTES,
    "TargetModel": "X-Amzn-SageMaker-Target-Model",
    "TargetVariant": "X-Amzn-SageMaker-Target-Variant",
}
"""botocore's parameters that are headers on the wire."""

_NO_HEADER = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f\\ud800-\\udfff]")


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A model's answer. The repr shows neither body nor attributes: both may be secret.

    :param custom_attributes: None when the container set none
    """

    body: bytes = field(repr=False)
    content_type: str | None
    custom_attributes: str | None = field(repr=False)


class EndpointCalls(Protocol):
    """One InvokeEndpoint."""

    async def invoke(self, body: bytes, parameters: Mapping[str, str]) -> ModelAnswer:
        """Send it, once."""


class EndpointInvoker:
    """InvokeEndpoint of one endpoint. Nothing is repeated here; nothing of a request is logged."""

    def __init__(self, calls: EndpointCalls) -> None:
        self._calls = calls

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AwsConnection, endpoint_name: str, *, max_connections: int
    ) -> AsyncIterator[EndpointInvoker]:
        """Open connections for the block. A read time-out below 70 s is raised to it: SageMaker answers within 60.

        :param max_connections: how many invocations are in flight at once; others wait
        :raises AccessDenied: no credentials
        :raises InvalidRequest: no region, or no endpoint can have that name
        """
        check_name(endpoint_name, "endpoint name")
        async with _endpoint_calls(connection, endpoint_name, max_connections=max_connections) as calls:
            yield cls(calls)

    async def invoke(
        self,
        body: bytes,
        *,
        target_model: str | None,
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        target_variant: str | None = None,
    ) -> ModelAnswer:
        """Send one request, once, as it is: the caller checks limits.

        :param body: up to 26,214,400 bytes
        :param target_model: path below the endpoint's model prefix
        :raises ClientError: of botocore's own classes: SageMaker answered an error
        :raises BotoCoreError: it did not answer, or could not be asked, or a value can be in no header;
            :func:`~airflow_sm_plugin.invoke.errors.failure_of` reads both
        """
        given = {
            "ContentType": content_type,
            "Accept": accept,
            "CustomAttributes": custom_attributes,
            "TargetModel": target_model,
            "TargetVariant": target_variant,
        }
        parameters = {name: value for name, value in given.items() if value is not None}
        for name, value in parameters.items():
            if not value or not value.isprintable():
                _check(name, value)
        return await self._calls.invoke(body, parameters)


class BotocoreEndpointCalls:
    """InvokeEndpoint through botocore, in threads."""

    def __init__(self, calls: BotocoreCalls, endpoint_name: str) -> None:
        self._calls = calls
        self._endpoint = endpoint_name

    async def invoke(self, body: bytes, parameters: Mapping[str, str]) -> ModelAnswer:
        return cast("ModelAnswer", await self._calls.run(lambda: self._invoke(body, parameters)))

    def _invoke(self, body: bytes, parameters: Mapping[str, str]) -> ModelAnswer:
        answer = self._calls.client.invoke_endpoint(EndpointName=self._endpoint, Body=body, **parameters)
        with closing(answer["Body"]) as stream:  # as its own context it is another, that checks nothing
            return ModelAnswer(stream.read(), answer.get("ContentType"), answer.get("CustomAttributes"))


class HttpEndpointCalls:
    """InvokeEndpoint over the fast transport."""

    def __init__(self, access: ServiceAccess, http: SignedHttp, address: Address, endpoint_name: str) -> None:
        self._address = address
        self._path = f"/endpoints/{endpoint_name}/invocations"
        self._service = ServiceRequests(access.client, http, "rest-json")

    async def invoke(self, body: bytes, parameters: Mapping[str, str]) -> ModelAnswer:
        headers = {_HEADERS[name]: value for name, value in parameters.items()}
        request = HttpRequest("POST", self._path, headers=headers, body=body)
        answer = await self._service.send(self._address, request, _OPERATION)
        return ModelAnswer(
            answer.body, answer.header("content-type"), answer.header(_CUSTOM_ATTRIBUTES.lower())
        )


def _check(name: str, value: str) -> None:
    """Refuse what no header can hold, without the value itself in the error: it may be secret."""
    if not value:
        raise ParamValidationError(report=f"{name} is empty")
    if match := _NO_HEADER.search(value):
        raise ParamValidationError(report=f"{name} holds U+{ord(match[0]):04X}, which no header can hold")


@asynccontextmanager
async def _endpoint_calls(
    connection: AwsConnection, endpoint_name: str, *, max_connections: int
) -> AsyncIterator[EndpointCalls]:
    with translated("sagemaker-runtime"):
        hook = UnrepeatedHook(
            client_type="sagemaker-runtime",
            least_read_timeout=READ_TIMEOUT,
            max_connections=max_connections,
            **connection.hook_arguments(),
        )
        access = await ServiceAccess.connect(hook)
        anything = {"EndpointName": endpoint_name, "Body": b"x"}
        request = await asyncio.to_thread(access.dry_run, "invoke_endpoint", anything, b"")
        wire = await asyncio.to_thread(access.wire, max_connections=max_connections)
    if reason := access.unmapped(request):
        log.info("%s of %s goes through botocore: %s", _OPERATION, endpoint_name, reason)
        calls = BotocoreCalls(access.client)
        try:
            yield BotocoreEndpointCalls(calls, endpoint_name)
        finally:
            calls.close()
        return
    address = access.address(request, path=f"/endpoints/{endpoint_name}/invocations")
    async with SignedHttp(access, wire) as http:
        yield HttpEndpointCalls(access, http, address, endpoint_name)
