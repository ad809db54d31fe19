"""A manifest's line is an input, or the message says which line is not and why; never what is sensitive."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.input_manifest import (
    ASYNC_LIMITS,
    MULTI_MODEL_LIMITS,
    BatchInput,
    InputLimits,
    input_of,
)
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidRequest, InvalidS3Uri

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INPUTS = st.builds(
    BatchInput,
    source=VISIBLE.filter(lambda key: not key.endswith("/")).map("s3://bucket/".__add__),
    size=st.none() | st.integers(0, 2**30),
    etag=st.none() | TEXT,
    content_type=st.none() | VISIBLE,
    custom_attributes=st.none() | VISIBLE,
    target_model=st.none() | TEXT,
    output=st.none() | TEXT,
)
LISTED = st.builds(
    BatchInput,
    source=VISIBLE.filter(lambda key: not key.endswith("/")).map("s3://bucket/".__add__),
    content_type=st.none() | VISIBLE,
    custom_attributes=st.none() | VISIBLE,
    target_model=st.none() | VISIBLE,
)
"""What a manifest may say of an input."""


@given(INPUTS)
def test_an_input_survives_its_line(one: BatchInput) -> None:
    line = one.as_line()
    assert BatchInput.from_line(line) == one
    assert line.isascii()
    assert len(line.splitlines()) == 1


@given(LISTED)
def test_what_a_manifest_says_is_what_is_read(one: BatchInput) -> None:
    said = {
        "source-ref": one.source,
        "content-type": one.content_type,
        "custom-attributes": one.custom_attributes,
        "target-model": one.target_model,
    }
    line = json.dumps({name: value for name, value in said.items() if value is not None})
    read = input_of(f"  {line}\n", number=7, target_models=True)
    assert read == one
    assert ASYNC_LIMITS.check(read) is read


def test_a_target_model_is_refused_where_there_is_no_such_thing() -> None:
    line = '{"source-ref": "s3://b/k", "target-model": "m.tar.gz"}'
    with pytest.raises(
        InvalidRequest, match=r"line 4 of the manifest has the key 'target-model'.*leave it out"
    ):
        input_of(line, number=4)


@pytest.mark.parametrize("name", ["output", "size", "etag"])
def test_what_only_a_plan_says_is_not_for_a_manifest(name: str) -> None:
    line = json.dumps({"source-ref": "s3://b/k", name: "x"})
    with pytest.raises(InvalidRequest, match=rf"key '{name}', which mean.*custom-attributes, target-model"):
        input_of(line, number=1, target_models=True)


def test_no_repr_shows_custom_attributes() -> None:
    assert "secret" not in repr(BatchInput(source="s3://b/k", custom_attributes="secret"))


@pytest.mark.parametrize("line", ["", "\n", "  \t\r\n", "\ufeff"])
def test_an_empty_line_is_no_input(line: str) -> None:
    assert input_of(line, number=1) is None


def test_a_byte_order_mark_before_the_first_line_is_passed_over() -> None:
    line = '\ufeff{"source-ref": "s3://b/k"}'
    assert input_of(line, number=1) == BatchInput(source="s3://b/k")
    with pytest.raises(InvalidRequest, match="line 2 of the manifest is not JSON"):
        input_of(line, number=2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("s3://b/k", "is not JSON"),
        ('{"source-ref": "s3://b/k"', "is not JSON"),
        ('[{"prefix": "s3://b/"}, "k"]', "is a JSON list, not an object"),
        ("[" * 100_000, "is not JSON"),
        ("1" * 5_000, "is not JSON"),
        ("null", "is a JSON NoneType"),
        ("{}", "has no source-ref"),
        ('{"source-ref": null}', "source-ref must be a text, not NoneType"),
        ('{"source-ref": ""}', "source-ref must be a text, not empty"),
        ('{"source-ref": "s3://b/k", "content-type": 5}', "content-type must be a text, not int"),
        ('{"source-ref": "s3://b/k", "content-type": "text/csv\\n"}', "content-type 'text/csv.*not allowed"),
        ('{"source-ref": "s3://b/k", "custom-attributes": ["x"]}', "custom-attributes must be a text, not"),
        (
            '{"source-ref": "s3://b/k", "sourceref": 1, "x": 2}',
            "the keys 'sourceref', 'x', which mean nothing",
        ),
        ('{"source-ref": "s3://b/k", "source-ref": "s3://b/l"}', "'source-ref' more than once"),
    ],
)
def test_a_bad_line_is_named_by_number_and_reason(line: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"line 12\b.*{reason}"):
        input_of(line, number=12)


@pytest.mark.parametrize("source", ["b/k", "https://b/k", "s3://", "s3://b", "s3://b/", "s3://b/k/"])
def test_a_source_must_be_one_object_in_s3(source: str) -> None:
    with pytest.raises(InvalidS3Uri, match="line 3 of the manifest: source-ref"):
        input_of(json.dumps({"source-ref": source}), number=3)


def test_half_a_character_is_no_source() -> None:
    """JSON can say it, UTF-8 cannot."""
    with pytest.raises(InvalidS3Uri, match=r"line 2 .*surrogate") as refused:
        input_of('{"source-ref": "s3://b/\\ud83d"}', number=2)
    assert str(refused.value).isascii()
    assert input_of('{"source-ref": "s3://b/\\ud83d\\ude00"}', number=2) == BatchInput(source="s3://b/😀")


@pytest.mark.parametrize(
    "line",
    [
        '{"source-ref": "s3://b/k", "custom-attributes": "secret-1\\n"}',
        '{"source-ref": "s3://b/k", "custom-attributes": "secret-1"',
        '{"source-ref": "nowhere", "custom-attributes": "secret-1"}',
        '{"source-ref": "s3://b/k", "custom-attributes": {"a": "secret-1"}}',
        '{"custom-attributes": "secret-1"}',
        '{"source-ref": "s3://b/k", "custom-attributes": "a", "custom-attributes": "secret-1"}',
        '{"source-ref": "s3://b/k", "custom-attributes": "secret-1", "x": 1}',
    ],
)
def test_no_message_shows_custom_attributes(line: str) -> None:
    with pytest.raises(InvalidRequest, match=r"line 1\b") as refused:
        input_of(line, number=1)
    assert "secret-1" not in str(refused.value)


def test_an_input_over_the_limit_is_refused_with_object_size_limit_and_remedy() -> None:
    most = ASYNC_LIMITS.most_bytes
    assert most is not None
    assert ASYNC_LIMITS.check(BatchInput(source="s3://b/k", size=most)).size == most
    with pytest.raises(
        InvalidRequest,
        match=f"the input s3://b/k has {most + 1} bytes, SageMaker takes up to {most}: split it",
    ):
        ASYNC_LIMITS.check(BatchInput(source="s3://b/k", size=most + 1))


def test_what_is_read_piece_by_piece_may_have_any_size_and_name() -> None:
    one = BatchInput(source="s3://b/" + "ü" * 2_000, size=2**50)
    assert MULTI_MODEL_LIMITS.check(one) is one


def test_a_location_may_have_1024_characters() -> None:
    longest = "s3://b/" + "k" * (1_024 - len("s3://b/"))
    assert ASYNC_LIMITS.check(BatchInput(source=longest)).source == longest
    with pytest.raises(
        InvalidRequest, match="has 1025 characters, SageMaker takes up to 1024: use a shorter"
    ):
        ASYNC_LIMITS.check(BatchInput(source=f"{longest}k"))


@pytest.mark.parametrize(
    ("key", "code"), [("Zürich", "00FC"), ("a\nb", "000A"), ("a ", "0020"), ("€", "20AC")]
)
def test_a_location_that_no_header_carries_is_refused(key: str, code: str) -> None:
    one = BatchInput(source=f"s3://b/{key}")
    with pytest.raises(InvalidRequest, match=rf"holds U\+{code}.*rename the object"):
        ASYNC_LIMITS.check(one)
    assert InputLimits(most_bytes=1, remedy="").check(one) is one


def test_a_space_inside_a_location_is_fine() -> None:
    one = BatchInput(source="s3://b/my file.csv")
    assert ASYNC_LIMITS.check(one) is one


def test_custom_attributes_are_checked_with_the_inputs_name_and_without_their_value() -> None:
    with pytest.raises(InvalidCustomAttributes, match="the input s3://b/k: character 7") as refused:
        ASYNC_LIMITS.check(BatchInput(source="s3://b/k", custom_attributes="secretü"))
    assert "secret" not in str(refused.value)
