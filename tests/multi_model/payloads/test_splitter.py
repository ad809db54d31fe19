"""Payloads of an input: no record is lost, doubled or moved, for any chunks and any position of a resume."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.text_input import HEAD
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.csv_lines import csv_separator
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions, records_of, split_in_two
from airflow_sm_plugin.multi_model.payloads.splitter import Splitter

PIECES = [b"a", b"bc", b"\xff", b"\n", b"\n", b"\r\n", b"\r", b" ", b"\t", b"dddddd", b"x" * 30]
DATA = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join) | st.binary(max_size=60)
CUTS = st.lists(st.integers(0, 200), max_size=8)
LINES = st.builds(
    SplitOptions,
    batch_strategy=st.just("MultiRecord"),
    max_payload_bytes=st.integers(1, 40) | st.just(6 * 1024 * 1024),
    skip_header=st.booleans(),
    max_records=st.none() | st.integers(1, 4),
) | st.builds(SplitOptions, max_payload_bytes=st.integers(1, 40), skip_header=st.booleans())
OPTIONS = LINES | st.builds(SplitOptions, split_type=st.just("None"), max_payload_bytes=st.integers(1, 40))


def chunks(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    for begin, end in itertools.pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        yield data[begin:end]


def split(
    data: bytes, options: SplitOptions, cuts: Sequence[int] = (), *, start: int = 0, first_record: int = 0
) -> list[Payload]:
    splitter = Splitter(options, start=start, first_record=first_record)
    payloads = [payload for chunk in chunks(data, cuts) for payload in splitter.feed(chunk)]
    payloads += splitter.finish()
    for payload in payloads:
        assert payload.first_record == first_record
        first_record += payload.records
    return payloads


def expected_records(data: bytes, options: SplitOptions) -> list[bytes]:
    """Split the input in the simplest way."""
    if options.split_type == "None":
        return [data] if data else []
    lines = data.split(b"\n")[1 if options.skip_header else 0 :]
    return [line.removesuffix(b"\r") for line in lines if line.strip(b" \r")]


@given(DATA, OPTIONS, CUTS)
@example(b"h\n", SplitOptions(skip_header=True), [])
@example(b" " * 50 + b"\na", SplitOptions(max_payload_bytes=3), [10, 20])
@example(b"a\r\r\n", SplitOptions(max_payload_bytes=1), [1, 2, 3])
@example(b"a\na\r\r\n", SplitOptions(batch_strategy="MultiRecord"), [])
@example(b"\na\n\nb\n\n", SplitOptions(batch_strategy="MultiRecord"), [])
def test_each_record_is_in_exactly_one_payload_in_order(
    data: bytes, options: SplitOptions, cuts: list[int]
) -> None:
    records = expected_records(data, options)
    record_number = 0
    for payload in split(data, options, cuts):
        assert payload.first_record == record_number
        expected = records[record_number : record_number + payload.records]
        if payload.oversized:
            assert [len(record) for record in expected] == [payload.oversized]
            assert payload.oversized > options.max_payload_bytes
            assert payload.body == b""
        else:
            assert records_of(payload) == expected
            assert len(payload.body) <= options.max_payload_bytes
        record_number += payload.records
    assert record_number == len(records)


@given(DATA, OPTIONS, CUTS)
def test_the_ranges_tile_the_input(data: bytes, options: SplitOptions, cuts: list[int]) -> None:
    payloads = split(data, options, cuts)
    if not payloads:
        assert not expected_records(data, options)
        return
    assert payloads[0].start == 0
    assert payloads[-1].end == len(data)
    assert all(before.end == after.start for before, after in itertools.pairwise(payloads))
    assert all(payload.start < payload.end for payload in payloads)


@given(DATA, OPTIONS, CUTS)
def test_the_chunks_make_no_difference(data: bytes, options: SplitOptions, cuts: list[int]) -> None:
    assert split(data, options, cuts) == split(data, options)


@given(DATA, OPTIONS, CUTS, st.data())
def test_a_gap_has_the_same_payloads_as_in_the_whole_input(
    data: bytes, options: SplitOptions, cuts: list[int], draw: st.DataObject
) -> None:
    payloads = split(data, options)
    first = draw.draw(st.integers(0, len(payloads)))
    end = draw.draw(st.integers(first, len(payloads)))
    gap = payloads[first:end]
    if gap:
        part, start = data[gap[0].start : gap[-1].end], gap[0].start
        assert split(part, options, cuts, start=start, first_record=gap[0].first_record) == gap


@given(DATA, LINES)
def test_many_records_are_as_many_as_fit(data: bytes, options: SplitOptions) -> None:
    if options.batch_strategy == "SingleRecord":
        assert all(payload.records == 1 for payload in split(data, options))
        return
    for before, after in itertools.pairwise(split(data, options)):
        is_full = before.records == options.max_records
        if not is_full and not before.oversized and not after.oversized:
            # A CR of the line end between them counts: inner line ends are sent.
            last = [line for line in data[: before.end].split(b"\n") if line.strip(b" \r")][-1]
            between = 2 if last.endswith(b"\r") else 1
            assert len(before.body) + between + len(records_of(after)[0]) > options.max_payload_bytes


@given(DATA, LINES)
def test_halves_are_the_payloads_that_a_splitter_returns_for_their_ranges(
    data: bytes, options: SplitOptions
) -> None:
    for payload in split(data, options):
        if payload.records == 1:
            continue
        for half in split_in_two(payload):
            part = data[half.start : half.end]
            again = split(part, options, start=half.start, first_record=half.first_record)
            assert again == [half]


def test_halves_can_be_halved_down_to_single_records() -> None:
    data = b"head\n\na\r\n\r\n \nb\n\nc\nd\r\n\n"
    options = SplitOptions(batch_strategy="MultiRecord", skip_header=True)
    (payload,) = split(data, options)
    (ab, cd) = split_in_two(payload)
    assert (ab.body, cd.body) == (b"a\r\nb", b"c\nd")
    singles = [*split_in_two(ab), *split_in_two(cd)]
    assert singles == split(data, SplitOptions(skip_header=True))


def test_blank_lines_belong_to_the_payload_before_them_and_the_header_to_the_first() -> None:
    data = b"id,x\n\n1,a\n\r\n  \n2,b\r\n\n"
    assert split(data, SplitOptions(skip_header=True)) == [
        Payload(b"1,a", 0, data.index(b"2"), 0, 1),
        Payload(b"2,b", data.index(b"2"), len(data), 1, 1),
    ]


def test_a_line_of_tabs_is_a_row_of_empty_columns() -> None:
    assert [payload.body for payload in split(b"\t\t\n  \n", SplitOptions())] == [b"\t\t"]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n \n\n", b"header", b"header\n\n"])
@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_an_input_without_records_has_no_payload(data: bytes, strategy: str) -> None:
    options = SplitOptions(batch_strategy=strategy, skip_header=data.startswith(b"header"))
    assert split(data, options) == []


def test_the_header_is_skipped_at_the_top_only() -> None:
    options = SplitOptions(skip_header=True)
    assert [payload.body for payload in split(b"2,b\n", options, start=9, first_record=1)] == [b"2,b"]


def test_a_byte_order_mark_and_broken_text_pass_through() -> None:
    data = b"\xef\xbb\xbfa\n\xff\xfe\x00\n"
    assert [payload.body for payload in split(data, SplitOptions())] == [b"\xef\xbb\xbfa", b"\xff\xfe\x00"]


def test_an_unsplit_input_is_sent_unchanged() -> None:
    assert split(b"a\r\n\nb\n", SplitOptions(split_type="None"), [3]) == [Payload(b"a\r\n\nb\n", 0, 6, 0, 1)]


def test_inner_line_ends_stay_as_they_are() -> None:
    options = SplitOptions(batch_strategy="MultiRecord")
    assert [payload.body for payload in split(b"a\r\nb\nc\r\n", options)] == [b"a\r\nb\nc"]


def test_a_payload_ends_after_blank_lines_at_a_thousand_positions() -> None:
    payloads = split(b"a\n\n" * 2_500, SplitOptions(batch_strategy="MultiRecord"))
    assert [payload.records for payload in payloads] == [1_001, 1_001, 498]
    assert all(len(payload.left_out) <= 1_000 for payload in payloads)


@pytest.mark.parametrize(
    "options",
    [
        SplitOptions(max_payload_bytes=100_000),
        SplitOptions(max_payload_bytes=100_000, batch_strategy="MultiRecord"),
        SplitOptions(max_payload_bytes=100_000, split_type="None"),
        SplitOptions(max_payload_bytes=100_000, skip_header=True),
    ],
    ids=["single", "multi", "unsplit", "header"],
)
@pytest.mark.parametrize("byte", [b"x", b" "])
def test_a_record_that_is_too_large_is_never_held(options: SplitOptions, byte: bytes) -> None:
    chunk = byte * 65_536
    splitter = Splitter(options)
    tracemalloc.start()
    try:
        for _ in range(1_024):
            assert splitter.feed(chunk) == []
        payloads = splitter.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    if options.skip_header or (byte == b" " and options.split_type == "Line"):
        assert payloads == []
    else:
        assert payloads == [Payload(b"", 0, 2**26, 0, 1, 2**26)]


def test_records_after_one_that_is_too_large_are_sent() -> None:
    for options in (
        SplitOptions(max_payload_bytes=3),
        SplitOptions(max_payload_bytes=3, batch_strategy="MultiRecord"),
    ):
        assert split(b"a\nlonger\r\n\nb\n", options, [4]) == [
            Payload(b"a", 0, 2, 0, 1),
            Payload(b"", 2, 11, 1, 1, 6),
            Payload(b"b", 11, 13, 2, 1),
        ]


CSV_PIECES = [
    b"a",
    b'"',
    b'"',
    b'""',
    b",",
    b",",
    b";",
    b"\\",
    b'\\"',
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"x" * 9,
]
CSV_DATA = st.lists(st.sampled_from(CSV_PIECES), max_size=30).map(b"".join)
CSV_LINES = st.builds(
    SplitOptions,
    batch_strategy=st.just("MultiRecord"),
    max_payload_bytes=st.integers(1, 40) | st.just(6 * 1024 * 1024),
    skip_header=st.booleans(),
    max_records=st.none() | st.integers(1, 4),
    content_type=st.sampled_from(["text/csv", "Application/CSV", "text/tab-separated-values"]),
) | st.builds(
    SplitOptions,
    max_payload_bytes=st.integers(1, 40),
    skip_header=st.booleans(),
    content_type=st.just("text/csv; charset=utf-8"),
)


def split_csv(
    data: bytes,
    options: SplitOptions,
    cuts: Sequence[int] = (),
    *,
    start: int = 0,
    first_record: int = 0,
    head: bytes = b"",
) -> tuple[list[Payload], str | None]:
    """Return the payloads before the first line that is no whole record of CSV, and the error's message."""
    splitter = Splitter(options, start=start, first_record=first_record, head=head)
    payloads = []
    for chunk in chunks(data, cuts):
        payloads += splitter.feed(chunk)
        if splitter.error:
            return payloads, str(splitter.error)
    payloads += splitter.finish()
    return payloads, None if splitter.error is None else str(splitter.error)


