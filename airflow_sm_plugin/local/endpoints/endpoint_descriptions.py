"""The answer of DescribeEndpoint, in full shape."""

from __future__ import annotations

import hashlib

from airflow_sm_plugin.local.account.state import Record, public
from airflow_sm_plugin.local.containers.containers import containers_of
from airflow_sm_plugin.local.endpoints.data_capture import is_enabled
from airflow_sm_plugin.local.endpoints.endpoints import LiveEndpoint, LiveVariant
from airflow_sm_plugin.local.endpoints.guardrails import DeploymentStage

_OF_CONFIG = ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig")
"""Members that DescribeEndpoint repeats from the configuration."""
_OF_VARIANT = ("ManagedInstanceScaling", "RoutingConfig", "InstancePools")
"""Members that a variant's summary repeats from the configuration."""


def describe(record: Record) -> Record:
    """Return the description of an endpoint's record; the region's lock is held."""
    live: LiveEndpoint | None = record.get("_live")
    config: Record = live.config if live else record["_config"]
    pending: Record | None = record.get("_pending")
    answer = {
        **record,
        "PendingDeploymentSummary": _pending(pending) if pending else None,
        "DataCaptureConfig": _data_capture(config),
        **{member: config.get(member) for member in _OF_CONFIG},
    }
    if live is not None:
        answer["ProductionVariants"] = [_variant(variant) for variant in live.variants.values()]
    return public(answer)


def _variant(variant: LiveVariant) -> Record:
    return {
        "VariantName": variant.name,
        "DeployedImages": [_image(container, variant.model) for container in containers_of(variant.model)],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
        **_capacity(variant),
    }


def _pending(pending: Record) -> Record:
    new: LiveEndpoint = pending["live"]
    stage: DeploymentStage | None = pending["stage"]
    status = {"Status": stage.status if stage else "Deleting", "StartTime": pending["since"]}
    if stage is None:
        status["StatusMessage"] = "The deployment is being rolled back."
    variants = [
        {**_variant(variant), **_of(variant, "InstanceType", "AcceleratorType"), "VariantStatus": [status]}
        for variant in new.variants.values()
    ]
    return {
        "EndpointConfigName": new.config["EndpointConfigName"],
        "ProductionVariants": variants,
        "StartTime": pending["start"],
    }


def _of(variant: LiveVariant, *members: str) -> Record:
    return {member: variant.config[member] for member in members if variant.config.get(member)}


def _capacity(variant: LiveVariant) -> Record:
    repeated = _of(variant, *_OF_VARIANT)
    serverless = variant.config.get("ServerlessConfig")
    if serverless:
        return {**repeated, "CurrentServerlessConfig": serverless, "DesiredServerlessConfig": serverless}
    return {
        **repeated,
        "CurrentInstanceCount": variant.instance_count,
        "DesiredInstanceCount": variant.wanted_count,
    }


def _image(container: Record, model: Record) -> Record:
    image = container.get("Image", "")
    digest = hashlib.sha256(image.encode()).hexdigest()
    return {
        "SpecifiedImage": image,
        "ResolvedImage": f"{image.split(':')[0]}@sha256:{digest}",
        "ResolutionTime": model["CreationTime"],
    }


def _data_capture(config: Record) -> Record | None:
    capture = config.get("DataCaptureConfig")
    if not capture:
        return None
    enabled = is_enabled(capture)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        **({"KmsKeyId": capture["KmsKeyId"]} if capture.get("KmsKeyId") else {}),
    }
