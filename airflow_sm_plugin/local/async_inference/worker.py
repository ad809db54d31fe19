"""Run an asynchronous invocation: read its input, invoke the model, store the output, publish to SNS.

The messages have the service's own format.
"""

from __future__ import annotations

import base64
import datetime
import json
import logging
from collections.abc import Callable, Mapping

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account import s3_objects
from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure
from airflow_sm_plugin.local.account.state import Region, now
from airflow_sm_plugin.local.async_inference.queue import Invocation
from airflow_sm_plugin.local.containers.container_logs import DataLog
from airflow_sm_plugin.local.containers.containers import ContainerInput, ContainerReply
from airflow_sm_plugin.local.endpoints.endpoints import LiveEndpoint, LiveVariant
from airflow_sm_plugin.local.protocol.errors import ModelFailure

log = logging.getLogger(__name__)

INCLUDED_RESPONSE_LIMIT = 128 * 1024
"""Notifications do not include larger responses (API reference, AsyncInferenceNotificationConfig)."""

TEST_NOTIFICATION: Mapping[str, object] = {
    "eventVersion": "1.0",
    "eventSource": "aws:sagemaker",
    "eventName": "TestNotification",
}


def run(
    region: Region,
    invocation: Invocation,
    live: LiveEndpoint,
    variant: LiveVariant,
    *,
    is_dropped: Callable[[], bool],
) -> None:
    """Run an invocation until its output or its failure object is stored. Raises ServiceUnavailable without instances.

    :param is_dropped: whether the endpoint was deleted meanwhile; then nothing is stored or published
    """
    pipeline = variant.next_pipeline()
    try:
        payload = ContainerInput(
            _input(region, invocation),
            invocation.content_type or "application/octet-stream",
            invocation.accept,
            invocation.custom_attributes,
        )
        reply = pipeline.invoke(payload, timeout=invocation.invocation_timeout)
        if live.data_capture:
            live.data_capture.capture(variant.name, payload, reply, inference_id=invocation.inference_id)
        if not is_dropped():
            _complete(region, invocation, reply)
    except ObjectFailure as error:
        if not is_dropped():
            _fail(region, invocation, f"ClientError: Cannot access {error.location.uri}: {error.reason}.")
    except ModelFailure as error:
        if not is_dropped():
            with DataLog(region, pipeline.logs) as data_log:
                data_log.write(error.message, about=invocation.inference_id)
            _fail(region, invocation, _reason(error), error.original_message.encode())


def expired(region: Region, invocation: Invocation) -> None:
    _fail(
        region,
        invocation,
        "ClientError: The request expired: it waited in the queue for longer than its RequestTTLSeconds.",
    )


def completed(
    region: str, invocation: Invocation, reply: ContainerReply, *, now: datetime.datetime
) -> dict[str, object]:
    is_included = "SUCCESS_NOTIFICATION_TOPIC" in invocation.topics.included
    return {
        **_opening(region, invocation, now, "Completed"),
        "requestParameters": _parameters(invocation),
        "responseParameters": {"contentType": reply.content_type, "outputLocation": invocation.output.uri},
        **_closing(invocation, "Success", reply.body if is_included else None),
    }


def failed(
    region: str, invocation: Invocation, reason: str, model_body: bytes | None, *, now: datetime.datetime
) -> dict[str, object]:
    is_included = "ERROR_NOTIFICATION_TOPIC" in invocation.topics.included
    return {
        **_opening(region, invocation, now, "Failed"),
        "failureReason": reason,
        "requestParameters": _parameters(invocation),
        **_closing(invocation, reason, model_body if is_included else None),
    }


def publish(region: Region, topic: str | None, message: Mapping[str, object]) -> None:
    """Publish to ``topic``, if any. A failure is only logged, as in the service."""
    if not topic:
        return
    sns = region.aws.sns(topic.split(":")[3])
    try:
        sns.publish(TopicArn=topic, Message=json.dumps(message, separators=(",", ":")))
    except (ClientError, BotoCoreError) as error:
        log.warning("cannot publish to %s: %s", topic, error)


def _input(region: Region, invocation: Invocation) -> bytes:
    """Read the body. Only a running request needs it: a request with a missing input is accepted, as by the service."""
    if invocation.body is not None:
        return invocation.body
    return s3_objects.read(region, Location.parse(str(invocation.input_location)))


def _reason(error: ModelFailure) -> str:
    kind = "client" if 400 <= error.original_status < 500 else "server"
    return (
        f"ClientError: Received {kind} error ({error.original_status}) from model. "
        "See the SageMaker Endpoint logs in your account for more information."
    )


def _complete(region: Region, invocation: Invocation, reply: ContainerReply) -> None:
    s3_objects.write(
        region,
        invocation.output,
        reply.body,
        content_type=reply.content_type,
        kms_key_id=invocation.kms_key_id,
    )
    log.info("asynchronous invocation %s of %s completed", invocation.inference_id, invocation.endpoint)
    publish(region, invocation.topics.success, completed(region.name, invocation, reply, now=now()))


def _fail(region: Region, invocation: Invocation, reason: str, model_body: bytes | None = None) -> None:
    if invocation.failure:
        content = reason.encode() if model_body is None else model_body
        try:
            s3_objects.write(region, invocation.failure, content, kms_key_id=invocation.kms_key_id)
        except ObjectFailure as error:
            log.warning("asynchronous invocation %s: cannot write %s", invocation.inference_id, error)
    log.info("asynchronous invocation %s of %s failed", invocation.inference_id, invocation.endpoint)
    publish(region, invocation.topics.error, failed(region.name, invocation, reason, model_body, now=now()))


def _opening(region: str, invocation: Invocation, now: datetime.datetime, status: str) -> dict[str, object]:
    return {
        "awsRegion": region,
        "eventTime": _timestamp(now),
        "receivedTime": _timestamp(invocation.received),
        "invocationStatus": status,
    }


def _parameters(invocation: Invocation) -> dict[str, str]:
    parameters = {
        "accept": invocation.accept,
        "contentType": invocation.content_type,
        "customAttributes": invocation.custom_attributes,
        "endpointName": invocation.endpoint,
        "inputLocation": invocation.input_location,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _closing(invocation: Invocation, message: str, body: bytes | None) -> dict[str, object]:
    included: dict[str, object] = {}
    if body is not None and len(body) <= INCLUDED_RESPONSE_LIMIT:
        content = base64.b64encode(body).decode()
        # An undocumented form: this is what clients of the notification read.
        included = {"responseBody": {"message": message, "encoding": "BASE64", "content": content}}
    return {
        **included,
        "inferenceId": invocation.inference_id,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def _timestamp(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
