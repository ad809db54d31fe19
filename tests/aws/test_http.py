"""Connections are kept while they are good and ended when they are not, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from airflow_sm_plugin.aws.access import Address, ServiceAccess, UnrepeatedHook
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.http import SignedHttp
from airflow_sm_plugin.aws.signer import UnsignedRequest
from airflow_sm_plugin.invoke import endpoint_invoker
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer
from airflow_sm_plugin.invoke.errors import failure_of
from tests.support import closed_port

pytestmark = pytest.mark.airflow

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
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.tasks.discard(task)


@asynccontextmanager
async def scripted(serve: Serve) -> AsyncIterator[Scripted]:
    """Serve for the block; unread data is accepted up to a small buffer."""
    found = Scripted(serve)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    server = await asyncio.start_server(found, sock=listener)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        for task in list(found.tasks):
            task.cancel()
        await asyncio.gather(*found.tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def _times_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read time-outs may be short here."""
    monkeypatch.setattr(endpoint_invoker, "READ_TIMEOUT", 0)


def run(
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    use: Callable[[EndpointInvoker, Scripted], Awaitable[None]],
    *,
    max_connections: int = 4,
    **options: object,
) -> Scripted:
    async def opened() -> Scripted:
        async with scripted(serve) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
            connection = AwsConnection(
                aws_conn_id=None, botocore_config={"connect_timeout": 600, "read_timeout": 600, **options}
            )
            opening = EndpointInvoker.open(connection, "an-endpoint", max_connections=max_connections)
            async with opening as invoker:
                await use(invoker, server)
            return server

    return asyncio.run(opened())


async def settle() -> None:
    """Let all ready tasks of the loop run, and sent data arrive."""
    for _number in range(10):
        await asyncio.sleep(0.001)


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


def test_a_connection_is_used_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        for _number in range(5):
            assert (await ask(invoker)).body == b"ok"

    assert run(monkeypatch, always_fine, use).connections == 1


def test_no_more_connections_are_open_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = [0, 0]
    all_there = asyncio.Event()

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            at_once[0] += 1
            at_once[1] = max(at_once)
            if at_once[0] == 3:
                all_there.set()
            await all_there.wait()
            at_once[0] -= 1
            await peer.say(FINE)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        answers = await asyncio.gather(*(ask(invoker) for _number in range(20)))
        assert [answer.body for answer in answers] == [b"ok"] * 20

    assert run(monkeypatch, serve, use, max_connections=3).connections == 3
    assert at_once[1] == 3


