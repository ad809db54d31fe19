"""Calls of AWS from an event loop: ``await calls.call("PutObject", Bucket=…, Key=…, Body=…)``.

Each is one request; the caller decides about repeats. botocore's own serializer builds it, our signer signs it, aiohttp
carries it, and botocore's parsers read the answer. Where botocore's configuration says what only botocore does, its own
client carries the calls. Errors are botocore's on both ways.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from botocore.awsrequest import HeadersDict
from botocore.exceptions import ChecksumError, ClientError
from botocore.model import OperationModel, StructureShape
from botocore.serialize import create_serializer
from botocore.utils import percent_encode, percent_encode_sequence

from airflow_sm_plugin.aws.access import Address, ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.addresses import Probe, ServiceAddresses
from airflow_sm_plugin.aws.answers import (
    ERROR,
    AnswerParser,
    ResponseHeaders,
    as_botocore_reads,
    check_no_page,
    protocol_of,
    response_headers,
)
from airflow_sm_plugin.aws.botocore_calls import BotocoreCalls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import meaning, translated
from airflow_sm_plugin.aws.http import HttpResponse, OpenResponse, SignedHttp
from airflow_sm_plugin.aws.signer import UnsignedRequest
from airflow_sm_plugin.core.service_errors import Meaning

_NEW_MEMBERS: Mapping[str, Mapping[str, str]] = {
    "InvokeEndpointAsync": {
        "Body": "",
        "Filename": "X-Amzn-SageMaker-Filename",
        "S3OutputPathExtension": "X-Amzn-SageMaker-S3OutputPathExtension",
    }
}
"""Members that an older botocore does not know, and their headers; the fast carrier sends them nevertheless."""

_NOT_PARSED = frozenset({"ListObjectsV2"})
"""botocore's parser takes 54 ms for a page of a thousand keys, :mod:`airflow_sm_plugin.aws.s3.listing` a fraction."""

_OK, _FAILED = 200, 500
_CRC32 = "x-amz-checksum-crc32"
_DIGESTS: Mapping[str, Callable[[bytes], bytes]] = {
    _CRC32: lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
}


class AwsCalls(Protocol):
    """Calls of one service; each is sent once."""

    @property
    def adds_checksums(self) -> bool:
        """Check whether new objects and parts get checksums, by botocore's configuration."""

    def members(self, operation: str) -> frozenset[str]:
        """List the parameters of an operation that can be sent."""

    async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        """Call an operation, e.g. ``HeadObject``, with botocore's parameters; return botocore's parsed response.

        ``Body`` is bytes, in requests and responses. A page of ListObjectsV2 may come as it is, under ``Body``.

        :raises ClientError: of the client's own classes: an error answer
        :raises HTTPClientError: ReadTimeoutError, ConnectionClosedError, UnreadableAnswer: it may be carried out
        :raises BotoCoreError: nothing was sent
        """

    def opened(
        self,
        operation: str,
        /,
        **parameters: Any,  # noqa: ANN401 - botocore's
    ) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """Call an operation and hand over its response before the body is read: ``Body`` yields chunks of bytes."""


@asynccontextmanager
async def open_calls(
    connection: AwsConnection,
    service: str,
    *,
    probe: Probe | None = None,
    max_connections: int | None = None,
    least_read_timeout: float = 0,
) -> AsyncIterator[HttpCalls | BotocoreCalls]:
    """Open connections to a service for the block.

    :param service: botocore's name of it
    :param probe: a call whose address all calls share; None for S3
    :param max_connections: connections at once; None takes the botocore configuration's number
    :param least_read_timeout: seconds; a shorter read time-out is raised to it
    :raises SageMakerInferenceError: no credentials, no region
    """
    with translated(service):
        hook = UnrepeatedHook(
            client_type=service,
            least_read_timeout=least_read_timeout,
            max_connections=max_connections,
            **connection.hook_arguments(),
        )
        access = await ServiceAccess.connect(hook)
        wire = await asyncio.to_thread(access.wire)
        botocore = BotocoreCalls(access.client)
        addresses = ServiceAddresses(access, botocore, probe)
        is_fast = probe is None or await addresses.address("") is not None
    try:
        if not is_fast:
            yield botocore
            return
        async with SignedHttp(access, wire, is_s3=service == "s3") as http:
            yield HttpCalls(access, http, addresses, botocore)
    finally:
        botocore.close()


