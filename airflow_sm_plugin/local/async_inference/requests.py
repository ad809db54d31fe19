"""InvokeEndpointAsync: queue a request, later run it: read its input, invoke, store the output, publish to SNS.

Keys of outputs, error texts and messages were observed at the service: the output object's uuid is not the inference
id, and the answer has no custom attributes.
"""

from __future__ import annotations

import base64
import datetime
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import cast

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account import s3_objects
from airflow_sm_plugin.local.account.operations import Params, operation
from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure
from airflow_sm_plugin.local.account.state import Record, Region, now
from airflow_sm_plugin.local.async_inference.queue import AsyncQueue, Backlog, Invocation, Topics
from airflow_sm_plugin.local.containers.container_logs import DataLog
from airflow_sm_plugin.local.containers.containers import ContainerInput, ContainerReply
from airflow_sm_plugin.local.endpoints.endpoints import (
    DELETED_HOOKS,
    SERVING_HOOKS,
    LiveEndpoint,
    LiveVariant,
    endpoint_in_service,
)
from airflow_sm_plugin.local.faults.recorded import RecordedFailure, recorded
from airflow_sm_plugin.local.protocol.errors import ModelFailure

log = logging.getLogger(__name__)

DEFAULT_CONCURRENT_INVOCATIONS = 4
"""MaxConcurrentInvocationsPerInstance when not configured; the service's own default is not published."""

_QUEUES = "async-queue"

INCLUDED_RESPONSE_LIMIT = 128 * 1024
"""Notifications do not include larger responses (API reference, AsyncInferenceNotificationConfig)."""

TEST_NOTIFICATION: Mapping[str, object] = {
    "eventVersion": "1.0",
    "eventSource": "aws:sagemaker",
    "eventName": "TestNotification",
}


@operation("InvokeEndpointAsync")
def invoke_endpoint_async(region: Region, params: Params) -> Record:
    live = endpoint_in_service(region, params["EndpointName"])
    if not live.is_async:
        raise recorded("the endpoint is of the other kind", endpoint=live.name)
    if ("Body" in params) == ("InputLocation" in params):
        raise recorded("neither body nor location, or both")
    output_config = live.config["AsyncInferenceConfig"]["OutputConfig"]
    invocation = _invocation(region, live.name, output_config, params)
    _queue(region, live.name).put(invocation)
    return {
        "InferenceId": invocation.inference_id,
        "OutputLocation": invocation.output.uri,
        "FailureLocation": invocation.failure.uri if invocation.failure else None,
    }


def backlog(region: Region, endpoint_name: str) -> Backlog:
    with region.table(_QUEUES) as queues:
        record = queues.get(endpoint_name)
    live = _live(region, endpoint_name)
    return Backlog(size=record["_queue"].size() if record else 0, instances=_instances(live) if live else 0)


def output_locations(
    output_config: Mapping[str, str], *, extension: str | None, filename: str | None
) -> tuple[Location, Location | None]:
    """Name the output and the failure object of a request.

    ``<path>/[<extension>/]<uuid>.out`` and ``…/<same uuid>-error.out``; a given file name is used for both.
    """
    identity = uuid.uuid4()
    folder = f"{extension.strip('/')}/" if extension else ""
    output = Location.parse(output_config["S3OutputPath"]).below(folder + (filename or f"{identity}.out"))
    if not output_config.get("S3FailurePath"):
        return output, None
    failure = Location.parse(output_config["S3FailurePath"])
    return output, failure.below(folder + (filename or f"{identity}-error.out"))


def _invocation(region: Region, name: str, output_config: Record, params: Params) -> Invocation:
    output, failure = output_locations(
        output_config, extension=params.get("S3OutputPathExtension"), filename=params.get("Filename")
    )
    settings = region.settings
    return Invocation(
        endpoint=name,
        inference_id=params.get("InferenceId") or str(uuid.uuid4()),
        received=now(),
        expires=time.monotonic() + params.get("RequestTTLSeconds", settings.async_request_ttl_seconds),
        invocation_timeout=params.get("InvocationTimeoutSeconds", settings.async_invocation_timeout_seconds),
        output=output,
        failure=failure,
        input_location=params.get("InputLocation"),
        body=params.get("Body"),
        content_type=params.get("ContentType"),
        accept=params.get("Accept"),
        custom_attributes=params.get("CustomAttributes"),
        kms_key_id=output_config.get("KmsKeyId"),
        topics=_topics(output_config),
    )


def _topics(output_config: Record) -> Topics:
    config = output_config.get("NotificationConfig", {})
    return Topics(
        success=config.get("SuccessTopic"),
        error=config.get("ErrorTopic"),
        included=frozenset(config.get("IncludeInferenceResponseIn", ())),
    )


def _queue(region: Region, name: str) -> AsyncQueue:
    with region.table(_QUEUES) as queues:
        if name not in queues:
            queue = AsyncQueue(
                capacity=lambda: _capacity(region, name),
                start=lambda invocation: _start(region, queue, invocation),
                expire=lambda invocation: _expire(region, invocation),
            )
            queues[name] = {"_queue": queue}
            region.at_close(queue.close)
            region.in_background(f"async-queue-{name}", queue.run)
        return cast("AsyncQueue", queues[name]["_queue"])


def _serving(region: Region, name: str) -> None:
    """Wake the queue; publish a test notification to each topic of the endpoint, as the service does."""
    live = _live(region, name)
    if live is None or not live.is_async:
        return
    _queue(region, name).capacity_changed()
    topics = _topics(live.config["AsyncInferenceConfig"]["OutputConfig"])
    for topic in dict.fromkeys((topics.success, topics.error)):
        publish(region, topic, TEST_NOTIFICATION)


def _deleted(region: Region, name: str) -> None:
    with region.table(_QUEUES) as queues:
        record = queues.pop(name, None)
    if record:
        record["_queue"].close()


def _live(region: Region, name: str) -> LiveEndpoint | None:
    try:
        return endpoint_in_service(region, name)
    except RecordedFailure:
        return None


def _instances(live: LiveEndpoint) -> int:
    return sum(variant.instance_count for variant in live.variants.values())


def _capacity(region: Region, name: str) -> int:
    live = _live(region, name)
    if live is None or not live.is_async:
        return 0
    client = live.config["AsyncInferenceConfig"].get("ClientConfig", {})
    per_instance = client.get("MaxConcurrentInvocationsPerInstance", DEFAULT_CONCURRENT_INVOCATIONS)
    return _instances(live) * int(per_instance)


def _start(region: Region, queue: AsyncQueue, invocation: Invocation) -> None:
    def is_dropped() -> bool:
        return queue.closed or region.closed.is_set() or _live(region, invocation.endpoint) is None

    def work() -> None:
        try:
            live = endpoint_in_service(region, invocation.endpoint)
            variant = live.choose_variant(None)
            run(region, invocation, live, variant, is_dropped=is_dropped)
        except RecordedFailure:
            queue.put(invocation)  # its instance was just removed: it waits for another
        finally:
            queue.finished()

    region.in_background(f"async-{invocation.inference_id}", work)


def _expire(region: Region, invocation: Invocation) -> None:
    region.in_background(f"async-{invocation.inference_id}", lambda: expired(region, invocation))


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


SERVING_HOOKS.append(_serving)
DELETED_HOOKS.append(_deleted)
