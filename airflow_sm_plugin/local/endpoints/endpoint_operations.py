"""CreateEndpoint, UpdateEndpoint(WeightsAndCapacities), DescribeEndpoint, DeleteEndpoint, ListEndpoints."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account.operations import Params, listed, operation
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.containers.containers import containers_of
from airflow_sm_plugin.local.endpoints import deployments, guardrails
from airflow_sm_plugin.local.endpoints.data_capture import is_enabled
from airflow_sm_plugin.local.endpoints.endpoint_configs import config_called, is_serverless, not_found
from airflow_sm_plugin.local.endpoints.endpoints import KIND, LiveEndpoint, LiveVariant
from airflow_sm_plugin.local.endpoints.guardrails import DeploymentStage
from airflow_sm_plugin.local.faults.recorded import recorded
from airflow_sm_plugin.local.models.models import model_called

_IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})

log = logging.getLogger(__name__)
FOLLOWER = "scaling-follower"
"""A table. While it is empty, no variant is a scalable target, and Application Auto Scaling is not called."""


@operation("CreateEndpoint")
def create_endpoint(region: Region, params: Params) -> Record:
    name = params["EndpointName"]
    arn = region.arn(KIND, name)
    guardrails.check(params.get("DeploymentConfig"))
    with region.table(KIND) as endpoints:
        if name in endpoints:
            raise recorded("the endpoint exists already", arn=arn)
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
            "_pending": _pending(live),
        }
    deployments.create(region, live)
    return {"EndpointArn": arn}


@operation("UpdateEndpoint")
def update_endpoint(region: Region, params: Params) -> Record:
    name = params["EndpointName"]
    guardrails.check(params.get("DeploymentConfig"))
    # An HTTP call to Application Auto Scaling, so outside of the lock.
    scaled = _scaled_variants(region, name)
    with region.table(KIND):
        record = _changeable(region, name)
        old: LiveEndpoint = record["_live"]
        # A deleted configuration cannot be rolled back to: hashicorp/terraform-provider-aws issue 48997.
        config_called(region, record["EndpointConfigName"])
        new = _assemble(region, name, params["EndpointConfigName"])
        _check_change(old, new, scaled)
        kept = record["LastDeploymentConfig"] if params.get("RetainDeploymentConfig") else None
        guardrails.check_update(params.get("DeploymentConfig") or kept, _variants_of(old), _variants_of(new))
        if params.get("RetainAllVariantProperties"):
            excluded = params.get("ExcludeRetainedVariantProperties", [])
            _retain(old, new, {property_["VariantPropertyType"] for property_ in excluded})
        if not params.get("RetainDeploymentConfig"):
            record["LastDeploymentConfig"] = params.get("DeploymentConfig")
        _begin(record)
        record["_pending"] = _pending(new)
        deployment: Record | None = record["LastDeploymentConfig"]
    deployments.replace(region, old, new, deployment)
    return {"EndpointArn": record["EndpointArn"]}


@operation("UpdateEndpointWeightsAndCapacities")
def update_weights_and_capacities(region: Region, params: Params) -> Record:
    wanted = {desired["VariantName"]: desired for desired in params["DesiredWeightsAndCapacities"]}
    if len(wanted) != len(params["DesiredWeightsAndCapacities"]):
        raise recorded("a variant is named twice")
    with region.table(KIND):
        record = _changeable(region, params["EndpointName"])
        live: LiveEndpoint = record["_live"]
        unknown = sorted(set(wanted) - set(live.variants))
        if unknown:
            named = {"variants": ", ".join(unknown), "config": record["EndpointConfigName"]}
            raise recorded("a variant is not in the configuration", **named)
        _begin(record)
    deployments.rescale(region, live, wanted)
    return {"EndpointArn": record["EndpointArn"]}


def scale_variant(region: Region, name: str, variant: str, count: int) -> bool:
    """Begin to scale a variant, as Application Auto Scaling does; return False for a busy or missing endpoint."""
    with region.table(KIND) as endpoints:
        record = endpoints.get(name, {})
        live = record.get("_live")
        if record.get("EndpointStatus") != "InService" or live is None or variant not in live.variants:
            return False
        _begin(record)
    deployments.rescale(region, live, {variant: {"DesiredInstanceCount": count}})
    return True


@operation("DeleteEndpoint")
def delete_endpoint(region: Region, params: Params) -> Record:
    """Begin to delete an endpoint; its configuration and models stay."""
    name = params["EndpointName"]
    with region.table(KIND):
        record = _idle(region, name)
        live = record.get("_live")
        record.update({"EndpointStatus": "Deleting", "LastModifiedTime": now(), "_live": None})
    _deregister(region, name)
    deployments.delete(region, name, live)
    return {}


@operation("DescribeEndpoint")
def describe_endpoint(region: Region, params: Params) -> Record:
    with region.table(KIND):
        return describe(_called(region, params["EndpointName"]))


@operation("ListEndpoints")
def list_endpoints(region: Region, params: Params) -> Record:
    members = "EndpointName EndpointArn CreationTime LastModifiedTime EndpointStatus"
    with region.table(KIND) as endpoints:
        return listed("Endpoints", endpoints.values(), params, kind="Endpoint", members=members)


def _called(region: Region, name: str) -> Record:
    with region.table(KIND) as endpoints:
        if name not in endpoints:
            raise recorded("no such endpoint", arn=region.arn(KIND, name))
        return endpoints[name]


def _idle(region: Region, name: str) -> Record:
    record = _called(region, name)
    if record["EndpointStatus"] in _IN_PROGRESS:
        raise recorded("the endpoint is in progress", arn=record["EndpointArn"])
    return record


def _changeable(region: Region, name: str) -> Record:
    record = _idle(region, name)
    # A failed endpoint can only be deleted.
    if record.get("_live") is None or record["EndpointStatus"] == "Failed":
        raise recorded("the endpoint has failed", arn=record["EndpointArn"])
    return record


def _variants_of(live: LiveEndpoint) -> dict[str, Record]:
    return {variant["VariantName"]: variant for variant in live.config["ProductionVariants"]}


def _check_change(old: LiveEndpoint, new: LiveEndpoint, scaled: set[str]) -> None:
    """Refuse an update as SageMaker does; *scaled* are the names of the variants that are scalable targets."""
    kinds = {True: "serverless variants", False: "variants with instances"}
    before, after = kinds[is_serverless(old.config)], kinds[is_serverless(new.config)]
    if before != after:
        raise recorded("an endpoint changes between instances and serverless", before=before, after=after)
    wanted = _variants_of(new)
    changing = [
        name
        for name, variant in _variants_of(old).items()
        if name in scaled
        and (name not in wanted or variant.get("InstanceType") != wanted[name].get("InstanceType"))
    ]
    if changing:
        raise recorded("a variant that changes is a scalable target", variants=", ".join(changing))


def _begin(record: Record) -> None:
    record.update({"EndpointStatus": "Updating", "FailureReason": None, "LastModifiedTime": now()})


def _assemble(region: Region, name: str, config_name: str) -> LiveEndpoint:
    config = copy.deepcopy(config_called(region, config_name))
    if (now() - config["CreationTime"]).total_seconds() < region.settings.endpoint_config_delay_seconds:
        raise not_found(region, config_name)
    models = {
        variant["ModelName"]: copy.deepcopy(model_called(region, variant["ModelName"]))
        for variant in config["ProductionVariants"]
    }
    return LiveEndpoint(region, name, config, models)


def _pending(new: LiveEndpoint) -> Record:
    return {"live": new, "start": now(), "stage": DeploymentStage("Creating", 0.0), "since": now()}


def _retain(old: LiveEndpoint, new: LiveEndpoint, excluded: set[str]) -> None:
    for name, variant in new.variants.items():
        before = old.variants.get(name)
        if before is not None and "DesiredWeight" not in excluded:
            variant.weight = before.weight
        if before is not None and "DesiredInstanceCount" not in excluded:
            variant.wanted_count = before.instance_count


def _scaled_variants(region: Region, name: str) -> set[str]:
    return {str(target["ResourceId"]).rpartition("/")[2] for target in _targets_of(region, name)}


def _deregister(region: Region, name: str) -> None:
    """Deregister an endpoint's variants, as SageMaker does where DeleteEndpoint's caller is permitted to do so."""
    client = region.aws.autoscaling(region.name)
    for target in _targets_of(region, name):
        try:
            client.deregister_scalable_target(
                ServiceNamespace="sagemaker",
                ResourceId=target["ResourceId"],
                ScalableDimension=target["ScalableDimension"],
            )
        except (BotoCoreError, ClientError) as error:
            log.warning("%s stays registered: %s", target["ResourceId"], type(error).__name__)


def _targets_of(region: Region, name: str) -> list[Record]:
    with region.table(FOLLOWER) as followers:
        targets = scalable_targets(region) if followers else ()
    return [target for target in targets if target["ResourceId"].startswith(f"endpoint/{name}/variant/")]


def scalable_targets(region: Region) -> Iterator[Record]:
    pages = region.aws.autoscaling(region.name).get_paginator("describe_scalable_targets")
    for page in pages.paginate(ServiceNamespace="sagemaker"):
        yield from map(dict, page["ScalableTargets"])


_OF_CONFIG = ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig")
"""Members that DescribeEndpoint repeats from the configuration."""
_OF_VARIANT = ("ManagedInstanceScaling", "RoutingConfig", "InstancePools")
"""Members that a variant's summary repeats from the configuration."""


