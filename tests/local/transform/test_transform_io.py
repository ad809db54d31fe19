"""A transform job's cutting and joining: every payload, joined, is the input again."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.local.transform.transform_plan import BadInput, assemble, payloads, records


def _recordio(*contents: bytes) -> bytes:
    frames = (
        struct.pack("<II", 0xCED7230A, len(content)) + content + b"\0" * (-len(content) % 4)
        for content in contents
    )
    return b"".join(frames)


def _tfrecord(*contents: bytes) -> bytes:
    return b"".join(
        struct.pack("<QI", len(content), 0) + content + struct.pack("<I", 0) for content in contents
    )


def _payloads(data: bytes, split: str, strategy: str, limit: int) -> list[tuple[bytes, ...]]:
    return list(payloads(data, split_type=split, batch_strategy=strategy, max_payload_bytes=limit))


_LINES = st.lists(
    st.binary(min_size=1, max_size=20).filter(lambda line: b"\n" not in line and line.strip(b"\r"))
)


@given(lines=_LINES, limit=st.integers(min_value=21, max_value=64))
def test_multi_record_payloads_are_the_input_and_none_exceeds_the_limit(
    lines: list[bytes], limit: int
) -> None:
    data = b"".join(line + b"\n" for line in lines)

    cut = _payloads(data, "Line", "MultiRecord", limit)

    assert b"".join(b"".join(batch) for batch in cut) == data
    assert all(sum(map(len, batch)) <= limit for batch in cut)


@given(lines=_LINES, limit=st.integers(min_value=21, max_value=64))
def test_a_payload_holds_as_many_records_as_fit(lines: list[bytes], limit: int) -> None:
    cut = _payloads(b"".join(line + b"\n" for line in lines), "Line", "MultiRecord", limit)

    for batch, following in itertools.pairwise(cut):
        assert sum(map(len, batch)) + len(following[0]) > limit


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\n", [b"a\n", b"b\n"]),
        (b"a\nb", [b"a\n", b"b"]),
        (b"a\r\nb\r\n", [b"a\r\n", b"b\r\n"]),
        (b"a\n\n\r\nb", [b"a\n", b"b"]),
        (b"a\rb\n", [b"a\rb\n"]),
        (b"", []),
    ],
)
def test_lines_end_at_newlines_and_empty_lines_are_no_records(data: bytes, expected: list[bytes]) -> None:
    assert list(records(data, "Line")) == expected


def test_single_record_sends_one_line_a_request() -> None:
    assert _payloads(b"a\nb\n", "Line", "SingleRecord", 0) == [(b"a\n",), (b"b\n",)]


def test_without_a_split_the_object_is_one_request_whatever_the_strategy() -> None:
    assert _payloads(b"a\nb\n", "None", "MultiRecord", 0) == [(b"a\nb\n",)]


@pytest.mark.parametrize(("split", "framed"), [("RecordIO", _recordio), ("TFRecord", _tfrecord)])
def test_single_record_takes_binary_records_out_of_their_frames_and_multi_record_does_not(
    split: str, framed: object
) -> None:
    assert callable(framed)
    data = framed(b"one", b"three")

    assert _payloads(data, split, "SingleRecord", 0) == [(b"one",), (b"three",)]
    assert b"".join(_payloads(data, split, "MultiRecord", 0)[0]) == data


@pytest.mark.parametrize(
    ("data", "split"),
    [
        (_recordio(b"whole")[:-1], "RecordIO"),
        (_recordio(b"whole") + b"\x0a\x23", "RecordIO"),
        (b"not at all recordio", "RecordIO"),
        (_tfrecord(b"whole")[:-1], "TFRecord"),
    ],
)
def test_a_damaged_frame_is_bad_input(data: bytes, split: str) -> None:
    with pytest.raises(BadInput, match="byte"):
        list(records(data, split))


@pytest.mark.parametrize(
    ("split", "strategy"), [("Line", "MultiRecord"), ("Line", "SingleRecord"), ("None", "MultiRecord")]
)
def test_a_record_over_the_limit_is_bad_input(split: str, strategy: str) -> None:
    with pytest.raises(BadInput, match="MaxPayloadInMB"):
        _payloads(b"x" * 11, split, strategy, 10)


@pytest.mark.parametrize(
    ("answers", "how", "expected"),
    [
        ([b"1", b"2"], "Line", b"1\n2\n"),
        ([b"1\n", b"2\n"], "Line", b"1\n2\n"),
        ([b"1", b"2"], "None", b"12"),
        ([], "Line", b""),
    ],
)
def test_answers_are_put_together(answers: list[bytes], how: str, expected: bytes) -> None:
    assert assemble(answers, how) == expected
