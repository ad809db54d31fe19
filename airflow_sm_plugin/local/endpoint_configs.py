"""CreateEndpointConfig, DescribeEndpointConfig, DeleteEndpointConfig, ListEndpointConfigs."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.errors import ValidationFailure
from airflow_sm_plugin.local.listing import list_page, with_token
from airflow_sm_plugin.local.models import model_called
from airflow_sm_plugin.local.operations import Params, operation
from airflow_sm_plugin.local.state import Record, Region, now, public

KIND = "endpoint-config"


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
        _check_variants(region, record.get("ShadowProductionVariants", []))
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
        if not variant.get("ServerlessConfig"):
            _check_instances(variant)
        variant.setdefault("InitialVariantWeight", 1.0)


def _check_instances(variant: Record) -> None:
    for member in ("InstanceType", "InitialInstanceCount"):
        if not variant.get(member) and not variant.get("InstancePools"):
            raise ValidationFailure(f"Production variant {variant['VariantName']} needs {member}.")
