"""Signed requests to one service over connections of our own: a third of what they cost through aiohttp's session.

For many small requests; there is no proxy here. As in :mod:`~airflow_sm_plugin.hooks.signed_http` nothing is repeated,
redirected or decompressed, and what breaks raises botocore's own exceptions.
"""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)

from airflow_sm_plugin.hooks.http_answer_reader import BadAnswer
from airflow_sm_plugin.hooks.http_connection import ConnectionGone, HttpConnection, NothingCame
from airflow_sm_plugin.hooks.service_access import Address, FreshSigners, ServiceAccess, Wire
from airflow_sm_plugin.hooks.signed_http import HttpAnswer, HttpRequest, encoded_query
from airflow_sm_plugin.hooks.sigv4 import Clock, Signer, ToSign

_IDLE_SECONDS = 15.0
"""A connection that nobody used for as long may be closed at the other end by the time a request arrives there."""

_HAPPY_EYEBALLS_SECONDS = 0.25


class DirectHttp:
    """Connections to one address, as many at once as ``wire`` says; further requests wait for one of them."""

    def __init__(self, access: ServiceAccess, wire: Wire, address: Address) -> None:
        self._wire = wire
        self._address = address
        self._signers = FreshSigners(access, is_s3=False)
        self._clock = Clock()
        self._slots = asyncio.Semaphore(wire.max_connections)
        self._idle: list[HttpConnection] = []
        self._all: set[HttpConnection] = set()
        self._read_timeout = float("inf") if wire.read_timeout is None else wire.read_timeout
        self._looking: asyncio.TimerHandle | None = None
        self._constant = f"User-Agent: {wire.user_agent}\r\nAccept-Encoding: identity\r\n"
        parts = urlsplit(address.url)
        self._host = str(parts.hostname)
        self._tls = _context(wire) if parts.scheme == "https" else None
        self._port = parts.port or (80 if self._tls is None else 443)

    async def __aenter__(self) -> Self:
        """Begin; connections are made when they are needed."""
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._looking is not None:
            self._looking.cancel()
        while self._all:
            for connection in list(self._all):
                connection.abort()
            await asyncio.sleep(0)

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Send one request, not a HEAD, and read its answer, whatever its status.

        :raises EndpointConnectionError: and its like: nothing was sent
        :raises HTTPClientError: ReadTimeoutError, ConnectionClosedError: it was sent, or part of it; nobody knows more
        :raises BotoCoreError: no credentials
        """
        async with self._slots:
            head = self._head(request, await self._signers.for_address(self._address))
            connection = self._kept() or await self._connected()
            try:
                answer = await connection.exchange(head, request.body)
            except (ConnectionGone, NothingCame, BadAnswer) as error:
                raise self._as_botocore(error) from error
            if connection.usable:
                self._idle.append(connection)
            return HttpAnswer(answer.status, answer.headers, answer.body)

    def _head(self, request: HttpRequest, signer: Signer) -> bytes:
        host, path = self._address.host, self._address.path + request.path
        query = encoded_query(request.query) if request.query else ""
        body = request.body if request.sign_body else None
        unsigned = ToSign(request.method, host, path, query, request.headers, body)
        headers = signer.signed(unsigned, self._clock.timestamp())
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if not lines.count("\r") == lines.count("\n") == len(headers) or "\0" in lines:
            raise HTTPClientError(error="a header holds a line break")  # and would begin another header
        target = f"{path}?{query}" if query else path
        return (
            f"{request.method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}{self._constant}"
            f"Content-Length: {len(request.body)}\r\n\r\n"
        ).encode()

    def _kept(self) -> HttpConnection | None:
        """Return the connection used last: those that are not needed any more grow old."""
        while self._idle:
            connection = self._idle.pop()
            if (
                connection.usable
                and asyncio.get_running_loop().time() - connection.idle_since < _IDLE_SECONDS
            ):
                return connection
            connection.abort()
        return None

    async def _connected(self) -> HttpConnection:
        connection = HttpConnection(self._read_timeout, self._all.discard)
        try:
            async with asyncio.timeout(self._wire.connect_timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
                )
        except BaseException as error:
            connection.abort()
            if isinstance(error, OSError):
                raise self._not_connected(error) from error
            raise
        self._all.add(connection)
        return connection

    def _not_connected(self, error: OSError) -> BotoCoreError:
        url = self._address.url
        if isinstance(error, TimeoutError):
            return ConnectTimeoutError(endpoint_url=url, error=error)
        if isinstance(error, ssl.SSLError):
            return SSLError(endpoint_url=url, error=error)
        return EndpointConnectionError(endpoint_url=url, error=error)

    def _look(self) -> None:
        """Look for requests that wait too long: one timer for all, for a timer each costs more than the rest."""
        if self._wire.read_timeout is None:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [each for each in self._all if each.deadline < now]:
            connection.expire()
        self._looking = loop.call_later(min(1.0, self._wire.read_timeout / 4), self._look)

    def _as_botocore(self, error: Exception) -> BotoCoreError:
        if isinstance(error, NothingCame):
            return ReadTimeoutError(endpoint_url=self._address.url, error=error)
        if isinstance(error, ConnectionGone):
            return ConnectionClosedError(endpoint_url=self._address.url, error=error)
        return HTTPClientError(error=f"no HTTP answer: {error}")


def _context(wire: Wire) -> ssl.SSLContext:
    if isinstance(wire.tls, ssl.SSLContext):
        return wire.tls
    context = ssl.create_default_context()
    if not wire.tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
