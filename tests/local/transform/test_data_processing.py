"""Filters and joins of a transform job, with the developer guide's own examples."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.local.transform.data_processing import (
    Json,
    Processing,
    ProcessingFailed,
    UnsupportedPath,
    format_of,
    parse_path,
    select,
)

_ROW: list[Json] = [0, 1, 2, 3, 4]
_RECORD: dict[str, Json] = {"id": 7, "features": [1, 2], "deep": {"er": "x"}}


@pytest.mark.parametrize(
    ("expression", "value", "expected"),
    [
        ("$", _ROW, _ROW),
        ("$[1:]", _ROW, [1, 2, 3, 4]),
        ("$[:2]", _ROW, [0, 1]),
        ("$[1:3]", _ROW, [1, 2]),
        ("$[-1]", _ROW, 4),
        ("$[-2:]", _ROW, [3, 4]),
        ("$[0,2]", _ROW, [0, 2]),
        ("$[0,3:]", _ROW, [0, 3, 4]),
        ("$[*]", _ROW, _ROW),
        ("$.features", _RECORD, [1, 2]),
        ("$.features[0]", _RECORD, 1),
        ("$['id']", _RECORD, 7),
        ("$['id','features']", _RECORD, {"id": 7, "features": [1, 2]}),
        ("$.deep.er", _RECORD, "x"),
        ("$.deep['er']", _RECORD, "x"),
        ("$.deep.*", _RECORD, ["x"]),
    ],
)
def test_a_path_selects(expression: str, value: Json, expected: Json) -> None:
    assert select(parse_path(expression), value) == expected


@pytest.mark.parametrize(
    "expression", ["features", "$..id", "$[?(@.id)]", "$[a]", "$[0,'id']", "$.x y", "$[]", "$["]
)
def test_an_operator_that_batch_transform_lacks_is_refused(expression: str) -> None:
    with pytest.raises(UnsupportedPath):
        parse_path(expression)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("$[5]", _ROW),
        ("$[-6]", _ROW),
        ("$.x", _RECORD),
        ("$.x", _ROW),
        ("$[0]", _RECORD),
        ("$['id','x']", _RECORD),
    ],
)
def test_what_a_record_does_not_have_is_an_error(expression: str, value: Json) -> None:
    with pytest.raises(ProcessingFailed):
        select(parse_path(expression), value)


@given(row=st.lists(st.integers()), start=st.integers(-9, 9), end=st.integers(-9, 9))
def test_slices_are_those_of_python(row: list[int], start: int, end: int) -> None:
    assert select(parse_path(f"$[{start}:{end}]"), list[Json](row)) == row[start:end]


def test_csv_keeps_the_id_from_the_model_and_joins_it_with_the_prediction() -> None:
    processing = Processing("csv", input_filter="$[1:]", output_filter="$[0,-1]", join_input=True)
    body = b"id1,1.0,2.0\nid2,3.0,4.0\n"

    assert processing.request_body(body) == b"1.0,2.0\n3.0,4.0\n"
    assert processing.output(body, b"yes\nno\n") == b"id1,yes\nid2,no\n"


def test_csv_cells_with_commas_survive_a_join() -> None:
    processing = Processing("csv", join_input=True)

    assert processing.output(b'"a,b",1\n', b'yes,"[0.9, 0.1]"') == b'"a,b",1,yes,"[0.9, 0.1]"\n'


def test_json_lines_get_the_answer_as_an_attribute() -> None:
    processing = Processing(
        "jsonlines", input_filter="$.features", output_filter="$['id','SageMakerOutput']", join_input=True
    )
    body = b'{"id": 1, "features": [1]}\n{"id": 2, "features": [2]}\n'

    assert processing.request_body(body) == b"[1]\n[2]\n"
    assert processing.output(body, b'{"p": 0}\n{"p": 1}\n') == (
        b'{"id": 1, "SageMakerOutput": {"p": 0}}\n{"id": 2, "SageMakerOutput": {"p": 1}}\n'
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"key": 1}', {"key": 1, "SageMakerOutput": 0.5}),
        (b"[1, 2]", {"SageMakerInput": [1, 2], "SageMakerOutput": 0.5}),
    ],
)
def test_a_json_document_is_joined_as_a_whole(body: bytes, expected: Json) -> None:
    assert json.loads(Processing("json", join_input=True).output(body, b"0.5")) == expected


def test_another_number_of_answers_cannot_be_joined() -> None:
    with pytest.raises(ProcessingFailed, match="2 input records with 1 output"):
        Processing("csv", join_input=True).output(b"1\n2\n", b"1\n")


def test_a_record_of_another_format_is_an_error_without_its_content() -> None:
    with pytest.raises(ProcessingFailed, match="not valid jsonlines") as failed:
        Processing("jsonlines", join_input=True).output(b"secret", b"1")

    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/csv", "csv"),
        ("text/csv; charset=utf-8", "csv"),
        ("Application/JSON", "json"),
        ("application/jsonlines", "jsonlines"),
        ("application/x-recordio-protobuf", None),
        (None, None),
    ],
)
def test_only_csv_and_json_can_be_processed(content_type: str | None, expected: str | None) -> None:
    assert format_of(content_type) == expected


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_json_line(separator: str) -> None:
    text = json.dumps({"text": f"a{separator}b"}, ensure_ascii=separator < " ")
    records = f'{text}\n{{"text": "c"}}\n'.encode()
    joined = Processing("jsonlines", join_input=True).output(records, b"1\n2\n").decode()
    assert [json.loads(line) for line in joined.split("\n") if line] == [
        {"text": f"a{separator}b", "SageMakerOutput": 1},
        {"text": "c", "SageMakerOutput": 2},
    ]
    filtered = Processing("jsonlines", input_filter="$.text").request_body(records).decode()
    assert [json.loads(line) for line in filtered.split("\n") if line] == [f"a{separator}b", "c"]


def test_half_a_surrogate_pair_stays_an_escape() -> None:
    joined = Processing("jsonlines", join_input=True).output(
        b'{"text": "\\ud83d"}\n{"text": "\xc3\xa9"}\n', b"1\n2\n"
    )
    assert joined == (
        b'{"text": "\\ud83d", "SageMakerOutput": 1}\n{"text": "\xc3\xa9", "SageMakerOutput": 2}\n'
    )


def test_a_document_that_is_too_deep_is_an_error() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(ProcessingFailed, match="not valid json"):
        Processing("json", input_filter="$[0]").request_body(deep)


def test_a_csv_cell_may_be_large() -> None:
    cell = b"x" * 200_000
    assert Processing("csv", input_filter="$[1]").request_body(b"1," + cell) == cell + b"\n"
