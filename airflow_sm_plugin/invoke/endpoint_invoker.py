"""Call InvokeEndpoint from an event loop: one call for each request, many calls at the same time.

The first of three carriers that can do it carries the calls: httptools' parser on connections of our own
(:mod:`airflow_sm_plugin.invoke.http_pool`); aiohttp, where httptools is missing, as under Airflow 2.11, or a proxy is
set; botocore, where its configuration says what only botocore does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from botocore.exceptions import ParamValidationError

from airflow_sm_plugin.aws.answers import ERROR, check_no_page
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.calls import HttpCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.http import HttpResponse
from airflow_sm_plugin.aws.signer import Clock, RepeatedRequest, Signer, UnsignedRequest
from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.invoke.request import READ_TIMEOUT

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.access import Address
    from airflow_sm_plugin.invoke.http_pool import HttpPool

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

_REPEATED = 512
"""Combinations of signer, target model, content type, accept and variant whose headers are kept ready, each in about
3 KB: more than the models that are in use in a signer's half minute. Making one costs as much as five signatures."""

_NO_HEADER = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f\\ud800-\\udfff]")


class ModelAnswer(NamedTuple):
    """A model's answer. The repr shows neither body nor attributes: both may be secret.

    :param custom_attributes: None when the container set none
    """

    body: bytes
    content_type: str | None
    custom_attributes: str | None

    def __repr__(self) -> str:
        return f"ModelAnswer(content_type={self.content_type!r})"


class Parameters(NamedTuple):
    """What is the same in many invocations. A value is None where its header is not sent."""

    target_model: str | None
    content_type: str | None
    accept: str | None
    target_variant: str | None

    def headers(self, custom_attributes: str | None = None) -> dict[str, str]:
        given = self.by_name(custom_attributes)
        return {_HEADERS[name]: value for name, value in given.items()}

    def by_name(self, custom_attributes: str | None = None) -> dict[str, str]:
        """Name the values as botocore does."""
        given = {
            "ContentType": self.content_type,
            "Accept": self.accept,
            "CustomAttributes": custom_attributes,
            "TargetModel": self.target_model,
            "TargetVariant": self.target_variant,
        }
        return {name: value for name, value in given.items() if value is not None}


Send = Callable[[bytes, Parameters, str | None], Awaitable[ModelAnswer]]
"""Sends a body, once, with parameters and custom attributes."""


class EndpointInvoker:
    """InvokeEndpoint of one endpoint. It retries nothing and logs nothing of a request.

    :param carrier: what carries the calls: ``httptools``, ``aiohttp`` or ``botocore``
    :param reason: why it is not the quickest of these, for a log line
    """

    def __init__(self, send: Send, carrier: str = "", *, reason: str = "") -> None:
        self._send = send
        self.carrier = carrier
        self.reason = reason

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
            path = f"/endpoints/{endpoint_name}/invocations"
            if isinstance(calls, BotocoreCalls):
                reason = "the configuration of botocore sets what only botocore does"
                yield cls(partial(_through_botocore, calls, endpoint_name), "botocore", reason=reason)
            elif calls.http.wire.proxy is not None or (pool_class := _pool_class()) is None:
                reason = "a proxy is set" if calls.http.wire.proxy else "httptools is not installed"
                yield cls(partial(_through_aiohttp, calls, path), "aiohttp", reason=reason)
            else:
                address = await calls.address()
                async with pool_class(address.root, calls.http.wire) as pool:
                    yield cls(_DirectCalls(calls, pool, address, path).send, "httptools")

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
        parameters = _checked(target_model, content_type, accept, target_variant)
        if custom_attributes is not None:
            _check("CustomAttributes", custom_attributes)
        return await self._send(body, parameters, custom_attributes)


def _pool_class() -> type[HttpPool] | None:
    try:
        from airflow_sm_plugin.invoke.http_pool import HttpPool
    except ImportError:  # of httptools, or of what aiohttp brings from 3.10 on
        return None
    return HttpPool


class _DirectCalls:
    """InvokeEndpoint over connections of our own. Errors are read as :class:`HttpCalls` reads them."""

    def __init__(self, calls: HttpCalls, pool: HttpPool, address: Address, path: str) -> None:
        self._calls = calls
        self._pool = pool
        self._address = address
        self._path = path
        self._clock = Clock()
        self._repeated = functools.lru_cache(maxsize=_REPEATED)(self._request)

    async def send(self, body: bytes, parameters: Parameters, custom_attributes: str | None) -> ModelAnswer:
        renewed = False
        while True:
            signer = await self._calls.http.signers.for_address(self._address)
            varying = "" if custom_attributes is None else _CUSTOM_ATTRIBUTES
            request = self._repeated(signer, parameters, varying)
            head = request.head(body, self._clock.timestamp(), custom_attributes or "")
            response = await self._pool.send(head, body)
            if response.status < ERROR:
                check_no_page(response.status, response.headers, response.body)
                return _answer_of(response)
            renewed = await self._calls.mend(response, _OPERATION, self._address, renewed=renewed)

    def _request(self, signer: Signer, parameters: Parameters, varying: str) -> RepeatedRequest:
        return RepeatedRequest(
            signer,
            UnsignedRequest("POST", headers=parameters.headers()),
            self._address.host,
            f"{self._address.path}{self._path}",
            unsigned={"User-Agent": self._calls.http.wire.user_agent, "Accept-Encoding": "identity"},
            varying=varying,
        )


async def _through_aiohttp(
    calls: HttpCalls, path: str, body: bytes, parameters: Parameters, custom_attributes: str | None
) -> ModelAnswer:
    """Build the request here: botocore's serializer would cost as much again as all the rest of a payload's call."""
    request = UnsignedRequest("POST", path, headers=parameters.headers(custom_attributes), body=body)
    return _answer_of(cast("HttpResponse", await calls.send(_OPERATION, request)))  # None is for buckets


def _answer_of(response: HttpResponse) -> ModelAnswer:
    return ModelAnswer(response.body, response.header("content-type"), response.header(_RESPONSE_ATTRIBUTES))


async def _through_botocore(
    calls: BotocoreCalls,
    endpoint_name: str,
    body: bytes,
    parameters: Parameters,
    custom_attributes: str | None,
) -> ModelAnswer:
    given = parameters.by_name(custom_attributes)
    response = await calls.call(_OPERATION, EndpointName=endpoint_name, Body=body, **given)
    return ModelAnswer(response["Body"], response.get("ContentType"), response.get("CustomAttributes"))


@functools.lru_cache(maxsize=_REPEATED)
def _checked(
    target_model: str | None, content_type: str | None, accept: str | None, target_variant: str | None
) -> Parameters:
    parameters = Parameters(target_model, content_type, accept, target_variant)
    for name, value in parameters.by_name().items():
        _check(name, value)
    return parameters


def _check(name: str, value: str) -> None:
    """Refuse a value that no header can hold. The error does not show the value, which may be secret."""
    if value and value.isprintable():
        return
    if not value:
        raise ParamValidationError(report=f"{name} is empty")
    if match := _NO_HEADER.search(value):
        raise ParamValidationError(report=f"{name} holds U+{ord(match[0]):04X}, which no header can hold")
