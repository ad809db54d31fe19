"""Connections are kept while they are good and ended when they are not, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import time
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.invoke import endpoint_invoker
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer
from airflow_sm_plugin.invoke.errors import failure_of
from tests.invoke.carriers import LOOPS
from tests.invoke.scripted_server import (
    FINE,
    Peer,
    Scripted,
    Way,
    all_closed,
    always_fine,
    ask,
    saying,
    scripted,
    settle,
)
from tests.support import closed_port

pytestmark = [pytest.mark.usefixtures("account"), pytest.mark.airflow]


@pytest.fixture(autouse=True)
def _times_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read time-outs may be short here."""
    monkeypatch.setattr(endpoint_invoker, "READ_TIMEOUT", 0)


@pytest.fixture(
    params=itertools.product(("httptools", "httptools over TLS", "aiohttp"), LOOPS), ids=" on ".join
)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Each carrier on each event loop."""
    name, loop = request.param
    certificate = request.getfixturevalue("certificate") if "TLS" in name else None
    return Way(name.partition(" ")[0], loop, monkeypatch, certificate)


def test_a_connection_is_used_again_and_again(way: Way) -> None:
    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        for _number in range(5):
            assert (await ask(invoker)).body == b"ok"

    assert way.run(always_fine, use).connections == 1


def test_no_more_connections_are_open_than_asked_for(way: Way) -> None:
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

    assert way.run(serve, use, max_connections=3).connections == 3
    assert at_once[1] == 3


@pytest.mark.parametrize("size", [0, 1, 300_000, 6_291_456])
def test_bodies_of_any_size_go_and_come_whole(size: int, way: Way) -> None:
    async def echo(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        answers = await asyncio.gather(ask(invoker, body), ask(invoker, body[::-1]))
        assert [answer.body for answer in answers] == [body, body[::-1]]

    way.run(echo, use)


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
def test_an_answer_is_read_however_it_is_framed(pieces: tuple[bytes, ...], body: bytes, way: Way) -> None:
    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        for _number in range(2):
            answer = await ask(invoker)
            assert (answer.body, answer.custom_attributes) == (body, None)
            await all_closed(server)

    assert way.run(saying(*pieces), use).connections == 2


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
    pieces: tuple[bytes, ...], kind: type[HTTPClientError], way: Way
) -> None:
    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        with pytest.raises(HTTPClientError) as caught:
            await ask(invoker)
        assert type(caught.value) is kind
        assert failure_of(caught.value).kind == "unanswered"

    assert way.run(saying(*pieces), use).connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(way: Way) -> None:
    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        await ask(invoker)
        await all_closed(server)
        await ask(invoker)

    assert way.run(saying(FINE), use).connections == 2


def test_a_connection_that_breaks_under_a_request_is_not_tried_again(way: Way) -> None:
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

    assert way.run(serve, use).connections == 2


def test_an_answer_that_comes_before_the_request_is_through_is_an_answer(
    way: Way,
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

    way.run(serve, use)


@pytest.mark.parametrize("body", [b"x", bytes(6_000_000)])
def test_silence_ends_at_the_read_timeout(body: bytes, way: Way) -> None:
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
        for __ in range(100):  # on a busy machine an answer may take as long as the time-out
            with suppress(ReadTimeoutError):
                assert (await ask(invoker)).body == b"ok"
                break
        else:
            pytest.fail("no further request was answered")

    assert way.run(serve, use, read_timeout=0.2).connections >= 2


def test_an_answer_that_goes_on_coming_is_waited_for(way: Way) -> None:
    """Six times as long as the read time-out, by a clock that runs ahead after each byte."""
    if way.loop != "asyncio":
        pytest.skip("only asyncio's clock can be set")
    ahead = [0.0]

    async def serve(peer: Peer) -> None:
        await peer.request()
        for byte in FINE:
            await peer.say(bytes([byte]))
            await settle()
            ahead[0] += 60
            await asyncio.sleep(0)  # for time-outs to be seen

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        way.monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + ahead[0])
        assert (await ask(invoker)).body == b"ok"
        assert ahead[0] > 6 * 600

    way.run(serve, use, read_timeout=600)


def test_a_request_that_is_given_up_takes_its_connection_along(way: Way) -> None:
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

    assert way.run(serve, use, max_connections=1).connections == 2


def test_who_gives_up_waiting_for_a_connection_leaves_none_behind(way: Way) -> None:
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

    assert way.run(serve, use, max_connections=1).connections == 1


def test_nothing_was_sent_at_a_closed_port(way: Way) -> None:
    async def use(_: EndpointInvoker, __: Scripted) -> None:
        way.monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", closed_port())
        opening = EndpointInvoker.open(AwsConnection(aws_conn_id=None), "an-endpoint", max_connections=1)
        async with opening as invoker:
            for _number in range(3):
                with pytest.raises(EndpointConnectionError) as caught:
                    await ask(invoker)
                assert failure_of(caught.value).kind == "unreachable"

    way.run(always_fine, use)


def test_nothing_was_sent_when_no_connection_comes_about_in_time(way: Way) -> None:
    """Here the server never says a word of TLS."""

    async def serve(peer: Peer) -> None:
        await peer.reader.read()

    async def use(_: EndpointInvoker, __: Scripted) -> None:
        connection = AwsConnection(aws_conn_id=None, botocore_config={"connect_timeout": 0.1})
        async with scripted(serve) as silent:
            url = silent.url.replace("http:", "https:")
            way.monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
            async with EndpointInvoker.open(connection, "an-endpoint", max_connections=1) as invoker:
                with pytest.raises(ConnectTimeoutError) as caught:
                    await ask(invoker)
        assert failure_of(caught.value).kind == "unreachable"

    way.run(serve, use)


@pytest.mark.parametrize("at_once", [True, False])
def test_bytes_behind_an_answer_are_not_the_next_one(at_once: bool, way: Way) -> None:
    evil = FINE.replace(b"ok", b"no")

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(FINE + evil if at_once else FINE)
        await settle()
        await peer.say(evil)
        await peer.reader.read()

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        for _number in range(3):
            assert (await ask(invoker)).body == b"ok"
            await settle()
            await settle()

    assert way.run(serve, use).connections == 3


def test_other_requests_go_on_while_a_large_body_waits(way: Way) -> None:
    """Its server reads nothing; who cancels it leaves no connection behind."""

    async def serve(peer: Peer) -> None:
        if peer.number == 1:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # of every transport that reads
            await never.wait()
        await always_fine(peer)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        large = asyncio.create_task(ask(invoker, bytes(26_214_400)))
        await settle()
        for _number in range(3):
            assert (await ask(invoker)).body == b"ok"
        assert not large.done()
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        assert (await ask(invoker)).body == b"ok"

    never = asyncio.Event()
    assert way.run(serve, use).connections == 2


def test_a_body_that_goes_on_being_taken_is_sent_to_its_end(way: Way) -> None:
    """More than three times as long as the read time-out, by a clock that runs ahead with each piece."""
    if way.loop != "asyncio":
        pytest.skip("only asyncio's clock can be set")
    ahead, size = [0.0], 26_214_400

    async def serve(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        for _number in range(size // 65_536):
            await peer.reader.readexactly(65_536)
            ahead[0] += 5
            await asyncio.sleep(0)
        await peer.say(FINE)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        way.monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + ahead[0])
        assert (await ask(invoker, bytes(size))).body == b"ok"
        assert ahead[0] > 3 * 600

    way.run(serve, use, read_timeout=600)


def test_an_unused_connection_is_closed_after_a_while(way: Way) -> None:
    if way.loop != "asyncio" or way.carrier == "aiohttp":
        pytest.skip("only asyncio's clock can be set, and aiohttp has its own")
    ahead = [0.0]

    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        way.monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + ahead[0])
        await ask(invoker)
        ahead[0] += 14
        await settle()
        await ask(invoker)
        assert server.connections == 1
        ahead[0] += 31
        await all_closed(server)
        await ask(invoker)

    assert way.run(always_fine, use).connections == 2


def test_the_connection_that_was_used_last_is_used_first(way: Way) -> None:
    """The others grow old, and are closed."""
    if way.carrier == "aiohttp":
        pytest.skip("aiohttp uses them one after the other")
    requests: dict[int, int] = {}
    all_there = asyncio.Event()

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            requests[peer.number] = requests.get(peer.number, 0) + 1
            if len(requests) == 3:
                all_there.set()
            await all_there.wait()
            await peer.say(FINE)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        await asyncio.gather(*(ask(invoker) for _number in range(3)))
        for _number in range(5):
            await ask(invoker)

    way.run(serve, use)
    assert sorted(requests.values()) == [1, 1, 6]


def test_a_server_that_closes_each_connection_at_once_answers_nothing(way: Way) -> None:
    async def serve(_: Peer) -> None:
        return

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        for _number in range(5):
            with pytest.raises(HTTPClientError):
                await ask(invoker)

    assert way.run(serve, use).connections <= 5


def test_requests_in_flight_end_with_the_invoker(way: Way) -> None:
    left = list[asyncio.Task[ModelAnswer]]()
    came = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        came.set()
        await peer.reader.read()

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        left.append(asyncio.create_task(ask(invoker)))
        await came.wait()

    async def ended() -> None:
        with pytest.raises(HTTPClientError):
            await left[0]

    way.run(serve, use, then=ended)


def test_who_gives_up_while_a_connection_comes_about_leaves_none_behind(way: Way) -> None:
    """Here the server never says a word of TLS."""
    closed = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.reader.read()
        closed.set()

    async def use(_: EndpointInvoker, __: Scripted) -> None:
        async with scripted(serve) as silent:
            url = silent.url.replace("http:", "https:")
            way.monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
            opening = EndpointInvoker.open(AwsConnection(aws_conn_id=None), "an-endpoint", max_connections=1)
            async with opening as invoker:
                asking = asyncio.create_task(ask(invoker))
                while not silent.connections:
                    await settle()
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await closed.wait()

    way.run(serve, use)


def test_who_gives_up_at_any_step_closes_no_descriptor_twice(way: Way) -> None:
    """A socket whose descriptor the loop has closed would close it again, when another connection may have it."""
    if (way.carrier, way.loop) == ("aiohttp", "uvloop"):
        pytest.skip("aiohttp does not take care of that")

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        await ask(invoker)  # with the credentials read, the next steps are the connection's
        kept = asyncio.create_task(ask(invoker))
        for steps in range(20):
            opened = asyncio.create_task(ask(invoker))
            for _step in range(steps):
                await asyncio.sleep(0)
            opened.cancel()
            await asyncio.gather(opened, return_exceptions=True)
        gc.collect()  # a socket that was not closed warns
        assert (await kept).body == b"ok"

    async def late(peer: Peer) -> None:
        first = peer.number == 1
        await peer.request()
        if first:
            await peer.say(FINE)
            await peer.request()
        await asyncio.sleep(0.3 if first else 60)
        await peer.say(FINE)

    way.run(late, use)


def test_a_host_is_resolved_once_for_many_connections(way: Way) -> None:
    if way.loop != "asyncio":
        pytest.skip("only asyncio's loop can be changed")
    asked: list[object] = []
    all_there = asyncio.Barrier(8)

    async def serve(peer: Peer) -> None:
        await peer.request()
        await all_there.wait()
        await peer.say(FINE)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        loop = asyncio.get_running_loop()
        getaddrinfo = loop.getaddrinfo

        async def counted(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - as the loop's
            asked.append(args)
            return await getaddrinfo(*args, **kwargs)

        way.monkeypatch.setattr(loop, "getaddrinfo", counted)
        await asyncio.gather(*(ask(invoker) for _number in range(8)))

    assert way.run(serve, use, max_connections=8).connections == 8
    assert len(asked) <= 1


def test_nothing_was_sent_to_a_host_without_an_address(way: Way) -> None:
    if way.loop != "asyncio":
        pytest.skip("only asyncio's loop can be changed")

    async def use(_: EndpointInvoker, __: Scripted) -> None:
        async def unknown(*_: object, **__: object) -> object:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        way.monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        way.monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "http://runtime.test")
        opening = EndpointInvoker.open(AwsConnection(aws_conn_id=None), "an-endpoint", max_connections=1)
        async with opening as invoker:
            with pytest.raises(EndpointConnectionError) as caught:
                await ask(invoker)
        assert failure_of(caught.value).kind == "unreachable"

    way.run(always_fine, use)


@pytest.mark.parametrize(
    ("answer", "kind"), [(b"HTTP/1.1 400 Bad\r\n\r\n", SSLError), (b"", EndpointConnectionError)]
)
def test_nothing_was_sent_where_no_tls_is_spoken(answer: bytes, kind: type[Exception], way: Way) -> None:
    """The second server closes the connection instead of greeting."""

    async def serve(peer: Peer) -> None:
        await peer.reader.read(100)
        await peer.say(answer)

    async def use(_: EndpointInvoker, __: Scripted) -> None:
        async with scripted(serve) as server:
            url = server.url.replace("http:", "https:")
            way.monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
            opening = EndpointInvoker.open(AwsConnection(aws_conn_id=None), "an-endpoint", max_connections=1)
            async with opening as invoker:
                with pytest.raises(kind) as caught:
                    await ask(invoker)
            assert isinstance(caught.value, BotoCoreError)
            assert failure_of(caught.value).kind == "unreachable"

    way.run(serve, use)


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_nothing_was_sent_to_a_server_that_cannot_be_trusted(way: Way, scheme: str) -> None:
    if way.certificate is None:
        pytest.skip("there is no TLS")

    async def use(_: EndpointInvoker, server: Scripted) -> None:
        url = server.url.replace("https", scheme)
        way.monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        for verify, kind in ((True, SSLError), (False, None)):
            connection = AwsConnection(aws_conn_id=None, verify=verify)
            async with EndpointInvoker.open(connection, "an-endpoint", max_connections=1) as invoker:
                if kind is None:
                    assert (await ask(invoker)).body == b"ok"
                    continue
                with pytest.raises(kind) as caught:
                    await ask(invoker)
                assert failure_of(caught.value).kind == "unreachable"

    way.run(always_fine, use)


def test_no_connection_comes_about_once_the_invoker_is_closed(way: Way) -> None:
    if way.loop != "asyncio" or way.carrier == "aiohttp":
        pytest.skip("only asyncio's loop can be changed, and aiohttp cancels its own")
    left = list[asyncio.Task[ModelAnswer]]()
    go_on = asyncio.Event()

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        loop = asyncio.get_running_loop()
        getaddrinfo = loop.getaddrinfo

        async def slow(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - as the loop's
            await go_on.wait()
            return await getaddrinfo(*args, **kwargs)

        way.monkeypatch.setattr(loop, "getaddrinfo", slow)
        left.append(asyncio.create_task(ask(invoker)))
        await settle()

    async def ended() -> None:
        go_on.set()
        with pytest.raises(EndpointConnectionError):
            await left[0]

    way.run(always_fine, use, then=ended)