def is_divided(line: bytes, separator: bytes, *, escapes: bool) -> bool:
    """Check byte by byte whether a quoted field is open at the line's end, or a carriage return divides the line."""
    is_quoted, has_closed, is_escaped, before = False, False, False, separator
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    for index in range(len(line)):
        byte = line[index : index + 1]
        if byte == b"\r" and not is_quoted and line[index + 1 : index + 2] not in (b"", b"\r"):
            return True
        was_quoted = is_quoted
        if is_escaped:
            is_escaped = False
        elif escapes and is_quoted and byte == b"\\":
            is_escaped = True
        elif byte == b'"':  # the second of two in a quoted field opens it again
            is_quoted = not is_quoted and (has_closed or before == separator)
        has_closed = was_quoted and not is_quoted
        before = byte
    return is_quoted


def first_divided(data: bytes, content_type: str) -> int:
    """Find the first line that every reading divides; return the length if there is none."""
    separator, offset = csv_separator(data, content_type), 0
    for line in data.replace(b"\n", b"\n\0").split(b"\0"):
        if all(is_divided(line, separator, escapes=escapes) for escapes in (False, True)):
            break
        offset += len(line)
    return offset


@given(CSV_DATA, CSV_LINES, CUTS)
@example(b'id,"te\nxt"\n1,a\n', SplitOptions(skip_header=True, content_type="text/csv"), [])
@example(b'1,"a\nb"\n2,c\n', SplitOptions(content_type="text/csv"), [5])
@example(b'1,5" pipe\n2,"c"\n', SplitOptions(content_type="text/csv"), [])
@example(b'1,"a\rb"\n', SplitOptions(content_type="text/csv"), [])
@example(b"1,a\r2,b\r", SplitOptions(content_type="text/csv"), [])
@example(b'a"b,"c\nd"\n', SplitOptions(content_type="text/csv"), [])
@example(b'a""', SplitOptions(content_type="text/csv", max_payload_bytes=1), [])
@example(b'"a""b"\n', SplitOptions(content_type="text/csv"), [])
@example(b'1,"27\\"",5\n', SplitOptions(content_type="text/csv", max_payload_bytes=1), [5])
@example(b'a;b\n1;"a\nb"\n', SplitOptions(content_type="text/csv"), [1])
@example(b'a;b\n1,"a\nb"\n', SplitOptions(content_type="text/csv"), [])
@example(b'a,b\n12:30;"a\n', SplitOptions(content_type="text/csv"), [])
@example(b'a,b\n1\t"a\nb"\n', SplitOptions(content_type="text/tab-separated-values"), [])
def test_csv_ends_at_the_first_line_that_is_no_whole_record(
    data: bytes, options: SplitOptions, cuts: list[int]
) -> None:
    """The lines before it make the usual payloads; it and the lines after it make none, for any chunks."""
    payloads, error = split_csv(data, options, cuts)
    offset = first_divided(data, str(options.content_type))
    if offset == len(data):
        assert error is None
        assert payloads == split(data, dataclasses.replace(options, content_type=None), cuts)
        return
    assert error is not None
    assert f"the line at byte {offset}," in error
    assert payloads == split(data[:offset], dataclasses.replace(options, content_type=None))


