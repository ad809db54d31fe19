"""What an asynchronous endpoint publishes to SNS, in the service's own form, and the publishing."""

from __future__ import annotations

import base64
import datetime
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account.state import Region

log = logging.getLogger(__name__)

INCLUDED_RESPONSE_LIMIT = 128 * 1024
"""Larger model responses are left out of a notification (API reference, AsyncInferenceNotificationConfig)."""

TEST_NOTIFICATION: Mapping[str, object] = {
    "eventVersion": "1.0",
    "eventSource": "aws:sagemaker",
    "eventName": "TestNotification",
}


@dataclass(frozen=True)
class Event:
    """What one notification tells about one invocation.

    :param request: accept, contentType, customAttributes, endpointName, inputLocation; without those None
    :param response_body: the model's response; given only when the topic is to include it
    """

    region: str
    inference_id: str
    received: datetime.datetime
    request: Mapping[str, str | None] = field(repr=False)
    response_body: bytes | None = field(default=None, repr=False)


def completed(
    event: Event, *, now: datetime.datetime, content_type: str, output_location: str
) -> dict[str, object]:
    """Return the message for the success topic."""
    return {
        **_opening(event, now, "Completed"),
        "requestParameters": _given(event.request),
        "responseParameters": {"contentType": content_type, "outputLocation": output_location},
        **_closing(event, "Success"),
    }


def failed(event: Event, *, now: datetime.datetime, reason: str) -> dict[str, object]:
    """Return the message for the error topic."""
    return {
        **_opening(event, now, "Failed"),
        "failureReason": reason,
        "requestParameters": _given(event.request),
        **_closing(event, reason),
    }


def publish(region: Region, topic: str | None, message: Mapping[str, object]) -> None:
    """Publish to ``topic`` if there is one; a failure is logged and goes no further, as in the service."""
    if not topic:
        return
    topic_region = topic.split(":")[3]
    try:
        region.aws.sns(topic_region).publish(
            TopicArn=topic, Message=json.dumps(message, separators=(",", ":"))
        )
    except (ClientError, BotoCoreError) as error:
        log.warning("cannot publish to %s: %s", topic, error)


def _opening(event: Event, now: datetime.datetime, status: str) -> dict[str, object]:
    return {
        "awsRegion": event.region,
        "eventTime": _timestamp(now),
        "receivedTime": _timestamp(event.received),
        "invocationStatus": status,
    }


def _closing(event: Event, message: str) -> dict[str, object]:
    included: dict[str, object] = {}
    if event.response_body is not None and len(event.response_body) <= INCLUDED_RESPONSE_LIMIT:
        content = base64.b64encode(event.response_body).decode()
        # An undocumented form: this is what clients of the notification read.
        included = {"responseBody": {"message": message, "encoding": "BASE64", "content": content}}
    return {
        **included,
        "inferenceId": event.inference_id,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def _given(parameters: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _timestamp(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