@pytest.mark.parametrize("size", [0, 1, 300_000, 6_291_456])
def test_bodies_of_any_size_go_and_come_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def echo(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        answers = await asyncio.gather(ask(invoker, body), ask(invoker, body[::-1]))
        assert [answer.body for answer in answers] == [body, body[::-1]]

    run(monkeypatch, echo, use)


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no", b"k\r\n0\r\n\r\n"), b"ok"),
        ((b"HTTP/1.1 200 OK\r\n\r\no", b"k"), b"ok"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", FINE), b"ok"),
        ((b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",), b"ok"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), b""),
    ],
)
def test_an_answer_is_read_however_it_is_framed(
    pieces: tuple[bytes, ...], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        for _number in range(2):
            answer = await ask(invoker)
            assert (answer.body, answer.custom_attributes) == (body, None)
            await all_closed(server)

    assert run(monkeypatch, saying(*pieces), use).connections == 2


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((), ConnectionClosedError),
        ((b"HTTP/1.1 200 OK\r\nContent-Len",), ConnectionClosedError),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",), ConnectionClosedError),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",), ConnectionClosedError),
        ((b"SMTP ready\r\n\r\n",), HTTPClientError),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok",), HTTPClientError),
    ],
)
def test_an_answer_that_is_none_may_mean_that_the_request_was_carried_out(
    pieces: tuple[bytes, ...], kind: type[HTTPClientError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        with pytest.raises(HTTPClientError) as caught:
            await ask(invoker)
        assert type(caught.value) is kind
        assert failure_of(caught.value).kind == "unanswered"

    assert run(monkeypatch, saying(*pieces), use).connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        await ask(invoker)
        await all_closed(server)
        await ask(invoker)

    assert run(monkeypatch, saying(FINE), use).connections == 2


def test_a_connection_that_breaks_under_a_request_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(FINE)
        await peer.request()

    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        await ask(invoker)
        with pytest.raises(ConnectionClosedError):
            await ask(invoker)
        assert server.connections == 1
        await ask(invoker)

    assert run(monkeypatch, serve, use).connections == 2


def test_an_answer_that_comes_before_the_request_is_through_is_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(3600)

    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        for number in (1, 2):
            with pytest.raises(ClientError) as caught:
                await ask(invoker, bytes(6_000_000))
            assert failure_of(caught.value).status == 413
            assert server.connections == number

    run(monkeypatch, serve, use)


@pytest.mark.parametrize("body", [b"x", bytes(6_000_000)])
def test_silence_ends_at_the_read_timeout(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(peer: Peer) -> None:
        if peer.number > 1:
            await always_fine(peer)
        await asyncio.sleep(3600)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        began = time.monotonic()
        with pytest.raises(ReadTimeoutError) as caught:
            await ask(invoker, body)
        assert time.monotonic() - began >= 0.2
        assert failure_of(caught.value).kind == "unanswered"
        await ask(invoker)

    assert run(monkeypatch, serve, use, read_timeout=0.2).connections == 2


def test_an_answer_that_goes_on_coming_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times as long as the read time-out, by a clock that runs ahead after each byte."""
    ahead = [0.0]

    async def serve(peer: Peer) -> None:
        await peer.request()
        for byte in FINE:
            await peer.say(bytes([byte]))
            await settle()
            ahead[0] += 60
            await asyncio.sleep(0)  # for time-outs to be seen

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + ahead[0])
        assert (await ask(invoker)).body == b"ok"
        assert ahead[0] > 6 * 600

    run(monkeypatch, serve, use, read_timeout=600)


def test_a_request_that_is_given_up_takes_its_connection_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would be taken for that of the next request."""
    came, given_up = asyncio.Event(), asyncio.Event()

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            came.set()
            await given_up.wait()
            await peer.say(FINE)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        first = asyncio.create_task(ask(invoker))
        await came.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        given_up.set()
        assert (await ask(invoker)).body == b"ok"

    assert run(monkeypatch, serve, use, max_connections=1).connections == 2


def test_who_gives_up_waiting_for_a_connection_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    came, go_on = asyncio.Event(), asyncio.Event()

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            came.set()
            await go_on.wait()
            await peer.say(FINE)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        first = asyncio.create_task(ask(invoker))
        await came.wait()
        others = [asyncio.create_task(ask(invoker)) for _number in range(5)]
        await settle()
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        go_on.set()
        assert (await first).body == (await ask(invoker)).body == b"ok"

    assert run(monkeypatch, serve, use, max_connections=1).connections == 1


def test_nothing_was_sent_at_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(_: EndpointInvoker, __: Scripted) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", closed_port())
        opening = EndpointInvoker.open(AwsConnection(aws_conn_id=None), "an-endpoint", max_connections=1)
        async with opening as invoker:
            for _number in range(3):
                with pytest.raises(EndpointConnectionError) as caught:
                    await ask(invoker)
                assert failure_of(caught.value).kind == "unreachable"

    run(monkeypatch, always_fine, use)


def test_nothing_was_sent_when_no_connection_comes_about_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the server never says a word of TLS."""

    async def serve(peer: Peer) -> None:
        await peer.reader.read()

    async def use(_: EndpointInvoker, server: Scripted) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url.replace("http:", "https:"))
        connection = AwsConnection(aws_conn_id=None, botocore_config={"connect_timeout": 0.1})
        async with EndpointInvoker.open(connection, "an-endpoint", max_connections=1) as invoker:
            with pytest.raises(ConnectTimeoutError) as caught:
                await ask(invoker)
        assert failure_of(caught.value).kind == "unreachable"

    run(monkeypatch, serve, use)


def test_a_read_that_breaks_is_not_sent_again_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aiohttp would: a GET may be repeated. Who calls decides that here."""

    async def serve(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(FINE)
        await peer.reader.readuntil(b"\r\n\r\n")

    async def opened() -> int:
        async with scripted(serve) as server:
            access = await ServiceAccess.connect(
                UnrepeatedHook(aws_conn_id=None, client_type="sqs", max_connections=1)
            )
            access.unsent("ListQueues", {})
            address = Address(server.url, "us-east-1", "sqs")
            async with SignedHttp(access, access.wire()) as http:
                assert (await http.send(address, UnsignedRequest("GET", "/"))).body == b"ok"
                with pytest.raises(ConnectionClosedError):
                    await http.send(address, UnsignedRequest("GET", "/"))
            return server.connections

    assert asyncio.run(opened()) == 1
