"""InvokeEndpointAsync: accept a request into its endpoint's queue; create and close the queues.

Keys of outputs and error texts were observed at the service: the output object's uuid is not the inference id, and the
answer has no custom attributes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import cast

from airflow_sm_plugin.local.account.operations import Params, operation
from airflow_sm_plugin.local.account.s3_objects import Location
from airflow_sm_plugin.local.account.state import Record, Region, now
from airflow_sm_plugin.local.async_inference.queue import AsyncQueue, Backlog, Invocation, Topics
from airflow_sm_plugin.local.async_inference.worker import TEST_NOTIFICATION, expired, publish, run
from airflow_sm_plugin.local.endpoints.endpoints import (
    LiveEndpoint,
    endpoint_in_service,
    when_deleted,
    when_serving,
)
from airflow_sm_plugin.local.faults.recorded import RecordedFailure, recorded

DEFAULT_CONCURRENT_INVOCATIONS = 4
"""MaxConcurrentInvocationsPerInstance when not configured; the service's own default is not published."""

_QUEUES = "async-queue"


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
    """Find the endpoint's queue, or create and start it."""
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


when_serving(_serving)
when_deleted(_deleted)
