"""InvokeEndpoint."""

from __future__ import annotations

import uuid

from airflow_sm_plugin.local.containers import PRIMARY, Payload, Reply
from airflow_sm_plugin.local.endpoints import LiveEndpoint, LiveVariant, endpoint_in_service
from airflow_sm_plugin.local.errors import ValidationFailure
from airflow_sm_plugin.local.operations import Params, operation
from airflow_sm_plugin.local.pipelines import Pipeline
from airflow_sm_plugin.local.state import Record, Region

MAX_RESPONSE_BYTES = 6_291_456
"""The limit of requests is the same; it is in botocore's model and checked with the other limits."""


@operation("InvokeEndpoint")
def invoke_endpoint(region: Region, params: Params) -> Record:
    """Run one request through the containers behind an endpoint and answer what the last one said."""
    name = params["EndpointName"]
    live = endpoint_in_service(region, name)
    if live.is_async:
        raise ValidationFailure(f"Endpoint {name} does not support this inference type.")
    variant = live.choose_variant(params.get("TargetVariant"))
    target_model, hostname = params.get("TargetModel"), params.get("TargetContainerHostname")
    _check_hostname(live, variant, hostname)
    _check_target_model(live, variant, target_model, hostname)
    payload = Payload(
        body=params["Body"],
        content_type=params.get("ContentType") or "application/octet-stream",
        accept=params.get("Accept"),
        custom_attributes=params.get("CustomAttributes"),
        target_model=target_model,
    )
    reply = _reply(region, variant, payload, hostname)
    if live.data_capture:
        live.data_capture.capture(variant.name, payload, reply, inference_id=params.get("InferenceId"))
    return {
        "Body": reply.body,
        "ContentType": reply.content_type,
        "InvokedProductionVariant": variant.name,
        "CustomAttributes": reply.custom_attributes,
    }


def _reply(region: Region, variant: LiveVariant, payload: Payload, hostname: str | None) -> Reply:
    timeout = region.settings.invocation_timeout_seconds
    if payload.target_model is None:
        pipeline = variant.next_pipeline()
        return _checked(pipeline, pipeline.invoke(payload, timeout=timeout, hostname=hostname))
    with variant.lease(payload.target_model, hostname=hostname) as lease:
        lease.wait(seconds=region.settings.multi_model_ready_wait_seconds)
        reply = lease.pipeline.invoke(payload, timeout=timeout, lease=lease, hostname=hostname)
        return _checked(lease.pipeline, reply)


def _checked(pipeline: Pipeline, reply: Reply) -> Reply:
    if len(reply.body) > MAX_RESPONSE_BYTES:
        raise pipeline.failure(
            PRIMARY,
            500,
            f"The response is {len(reply.body)} bytes; at most {MAX_RESPONSE_BYTES} are passed on.",
        )
    return reply


def _check_hostname(live: LiveEndpoint, variant: LiveVariant, hostname: str | None) -> None:
    """Refuse what the Developer Guide says is refused ("Invoke a multi-container endpoint with direct invocation").

    The texts are ours.
    """
    if hostname is None and variant.is_direct:
        raise ValidationFailure(
            f"Endpoint {live.name} is configured for direct invocation: TargetContainerHostname must be given."
        )
    if hostname is not None and not variant.is_direct:
        raise ValidationFailure(
            f"Endpoint {live.name} is not configured for direct invocation and does not support "
            "TargetContainerHostname."
        )
    if hostname is not None and hostname not in (spec.name for spec in variant.specs):
        raise ValidationFailure(f"TargetContainerHostname {hostname} does not exist in endpoint {live.name}.")


def _check_target_model(
    live: LiveEndpoint, variant: LiveVariant, target_model: str | None, hostname: str | None
) -> None:
    is_multi_model = any(spec.multi_model for spec in variant.specs if hostname in (None, spec.name))
    if target_model is not None and not is_multi_model:
        raise ValidationFailure(
            f"Endpoint {live.name} is not a multi-model endpoint and does not support target model header.",
            ErrorCode="TARGET_MODEL_HEADER_NOT_SUPPORTED",
        )
    if target_model is None and is_multi_model:
        raise ValidationFailure(f"Request {uuid.uuid4()} is missing a target model header.")
