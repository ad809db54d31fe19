"""The messages of an asynchronous endpoint, letter by letter."""

from __future__ import annotations

import base64
import datetime

import pytest

from airflow_sm_plugin.local.async_inference.worker import INCLUDED_RESPONSE_LIMIT, Event, completed, failed

_RECEIVED = datetime.datetime(2023, 5, 23, 3, 23, 9, 588_999, datetime.UTC)
_NOW = datetime.datetime(2023, 5, 23, 3, 23, 21, 814_000, datetime.UTC)
_REQUEST = {
    "accept": None,
    "contentType": "text/csv",
    "customAttributes": "trace=1",
    "endpointName": "e",
    "inputLocation": "s3://in/key",
}


def _event(body: bytes | None = None) -> Event:
    return Event(
        region="us-east-1", inference_id="i-1", received=_RECEIVED, request=_REQUEST, response_body=body
    )


def test_a_success_message() -> None:
    assert completed(_event(), now=_NOW, content_type="text/csv", output_location="s3://out/1.out") == {
        "awsRegion": "us-east-1",
        "eventTime": "2023-05-23T03:23:21.814Z",
        "receivedTime": "2023-05-23T03:23:09.588Z",
        "invocationStatus": "Completed",
        "requestParameters": {
            "contentType": "text/csv",
            "customAttributes": "trace=1",
            "endpointName": "e",
            "inputLocation": "s3://in/key",
        },
        "responseParameters": {"contentType": "text/csv", "outputLocation": "s3://out/1.out"},
        "inferenceId": "i-1",
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def test_an_error_message_has_a_reason_and_no_response_parameters() -> None:
    message = failed(_event(), now=_NOW, reason="ClientError: no")

    assert message["invocationStatus"] == "Failed"
    assert message["failureReason"] == "ClientError: no"
    assert "responseParameters" not in message


@pytest.mark.parametrize(
    ("size", "included"), [(INCLUDED_RESPONSE_LIMIT, True), (INCLUDED_RESPONSE_LIMIT + 1, False)]
)
def test_a_response_is_included_up_to_the_limit(size: int, included: bool) -> None:
    body = b"x" * size

    message = completed(_event(body), now=_NOW, content_type="text/csv", output_location="s3://out/1.out")

    assert ("responseBody" in message) is included
    if included:
        response = message["responseBody"]
        assert isinstance(response, dict)
        assert base64.b64decode(response["content"]) == body


def test_an_event_shows_neither_custom_attributes_nor_the_response() -> None:
    assert "trace=1" not in repr(_event(b"secret"))
    assert "secret" not in repr(_event(b"secret"))
