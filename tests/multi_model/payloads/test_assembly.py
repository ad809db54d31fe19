"""Outputs: each record has its row, and joined rows keep the bytes of record and answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidRequest, OutputMismatch
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions, output_of
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions
from airflow_sm_plugin.multi_model.payloads.splitter import Splitter

CSV = OutputOptions(join_source="Input", content_type="text/csv; charset=utf-8", accept="text/csv")
LINES = OutputOptions(join_source="Input", content_type="application/jsonlines", accept="application/json")
DOCUMENT = OutputOptions(assemble_with="None", join_source="Input", content_type="application/json")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def payload(*lines: bytes, first_record: int = 0) -> Payload:
    body = b"\n".join(lines)
    return Payload(body, 0, len(body), first_record, len(lines))


@pytest.mark.parametrize(
    ("records", "answer", "expected"),
    [
        (1, b"0.5", b"0.5\n"),
        (1, b"0.5\n", b"0.5\n"),
        (1, b"0.5\r\n", b"0.5\r\n"),
        (1, b"0.5\n\n", b"0.5\n"),
        (1, b"", b"\n"),
        (1, b"\n", b"\n"),
        (1, b"\n\n", b"\n"),
        (1, b'{\n "a": 1\n}\n', b'{\n "a": 1\n}\n'),
        (2, b"1\n2", b"1\n2\n"),
        (3, b"1\n\n\n", b"1\n\n\n"),
        (2, b"1\n2\n\n\r\n", b"1\n2\n"),
        (2, b"[1, 2]", b"[1, 2]\n"),
    ],
)
def test_an_answer_ends_with_one_line_end(records: int, answer: bytes, expected: bytes) -> None:
    request = payload(*[b"x"] * records)
    assert output_of(request, answer, OutputOptions()) == expected
    assert output_of(request, answer, OutputOptions(assemble_with="None")) == answer


def test_csv_rows_follow_their_records() -> None:
    request = Payload(b"1,a\r\n\xff,b", 0, 12, 0, 2)
    assert output_of(request, b"0.1\r\n0.2,x\r\n", CSV) == b"1,a,0.1\n\xff,b,0.2,x\n"
    assert output_of(payload(b"1"), b"", CSV) == b"1,\n"
    assert output_of(payload(b"a", b"b"), b"1\r\n2\n\n", CSV) == b"a,1\nb,2\n"


@pytest.mark.parametrize("answer", [b"", b"1\n", b"1\n2\n3\n", b"[1, 2]"])
@pytest.mark.parametrize("options", [CSV, LINES], ids=["csv", "json lines"])
def test_another_number_of_rows_cannot_be_joined(answer: bytes, options: OutputOptions) -> None:
    with pytest.raises(OutputMismatch, match=r"answered \d rows? to 2 records \(from record 7 on\)"):
        output_of(payload(b"1", b"2", first_record=7), answer, options)


@pytest.mark.parametrize(
    ("record", "answer", "expected"),
    [
        (b'{"id": 1.10}', b"0.50", b'{"id": 1.10,"SageMakerOutput":0.50}'),
        (b' {"id": 1 } ', b'{"p": [1, 2]}\n', b'{"id": 1,"SageMakerOutput":{"p": [1, 2]}}'),
        (b"{}", b"1", b'{"SageMakerOutput":1}'),
        (b"[1, 2]", b'"a"', b'{"SageMakerInput":[1, 2],"SageMakerOutput":"a"}'),
        (b'{"SageMakerOutput": 0}', b"1", b'{"SageMakerOutput":1}'),
        (b'\xef\xbb\xbf{"id": 1}', b"NaN", b'{"id": 1,"SageMakerOutput":NaN}'),
        (b'{"id": 1}', b'{\r\n  "p": 1\n}\n', b'{"id": 1,"SageMakerOutput":{  "p": 1}}'),
    ],
)
def test_a_json_record_gets_its_answer_as_a_key(record: bytes, answer: bytes, expected: bytes) -> None:
    assert output_of(payload(record), answer, LINES) == expected + b"\n"
    assert output_of(payload(record), answer, DOCUMENT) == expected


def test_a_record_that_can_be_parsed_but_not_serialized_is_refused() -> None:
    """Reading needs a little less of the stack than writing, so some depths can be read only."""
    for depth in range(100, 1_100, 1):
        record = b'{"SageMakerOutput":0,"a":%b%b}' % (b"[" * depth, b"]" * depth)
        try:
            assert output_of(payload(record), b"1", LINES).startswith(b'{"SageMakerOutput":1,')
        except InvalidRequest as refused:
            assert "record 0 (from 0) is" in str(refused)  # noqa: PT017 - the depth is Python's


def test_answers_to_several_json_lines_are_json_lines() -> None:
    request = payload(b'{"id": 1}', b"2")
    assert output_of(request, b'{"p": 1}\r\n\n{"p": 2}\n', LINES) == (
        b'{"id": 1,"SageMakerOutput":{"p": 1}}\n{"SageMakerInput":2,"SageMakerOutput":{"p": 2}}\n'
    )


def test_a_document_can_have_line_ends() -> None:
    assert output_of(payload(b'{\n "a": 1\n}\n'), b"2", DOCUMENT) == b'{ "a": 1,"SageMakerOutput":2}'


@given(st.lists(st.tuples(JSON, JSON), min_size=1, max_size=4), st.booleans())
def test_json_rows_hold_the_values_of_record_and_answer(
    pairs: list[tuple[object, object]], ascii_only: bool
) -> None:
    request = payload(*[json.dumps(record, ensure_ascii=ascii_only).encode() for record, _ in pairs])
    answer = b"\n".join(json.dumps(output, ensure_ascii=ascii_only).encode() for _, output in pairs)
    rows = output_of(request, answer, LINES).split(b"\n")
    assert rows.pop() == b""
    for row, (record, output) in zip(rows, pairs, strict=True):
        base = record if isinstance(record, dict) else {"SageMakerInput": record}
        assert json.loads(row) == base | {"SageMakerOutput": output}


@pytest.mark.parametrize("broken", [b"", b"{", b'"\xff"', b"[" * 100_000, b"1\n2 secret"])
def test_data_that_are_no_json_cannot_be_joined_and_are_not_shown(broken: bytes) -> None:
    with pytest.raises(OutputMismatch, match=r"answer to record 7 \(from 0\) is no (JSON|UTF-8)") as answer:
        output_of(payload(b"1", first_record=7), broken, LINES)
    with pytest.raises(InvalidRequest, match=r"record 7 \(from 0\) is no (JSON|UTF-8)") as record:
        output_of(payload(broken, first_record=7), b"1", LINES)
    assert "secret" not in f"{answer.value}{record.value}"
    assert answer.value.__cause__ is None
    assert answer.value.__suppress_context__


@given(st.lists(st.sampled_from([b"a", b"1,2", b"", b" x"]), max_size=12), st.integers(3, 12))
def test_a_model_that_answers_line_by_line_is_joined_to_the_whole_input(
    lines: list[bytes], limit: int
) -> None:
    splitter = Splitter(SplitOptions(batch_strategy="MultiRecord", max_payload_bytes=limit))
    payloads = splitter.feed(b"\n".join(lines)) + splitter.finish()
    joined = b"".join(output_of(each, each.body.upper(), CSV) for each in payloads)
    assert joined == b"".join(b"%b,%b\n" % (line, line.upper()) for line in lines if line)


@pytest.mark.parametrize(
    ("options", "split_type", "message"),
    [
        (OutputOptions(), "RecordIO", "split_type='RecordIO' is none of 'None', 'Line'"),
        (OutputOptions(assemble_with="Lines"), "Line", "assemble_with='Lines' is none of 'None', 'Line'"),
        (OutputOptions(join_source="Output"), "Line", "join_source='Output' is none of 'None', 'Input'"),
        (OutputOptions(join_source="Input"), "Line", "needs a content_type of text/csv, .*, not None"),
        (
            OutputOptions(join_source="Input", content_type="application/x-parquet"),
            "None",
            "needs a content_type",
        ),
        (
            OutputOptions(join_source="Input", content_type="text/csv", accept="application/json"),
            "Line",
            "cannot join accept='application/json' to text/csv: ask for text/csv",
        ),
        (CSV, "None", "takes one JSON document an object"),
        (LINES, "None", "takes one JSON document an object"),
        (DOCUMENT, "Line", "needs assemble_with='Line'"),
    ],
)
def test_invalid_output_options_are_refused(options: OutputOptions, split_type: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        options.checked(split_type)


@pytest.mark.parametrize(
    ("options", "split_type"),
    [(OutputOptions(), "None"), (CSV, "Line"), (LINES, "Line"), (DOCUMENT, "None")],
)
def test_valid_options_are_returned_unchanged(options: OutputOptions, split_type: str) -> None:
    assert options.checked(split_type) is options
