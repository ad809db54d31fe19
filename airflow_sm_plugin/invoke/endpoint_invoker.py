"""Call InvokeEndpoint from an event loop: one call for each request, many calls at the same time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from botocore.exceptions import ParamValidationError

from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.calls import HttpCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.http import HttpResponse
from airflow_sm_plugin.aws.signer import UnsignedRequest
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.invoke.request import READ_TIMEOUT

_OPERATION = "InvokeEndpoint"
_CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_RESPONSE_ATTRIBUTES = _CUSTOM_ATTRIBUTES.lower()
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": _CUSTOM_ATTRIBUTES,
    "TargetModel": "X-Amzn-SageMaker-Target-Model",
    "TargetVariant": "X-Amzn-SageMaker-Target-Variant",
}
"""botocore's parameters, and the HTTP headers that carry them."""

_NO_HEADER = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f\\ud800-\\udfff]")


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A model's answer. The repr shows neither body nor attributes: both may be secret.

    :param custom_attributes: None when the container set none
    """

    body: bytes = field(repr=False)
    content_type: str | None
    custom_attributes: str | None = field(repr=False)


class EndpointInvoker:
    """InvokeEndpoint of one endpoint. It retries nothing and logs nothing of a request.

    :param invoke: sends a body, once, with botocore's parameters
    """

    def __init__(self, invoke: Callable[[bytes, Mapping[str, str]], Awaitable[ModelAnswer]]) -> None:
        self._invoke = invoke

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AwsConnection, endpoint_name: str, *, max_connections: int
    ) -> AsyncIterator[EndpointInvoker]:
        """Open connections for the block. A read time-out below 70 s is raised to it: SageMaker answers within 60.

        :param max_connections: limit of invocations in flight; others wait
        :raises ServiceUnavailable: no credentials
        :raises InvalidRequest: no region, or no endpoint can have that name
        """
        check_name(endpoint_name, "endpoint name")
        probe = (_OPERATION, {"EndpointName": endpoint_name, "Body": b"x"})
        async with open_calls(
            connection,
            "sagemaker-runtime",
            probe=probe,
            max_connections=max_connections,
            least_read_timeout=READ_TIMEOUT,
        ) as calls:
            if isinstance(calls, HttpCalls):
                yield cls(partial(_over_http, calls, f"/endpoints/{endpoint_name}/invocations"))
            else:
                yield cls(partial(_through_botocore, calls, endpoint_name))

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
        """Send one request, once, unchanged: the caller checks limits.

        :param body: up to 26,214,400 bytes
        :param target_model: path below the endpoint's model prefix
        :raises ClientError: SageMaker answered an error; the class is botocore's own
        :raises BotoCoreError: SageMaker did not answer, the request could not be sent, or no header can hold a value;
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
        return await self._invoke(body, parameters)


async def _over_http(calls: HttpCalls, path: str, body: bytes, parameters: Mapping[str, str]) -> ModelAnswer:
    """Build the request here: botocore's serializer would cost as much again as all the rest of a payload's call."""
    headers = {_HEADERS[name]: value for name, value in parameters.items()}
    request = UnsignedRequest("POST", path, headers=headers, body=body)
    response = cast("HttpResponse", await calls.send(_OPERATION, request))  # None is for buckets
    return ModelAnswer(response.body, response.header("content-type"), response.header(_RESPONSE_ATTRIBUTES))


async def _through_botocore(
    calls: BotocoreCalls, endpoint_name: str, body: bytes, parameters: Mapping[str, str]
) -> ModelAnswer:
    response = await calls.call(_OPERATION, EndpointName=endpoint_name, Body=body, **parameters)
    return ModelAnswer(response["Body"], response.get("ContentType"), response.get("CustomAttributes"))


def _check(name: str, value: str) -> None:
    """Refuse a value that no header can hold. The error does not show the value, which may be secret."""
    if not value:
        raise ParamValidationError(report=f"{name} is empty")
    if match := _NO_HEADER.search(value):
        raise ParamValidationError(report=f"{name} holds U+{ord(match[0]):04X}, which no header can hold")
