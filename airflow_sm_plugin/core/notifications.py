"""Read the notifications that SageMaker publishes for asynchronous inferences.

They arrive from SNS, in an SQS queue wrapped into SNS's envelope, or bare with raw message delivery. Formats: the
SageMaker developer guide, "Asynchronous inference: check prediction results".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest

_QUEUE_URL = re.compile(r"https?://[^/\s]+/\S+")


def check_queue_url(queue_url: str) -> None:
    """Refuse a text that is no queue's URL; SQS itself would refuse it only after an inference is paid.

    :raises InvalidRequest: it is not ``https://sqs.<region>.amazonaws.com/<account>/<name>`` or the like
    """
    if not _QUEUE_URL.fullmatch(queue_url):
        raise InvalidRequest(
            f"completion_queue must be a queue's URL, https://sqs.<region>.amazonaws.com/<account>/<name>, not "
            f"{queue_url!r:.80}"
        )


@dataclass(frozen=True)
class InferenceNotification:
    """One finished asynchronous inference.

    ``custom_attributes`` are those of the *request*; what the model set on its response is not notified.
    ``output_location`` is None when it failed, ``failure_reason`` is None when it succeeded. Times are SageMaker's
    texts (ISO 8601). The repr leaves the custom attributes out: they are sensitive.
    """

    succeeded: bool
    endpoint_name: str
    input_location: str | None
    output_location: str | None
    inference_id: str | None
    custom_attributes: str | None = field(repr=False)
    failure_reason: str | None
    received_time: str | None
    event_time: str | None


def parse(message: str) -> InferenceNotification | None:
    """Parse an SNS envelope or a raw-delivery body; None for SageMaker's TestNotification, which means nothing.

    :raises InvalidRequest: neither of them, so another service's message
    """
    event = _event(message)
    ours = event.get("eventSource") == "aws:sagemaker"
    if ours and event.get("eventName") == "TestNotification":
        return None
    if not ours or event.get("eventName") != "InferenceResult":
        raise InvalidRequest(
            "this message is no SageMaker inference notification: its eventSource or eventName differs"
        )
    status = _text(event, "invocationStatus")
    if status not in ("Completed", "Failed"):
        raise InvalidRequest(f"this inference notification has an unknown invocationStatus: {status!r:.80}")
    request = _mapping(event.get("requestParameters"))
    response = _mapping(event.get("responseParameters"))
    return InferenceNotification(
        succeeded=status == "Completed",
        endpoint_name=_text(request, "endpointName") or "",
        input_location=_text(request, "inputLocation"),
        output_location=_text(response, "outputLocation"),
        inference_id=_text(event, "inferenceId"),
        custom_attributes=_text(request, "customAttributes"),
        failure_reason=_text(event, "failureReason"),
        received_time=_text(event, "receivedTime"),
        event_time=_text(event, "eventTime"),
    )


def _event(message: str) -> Mapping[str, Any]:
    body = _json_object(message)
    if body.get("Type") == "Notification" and "Message" in body:
        return _json_object(body["Message"])
    return body


def _json_object(text: object) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, Mapping):
        raise InvalidRequest("this message is no SageMaker inference notification: it is not a JSON object")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest(
        f"this message is no SageMaker inference notification: its {name} is a {type(value).__name__}, not a text"
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
