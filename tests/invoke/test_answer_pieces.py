"""An answer is the same however TCP cuts it up; without its end it is an error, never another answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import pytest
from botocore.exceptions import BotoCoreError, HTTPClientError
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("httptools")

from airflow_sm_plugin.aws.http import HttpResponse
from airflow_sm_plugin.invoke.http_connection import HttpConnection
from tests.invoke.scripted_server import FINE
from tests.invoke.test_odd_answers import READ, REFUSED

pytestmark = pytest.mark.airflow

ALL: Mapping[str, bytes] = {**READ, **REFUSED}
Outcome = HttpResponse | type[BotoCoreError]


class Wire(asyncio.Transport):
    """A transport that sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = True

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return not self.is_open

    def abort(self) -> None:
        self.is_open = False


class Exchange:
    """A request on a connection of its own."""

    def __init__(self) -> None:
        self.wire, self.idle = Wire(), list[HttpConnection]()
        self.connection = HttpConnection("http://x", idle=self.idle.append, lost=lambda _: None)
        self.connection.connection_made(self.wire)
        self.answer = self.connection.send(b"head", b"body")

    def receive(self, pieces: Sequence[bytes], *, ends: bool = True) -> Outcome:
        """Hand over what arrives until the connection is closed by either side."""
        for piece in pieces:
            if self.wire.is_open:
                self.connection.data_received(piece)
        if ends:
            self.connection.eof_received()
            self.connection.connection_lost(None)
        assert self.answer.done()
        error = self.answer.exception()
        if error is None:
            return self.answer.result()
        assert isinstance(error, BotoCoreError)
        assert not self.wire.is_open
        return type(error)


@pytest.fixture(scope="module", autouse=True)
def _loop() -> Iterator[None]:
    """Futures need a loop; no step of it is waited for."""

    async def use() -> None:
        await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        runner.run(use())
        asyncio._set_running_loop(runner.get_loop())
        yield
        asyncio._set_running_loop(None)


def cut(raw: bytes, *positions: int) -> list[bytes]:
    return [raw[start:end] for start, end in pairwise([0, *positions, len(raw)])]


@pytest.mark.parametrize("name", ALL)
def test_an_answer_that_is_cut_in_two_is_the_same(name: str) -> None:
    """Of what is refused, the error may differ: bytes behind an answer are discarded when they come later."""
    raw = ALL[name]
    whole = Exchange().receive([raw])
    for position in range(1, len(raw)):
        result = Exchange().receive(cut(raw, position))
        if name in READ:
            assert result == whole, position
        elif isinstance(result, HttpResponse):
            assert name in BEHIND, position
            assert result.body == b"ok"[: len(result.body)], position


TO_THE_END = {*[name for name in READ if "to the end" in name], "205"}
"""The connection's end is the answer's: what was lost cannot be known."""

BEHIND = ("a body longer than its length", "garbage behind", "204 with a body", "behind the last answer")
"""The answer itself is whole, and the server sends more."""


@pytest.mark.parametrize("name", ALL)
def test_byte_by_byte_an_answer_is_the_same(name: str) -> None:
    raw = ALL[name]
    result = Exchange().receive([raw[position : position + 1] for position in range(len(raw))])
    if name in READ:
        assert result == Exchange().receive([raw])
    else:
        assert name in BEHIND or not isinstance(result, HttpResponse)


@pytest.mark.parametrize("name", READ)
def test_an_answer_without_its_end_is_an_error_or_complete(name: str) -> None:
    raw = READ[name]
    whole = Exchange().receive([raw])
    assert isinstance(whole, HttpResponse)
    for length in range(len(raw)):
        result = Exchange().receive([raw[:length]])
        if isinstance(result, HttpResponse) and result != whole:
            assert name in TO_THE_END, length
            assert (result.status, result.headers) == (whole.status, whole.headers)
            assert whole.body.startswith(result.body)


@given(st.data())
def test_in_any_pieces_an_answer_is_the_same(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*READ]))
    raw = READ[name]
    positions = data.draw(st.lists(st.integers(1, len(raw) - 1), max_size=12, unique=True).map(sorted))
    assert Exchange().receive(cut(raw, *positions)) == Exchange().receive([raw])


@given(st.binary(max_size=80), st.integers(0, len(FINE)), st.integers(0, 40))
def test_garbage_is_an_error_or_an_answer(garbage: bytes, start: int, replaced: int) -> None:
    """Whatever arrives, the request ends with the connection, and its error says that it may be carried out."""
    result = Exchange().receive([FINE[:start] + garbage + FINE[start + replaced :]])
    if not isinstance(result, HttpResponse):
        assert issubclass(result, HTTPClientError)


@given(
    st.lists(st.sampled_from([name for name in READ if READ[name].startswith(b"HTTP/1.1 200")]), min_size=2)
)
def test_answers_of_one_connection_do_not_mix(names: list[str]) -> None:
    """Each is that of its own request, as long as the connection is used again."""
    exchange = Exchange()
    for name in names:
        result = exchange.receive([READ[name]], ends=name in TO_THE_END)
        assert result == Exchange().receive([READ[name]])
        assert bool(exchange.idle) is (exchange.wire.is_open)
        if not exchange.idle:
            return
        exchange.idle.clear()
        exchange.answer = exchange.connection.send(b"head", b"body")


@pytest.mark.parametrize("more", [b"H", b"\r\n", FINE, b"\x00"])
def test_bytes_of_no_request_end_the_connection(more: bytes) -> None:
    exchange = Exchange()
    exchange.receive([FINE], ends=False)
    usable = [exchange.connection.is_usable]
    exchange.connection.data_received(more)
    assert [*usable, exchange.connection.is_usable, exchange.wire.is_open] == [True, False, False]
