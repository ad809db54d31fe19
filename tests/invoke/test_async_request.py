"""One asynchronous invocation: SageMaker's limits, which botocore does not check."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidName, InvalidRequest, InvalidS3Uri
from airflow_sm_plugin.invoke.async_request import (
    DEFAULT_INVOCATION_TIMEOUT,
    DEFAULT_REQUEST_TTL,
    MAX_INLINE_BYTES,
    AsyncInvocation,
    AsyncRequest,
)

BASE = AsyncRequest(endpoint_name="churn", input_location="s3://bucket/in.csv")
SECRET = "secret-7d20"
FILENAME = re.compile(r"(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_.]*")
INFERENCE_ID = re.compile(r"[!-~]([ -~]*[!-~])?")
PATH_EXTENSION = re.compile(r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+")


def is_allowed(request: AsyncRequest) -> bool:
    try:
        return request.checked() is request
    except InvalidRequest:
        return False


def test_the_parameters_hold_what_was_set_and_nothing_else() -> None:
    full = dataclasses.replace(
        BASE,
        content_type="text/csv",
        accept="application/json",
        custom_attributes="trace-1",
        inference_id="id-1",
        request_ttl=60,
        invocation_timeout=900,
        filename="result.csv",
        s3_output_path_extension="run/7",
    )
    assert full.checked().parameters() == {
        "EndpointName": "churn",
        "InputLocation": "s3://bucket/in.csv",
        "ContentType": "text/csv",
        "Accept": "application/json",
        "CustomAttributes": "trace-1",
        "InferenceId": "id-1",
        "RequestTTLSeconds": 60,
        "InvocationTimeoutSeconds": 900,
        "Filename": "result.csv",
        "S3OutputPathExtension": "run/7",
    }
    assert BASE.checked().parameters() == {"EndpointName": "churn", "InputLocation": "s3://bucket/in.csv"}


def test_an_inline_body_is_sent_instead_of_a_location() -> None:
    request = AsyncRequest(endpoint_name="churn", body=b"1,2")
    assert request.checked().parameters() == {"EndpointName": "churn", "Body": b"1,2"}


@pytest.mark.parametrize(
    ("location", "body", "given_"), [("s3://b/k", b"1", "both"), (None, None, "neither"), ("", b"", "both")]
)
def test_exactly_one_of_location_and_body_is_given(
    location: str | None, body: bytes | None, given_: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"exactly one of input_location and body, not {given_}"):
        AsyncRequest(endpoint_name="churn", input_location=location, body=body).checked()


@pytest.mark.parametrize("size", [1, MAX_INLINE_BYTES - 1, MAX_INLINE_BYTES])
def test_an_inline_body_up_to_the_limit_is_allowed(size: int) -> None:
    assert is_allowed(AsyncRequest(endpoint_name="churn", body=b"x" * size))


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="body is empty: give a payload, or pass input_location"):
        AsyncRequest(endpoint_name="churn", body=b"").checked()


def test_one_byte_more_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidRequest, match=r"128001 bytes, SageMaker takes up to 128000.*upload it to S3"):
        AsyncRequest(endpoint_name="churn", body=b"x" * (MAX_INLINE_BYTES + 1)).checked()


@pytest.mark.parametrize(
    ("argument", "lowest", "highest"), [("request_ttl", 60, 21_600), ("invocation_timeout", 1, 3_600)]
)
def test_times_are_allowed_between_their_limits_and_refused_beyond(
    argument: str, lowest: int, highest: int
) -> None:
    def with_time(seconds: int) -> AsyncRequest:
        return AsyncRequest(
            endpoint_name="churn",
            input_location="s3://b/k",
            request_ttl=seconds if argument == "request_ttl" else None,
            invocation_timeout=seconds if argument == "invocation_timeout" else None,
        )

    for allowed in (lowest, lowest + 1, highest - 1, highest):
        assert is_allowed(with_time(allowed))
    for refused in (lowest - 1, highest + 1, 0, -1):
        with pytest.raises(InvalidRequest, match=f"{argument} is {refused} s, .* {lowest} to {highest} s"):
            with_time(refused).checked()


@pytest.mark.parametrize("length", [1023, 1024])
def test_a_location_up_to_the_limit_is_allowed(length: int) -> None:
    assert is_allowed(dataclasses.replace(BASE, input_location="s3://b/".ljust(length, "k")))


def test_a_longer_location_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"input_location .* has 1025 characters, .* up to 1024"):
        dataclasses.replace(BASE, input_location="s3://b/".ljust(1025, "k")).checked()


def test_an_https_location_is_allowed_and_another_scheme_is_not() -> None:
    assert is_allowed(dataclasses.replace(BASE, input_location="https://bucket.s3.amazonaws.com/in.csv"))
    for location in ("in.csv", "http://b/k", "s3://bucket/", "s3://bucket", ""):
        with pytest.raises(InvalidS3Uri, match="input_location"):
            dataclasses.replace(BASE, input_location=location).checked()


@given(st.text(alphabet="aZ9-_./ é\n", min_size=1, max_size=34) | st.text(max_size=5))
def test_a_filename_is_allowed_if_and_only_if_sagemaker_takes_it(name: str) -> None:
    expected = 1 <= len(name) <= 32 and bool(FILENAME.fullmatch(name))
    assert is_allowed(dataclasses.replace(BASE, filename=name)) == expected


@given(
    st.text(alphabet="aZ9!_.*'()/-: \n", max_size=8) | st.sampled_from(["s3://b", "https://b", "s3", "a/b"])
)
def test_a_path_extension_is_allowed_if_and_only_if_sagemaker_takes_it(extension: str) -> None:
    allowed = is_allowed(dataclasses.replace(BASE, s3_output_path_extension=extension))
    assert allowed == bool(PATH_EXTENSION.fullmatch(extension))


@given(st.text(alphabet="a9- é\n\x7f", max_size=6) | st.text(alphabet="x", min_size=62, max_size=66))
def test_an_inference_id_is_allowed_if_and_only_if_sagemaker_takes_it(inference_id: str) -> None:
    expected = 1 <= len(inference_id) <= 64 and bool(INFERENCE_ID.fullmatch(inference_id))
    assert is_allowed(dataclasses.replace(BASE, inference_id=inference_id)) == expected


@pytest.mark.parametrize(
    ("argument", "longest"),
    [
        ("inference_id", 64),
        ("filename", 32),
        ("s3_output_path_extension", 512),
        ("content_type", 1024),
        ("accept", 1024),
    ],
)
def test_texts_keep_their_lengths_and_a_long_one_does_not_fill_the_message(
    argument: str, longest: int
) -> None:
    def with_text(length: int) -> AsyncRequest:
        texts = {argument: "x" * length}
        return dataclasses.replace(BASE, **texts)  # type: ignore[arg-type]  # the table names text fields only

    assert is_allowed(with_text(1))
    assert is_allowed(with_text(longest))
    for length in (0, longest + 1):
        with pytest.raises(
            InvalidRequest, match=f"{argument}.* has {length} characters, .* 1 to {longest}"
        ) as refused:
            with_text(length).checked()
        assert len(str(refused.value)) < 200


def test_the_filename_message_shows_the_rule() -> None:
    with pytest.raises(InvalidRequest, match=r"filename 'a\.b\.csv' is not allowed.*at most one '\.'"):
        dataclasses.replace(BASE, filename="a.b.csv").checked()


def test_a_bad_endpoint_name_and_bad_custom_attributes_are_refused_as_such() -> None:
    with pytest.raises(InvalidName, match="endpoint name"):
        dataclasses.replace(BASE, endpoint_name="churn_1").checked()
    with pytest.raises(InvalidCustomAttributes):
        dataclasses.replace(BASE, custom_attributes="é").checked()


def test_a_request_shows_neither_payload_nor_attributes() -> None:
    request = AsyncRequest(endpoint_name="churn", body=SECRET.encode(), custom_attributes=SECRET)
    assert SECRET not in f"{request!r} {request}"


def test_the_longest_that_a_default_invocation_may_take_is_sagemakers() -> None:
    """InvokeEndpointAsync: 6 hours in the queue, then 15 minutes in the model."""
    assert DEFAULT_REQUEST_TTL + DEFAULT_INVOCATION_TIMEOUT == 6 * 3600 + 15 * 60


@given(
    st.builds(
        AsyncInvocation,
        output_location=st.text(min_size=1, max_size=9).map(lambda key: f"s3://b/o{key}x"),
        failure_location=st.none() | st.just("s3://b/f/1-error.out"),
        inference_id=st.none() | st.text(max_size=5),
        input_location=st.none() | st.just("s3://b/in"),
        submitted_at=st.none() | st.floats(min_value=0, max_value=4e9),
    )
)
def test_an_invocation_survives_xcom(invocation: AsyncInvocation) -> None:
    assert AsyncInvocation.from_mapping(json.loads(json.dumps(invocation.as_mapping()))) == invocation


def test_what_an_invoke_task_adds_is_ignored_and_what_it_lacks_is_none() -> None:
    read = AsyncInvocation.from_mapping({"output_location": "s3://b/o", "endpoint_name": "churn"})
    assert read == AsyncInvocation("s3://b/o", None, None, None, None)


def test_an_empty_failure_location_is_none() -> None:
    """A template renders to an empty text where nothing is set."""
    read = AsyncInvocation.from_mapping({"output_location": "s3://b/o", "failure_location": ""})
    assert read.failure_location is None


def test_an_invocation_without_output_location_is_refused_with_what_it_has() -> None:
    with pytest.raises(InvalidRequest, match=r"needs an output_location; .* \['1', 'inference_id'\]"):
        AsyncInvocation.from_mapping({"inference_id": "x", 1: "y"})  # type: ignore[dict-item]  # a user's own


@pytest.mark.parametrize("key", ["output_location", "failure_location"])
def test_a_location_outside_of_s3_is_refused_by_its_name(key: str) -> None:
    mapping = {"output_location": "s3://b/o", "failure_location": "s3://b/f", key: "/tmp/o"}  # noqa: S108 - not used
    with pytest.raises(InvalidS3Uri, match=f"{key} must look like"):
        AsyncInvocation.from_mapping(mapping)


@pytest.mark.parametrize("value", [5, 5.5, "5", "5.5e0", 0])
def test_a_submission_time_is_a_number_of_seconds_also_as_text(value: object) -> None:
    read = AsyncInvocation.from_mapping({"output_location": "s3://b/o", "submitted_at": value})
    assert read.submitted_at == float(str(value))


@pytest.mark.parametrize(
    "value", ["2026-01-25T22:45:59Z", "", "nan", float("nan"), float("inf"), "-inf", [], 10**400]
)
def test_another_submission_time_is_refused(value: object) -> None:
    """Counted from NaN or infinity a deadline would never come, and the wait never end."""
    with pytest.raises(InvalidRequest, match="submitted_at must be a number of epoch seconds"):
        AsyncInvocation.from_mapping({"output_location": "s3://b/o", "submitted_at": value})
