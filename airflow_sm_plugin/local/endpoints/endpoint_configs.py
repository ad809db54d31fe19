"""CreateEndpointConfig, DescribeEndpointConfig, DeleteEndpointConfig, ListEndpointConfigs."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.account.operations import Params, listed, operation
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.containers.containers import containers_of, is_direct, is_multi_model
from airflow_sm_plugin.local.faults.recorded import RecordedFailure, recorded
from airflow_sm_plugin.local.models.models import model_called

KIND = "endpoint-config"
_MEMORY_SIZES = (1024, 2048, 3072, 4096, 5120, 6144)


@operation("CreateEndpointConfig")
def create_endpoint_config(region: Region, params: Params) -> Record:
    name = params["EndpointConfigName"]
    record: Record = copy.deepcopy(dict(params))
    with region.table(KIND) as configs:
        if name in configs:
            arn = configs[name]["EndpointConfigArn"]
            raise recorded("the endpoint configuration exists already", arn=arn)
        _check_variants(region, record["ProductionVariants"])
        _check_together(region, record)
        configs[name] = {
            **record,
            "Tags": None,
            "_tags": record.get("Tags", []),
            "EndpointConfigArn": region.arn(KIND, name),
            "CreationTime": now(),
        }
        return {"EndpointConfigArn": configs[name]["EndpointConfigArn"]}


@operation("DescribeEndpointConfig")
def describe_endpoint_config(region: Region, params: Params) -> Record:
    return public(config_called(region, params["EndpointConfigName"]))


@operation("DeleteEndpointConfig")
def delete_endpoint_config(region: Region, params: Params) -> Record:
    """Delete a configuration; endpoints that run it go on."""
    with region.table(KIND) as configs:
        config_called(region, params["EndpointConfigName"])
        del configs[params["EndpointConfigName"]]
    return {}


@operation("ListEndpointConfigs")
def list_endpoint_configs(region: Region, params: Params) -> Record:
    members = "EndpointConfigName EndpointConfigArn CreationTime"
    with region.table(KIND) as configs:
        return listed("EndpointConfigs", configs.values(), params, kind="EndpointConfig", members=members)


def config_called(region: Region, name: str) -> Record:
    with region.table(KIND) as configs:
        if name not in configs:
            raise not_found(region, name)
        return configs[name]


def not_found(region: Region, name: str) -> RecordedFailure:
    return recorded("no such endpoint configuration", arn=region.arn(KIND, name))


def _check_variants(region: Region, variants: list[Record]) -> None:
    names = [variant["VariantName"] for variant in variants]
    if len(names) != len(set(names)):
        raise recorded("variants share a name")
    for variant in variants:
        name = variant["VariantName"]
        if not variant.get("ModelName"):
            raise recorded("a variant without a model", variant=name)
        if variant.get("ManagedInstanceScaling"):
            raise recorded("managed instance scaling with a model")
        model_called(region, variant["ModelName"])
        if variant.get("ServerlessConfig"):
            _check_serverless(variant)
        else:
            _check_instances(variant)
        variant.setdefault("InitialVariantWeight", 1.0)


def _check_together(region: Region, config: Record) -> None:
    """Refuse combinations that SageMaker excludes (Developer Guide: serverless endpoints, multi-container endpoints).

    Two exclusions of serverless are not checked: images for GPUs, which run nothing here, and packages of AWS
    Marketplace, which cannot be subscribed to here.
    """
    models = [model_called(region, variant["ModelName"]) for variant in config["ProductionVariants"]]
    if is_serverless(config):
        containers = [container for model in models for container in containers_of(model)]
        for is_given, feature in (
            (config.get("DataCaptureConfig"), "data capture (DataCaptureConfig)"),
            (config.get("AsyncInferenceConfig"), "asynchronous inference (AsyncInferenceConfig)"),
            (len(models) > 1, "several production variants"),
            (any(len(containers_of(model)) > 1 for model in models), "models of several containers"),
            (any(map(is_multi_model, models)), "multi-model containers"),
            (any(model.get("VpcConfig") for model in models), "a VPC configuration (VpcConfig)"),
            (any(model.get("EnableNetworkIsolation") for model in models), "network isolation"),
            (any(container.get("ModelDataSource") for container in containers), "ModelDataSource"),
        ):
            if is_given:
                raise recorded("a serverless endpoint with what it excludes", what=feature)
    if config.get("AsyncInferenceConfig") and any(map(is_direct, models)):
        raise recorded("asynchronous with direct invocation")


def is_serverless(config: Record) -> bool:
    """Detect a serverless configuration. Its variants are all serverless, or none is."""
    return any(variant.get("ServerlessConfig") for variant in config["ProductionVariants"])


def _check_serverless(variant: Record) -> None:
    """Refuse ServerlessConfig with members of instances, and memory sizes that SageMaker does not have."""
    name, config = variant["VariantName"], variant["ServerlessConfig"]
    for member in ("InstanceType", "InitialInstanceCount", "InstancePools"):
        if variant.get(member):
            raise recorded("serverless and instances in one variant", variant=name, member=member)
    size, sizes = config["MemorySizeInMB"], ", ".join(map(str, _MEMORY_SIZES))
    if size not in _MEMORY_SIZES:
        raise recorded("a memory size that serverless does not have", variant=name, sizes=sizes, size=size)
    counts = {"provisioned": config.get("ProvisionedConcurrency", 0), "most": config["MaxConcurrency"]}
    if counts["provisioned"] > counts["most"]:
        raise recorded("more provisioned than permitted concurrency", variant=name, **counts)


def _check_instances(variant: Record) -> None:
    for member in ("InstanceType", "InitialInstanceCount"):
        if not variant.get(member) and not variant.get("InstancePools"):
            raise recorded("a variant without instances", variant=variant["VariantName"], member=member)