def describe(record: Record) -> Record:
    """Describe an endpoint's record. The caller holds the region's lock."""
    live: LiveEndpoint | None = record.get("_live")
    config: Record = live.config if live else record["_config"]
    pending: Record | None = record.get("_pending")
    answer = {
        **record,
        "PendingDeploymentSummary": _pending_summary(pending) if pending else None,
        "DataCaptureConfig": _data_capture(config),
        **{member: config.get(member) for member in _OF_CONFIG},
    }
    if live is not None:
        answer["ProductionVariants"] = [_variant_summary(variant) for variant in live.variants.values()]
    return public(answer)


def _variant_summary(variant: LiveVariant) -> Record:
    return {
        "VariantName": variant.name,
        "DeployedImages": [_image(container, variant.model) for container in containers_of(variant.model)],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
        **_capacity(variant),
    }


def _pending_summary(pending: Record) -> Record:
    new: LiveEndpoint = pending["live"]
    stage: DeploymentStage | None = pending["stage"]
    status = {"Status": stage.status if stage else "Deleting", "StartTime": pending["since"]}
    if stage is None:
        status["StatusMessage"] = "The deployment is being rolled back."
    variants = [
        {
            **_variant_summary(variant),
            **_members_of(variant, "InstanceType", "AcceleratorType"),
            "VariantStatus": [status],
        }
        for variant in new.variants.values()
    ]
    return {
        "EndpointConfigName": new.config["EndpointConfigName"],
        "ProductionVariants": variants,
        "StartTime": pending["start"],
    }


def _members_of(variant: LiveVariant, *members: str) -> Record:
    return {member: variant.config[member] for member in members if variant.config.get(member)}


def _capacity(variant: LiveVariant) -> Record:
    repeated = _members_of(variant, *_OF_VARIANT)
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