class HttpCalls:
    """Calls over the fast carrier (see :class:`AwsCalls`); a bucket that needs botocore gets it.

    Two things differ from botocore's requests: a new object's body follows at once, without ``Expect: 100-continue``,
    and over TLS its checksum goes in a header instead of in a trailer behind a chunked body.
    """

    def __init__(
        self,
        access: ServiceAccess,
        http: SignedHttp,
        addresses: ServiceAddresses,
        through_botocore: BotocoreCalls,
    ) -> None:
        self._client = access.client
        self.http = http
        self._addresses = addresses
        self._botocore = through_botocore
        self._service = access.client.meta.service_model
        self._model = functools.cache(self._service.operation_model)
        self.members = functools.cache(self._members)
        protocol = protocol_of(self._service)
        self._is_s3 = protocol == "rest-xml"
        self._serializer = create_serializer(protocol, include_validation=False)
        self._parser = AnswerParser(protocol)
        self.adds_checksums = through_botocore.adds_checksums
        self._asked_to_sign = (access.options.get("s3") or {}).get("payload_signing_enabled")
        secure = str(access.client.meta.endpoint_url).startswith("https:")
        self._signs_objects = not (secure and self.adds_checksums)

    def _members(self, operation: str) -> frozenset[str]:
        return self._botocore.members(operation) | frozenset(_NEW_MEMBERS.get(operation, ()))

    async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        model = self._model(operation)
        request = self._request(model, parameters)
        response = await self.send(operation, request, parameters.get("Bucket", ""))
        if response is None:
            return await self._botocore.call(operation, **parameters)
        if operation in _NOT_PARSED:
            return {"Body": response.body}
        if (headers := response_headers(model)) is None:
            self._check_late_error(response, operation)
            return self._parser.parse(_for_botocore(response, operation), model.output_shape)
        if model.http_checksum.get("responseAlgorithms") and response.status == _OK:
            _check_sum(response)
        return headers.read(response.headers, response.body)

    @asynccontextmanager
    async def opened(
        self,
        operation: str,
        /,
        **parameters: Any,  # noqa: ANN401 - botocore's
    ) -> AsyncIterator[Mapping[str, Any]]:
        model = self._model(operation)
        request, bucket, renewed = self._request(model, parameters), parameters.get("Bucket", ""), False
        while (address := await self._addresses.address(bucket)) is not None:
            async with self.http.opened(address, request) as response:
                if response.status < ERROR:
                    check_no_page(response.status, response.headers, None)
                    yield cast("ResponseHeaders", response_headers(model)).read(
                        response.headers, response.chunks
                    )
                    return
                failed = await _whole(response)
            renewed = await self.mend(failed, operation, address, bucket, renewed=renewed)
        async with self._botocore.opened(operation, **parameters) as response_of_botocore:
            yield response_of_botocore

    async def send(self, operation: str, request: UnsignedRequest, bucket: str = "") -> HttpResponse | None:
        """Send a built request; return its successful response, None where botocore must carry it.

        After an answer that the credentials have expired, fetch fresh ones and send it once more.
        Errors as :meth:`AwsCalls.call`.
        """
        renewed = False
        while (address := await self._addresses.address(bucket)) is not None:
            response = await self.http.send(address, request)
            if response.status < ERROR:
                check_no_page(response.status, response.headers, response.body)
                return response
            renewed = await self.mend(response, operation, address, bucket, renewed=renewed)
        return None

    async def address(self) -> Address:
        """Find the address of a service without buckets."""
        return cast("Address", await self._addresses.address(""))  # open_calls() has found it

    async def mend(
        self, response: HttpResponse, operation: str, address: Address, bucket: str = "", *, renewed: bool
    ) -> bool:
        """Find the bucket's address, or fetch fresh credentials; raise the error where neither helps.

        :param response: an error answer
        :param address: who gave it
        :param renewed: whether the credentials were renewed for this call before
        :return: whether they are now
        :raises ClientError: of the client's own classes
        """
        error = self._error(response, operation)
        if await self._addresses.moved(bucket, address, error):
            return renewed
        if renewed or meaning(error) is not Meaning.CREDENTIALS_EXPIRED:
            raise error
        await self.http.renew_credentials()
        return True

    def _request(self, model: OperationModel, parameters: Mapping[str, Any]) -> UnsignedRequest:
        """Build a request as botocore does, with its own handlers of parameters; the body is sent unchanged."""
        if not self._is_s3 and (headers_only := _request_headers(model)) is not None:
            return headers_only.build(parameters)
        members = cast("StructureShape", model.input_shape).members
        given = {name: value for name, value in parameters.items() if name in members and name != "Body"}
        event = f"before-parameter-build.{self._service.service_id.hyphenize()}.{model.name}"
        context = {"client_config": self._client.meta.config}
        self._client.meta.events.emit(event, params=given, model=model, context=context)
        built = self._serializer.serialize_to_request(given, model)
        path, _, query = built["url_path"].partition("?")
        queries = filter(None, (query, percent_encode_sequence(built["query_string"])))
        headers, body = built["headers"], parameters.get("Body", built["body"])
        algorithm = model.http_checksum.get("requestAlgorithmMember")
        if algorithm and self.adds_checksums:
            headers[members[algorithm].serialization["name"]] = "CRC32"
            headers[_CRC32] = _digest(_CRC32, body)
        return UnsignedRequest(
            built["method"], path, "&".join(queries), headers, body, sign_body=self._signs_body(model)
        )

    def _signs_body(self, model: OperationModel) -> bool:
        if not self._is_s3:
            return True
        if self._asked_to_sign is not None or not model.has_streaming_input:
            return self._asked_to_sign is not False
        return self._signs_objects

    def _check_late_error(self, response: HttpResponse, operation: str) -> None:
        """Raise the error of an S3 answer that failed after status 200."""
        if self._is_s3 and b"<Error>" in response.body[:200]:
            raise self._error(HttpResponse(_FAILED, response.headers, response.body), operation)

    def _error(self, response: HttpResponse, operation: str) -> ClientError:
        model = self._model(operation)
        parsed = self._parser.parse(_for_botocore(response, operation), model.output_shape)
        details = parsed["Error"]
        shape = self._service.shape_for_error_code(details["Code"])
        if shape is not None:  # the error's own members, as OriginalStatusCode of a ModelError
            parsed.update(self._parser.parse(_for_botocore(response, operation), shape))
        code = details.get("QueryErrorCode") or details["Code"]
        kind = cast("type[ClientError]", self._client.exceptions.from_code(code))
        return kind(cast("Any", parsed), operation)


