"""The messages of an asynchronous endpoint, letter by letter."""

from __future__ import annotations

import base64
import datetime

import pytest

from airflow_sm_plugin.local.account.s3_objects import Location
from airflow_sm_plugin.local.async_inference.queue import Invocation, Topics
from airflow_sm_plugin.local.async_inference.requests import INCLUDED_RESPONSE_LIMIT, completed, failed
from airflow_sm_plugin.local.containers.containers import ContainerReply

_RECEIVED = datetime.datetime(2023, 5, 23, 3, 23, 9, 588_999, datetime.UTC)
_NOW = datetime.datetime(2023, 5, 23, 3, 23, 21, 814_000, datetime.UTC)


def _invocation(*, included: str = "", body: bytes | None = None) -> Invocation:
    return Invocation(
        endpoint="e",
        inference_id="i-1",
        received=_RECEIVED,
        expires=0,
        invocation_timeout=1,
        output=Location("out", "1.out"),
        failure=None,
        input_location="s3://in/key",
        body=body,
        content_type="text/csv",
        custom_attributes="trace=1",
        topics=Topics(included=frozenset(filter(None, [included]))),
    )


def _reply(body: bytes = b"1") -> ContainerReply:
    return ContainerReply(body, "text/csv", None)


def test_a_success_message() -> None:
    assert completed("us-east-1", _invocation(), _reply(), now=_NOW) == {
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
    message = failed("us-east-1", _invocation(), "ClientError: no", b"no", now=_NOW)

    assert message["invocationStatus"] == "Failed"
    assert message["failureReason"] == "ClientError: no"
    assert "responseParameters" not in message


@pytest.mark.parametrize(
    ("size", "included"), [(INCLUDED_RESPONSE_LIMIT, True), (INCLUDED_RESPONSE_LIMIT + 1, False)]
)
def test_a_response_is_included_up_to_the_limit(size: int, included: bool) -> None:
    body = b"x" * size

    invocation = _invocation(included="SUCCESS_NOTIFICATION_TOPIC")
    message = completed("us-east-1", invocation, _reply(body), now=_NOW)

    assert ("responseBody" in message) is included
    if included:
        response = message["responseBody"]
        assert isinstance(response, dict)
        assert base64.b64decode(response["content"]) == body


def test_neither_custom_attributes_nor_bodies_are_shown() -> None:
    assert "trace=1" not in repr(_invocation(body=b"secret"))
    assert "secret" not in repr(_invocation(body=b"secret"))
    assert "secret" not in repr(_reply(b"secret"))