@given(CSV_DATA, CSV_LINES, CUTS)
def test_a_resume_ends_where_the_first_try_ended(data: bytes, options: SplitOptions, cuts: list[int]) -> None:
    payloads, error = split_csv(data, options)
    if payloads and error:
        last = payloads[-1]
        again, error_again = split_csv(
            data[last.end :],
            options,
            cuts,
            start=last.end,
            first_record=last.first_record + last.records,
            head=data[: min(HEAD, last.end)],
        )
        assert (again, error_again) == ([], error)


def test_the_error_of_a_refused_line_names_the_separator_and_the_remedy() -> None:
    _, error = split_csv(b'id;text\n1;a\n2;"line one\nline two"\n', SplitOptions(content_type="text/csv"))
    assert error is not None
    assert "the line at byte 12, where record 2 " in error
    for words in ("semicolons between columns", "Nothing from here on", "split_type='None'", '"5"" pipe"'):
        assert words in error
    assert "line break" not in error
    assert len(error) < 1_000  # the limit of a row of errors


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
@pytest.mark.parametrize("cuts", [[], [1], [2, 40], [1, 2, 3, 4]])
def test_a_byte_order_mark_is_no_part_of_the_first_record(strategy: str, cuts: list[int]) -> None:
    for header in (b"", b"id,text\r\n"):
        data = b"\xef\xbb\xbf" + header + b"1,a\r\n2,b\r\n"
        options = SplitOptions(batch_strategy=strategy, skip_header=bool(header), content_type="text/csv")
        payloads, error = split_csv(data, options, cuts)
        assert error is None
        assert [record for payload in payloads for record in records_of(payload)] == [b"1,a", b"2,b"]
        assert (payloads[0].start, payloads[-1].end) == (0, len(data))
        halves = split_in_two(payloads[0]) if strategy == "MultiRecord" else payloads
        assert [(half.start, half.end) for half in halves] == [(0, len(data) - 5), (len(data) - 5, len(data))]


def test_an_unsplit_input_keeps_its_byte_order_mark() -> None:
    data = b"\xef\xbb\xbf1,a\n"
    (payload,), error = split_csv(data, SplitOptions(split_type="None", content_type="text/csv"))
    assert (payload.body, error) == (data, None)


@pytest.mark.parametrize("split_type", ["Line", "None"])
@given(cuts=CUTS)
def test_an_input_that_does_not_begin_as_text_is_refused_before_any_payload(
    split_type: str, cuts: list[int]
) -> None:
    options = SplitOptions(split_type=split_type, content_type="application/jsonlines")
    with pytest.raises(InvalidRequest, match="looks like gzip"):
        split_csv(gzip.compress(b'{"a": 1}\n' * 9), options, cuts)
