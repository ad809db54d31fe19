"""What an update changes of an endpoint, and what SageMaker refuses of that: found before anything is created."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.production_variant import Variant
from airflow_sm_plugin.exceptions import EndpointScaled, InvalidRequest


def variant_names(description: Mapping[str, Any], served: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names of the production variants that an endpoint has now.

    :param description: DescribeEndpoint's
    :param served: DescribeEndpointConfig's of its configuration, None where that is not known
    """
    variants = description.get("ProductionVariants") or (served or {}).get("ProductionVariants") or ()
    return [str(variant["VariantName"]) for variant in variants]


def changing_variants(served: Mapping[str, Any], variants: Sequence[Variant]) -> list[str]:
    """Return the served variants that an update removes, or whose instance type it changes.

    :param served: DescribeEndpointConfig's of the configuration that the endpoint has now
    :param variants: those of the configuration that it is to get
    """
    wanted = {variant.variant_name: variant.parameters() for variant in variants}
    return [
        str(variant["VariantName"])
        for variant in served.get("ProductionVariants") or ()
        if _place(variant) != _place(wanted.get(str(variant["VariantName"])))
    ]


def check_change(
    description: Mapping[str, Any],
    served: Mapping[str, Any] | None,
    spec: EndpointConfigSpec,
    deployment_config: Mapping[str, Any] | None,
) -> None:
    """Refuse an update that SageMaker refuses, as far as one can tell.

    :raises InvalidRequest: from instances to serverless or back, or guardrails that do not fit the variants
    """
    name, now = spec.endpoint_name, _is_serverless(description, served)
    if now is not None and now != spec.is_serverless:
        kinds = {True: "serverless", False: "with instances"}
        raise InvalidRequest(
            f"endpoint {name} is {kinds[now]}, and an update cannot make it one {kinds[not now]}: take another name, "
            f"or delete it first (SageMakerDeleteEndpointOperator does)"
        )
    if deployment_config is None:
        return
    before, after = variant_names(description, served), [variant.variant_name for variant in spec.variants]
    if before and set(before) != set(after):
        raise InvalidRequest(
            f"deployment_config needs the same production variants before and after: endpoint {name} has "
            f"{', '.join(before)}, the update {', '.join(after)}. Keep their names, or leave deployment_config out"
        )
    if deployment_config.get("RollingUpdatePolicy") and (spec.is_serverless or len(after) > 1):
        what = (
            "serverless"
            if spec.is_serverless
            else f"of {len(after)} production variants ({', '.join(after)})"
        )
        raise InvalidRequest(
            f"deployment_config has a RollingUpdatePolicy, but endpoint {name} is {what}: SageMaker rolls endpoints of "
            f"one variant with instances only; give a BlueGreenUpdatePolicy"
        )


def scaled_error(endpoint_name: str, scaled: Collection[str], refusal: object = None) -> EndpointScaled:
    """Return the error of an update that SageMaker refuses because variants are scalable targets.

    :param scaled: their names; empty where nobody may tell
    :param refusal: what SageMaker answered; None where it was not asked
    """
    which = f"variant {', '.join(scaled)}" if scaled else "a variant of it"
    answered = "" if refusal is None else f". {refusal}"
    return EndpointScaled(
        f"endpoint {endpoint_name} cannot be updated: {which} is registered with Application Auto Scaling, and the "
        f"update changes its instance type or removes it. It serves what it served. Give on_scaled='rescale', which "
        f"takes the scaling down, updates, and puts it back; or take it down before "
        f"(SageMakerScaleEndpointOperator(action='remove')){answered}"
    )


def _place(variant: Mapping[str, Any] | None) -> object:
    """Return what a variant runs on, for comparison; None is no variant."""
    if variant is None:
        return None
    pools = sorted(
        f"{pool.get('Priority')} {pool.get('InstanceType')}" for pool in variant.get("InstancePools") or ()
    )
    return variant.get("InstanceType"), pools, bool(variant.get("ServerlessConfig"))


def _is_serverless(description: Mapping[str, Any], served: Mapping[str, Any] | None) -> bool | None:
    """Say whether an endpoint is serverless; None where that is not known."""
    variants = [
        *(description.get("ProductionVariants") or ()),
        *((served or {}).get("ProductionVariants") or ()),
    ]
    if not variants:
        return None
    return any(
        variant.get("ServerlessConfig")
        or variant.get("CurrentServerlessConfig")
        or variant.get("DesiredServerlessConfig")
        for variant in variants
    )
