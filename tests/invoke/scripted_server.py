"""A server that does as a test says with each connection, and calls of an endpoint there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer
from tests.invoke.carriers import carried_by, loop_factory, run_on

FINE = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Peer:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def request(self) -> bytes:
        """Return the body of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self.reader.readexactly(length)

    async def say(self, data: bytes) -> None:
        """Send an answer, or a piece of it."""
        self.writer.write(data)
        await self.writer.drain()


Serve = Callable[[Peer], Awaitable[None]]


@dataclass
class Scripted:
    """A server that does as a test says with each connection."""

    serve: Serve
    url: str = ""
    connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            await self.serve(Peer(reader, writer, self.connections))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.tasks.discard(task)


@asynccontextmanager
async def scripted(serve: Serve, tls: SSLContext | None = None) -> AsyncIterator[Scripted]:
    """Serve for the block; unread data is accepted up to a small buffer."""
    found = Scripted(serve)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    server = await asyncio.start_server(found, sock=listener, ssl=tls)
    scheme = "http" if tls is None else "https"
    found.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        for task in list(found.tasks):
            task.cancel()
        await asyncio.gather(*found.tasks, return_exceptions=True)


async def settle() -> None:
    """Let all ready tasks of the loop run, and sent data arrive."""
    for _number in range(10):
        await asyncio.sleep(0.001)


Use = Callable[[EndpointInvoker, Scripted], Awaitable[None]]


@dataclass(frozen=True)
class Way:
    """A carrier on an event loop, over TLS where there is a certificate: its bundle, and the server's context."""

    carrier: str
    loop: str
    monkeypatch: pytest.MonkeyPatch
    certificate: tuple[Path, SSLContext] | None = None

    def run(
        self,
        serve: Serve,
        use: Use,
        *,
        max_connections: int = 4,
        then: Callable[[], Awaitable[None]] = settle,
        **options: object,
    ) -> Scripted:
        """Use an invoker of that server; return the server, whose connections are closed.

        :param then: is awaited once the invoker is closed
        """

        async def opened() -> Scripted:
            bundle, context = self.certificate or (None, None)
            async with scripted(serve, context) as server:
                self.monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
                connection = AwsConnection(
                    aws_conn_id=None,
                    verify=str(bundle) if bundle else None,
                    botocore_config={"connect_timeout": 600, "read_timeout": 600, **more, **options},
                )
                opening = EndpointInvoker.open(connection, "an-endpoint", max_connections=max_connections)
                async with opening as invoker:
                    assert invoker.carrier == self.carrier
                    await use(invoker, server)
                await then()
                return server

        loop = loop_factory(self.loop)
        with carried_by(self.carrier) as more:
            return run_on(loop, opened())


async def all_closed(server: Scripted) -> None:
    """Return when the server has closed every connection and the client had time to see it."""
    await asyncio.gather(*server.tasks)
    await settle()


async def ask(invoker: EndpointInvoker, body: bytes = b"1,2") -> ModelAnswer:
    return await invoker.invoke(body, target_model="m.tar.gz")


async def always_fine(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.say(FINE)


def saying(*pieces: bytes) -> Serve:
    async def serve(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.say(piece)
            await asyncio.sleep(0)

    return serve
