"""Signed requests over one aiohttp session, at a fifth of botocore's cost.

No retries, no redirects, nothing decompressed. A broken connection raises botocore's own exceptions, as its clients do:
``ConnectionError`` and its kin mean that nothing was sent, ``HTTPClientError`` and its kin that the request may have
been carried out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import hdrs
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from yarl import URL

from airflow_sm_plugin.aws.access import Address, FreshSigners, ServiceAccess, Wire
from airflow_sm_plugin.aws.answers import as_botocore_reads
from airflow_sm_plugin.aws.botocore_calls import CHUNK_BYTES
from airflow_sm_plugin.aws.signer import Clock, Signer, UnsignedRequest

BROKEN = (aiohttp.ClientError, OSError)
"""Exceptions of aiohttp for a connection that broke or was never made."""

_KINDS: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], type[BotoCoreError]]] = (
    (aiohttp.ClientSSLError, SSLError),
    (aiohttp.ClientConnectorError, EndpointConnectionError),
    (aiohttp.ConnectionTimeoutError, ConnectTimeoutError),
    (TimeoutError, ReadTimeoutError),
    ((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError), ConnectionClosedError),
)
"""The first matching class counts."""


def as_botocore(error: Exception, url: str, proxy: str | None) -> BotoCoreError:
    """Convert to botocore's exception: ``ConnectionError`` and its subclasses mean that nothing was sent.

    :param url: address that was asked
    :param proxy: address of the proxy between, without its password
    """
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return ProxyConnectionError(proxy_url=str(proxy), error=error)
    for kinds, kind in _KINDS:
        if isinstance(error, kinds):
            return kind(endpoint_url=url, error=error)
    return HTTPClientError(error=error)


_NOT_BY_ITSELF = (hdrs.ACCEPT, hdrs.CONTENT_TYPE)
"""Headers that aiohttp would add to a request without them."""

_LARGE = 32_768
"""Bytes; a larger body may have to wait until the peer has taken the data before it."""


class HttpResponse(NamedTuple):
    """A whole answer. Its repr shows neither headers nor body: both may be secret.

    :param headers: names are in lower case; text beyond ASCII is decoded as UTF-8 with ``surrogateescape``
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"HttpResponse({self.status})"

    def header(self, name: str) -> str | None:
        value = self.headers.get(name)
        return None if value is None else as_botocore_reads(value)


@dataclass(frozen=True, repr=False)
class OpenResponse:
    """An answer whose body is not read yet."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class _Connector(aiohttp.TCPConnector):
    """A pool of connections without those on which bytes came behind the last answer.

    aiohttp would take these bytes for the answer to the next request; a test holds it. Before aiohttp 3.11 the method
    was another.
    """

    async def _get(self, *key: Any) -> Any:  # noqa: ANN401 - aiohttp's own
        connection: Any = await super()._get(*key)
        while connection is not None and connection.protocol.should_close:
            connection.close()
            connection = await super()._get(*key)
        return connection


class SignedHttp:
    """One session of HTTP connections, as many at once as ``wire`` says; further requests wait for one of them.

    :meth:`send` dominates a batch's time: no context managers there, and everything reusable is kept.

    :param is_s3: S3 is signed a little differently
    """

    def __init__(self, access: ServiceAccess, wire: Wire, *, is_s3: bool = False) -> None:
        self.wire = wire
        self.signers = FreshSigners(access, is_s3=is_s3)
        self._clock = Clock()
        self._session: aiohttp.ClientSession | None = None
        self._proxy: dict[str, Any] = (
            {"proxy": wire.proxy, "proxy_headers": wire.proxy_headers} if wire.proxy else {}
        )

    async def __aenter__(self) -> Self:
        wire = self.wire
        get = aiohttp.TCPConnector._get  # noqa: SLF001 - as below
        connector = _Connector if inspect.iscoroutinefunction(get) else aiohttp.TCPConnector
        self._session = aiohttp.ClientSession(
            connector=connector(limit=wire.max_connections, ssl=wire.tls or True),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=wire.connect_timeout, sock_read=wire.read_timeout
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": wire.user_agent, "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        # Else aiohttp sends GET and PUT again by itself when the connection breaks, and no log shows that it did.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public way; a test holds it
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, address: Address, request: UnsignedRequest) -> HttpResponse:
        """Send one request and read its answer, whatever its status.

        :raises EndpointConnectionError: and its like: nothing was sent
        :raises HTTPClientError: ReadTimeoutError, ConnectionClosedError: it was sent, or part of it; no more is known
        :raises BotoCoreError: no credentials, or a header that cannot be sent
        """
        signer = await self.signers.for_address(address)
        try:
            response = await self._response(address, request, signer)
            return HttpResponse(response.status, response.headers, await response.read())
        except BROKEN as error:
            raise as_botocore(error, address.url, self.wire.proxy) from error

    async def renew_credentials(self) -> None:
        """Fetch fresh credentials for all further requests."""
        await self.signers.renew()

    @asynccontextmanager
    async def opened(self, address: Address, request: UnsignedRequest) -> AsyncIterator[OpenResponse]:
        """Send one request and yield its answer before its body is read; errors as :meth:`send`."""
        signer = await self.signers.for_address(address)
        try:
            async with await self._response(address, request, signer) as response:
                yield OpenResponse(
                    response.status, response.headers, response.content.iter_chunked(CHUNK_BYTES)
                )
        except BROKEN as error:
            raise as_botocore(error, address.url, self.wire.proxy) from error

    async def _response(
        self, address: Address, request: UnsignedRequest, signer: Signer
    ) -> aiohttp.ClientResponse:
        if len(request.body) <= _LARGE:
            return await self._asked(address, request, signer, request.body or None)
        async with asyncio.timeout(None) as silence:
            pieces = _pieces(request.body, silence, self.wire.read_timeout)
            return await self._asked(address, request, signer, pieces)

    def _asked(
        self,
        address: Address,
        request: UnsignedRequest,
        signer: Signer,
        data: bytes | AsyncIterator[memoryview] | None,
    ) -> Awaitable[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("SignedHttp is used outside of its block")
        path = f"{address.path}{request.path}" or "/"
        headers = signer.signed(request, address.host, path, self._clock.timestamp())
        if data is not None:
            headers["Content-Length"] = str(len(request.body))
        return self._session.request(
            request.method,
            URL(
                f"{address.root}{path}?{request.query}" if request.query else f"{address.root}{path}",
                encoded=True,
            ),
            headers=headers,
            data=data,
            skip_auto_headers=None if "Accept" in headers and "Content-Type" in headers else _NOT_BY_ITSELF,
            allow_redirects=False,
            **self._proxy,
        )


async def _pieces(body: bytes, silence: asyncio.Timeout, seconds: float | None) -> AsyncIterator[memoryview]:
    """Yield a large body in pieces, so that other requests go on in between.

    aiohttp's read time-out begins after the last byte: until then ``silence`` ends a body stuck for ``seconds``.
    """
    loop, view = asyncio.get_running_loop(), memoryview(body)
    for start in range(0, len(body), CHUNK_BYTES):
        if seconds is not None and not silence.expired():
            silence.reschedule(loop.time() + seconds)
        yield view[start : start + CHUNK_BYTES]
