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
    target_model = params.get("TargetModel")
    _check_target_model(live, variant, target_model)
    payload = Payload(
        body=params["Body"],
        content_type=params.get("ContentType") or "application/octet-stream",
        accept=params.get("Accept"),
        custom_attributes=params.get("CustomAttributes"),
        target_model=target_model,
    )
    reply = _reply(region, variant, payload)
    return {
        "Body": reply.body,
        "ContentType": reply.content_type,
        "InvokedProductionVariant": variant.name,
        "CustomAttributes": reply.custom_attributes,
    }


def _reply(region: Region, variant: LiveVariant, payload: Payload) -> Reply:
    timeout = region.settings.invocation_timeout_seconds
    if payload.target_model is None:
        pipeline = variant.next_pipeline()
        return _checked(pipeline, pipeline.invoke(payload, timeout=timeout))
    with variant.lease(payload.target_model) as lease:
        lease.wait(seconds=region.settings.multi_model_ready_wait_seconds)
        return _checked(lease.pipeline, lease.pipeline.invoke(payload, timeout=timeout, lease=lease))


def _checked(pipeline: Pipeline, reply: Reply) -> Reply:
    if len(reply.body) > MAX_RESPONSE_BYTES:
        raise pipeline.failure(
            PRIMARY,
            500,
            f"The response is {len(reply.body)} bytes; at most {MAX_RESPONSE_BYTES} are passed on.",
        )
    return reply


def _check_target_model(live: LiveEndpoint, variant: LiveVariant, target_model: str | None) -> None:
    if target_model is not None and not variant.is_multi_model:
        raise ValidationFailure(
            f"Endpoint {live.name} is not a multi-model endpoint and does not support target model header.",
            ErrorCode="TARGET_MODEL_HEADER_NOT_SUPPORTED",
        )
    if target_model is None and variant.is_multi_model:
        raise ValidationFailure(f"Request {uuid.uuid4()} is missing a target model header.")
