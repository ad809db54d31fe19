"""CreateEndpoint, UpdateEndpoint(WeightsAndCapacities), DescribeEndpoint, DeleteEndpoint, ListEndpoints."""

from __future__ import annotations

import copy
import hashlib

from airflow_sm_plugin.local import deployments
from airflow_sm_plugin.local.containers import containers_of
from airflow_sm_plugin.local.endpoint_configs import config_called
from airflow_sm_plugin.local.endpoints import KIND, LiveEndpoint, LiveVariant
from airflow_sm_plugin.local.errors import ValidationFailure
from airflow_sm_plugin.local.listing import list_page, with_token
from airflow_sm_plugin.local.models import model_called
from airflow_sm_plugin.local.operations import Params, operation
from airflow_sm_plugin.local.state import Record, Region, now, public

_IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
_OF_CONFIG = ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig")
"""What DescribeEndpoint repeats from the configuration."""


@operation("CreateEndpoint")
def create_endpoint(region: Region, params: Params) -> Record:
    """Begin to bring an endpoint up."""
    name = params["EndpointName"]
    arn = region.arn(KIND, name)
    with region.table(KIND) as endpoints:
        if name in endpoints:
            raise ValidationFailure(f'Cannot create already existing endpoint "{arn}".')
        live = _assemble(region, name, params["EndpointConfigName"])
        endpoints[name] = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": params["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "CreationTime": now(),
            "LastModifiedTime": now(),
            "LastDeploymentConfig": params.get("DeploymentConfig"),
            "_tags": params.get("Tags", []),
            "_config": live.config,
        }
    deployments.create(region, live)
    return {"EndpointArn": arn}


@operation("UpdateEndpoint")
def update_endpoint(region: Region, params: Params) -> Record:
    """Begin to replace what serves behind an endpoint."""
    name = params["EndpointName"]
    with region.table(KIND):
        record = _changeable(region, name)
        old: LiveEndpoint = record["_live"]
        new = _assemble(region, name, params["EndpointConfigName"])
        if params.get("RetainAllVariantProperties"):
            excluded = params.get("ExcludeRetainedVariantProperties", [])
            _retain(old, new, {one["VariantPropertyType"] for one in excluded})
        if not params.get("RetainDeploymentConfig"):
            record["LastDeploymentConfig"] = params.get("DeploymentConfig")
        _begin(record)
        record["_pending"] = {
            "EndpointConfigName": params["EndpointConfigName"],
            "ProductionVariants": [_pending_variant(variant) for variant in new.variants.values()],
            "StartTime": now(),
        }
    deployments.replace(region, old, new)
    return {"EndpointArn": record["EndpointArn"]}


@operation("UpdateEndpointWeightsAndCapacities")
def update_weights_and_capacities(region: Region, params: Params) -> Record:
    """Begin to change variants' weights and instance counts; the configuration stays."""
    wanted = {one["VariantName"]: one for one in params["DesiredWeightsAndCapacities"]}
    with region.table(KIND):
        record = _changeable(region, params["EndpointName"])
        live: LiveEndpoint = record["_live"]
        unknown = sorted(set(wanted) - set(live.variants))
        if unknown:
            raise ValidationFailure(
                f'The variant name(s) "{", ".join(unknown)}" is/are not present within endpoint configuration '
                f'"{record["EndpointConfigName"]}".'
            )
        _begin(record)
    deployments.rescale(region, live, wanted)
    return {"EndpointArn": record["EndpointArn"]}


@operation("DeleteEndpoint")
def delete_endpoint(region: Region, params: Params) -> Record:
    """Begin to end an endpoint; its configuration and models stay."""
    name = params["EndpointName"]
    with region.table(KIND):
        record = _idle(region, name)
        live = record.get("_live")
        record.update({"EndpointStatus": "Deleting", "LastModifiedTime": now(), "_live": None})
    deployments.delete(region, name, live)
    return {}


