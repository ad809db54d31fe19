"""InvokeEndpoint: the request and its limits, which failed attempts are worth another, and the pauses between."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidName, InvalidRequest
from airflow_sm_plugin.invoke.failure import Attempt, attempt_after
from airflow_sm_plugin.invoke.request import MAX_PAYLOAD_BYTES, InvokeReply, InvokeRequest

PLAIN = InvokeRequest(endpoint_name="churn", body=b"1,2")
CARRIED = re.compile(r"[!-~]([ -~]*[!-~])?")
LONGEST = {
    "content_type": 1024,
    "accept": 1024,
    "target_model": 1024,
    "target_variant": 63,
    "target_container_hostname": 63,
    "inference_id": 64,
    "enable_explanations": 64,
    "inference_component_name": 63,
    "session_id": 256,
    "prefix_aware_id": 64,
}
HEADERS = ("content_type", "accept", "target_model", "inference_id", "enable_explanations", "prefix_aware_id")
NAMES = ("target_variant", "target_container_hostname", "inference_component_name", "session_id")


def with_field(name: str, value: object) -> InvokeRequest:
    changes: dict[str, Any] = {name: value}
    return dataclasses.replace(PLAIN, **changes)


def is_taken(name: str, value: str) -> bool:
    try:
        return with_field(name, value).checked().parameters() is not None
    except InvalidRequest:
        return False


def test_what_is_not_set_is_not_sent() -> None:
    assert PLAIN.checked().parameters() == {"EndpointName": "churn", "Body": b"1,2"}


def test_every_parameter_is_spelled_as_sagemaker_spells_it() -> None:
    request = InvokeRequest(
        endpoint_name="churn",
        body=b"1,2",
        content_type="text/csv",
        accept="application/json",
        custom_attributes="trace 1",
        target_model="shop-1.tar.gz",
        target_variant="blue",
        target_container_hostname="second",
        inference_id="an id",
        enable_explanations="`[0]`",
        inference_component_name="a-component",
        session_id="NEW_SESSION",
        prefix_aware_id="a prefix",
    )
    assert request.checked().parameters() == {
        "EndpointName": "churn",
        "Body": b"1,2",
        "ContentType": "text/csv",
        "Accept": "application/json",
        "CustomAttributes": "trace 1",
        "TargetModel": "shop-1.tar.gz",
        "TargetVariant": "blue",
        "TargetContainerHostname": "second",
        "InferenceId": "an id",
        "EnableExplanations": "`[0]`",
        "InferenceComponentName": "a-component",
        "SessionId": "NEW_SESSION",
        "PrefixAwareId": "a prefix",
    }


def test_every_field_has_a_limit_that_is_tested_here() -> None:
    fields = {field.name for field in dataclasses.fields(InvokeRequest)}
    assert fields == {"endpoint_name", "body", "custom_attributes", *LONGEST}


@pytest.mark.parametrize("name", LONGEST)
def test_a_field_may_be_as_long_as_sagemaker_takes_it_and_no_longer(name: str) -> None:
    assert is_taken(name, "x" * LONGEST[name])
    with pytest.raises(
        InvalidRequest, match=f"{name} has {LONGEST[name] + 1} characters, SageMaker takes 1 to"
    ):
        with_field(name, "x" * (LONGEST[name] + 1)).checked()
    with pytest.raises(InvalidRequest, match=f"{name} has 0 characters"):
        with_field(name, "").checked()


@given(st.text(alphabet="aZ0 -_~\tä\n", min_size=1, max_size=64) | st.text(min_size=1, max_size=64))
def test_a_header_takes_visible_ascii_and_nothing_that_breaks_a_line(value: str) -> None:
    for name in HEADERS:
        assert is_taken(name, value) == bool(CARRIED.fullmatch(value))


@pytest.mark.parametrize("name", HEADERS)
def test_a_value_that_http_would_trim_is_refused(name: str) -> None:
    """The model "7" would answer for "7 "."""
    with pytest.raises(InvalidRequest, match=f"{name} '7 ' is not allowed: it holds U\\+0020 at its end"):
        with_field(name, "7 ").checked()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["a_b", "-a", "a-", "a b", "ä", "a\n", "-" * 60])
def test_a_name_holds_letters_digits_and_inner_hyphens(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} .*is not allowed; it may hold .*letters, digits"):
        with_field(name, value).checked()


def test_only_a_session_may_be_asked_for_again() -> None:
    assert is_taken("session_id", "NEW_SESSION")
    assert not is_taken("target_variant", "NEW_SESSION")


def test_a_payload_may_have_25_mebibytes_and_not_a_byte_more() -> None:
    largest = with_field("body", bytes(MAX_PAYLOAD_BYTES))
    assert largest.checked() is largest
    with pytest.raises(
        InvalidRequest, match=r"has 26214401 bytes, SageMaker takes up to 26214400 .* asynchronous endpoint"
    ):
        with_field("body", bytes(MAX_PAYLOAD_BYTES + 1)).checked()


def test_an_empty_payload_is_a_payload() -> None:
    assert with_field("body", b"").checked().parameters()["Body"] == b""


def test_the_endpoint_and_the_custom_attributes_have_their_own_errors() -> None:
    with pytest.raises(InvalidName):
        with_field("endpoint_name", "my_endpoint").checked()
    with pytest.raises(InvalidCustomAttributes) as caught:
        with_field("custom_attributes", "secret\n").checked()
    assert "secret" not in str(caught.value)


def test_neither_request_nor_reply_shows_anything_of_itself() -> None:
    request = InvokeRequest(endpoint_name="e", body=b"payload-secret", custom_attributes="attribute-secret")
    reply = InvokeReply(
        body=b"answer-secret", content_type=None, custom_attributes="secret", invoked_production_variant=None
    )
    assert "secret" not in f"{request!r} {request} {reply!r} {reply}"


@pytest.mark.parametrize(
    ("code", "status", "wanted"),
    [
        ("ModelNotReadyException", 429, Attempt.MODEL_LOADS),
        ("ThrottlingException", 400, Attempt.AGAIN),
        ("ThrottlingException", 429, Attempt.AGAIN),
        ("ServiceUnavailable", 503, Attempt.AGAIN),
        ("InternalFailure", 500, Attempt.AGAIN),
        ("502", 502, Attempt.AGAIN),
        ("504", 504, Attempt.AGAIN),
        ("507", 507, Attempt.AGAIN),
        ("InternalDependencyException", 530, Attempt.AGAIN),
        ("ValidationError", 400, Attempt.FINAL),
        ("AccessDeniedException", 403, Attempt.FINAL),
        ("ExpiredTokenException", 403, Attempt.AGAIN),
        ("SomethingNew", 418, Attempt.FINAL),
    ],
)
def test_an_error_is_worth_another_attempt_only_where_it_passes(
    code: str, status: int, wanted: Attempt
) -> None:
    assert attempt_after(code, "", status) is wanted


@pytest.mark.parametrize(
    ("original", "wanted"),
    [
        *((status, Attempt.AGAIN) for status in (0, 429, 502, 503, 504, 507)),
        *((status, Attempt.FINAL) for status in (400, 404, 413, 500, 501, None)),
    ],
)
def test_what_a_container_answered_decides_about_a_model_error(original: int | None, wanted: Attempt) -> None:
    assert attempt_after("ModelError", "", 424, original_status=original) is wanted


def test_an_endpoint_that_is_missing_is_final_whatever_the_status_says() -> None:
    message = '{"ErrorCode":"NO_SUCH_ENDPOINT","Message":"Endpoint e of account 1 not found."}'
    assert attempt_after("ValidationError", message, 500) is Attempt.FINAL


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_lies_below_its_cap_and_never_above_eight_seconds(attempt: int, jitter: float) -> None:
    assert 0 <= pause_after(attempt, jitter=jitter) <= min(8.0, 0.5 * 2.0 ** min(attempt, 32))


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_caps_double_from_attempt_to_attempt_until_the_longest(attempt: int, jitter: float) -> None:
    assert pause_after(attempt, jitter=jitter) <= pause_after(attempt + 1, jitter=jitter)
    if attempt < 4:
        assert pause_after(attempt + 1, jitter=jitter) == 2 * pause_after(attempt, jitter=jitter)
    else:
        assert pause_after(attempt, jitter=jitter) == 8 * jitter
