"""Answers as no good server gives them: httptools' carrier reads them as aiohttp's does, or refuses them as it does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from ssl import SSLContext

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer
from airflow_sm_plugin.invoke.errors import failure_of
from tests.invoke.carriers import FAST_CARRIERS, LOOPS
from tests.invoke.scripted_server import FINE, Peer, Scripted, Way, all_closed, ask

pytestmark = [pytest.mark.usefixtures("account"), pytest.mark.airflow]

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ATTRIBUTES = b"X-Amzn-SageMaker-Custom-Attributes: "

READ: Mapping[str, bytes] = {
    "plain": FINE,
    "lower case": OK + b"content-length: 2\r\ncontent-type: a\r\n\r\nok",
    "odd case": OK
    + b"cOnTeNt-LeNgTh: 2\r\nCONTENT-TYPE: a\r\nx-AMZN-sagemaker-custom-ATTRIBUTES: b\r\n\r\nok",
    "no phrase": b"HTTP/1.1 200\r\n" + TWO + b"\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + TWO + b"\r\nok",
    "HTTP/1.0, kept": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + TWO + b"\r\nok",
    "HTTP/1.0, to the end": b"HTTP/1.0 200 OK\r\n\r\nok",
    "to the end": OK + b"Content-Type: a\r\n\r\nok",
    "to the end, nothing": OK + b"\r\n",
    "closes": OK + b"Connection: close\r\n" + TWO + b"\r\nok",
    "chunked": OK + CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    "chunk extensions": OK + CHUNKED + b'1;a=b\r\no\r\n1;c="d"\r\nk\r\n0;e\r\n\r\n',
    "trailers": OK + CHUNKED + b"2\r\nok\r\n0\r\nContent-Type: evil\r\nX-Sum: 1\r\n\r\n",
    "chunk size in upper case": OK + CHUNKED + b"0A\r\n0123456789\r\n0\r\n\r\n",
    "space behind a chunk's size": OK + CHUNKED + b"2 \r\nok\r\n0\r\n\r\n",
    "no chunks": OK + CHUNKED + b"0\r\n\r\n",
    "nothing": OK + b"Content-Length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204 with a type": b"HTTP/1.1 204 No Content\r\nContent-Type: a\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + FINE,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nContent-Type: hint\r\nLink: x\r\n\r\n" + FINE,
    "many hints": b"HTTP/1.1 102 Processing\r\n\r\n" * 5 + FINE,
    "latin-1": OK + ATTRIBUTES + b"gr\xfc\xdfe\r\n" + TWO + b"\r\nok",
    "utf-8": OK + ATTRIBUTES + "größe".encode() + b"\r\n" + TWO + b"\r\nok",
    "no bytes of text": OK + ATTRIBUTES + b"\xff\xfe\x80\r\n" + TWO + b"\r\nok",
    "spaces": OK + ATTRIBUTES + b"  a  b \t \r\n" + TWO + b"\r\nok",
    "no value": OK + ATTRIBUTES + b"\r\nX-A:\r\n" + TWO + b"\r\nok",
    "twice": OK + ATTRIBUTES + b"a\r\n" + ATTRIBUTES + b"b\r\n" + TWO + b"\r\nok",
    "an unasked upgrade": OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + TWO + b"\r\nok",
    "another answer behind": FINE + FINE,
    "half an answer behind": FINE + b"HTTP/1.1 200 O",
    "empty lines behind": FINE + b"\r\n\r\n",
    "empty lines before": b"\r\n\r\n" + FINE,
    "a long header": OK + b"X-A: " + b"a" * 8_000 + b"\r\n" + TWO + b"\r\nok",
    "a status that is none": b"HTTP/1.1 599 x\r\nContent-Length: 0\r\n\r\n",
    "no status known": b"HTTP/1.1 099 x\r\n" + TWO + b"\r\nok",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n" + TWO + b"\r\nok",
    "205": b"HTTP/1.1 205 Reset\r\n\r\nok",
    "folded": OK + ATTRIBUTES + b"a\r\n\t b\r\n" + TWO + b"\r\nok",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a control character": OK + ATTRIBUTES + b"a\x01b\r\n" + TWO + b"\r\nok",
    "space before the colon": OK + b"Content-Length : 2\r\n\r\nok",
    "compressed": OK + b"Content-Encoding: gzip\r\n" + TWO + b"\r\nok",
    "compressed chunks": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a long chunk extension": OK + CHUNKED + b"2;" + b"a" * 10_000 + b"\r\nok\r\n0\r\n\r\n",
    "an error, chunked": b"HTTP/1.1 429 x\r\nx-amzn-ErrorType: ThrottlingException\r\n"
    + CHUNKED
    + b"0\r\n\r\n",
    "an error to the end": b'HTTP/1.1 424 x\r\nx-amzn-ErrorType: ModelError\r\n\r\n{"OriginalStatusCode": 500}',
}
REFUSED: Mapping[str, bytes] = {
    "nothing": b"",
    "no HTTP": b"SMTP ready\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/9": b"HTTP/9.9 200 OK\r\n" + TWO + b"\r\nok",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "cut status": b"HTTP/1.1 20",
    "cut header": OK + b"Content-Len",
    "cut headers": OK + TWO,
    "cut body": OK + TWO + b"\r\no",
    "cut chunk": OK + CHUNKED + b"2\r\no",
    "cut behind a chunk": OK + CHUNKED + b"2\r\nok\r\n",
    "cut trailers": OK + CHUNKED + b"2\r\nok\r\n0\r\nX-A: 1\r\n",
    "only hints": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "cut after hints": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200",
    "no colon": OK + b"Content-Length 2\r\n\r\nok",
    "space in a name": OK + b"X A: 1\r\n" + TWO + b"\r\nok",
    "no name": OK + b": 1\r\n" + TWO + b"\r\nok",
    "a length that is none": OK + b"Content-Length: two\r\n\r\nok",
    "negative length": OK + b"Content-Length: -2\r\n\r\nok",
    "two lengths": OK + TWO + b"Content-Length: 3\r\n\r\nokk",
    "length and chunks": OK + TWO + CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    "the same length twice": OK + TWO + TWO + b"\r\nok",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a length with its sign": OK + b"Content-Length: +2\r\n\r\nok",
    "204 with a body": b"HTTP/1.1 204 No Content\r\n" + TWO + b"\r\nok",
    "100 with a body": b"HTTP/1.1 100 Continue\r\n" + TWO + b"\r\nok" + FINE,
    "hints, then the end": b"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n" + FINE,
    "hints of HTTP/1.0": b"HTTP/1.0 100 Continue\r\n\r\n" + FINE,
    "NUL": OK + ATTRIBUTES + b"a\0b\r\n" + TWO + b"\r\nok",
    "carriage return alone": OK + ATTRIBUTES + b"a\rb\r\n" + TWO + b"\r\nok",
    "name beyond ASCII": OK + b"X-\xff: 1\r\n" + TWO + b"\r\nok",
    "behind the last answer": OK + b"Connection: close\r\n" + TWO + b"\r\nok" + FINE,
    "a huge length": OK + b"Content-Length: 99999999999999999999999\r\n\r\nok",
    "a chunk size that is none": OK + CHUNKED + b"x\r\nok\r\n0\r\n\r\n",
    "no line end behind a chunk": OK + CHUNKED + b"2\r\nok0\r\n\r\n",
    "a body longer than its length": OK + b"Content-Length: 1\r\n\r\nok",
    "garbage behind": FINE + b"\x00\x01",
}
"""The connection ends after each of them."""


async def outcome(invoker: EndpointInvoker) -> object:
    try:
        answer = await ask(invoker)
    except (ClientError, BotoCoreError) as error:
        failure = failure_of(error)
        return type(error).__name__, failure.kind, failure.status, failure.original_status
    return answer


def outcomes_of(answers: Mapping[str, bytes], way: Way) -> dict[str, object]:
    """Get each answer on a connection of its own, which the server closes."""
    raw, outcomes = list(answers.values()), dict[str, object]()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(raw[peer.number - 1])

    async def use(invoker: EndpointInvoker, server: Scripted) -> None:
        for name in answers:
            outcomes[name] = await outcome(invoker)
            await all_closed(server)

    assert way.run(serve, use).connections == len(answers)
    return outcomes


@pytest.mark.parametrize("loop", LOOPS)
def test_an_odd_answer_is_read_alike(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (outcomes_of(READ, Way(carrier, loop, monkeypatch)) for carrier in FAST_CARRIERS)
    assert ours == theirs
    for name, result in ours.items():
        assert isinstance(result, ModelAnswer) or (isinstance(result, tuple) and result[1] == "answered"), (
            name
        )


@pytest.mark.parametrize("loop", LOOPS)
def test_a_broken_answer_is_refused_alike(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (outcomes_of(REFUSED, Way(carrier, loop, monkeypatch)) for carrier in FAST_CARRIERS)
    assert ours == theirs
    for name, result in ours.items():
        assert isinstance(result, tuple), name
        assert result[1] == "unanswered", name


@pytest.mark.parametrize("loop", LOOPS)
def test_over_tls_an_answer_is_read_as_without(
    loop: str, certificate: tuple[Path, SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = outcomes_of(READ, Way("httptools", loop, monkeypatch))
    assert outcomes_of(READ, Way("httptools", loop, monkeypatch, certificate)) == plain


@pytest.mark.parametrize("loop", LOOPS)
def test_what_aiohttp_takes_for_an_answer_though_it_is_none(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\n"
    answers = {
        "switched": switched + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n",
        "switched to nothing": switched + b"\r\n" + FINE,
        "no chunks": OK + b"Transfer-Encoding: gzip\r\n\r\nok",
        "chunks, compressed": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    }
    codes = ["HTTPClientError"] * 2 + ["ConnectionClosedError"] * 2
    outcomes = outcomes_of(answers, Way("httptools", loop, monkeypatch))
    assert [*outcomes.values()] == [(code, "unanswered", 0, None) for code in codes]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("carrier", FAST_CARRIERS)
@pytest.mark.parametrize(
    "piece",
    [
        OK + b"X-A: " + b"a" * 1_000,
        OK + b"a" * 1_000,
        OK + b"X-A: a\r\n" * 100,
        OK + CHUNKED + b"2\r\nok\r\n0\r\nX-A: " + b"a" * 1_000,
    ],
    ids=["value", "name", "headers", "trailer"],
)
def test_headers_without_an_end_do_not_fill_the_memory(
    piece: bytes, carrier: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on until the connection is closed."""
    if carrier == "aiohttp" and b"0\r\nX-A" in piece:
        pytest.skip("aiohttp has no limit for trailers")
    outcomes: list[object] = []
    sent = [0]

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(piece)
        more = piece[-1_000:]
        while not peer.reader.at_eof() and sent[0] < 1 << 21:
            await peer.say(more)
            sent[0] += len(more)
            await asyncio.sleep(0)

    async def use(invoker: EndpointInvoker, _: Scripted) -> None:
        outcomes.append(await outcome(invoker))

    Way(carrier, loop, monkeypatch).run(serve, use)
    assert outcomes == [("HTTPClientError", "unanswered", 0, None)]
    assert sent[0] < 1 << 21