@operation("DescribeEndpoint")
def describe_endpoint(region: Region, params: Params) -> Record:
    """Answer an endpoint's status, and what serves behind it."""
    with region.table(KIND):
        record = _called(region, params["EndpointName"])
        live = record.get("_live")
        config: Record = live.config if live else record["_config"]
        answer = {
            **record,
            "PendingDeploymentSummary": record.get("_pending"),
            "DataCaptureConfig": _data_capture(config),
            **{member: config.get(member) for member in _OF_CONFIG},
        }
        if live is not None:
            answer["ProductionVariants"] = [_variant(one) for one in live.variants.values()]
        return public(answer)


@operation("ListEndpoints")
def list_endpoints(region: Region, params: Params) -> Record:
    """List endpoints."""
    members = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    with region.table(KIND) as endpoints:
        page = list_page(endpoints.values(), params, kind="Endpoint", members=members)
    return with_token("Endpoints", page)


def _called(region: Region, name: str) -> Record:
    with region.table(KIND) as endpoints:
        if name not in endpoints:
            raise ValidationFailure(f'Could not find endpoint "{region.arn(KIND, name)}".')
        return endpoints[name]


def _idle(region: Region, name: str) -> Record:
    record = _called(region, name)
    if record["EndpointStatus"] in _IN_PROGRESS:
        raise ValidationFailure(f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')
    return record


def _changeable(region: Region, name: str) -> Record:
    record = _idle(region, name)
    if record.get("_live") is None:  # only deletion is open to a failed endpoint
        raise ValidationFailure(f'Cannot update failed endpoint "{record["EndpointArn"]}".')
    return record


def _begin(record: Record) -> None:
    record.update({"EndpointStatus": "Updating", "FailureReason": None, "LastModifiedTime": now()})


def _assemble(region: Region, name: str, config_name: str) -> LiveEndpoint:
    """Return the endpoint as its configuration and models are now; later changes do not reach it."""
    config = copy.deepcopy(config_called(region, config_name))
    models = {
        variant["ModelName"]: copy.deepcopy(model_called(region, variant["ModelName"]))
        for variant in config["ProductionVariants"]
    }
    return LiveEndpoint(region, name, config, models)


def _retain(old: LiveEndpoint, new: LiveEndpoint, excluded: set[str]) -> None:
    for name, variant in new.variants.items():
        before = old.variants.get(name)
        if before is not None and "DesiredWeight" not in excluded:
            variant.weight = before.weight
        if before is not None and "DesiredInstanceCount" not in excluded:
            variant.wanted_count = before.instance_count


def _variant(variant: LiveVariant) -> Record:
    summary: Record = {
        "VariantName": variant.name,
        "DeployedImages": [_image(one, variant.model) for one in containers_of(variant.model)],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
    }
    serverless = variant.config.get("ServerlessConfig")
    if serverless:
        return {**summary, "CurrentServerlessConfig": serverless, "DesiredServerlessConfig": serverless}
    counts = {"CurrentInstanceCount": variant.instance_count, "DesiredInstanceCount": variant.wanted_count}
    return {**summary, **counts}


def _pending_variant(variant: LiveVariant) -> Record:
    return {
        "VariantName": variant.name,
        "DesiredWeight": variant.weight,
        "DesiredInstanceCount": variant.wanted_count,
        **{key: variant.config[key] for key in ("InstanceType",) if key in variant.config},
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
    told = config.get("DataCaptureConfig")
    if not told:
        return None
    return {
        "EnableCapture": told.get("EnableCapture", False),
        "CaptureStatus": "Started" if told.get("EnableCapture") else "Stopped",
        "CurrentSamplingPercentage": told["InitialSamplingPercentage"],
        "DestinationS3Uri": told["DestinationS3Uri"],
        **({"KmsKeyId": told["KmsKeyId"]} if told.get("KmsKeyId") else {}),
    }
