"""Both kinds of the benchmarks' endpoint behave alike: the process in C, and the one in Python that replaces it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPSConnection

import pytest

from tests.stubs.endpoint import ENDPOINT, StubServer, serving
from tests.stubs.models import EndpointSettings

PATH = f"/endpoints/{ENDPOINT}/invocations"
RECORD = b"0123456789abcdefghij"


@pytest.fixture(scope="module", params=["in C", "in Python"])
def server(request: pytest.FixtureRequest) -> Iterator[StubServer]:
    compiled = request.param == "in C"
    with serving(compiled=compiled) as server:
        if compiled and server.runtime is server.main:
            pytest.skip("without a C compiler and OpenSSL's headers")
        yield server


@pytest.fixture(autouse=True)
def counted_from_nothing(server: StubServer) -> None:
    server.behave(EndpointSettings())
    server.clear()


def connected(server: StubServer) -> HTTPConnection:
    address = server.runtime.url.removeprefix("https://")
    return HTTPSConnection(address, context=ssl.create_default_context(cafile=server.authority), timeout=600)


def invoke(connection: HTTPConnection, body: bytes, model: str = "m") -> tuple[int, bytes]:
    connection.request("POST", PATH, body=body, headers={"X-Amzn-SageMaker-Target-Model": model})
    with connection.getresponse() as answer:
        return answer.status, answer.read()


def outcomes(server: StubServer, models: Sequence[str]) -> list[tuple[int, bytes]]:
    """Invoke the models at once, each over a connection of its own."""

    def once(model: str) -> tuple[int, bytes]:
        connection = connected(server)
        try:
            return invoke(connection, RECORD, model)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(models)) as pool:
        return list(pool.map(once, models))


@pytest.mark.parametrize("tls", [True, False])
def test_a_connection_serves_many_invocations(server: StubServer, *, tls: bool) -> None:
    address = server.runtime.plain_url.removeprefix("http://")
    connection = connected(server) if tls else HTTPConnection(address, timeout=600)
    for _ in range(3):
        assert invoke(connection, RECORD) == (200, RECORD[:16])
    connection.close()
    assert server.counts()["answered"] == 3


@pytest.mark.parametrize("count", [2, 1_000, 100_000])
def test_each_line_is_answered_with_its_beginning(server: StubServer, count: int) -> None:
    connection = connected(server)
    assert invoke(connection, b"\n".join([RECORD] * count)) == (200, b"\n".join([RECORD[:16]] * count))
    assert invoke(connection, RECORD + b"\n") == (200, RECORD[:16] + b"\n")
    connection.close()


def test_a_request_in_pieces_is_one_request(server: StubServer) -> None:
    """Its head and its body are cut at every byte."""

    async def send() -> list[bytes]:
        host, port = server.runtime.plain_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        request = b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(RECORD), RECORD)
        answers = []
        for cut in range(1, len(request)):
            for piece in (request[:cut], request[cut:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Content-Length: 16\r\n" in head
            answers.append(await reader.readexactly(16))
        writer.close()
        await writer.wait_closed()
        return answers

    assert set(asyncio.run(send())) == {RECORD[:16]}


def test_latency_is_what_was_set(server: StubServer) -> None:
    server.behave(EndpointSettings(latency=0.02, spread=0.5))
    assert {status for status, _ in outcomes(server, ["m"] * 20)} == {200}
    assert server.mean_latency() >= 0.01
    assert server.counts()["most in flight"] > 1


def test_refusals_are_a_share_of_the_calls(server: StubServer) -> None:
    server.behave(EndpointSettings(throttled=0.3, unavailable=0.2))
    connection = connected(server)
    statuses = [invoke(connection, RECORD)[0] for _ in range(1_000)]
    connection.close()
    counts = server.counts()
    assert counts["ThrottlingException"] == statuses.count(429)
    assert counts["ServiceUnavailable"] == statuses.count(503)
    assert counts["answered"] == statuses.count(200)
    assert 200 < statuses.count(429) < 400
    assert 100 < statuses.count(503) < 300


def test_calls_are_held_while_their_model_loads(server: StubServer) -> None:
    server.behave(EndpointSettings(capacity=2, load_seconds=0.05))
    assert outcomes(server, ["a", "a", "b", "b"]) == [(200, RECORD[:16])] * 4
    counts = server.counts()
    assert (counts["loaded"], counts["evicted"]) == (2, 0)


def test_the_model_used_last_stays(server: StubServer) -> None:
    server.behave(EndpointSettings(capacity=2, load_seconds=0.01))
    for model in ("a", "b", "a", "c", "a"):
        assert outcomes(server, [model]) == [(200, RECORD[:16])]
    counts = server.counts()
    assert (counts["loaded"], counts["evicted"]) == (3, 1)
    assert outcomes(server, ["b"]) == [(200, RECORD[:16])]
    assert server.counts()["loaded"] == 4


def test_more_models_than_slots_queue(server: StubServer) -> None:
    server.behave(EndpointSettings(capacity=2, load_seconds=0.02))
    models = [f"m-{number}" for number in range(8)]
    assert outcomes(server, models) == [(200, RECORD[:16])] * 8
    counts = server.counts()
    assert (counts["loaded"], counts["evicted"]) == (8, 6)


@pytest.mark.parametrize("hold_seconds", [0.0, 0.02])
def test_a_model_that_loads_for_longer_refuses(server: StubServer, hold_seconds: float) -> None:
    server.behave(EndpointSettings(capacity=1, load_seconds=60, hold_seconds=hold_seconds))
    for status, body in outcomes(server, ["a", "b"]):
        assert status == 429
        assert "loading" in json.loads(body)["Message"]
    assert server.counts()["ModelNotReadyException"] == 2


def test_a_client_that_left_is_not_answered(server: StubServer) -> None:
    server.behave(EndpointSettings(latency=0.05))
    connection = connected(server)
    connection.request("POST", PATH, body=RECORD)
    connection.close()
    assert outcomes(server, ["m", "m"]) == [(200, RECORD[:16])] * 2
    assert server.counts()["answered"] == 2


def test_without_a_compiler_python_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with serving() as server:
        assert server.runtime is server.main
