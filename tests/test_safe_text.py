"""Texts from outside: nothing in them breaks a line of a log, an encoding or a database, or shows a password."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin._safe_text import as_utf8, in_one_line, json_line, masked, presentable, storable
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import (
    InvalidS3Uri,
    ModelError,
    SageMakerInferenceError,
    ServiceUnavailable,
)
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions, output_of
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.state.records import FailedRecords

SURROGATES = st.characters(categories=["Cs"])
ANY_TEXT = st.text(
    st.one_of(st.characters(), SURROGATES, st.sampled_from("\x00\n\r\x1b\x85\u2028\u2029\ufeff"))
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(ANY_TEXT)
def test_a_text_is_one_line_that_can_be_encoded_and_stays_the_same_when_shown_again(text: str) -> None:
    shown = in_one_line(text)
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert in_one_line(shown) == shown


@given(ANY_TEXT)
def test_every_errors_message_can_be_logged(text: str) -> None:
    message = str(ServiceUnavailable(f"s3:GetObject {text}"))
    assert len(message.splitlines()) == 1
    assert message.encode()


@given(JSON_VALUES)
def test_a_line_of_json_holds_what_it_was_made_of_and_no_end_of_a_line(value: object) -> None:
    line = json_line(value)
    assert json.loads(line) == value
    assert len(line.decode().splitlines()) == 1


@given(ANY_TEXT)
def test_a_text_in_utf_8_differs_only_where_it_was_none(text: str) -> None:
    encoded = as_utf8(text)
    assert encoded.decode().isascii() or encoded.decode() == text or not _is_text(text)


@given(JSON_VALUES)
def test_what_is_stored_has_neither_nul_nor_half_a_pair(value: object) -> None:
    text = json.dumps(storable(value), ensure_ascii=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    assert text.encode()


@given(ANY_TEXT, st.integers(0, 10))
def test_a_row_of_errors_tells_any_message(message: str, attempts: int) -> None:
    one = BatchInput(source="s3://b/k", target_model="m.tar.gz")
    line = FailedRecords(0, 1, 0, 1, ModelError, 400, message, attempts).line(one)
    assert json.loads(line)["message"] == message
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1


@pytest.mark.parametrize("escaped", [False, True])
@given(record=JSON_VALUES.filter(lambda value: isinstance(value, dict)), answer=JSON_VALUES)
def test_any_record_is_joined_to_any_answer(escaped: bool, record: dict[str, object], answer: object) -> None:
    """Also where the record has the key already, so that it is written a second time."""
    record = {**record, "SageMakerOutput": 0} if escaped else record
    data = json.dumps(record).encode() + b"\n"
    payload = Payload(body=data, start=0, end=len(data), first_record=0, records=1)
    options = OutputOptions(join_source="Input", content_type="application/jsonlines")
    joined = output_of(payload, json.dumps(answer).encode(), options)
    assert json.loads(joined) == {**record, "SageMakerOutput": answer}
    assert joined.count(b"\n") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://svc:pw@proxy.corp:8080", "http://***@proxy.corp:8080"),
        ("https://svc:p%40w@proxy/", "https://***@proxy/"),
        ("http://svc:p/w@2@proxy:80 is down", "http://***@proxy:80 is down"),
        ("socks5h://u:pw@proxy", "socks5h://***@proxy"),
        ("//svc:pw@proxy", "//***@proxy"),
        ("http://token@proxy", "http://***@proxy"),
        ("Failed to parse: http://svc:pw#x@proxy:80", "Failed to parse: http://***@proxy:80"),
        (
            "GET https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2F1&X-Amz-Security-Token=t%2F&X-Amz-Signature=ab&x=1",
            "GET https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Security-Token=***&X-Amz-Signature=***&x=1",
        ),
        (
            "/k?AWSAccessKeyId=AKIA&Expires=1&Signature=a%3D",
            "/k?AWSAccessKeyId=***&Expires=1&Signature=***",
        ),
        ("{'Proxy-Authorization': 'Basic c3Zj'}", "{'Proxy-Authorization': 'Basic ***'}"),
    ],
)
def test_credentials_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert str(ServiceUnavailable(text)) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/models/churn@v2.tar.gz",
        "s3://bucket/a:b@c",
        "https://sqs.us-east-1.amazonaws.com/123456789012/results",
        "http://127.0.0.1:8080/endpoints/x?y=1",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn",
        "ask ml-team@example.com",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert presentable(text) == text


def test_a_location_that_is_no_text_is_refused_wherever_it_comes_from() -> None:
    with pytest.raises(InvalidS3Uri, match=r"\\ud83d.*no text") as caught:
        S3Uri.parse("s3://bucket/\ud83d")
    assert isinstance(caught.value, SageMakerInferenceError)
    assert str(caught.value).encode()


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
