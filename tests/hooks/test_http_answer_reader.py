"""An HTTP answer is the same in whatever pieces it comes, and what is none is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_sm_plugin.hooks.http_answer_reader import AnswerReader, BadAnswer

bodies = st.binary(max_size=300)
names = st.from_regex(r"X-[A-Za-z0-9]{1,8}", fullmatch=True)
values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=30
)
headers = st.dictionaries(names, values, max_size=4)


def read(data: bytes, cuts: list[int] | None = None) -> AnswerReader:
    """Feed an answer cut at these places."""
    reader = AnswerReader()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    for start, end in itertools.pairwise(places):
        reader.feed(data[start:end])
    return reader


def rendered(status: str, fields: dict[str, str], rest: bytes) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + rest


def chunked(body: bytes, sizes: list[int]) -> bytes:
    coded = b""
    for size in sizes:
        piece, body = body[:size], body[size:]
        coded += b"%x;a=b\r\n%s\r\n" % (len(piece), piece) if piece else b""
    return coded + (b"%X\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\nX-Trailer: 1\r\n\r\n"


@given(bodies, headers, st.lists(st.integers(0, 2_000), max_size=8))
def test_an_answer_of_a_known_length_is_itself_in_any_pieces(
    body: bytes, fields: dict[str, str], cuts: list[int]
) -> None:
    data = rendered("200 OK", {**fields, "Content-Length": str(len(body))}, body)
    answer = read(data, cuts)
    assert answer.complete
    assert answer.reusable
    assert (answer.status, answer.body) == (200, body)
    stripped = {name.lower(): value.strip(" \t") for name, value in fields.items()}
    assert {**answer.headers, "content-length": ""} == {**stripped, "content-length": ""}


@given(bodies, st.lists(st.integers(0, 90), max_size=5), st.lists(st.integers(0, 2_000), max_size=8))
@example(b"\r\n\r\n", [1, 1, 1], list(range(200)))
def test_an_answer_in_chunks_is_itself_in_any_pieces(body: bytes, sizes: list[int], cuts: list[int]) -> None:
    data = rendered("200 OK", {"Transfer-Encoding": "chunked"}, chunked(body, sizes))
    answer = read(data, cuts)
    assert answer.complete
    assert answer.reusable
    assert answer.body == body


@given(bodies, st.lists(st.integers(0, 2_000), max_size=8))
def test_an_answer_of_no_known_length_ends_with_its_connection(body: bytes, cuts: list[int]) -> None:
    answer = read(rendered("500 Oh", {"X-A": "b"}, body), cuts)
    assert not answer.complete
    assert answer.ended()
    assert not answer.reusable
    assert answer.body == body


@given(st.integers(0, 1_000))
def test_an_answer_that_breaks_off_is_not_complete(cut: int) -> None:
    for whole in (
        rendered("200 OK", {"Content-Length": "50"}, b"x" * 50),
        rendered("200 OK", {"Transfer-Encoding": "chunked"}, chunked(b"x" * 50, [20])),
    ):
        assert not read(whole[: cut % len(whole)]).ended()


@given(st.binary(max_size=80), st.lists(st.integers(0, 100), max_size=4))
def test_any_bytes_are_an_answer_or_refused(data: bytes, cuts: list[int]) -> None:
    for begin in (b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            read(begin + data, cuts)
        except BadAnswer:
            continue


def test_an_interim_answer_is_passed_over() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + rendered("200 OK", {"Content-Length": "1"}, b"x")
    assert (read(data).status, read(data, [26]).body) == (200, b"x")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_some_answers_have_no_body(status: str) -> None:
    assert read(rendered(status, {"X-A": "b"}, b"")).complete


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_a_connection_carries_another_request_unless_it_is_to_close(head: bytes, reusable: bool) -> None:
    answer = read(head)
    assert answer.complete
    assert answer.reusable is reusable


def test_values_of_one_name_stand_together() -> None:
    answer = read(b"HTTP/1.1 204 x\r\nX-A: b \r\nx-a:c\r\nX-B:\r\n\r\n")
    assert answer.headers == {"x-a": "b, c", "x-b": ""}


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
        b"HTTP/1.1 204 x\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5_000,
        b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 70_000,
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(data)
    with pytest.raises(BadAnswer):
        read(data, list(range(1, len(data), 7)))
