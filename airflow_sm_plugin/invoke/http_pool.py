"""Kept-alive connections to one address, as many as its requests need at the same time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, SSLError

from airflow_sm_plugin.aws.access import Wire
from airflow_sm_plugin.aws.http import HttpResponse
from airflow_sm_plugin.invoke.http_connection import HttpConnection

_IDLE_SECONDS = 15.0
"""Seconds after which an unused connection is closed, as aiohttp does: servers close theirs after a minute or so, and a
request that meets that moment may or may not be carried out."""

_LOOKUP_SECONDS = 10.0
"""Seconds for which a host's addresses are used, as aiohttp does: the resolver of a VPC answers 1,024 packets a
second."""

_NEXT_ADDRESS_SECONDS = 0.25
"""Seconds after which the next address is tried beside the first (RFC 8305)."""


class HttpPool:
    """Connections to one address, opened on demand; the one that was used last comes first.

    :param url: scheme, host and port
    :param wire: settings of connections; while ``max_connections`` requests are in flight, others wait
    """

    def __init__(self, url: str, wire: Wire) -> None:
        self._loop = asyncio.get_running_loop()
        self._url = url
        self._wire = wire
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        is_secure = parts.scheme == "https"
        self._tls = (wire.tls or ssl.create_default_context()) if is_secure else None
        self._port = parts.port or (443 if self._tls else 80)
        self._free = wire.max_connections
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._connections: set[HttpConnection] = set()
        self._idle: list[HttpConnection] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_open = True
        self._all_lost = asyncio.Event()
        self._lookup = asyncio.Lock()
        self._addresses: list[Any] = []
        self._addresses_until = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._connections:
            for connection in list(self._connections):
                connection.abort()
            await self._all_lost.wait()

    async def send(self, head: bytes, body: bytes) -> HttpResponse:
        """Send a request, once; return its answer, whatever its status.

        :raises EndpointConnectionError: ConnectTimeoutError, SSLError: nothing was sent
        :raises HTTPClientError: ReadTimeoutError, ConnectionClosedError: it was sent, or part of it; no more is known
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait()
        try:
            connection = self._reused() or await self._opened()
            answer = connection.send(head, body)
            try:
                return await answer
            except asyncio.CancelledError:
                connection.give_up(answer)
                raise
        finally:
            self._release()

    async def _wait(self) -> None:
        """Wait until another request hands over its permission to be in flight."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def _reused(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
        return None

    async def _opened(self) -> HttpConnection:
        connection = HttpConnection(self._url, idle=self._idle.append, lost=self._lost)
        try:
            async with asyncio.timeout(self._wire.connect_timeout):
                connected = await start_connection(
                    await self._resolved(), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
                )
                await self._connect(connected, connection)
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        if not (connection.is_usable and self._is_open):
            connection.abort()
            raise EndpointConnectionError(endpoint_url=self._url, error="closed at once")
        self._connections.add(connection)
        if self._sweeper is None:
            self._sweep()
        return connection

    async def _connect(self, connected: socket.socket, connection: HttpConnection) -> None:
        name = self._host if self._tls else None
        try:
            await self._loop.create_connection(
                lambda: connection, sock=connected, ssl=self._tls, server_hostname=name
            )
        except BaseException:
            # uvloop has closed the descriptor. The socket would close it once more, when another may have its number.
            if not isinstance(self._loop, asyncio.BaseEventLoop):
                connected.detach()
            raise

    async def _resolved(self) -> list[Any]:
        """Return the host's addresses, each time with another one first."""
        async with self._lookup:
            if self._loop.time() >= self._addresses_until:
                self._addresses = await self._loop.getaddrinfo(
                    self._host, self._port, type=socket.SOCK_STREAM
                )
                self._addresses_until = self._loop.time() + _LOOKUP_SECONDS
        self._addresses = [*self._addresses[1:], self._addresses[0]]
        return self._addresses

    def _lost(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._connections and not self._is_open:
            self._all_lost.set()

    def _sweep(self) -> None:
        """End requests without an answer and connections without a request; come back when the next one is due.

        A request sent meanwhile is due no earlier, so that none needs a timer of its own.
        """
        now, silence = self._loop.time(), self._wire.read_timeout
        due = now + min(_IDLE_SECONDS, silence or _IDLE_SECONDS)
        for connection in list(self._connections):
            seconds = silence if connection.is_busy else _IDLE_SECONDS
            if seconds is None:
                continue
            if connection.active + seconds <= now:
                connection.end_silence()
            else:
                due = min(due, connection.active + seconds)
        self._sweeper = self._loop.call_at(due, self._sweep) if self._connections else None