@dataclass(frozen=True)
class _RequestHeaders:
    """Builder of a request whose parameters are all headers, beside ``Body`` and the names in its path.

    For InvokeEndpointAsync botocore's serializer takes 12 µs of a submitted input's 290; this takes 2.

    :param path: with the names of ``names`` in braces
    :param headers: each parameter with its header
    """

    method: str
    path: str
    names: Sequence[str]
    headers: Sequence[tuple[str, str]]

    def build(self, parameters: Mapping[str, Any]) -> UnsignedRequest:
        headers = {header: str(parameters[name]) for name, header in self.headers if name in parameters}
        path = _path(self.path, *[(name, parameters[name]) for name in self.names])
        return UnsignedRequest(self.method, path, headers=headers, body=parameters.get("Body", b""))


@functools.lru_cache(maxsize=64)
def _path(template: str, *names: tuple[str, object]) -> str:
    """Fill in the names of a path; a batch sends each request to the same endpoint."""
    return template.format_map({name: percent_encode(str(value)) for name, value in names})


@functools.lru_cache(maxsize=64)
def _request_headers(model: OperationModel) -> _RequestHeaders | None:
    """Make a builder of an operation's requests; None when botocore must build them."""
    shape, names = cast("StructureShape", model.input_shape), list[str]()
    headers = dict(_NEW_MEMBERS.get(model.name, {}))
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        if location == "header" and member.type_name in ("string", "integer", "long"):
            headers[name] = member.serialization["name"]
        elif location == "uri":
            names.append(name)
        elif name != shape.serialization.get("payload"):
            return None
    headers.pop("Body", None)
    return _RequestHeaders(model.http["method"], model.http["requestUri"], names, list(headers.items()))


def _for_botocore(response: HttpResponse, operation: str) -> dict[str, Any]:
    headers = response.headers
    if not all(map(str.isascii, headers.values())):
        headers = HeadersDict({name: as_botocore_reads(value) for name, value in headers.items()})
    return {
        "headers": headers,
        "status_code": response.status,
        "body": response.body,
        "context": {"operation_name": operation},
    }


async def _whole(response: OpenResponse) -> HttpResponse:
    body = b"".join([chunk async for chunk in response.chunks])
    return HttpResponse(response.status, response.headers, body)


def _digest(name: str, body: bytes) -> str:
    return base64.b64encode(_DIGESTS[name](body)).decode()


def _check_sum(response: HttpResponse) -> None:
    """Compare an object with the checksum it was stored with, where S3 sends one of the kinds known here."""
    for name in _DIGESTS:
        expected = response.headers.get(name)
        if expected is None or "-" in expected:  # that of an upload in parts is a sum of sums
            continue
        if (actual := _digest(name, response.body)) != expected:
            raise ChecksumError(checksum_type=name, expected_checksum=expected, actual_checksum=actual)
