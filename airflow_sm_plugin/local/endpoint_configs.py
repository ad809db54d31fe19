"""CreateEndpointConfig, DescribeEndpointConfig, DeleteEndpointConfig, ListEndpointConfigs."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.containers import containers_of, is_direct, is_multi_model
from airflow_sm_plugin.local.errors import ValidationFailure
from airflow_sm_plugin.local.listing import list_page, with_token
from airflow_sm_plugin.local.models import model_called
from airflow_sm_plugin.local.operations import Params, operation
from airflow_sm_plugin.local.state import Record, Region, now, public

KIND = "endpoint-config"
_MEMORY_SIZES = (1024, 2048, 3072, 4096, 5120, 6144)


@operation("CreateEndpointConfig")
def create_endpoint_config(region: Region, params: Params) -> Record:
    """Store an endpoint configuration; its models must exist."""
    name = params["EndpointConfigName"]
    record: Record = copy.deepcopy(dict(params))
    with region.table(KIND) as configs:
        if name in configs:
            arn = configs[name]["EndpointConfigArn"]
            raise ValidationFailure(f'Cannot create already existing endpoint configuration "{arn}".')
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
    """Answer what CreateEndpointConfig was told."""
    return public(config_called(region, params["EndpointConfigName"]))


@operation("DeleteEndpointConfig")
def delete_endpoint_config(region: Region, params: Params) -> Record:
    """Forget a configuration; endpoints that run it go on."""
    with region.table(KIND) as configs:
        config_called(region, params["EndpointConfigName"])
        del configs[params["EndpointConfigName"]]
    return {}


@operation("ListEndpointConfigs")
def list_endpoint_configs(region: Region, params: Params) -> Record:
    """List endpoint configurations."""
    members = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    with region.table(KIND) as configs:
        page = list_page(configs.values(), params, kind="EndpointConfig", members=members)
    return with_token("EndpointConfigs", page)


def config_called(region: Region, name: str) -> Record:
    """Return a configuration's record. Raises ValidationFailure in the service's words."""
    with region.table(KIND) as configs:
        if name not in configs:
            raise not_found(region, name)
        return configs[name]


def not_found(region: Region, name: str) -> ValidationFailure:
    """Return what the service says of a configuration that it does not know (or does not see yet)."""
    return ValidationFailure(f'Could not find endpoint configuration "{region.arn(KIND, name)}".')


def _check_variants(region: Region, variants: list[Record]) -> None:
    names = [variant["VariantName"] for variant in variants]
    if len(names) != len(set(names)):
        raise ValidationFailure("Production variant names must be unique within an endpoint configuration.")
    for variant in variants:
        name = variant["VariantName"]
        if not variant.get("ModelName"):
            raise ValidationFailure(
                f"Production variant {name} names no model; inference components are not served here."
            )
        model_called(region, variant["ModelName"])
        if variant.get("ServerlessConfig"):
            _check_no_instances(variant)
            _check_memory(variant)
        else:
            _check_instances(variant)
        variant.setdefault("InitialVariantWeight", 1.0)


def _check_together(region: Region, config: Record) -> None:
    """Refuse what SageMaker does not combine (Developer Guide: serverless endpoints, multi-container endpoints)."""
    models = [model_called(region, variant["ModelName"]) for variant in config["ProductionVariants"]]
    if any(variant.get("ServerlessConfig") for variant in config["ProductionVariants"]):
        for is_asked_for, what in (
            (config.get("DataCaptureConfig"), "data capture (DataCaptureConfig)"),
            (config.get("AsyncInferenceConfig"), "asynchronous inference (AsyncInferenceConfig)"),
            (len(models) > 1, "several production variants"),
            (any(len(containers_of(model)) > 1 for model in models), "models of several containers"),
            (any(map(is_multi_model, models)), "multi-model containers"),
        ):
            if is_asked_for:
                raise ValidationFailure(f"Serverless endpoints do not support {what}.")
    if config.get("AsyncInferenceConfig") and any(map(is_direct, models)):
        raise ValidationFailure(
            "Asynchronous inference cannot name a container: a model with InferenceExecutionConfig Mode Direct "
            "does not support AsyncInferenceConfig."
        )


def _check_memory(variant: Record) -> None:
    size = variant["ServerlessConfig"]["MemorySizeInMB"]
    if size not in _MEMORY_SIZES:
        raise ValidationFailure(
            f"MemorySizeInMB of production variant {variant['VariantName']} must be one of "
            f"{', '.join(map(str, _MEMORY_SIZES))}, not {size}."
        )


def _check_no_instances(variant: Record) -> None:
    """Refuse members of instances beside ServerlessConfig, as SageMaker does; its text is not recorded."""
    for member in ("InstanceType", "InitialInstanceCount", "InstancePools"):
        if variant.get(member):
            raise ValidationFailure(
                f"Production variant {variant['VariantName']} is serverless: it cannot have both ServerlessConfig "
                f"and {member}."
            )


def _check_instances(variant: Record) -> None:
    for member in ("InstanceType", "InitialInstanceCount"):
        if not variant.get(member) and not variant.get("InstancePools"):
            raise ValidationFailure(f"Production variant {variant['VariantName']} needs {member}.")
