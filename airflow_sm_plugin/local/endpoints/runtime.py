"""InvokeEndpoint."""

from __future__ import annotations

from airflow_sm_plugin.local.account.operations import Params, operation
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.containers.containers import PRIMARY, ContainerInput, ContainerReply
from airflow_sm_plugin.local.containers.pipelines import Pipeline
from airflow_sm_plugin.local.endpoints.endpoints import LiveEndpoint, LiveVariant, endpoint_in_service
from airflow_sm_plugin.local.faults.recorded import container_answer, recorded

MAX_BODY_BYTES = 26_214_400
"""Of a request and of a response: 25 MB (AWS's FAQ on hosting). botocore's model still has 6,291,456."""

MAX_SERVERLESS_BODY_BYTES = 4 * 1_048_576
"""Of a request to a serverless endpoint (Developer Guide, "Serverless Inference")."""


@operation("InvokeEndpoint")
def invoke_endpoint(region: Region, params: Params) -> Record:
    name = params["EndpointName"]
    live = endpoint_in_service(region, name)
    if live.is_async:
        raise recorded("the endpoint is of the other kind", endpoint=name)
    variant = live.choose_variant(params.get("TargetVariant"))
    _check_size(variant, params["Body"])
    target_model, hostname = params.get("TargetModel"), params.get("TargetContainerHostname")
    _check_hostname(live, variant, hostname)
    _check_target_model(live, variant, target_model, hostname)
    payload = ContainerInput(
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


def _reply(
    region: Region, variant: LiveVariant, payload: ContainerInput, hostname: str | None
) -> ContainerReply:
    timeout = region.settings.invocation_timeout_seconds
    if payload.target_model is None:
        pipeline = variant.next_pipeline()
        return _checked(pipeline, pipeline.invoke(payload, timeout=timeout, hostname=hostname))
    with variant.lease(payload.target_model, hostname=hostname) as lease:
        lease.wait(seconds=region.settings.multi_model_ready_wait_seconds)
        reply = lease.pipeline.invoke(payload, timeout=timeout, lease=lease, hostname=hostname)
        return _checked(lease.pipeline, reply)


def _checked(pipeline: Pipeline, reply: ContainerReply) -> ContainerReply:
    if len(reply.body) > MAX_BODY_BYTES:
        answer = container_answer("a response over the limit", size=len(reply.body), limit=MAX_BODY_BYTES)
        raise pipeline.failure(PRIMARY, *answer)
    return reply


def _check_size(variant: LiveVariant, body: bytes) -> None:
    if variant.is_serverless and len(body) > MAX_SERVERLESS_BODY_BYTES:
        raise recorded("a body over a serverless endpoint's limit")
    if len(body) > MAX_BODY_BYTES:
        raise recorded("a body over the limit", limit=MAX_BODY_BYTES)


def _check_hostname(live: LiveEndpoint, variant: LiveVariant, hostname: str | None) -> None:
    """Check TargetContainerHostname (Developer Guide, "Invoke a multi-container endpoint with direct invocation")."""
    if hostname is None and variant.is_direct:
        raise recorded("a direct endpoint needs a container's name", endpoint=live.name)
    if hostname is not None and not variant.is_direct:
        raise recorded("an endpoint that is not direct", endpoint=live.name)
    if hostname is not None and hostname not in (spec.name for spec in variant.specs):
        raise recorded("a container's name is not known", hostname=hostname, endpoint=live.name)


def _check_target_model(
    live: LiveEndpoint, variant: LiveVariant, target_model: str | None, hostname: str | None
) -> None:
    is_multi_model = any(spec.multi_model for spec in variant.specs if hostname in (None, spec.name))
    if target_model is not None and not is_multi_model:
        raise recorded("the endpoint has no target models", endpoint=live.name)
    if target_model is None and is_multi_model:
        raise recorded("a target model must be named")
