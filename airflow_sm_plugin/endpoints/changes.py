"""The changes that an update makes, and those that SageMaker refuses: detected before anything is created."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_sm_plugin.exceptions import EndpointScaled, InvalidRequest, RequestRefused
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec, Variant

_SCALED = re.compile(r"scalable target|auto scaling|application autoscaling|be deregistered", re.IGNORECASE)
_OTHERWISE = re.compile(
    r"Cannot update failed|Deployment ?Config|UpdatePolicy|Traffic ?Routing|CanarySize|LinearStepSize|"
    r"MaximumBatchSize|AutoRollback|serverless|"
    r"\brole\b|\bpermission|\bnot authorized|\balarm|\bKMS\b|\bVPC\b|\bsubnet|\bquota\b",
    re.IGNORECASE,
)
"""Words of refusals of UpdateEndpoint for other reasons: as recorded, or the names of request members."""


def variant_names(description: Mapping[str, Any], served: Mapping[str, Any] | None = None) -> list[str]:
    """List the present production variants, from DescribeEndpoint's or else DescribeEndpointConfig's answer."""
    variants = description.get("ProductionVariants") or (served or {}).get("ProductionVariants") or ()
    return [str(variant["VariantName"]) for variant in variants]


def changing_variants(
    served: Mapping[str, Any], variants: Sequence[Variant], *, with_pools: bool = False
) -> list[str]:
    """List the served variants that an update removes, or whose instance type it changes.

    :param served: DescribeEndpointConfig's answer for the endpoint's present configuration
    :param variants: those of the wanted configuration
    :param with_pools: also variants whose InstancePools change: AWS does not document whether that counts as a change
        of the instance type
    """
    wanted = {variant.variant_name: variant.parameters() for variant in variants}
    return [
        str(variant["VariantName"])
        for variant in served.get("ProductionVariants") or ()
        if _changes(variant, wanted.get(str(variant["VariantName"])), with_pools=with_pools)
    ]


def check_change(
    description: Mapping[str, Any],
    served: Mapping[str, Any] | None,
    spec: EndpointConfigSpec,
    deployment_config: Mapping[str, Any] | None,
) -> None:
    """Raise InvalidRequest for an update between instances and serverless, or guardrails unfit for the variants."""
    name, now = spec.endpoint_name, _is_serverless(description, served)
    if now not in (None, spec.is_serverless):
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
        several = f"of {len(after)} production variants ({', '.join(after)})"
        kind = "serverless" if spec.is_serverless else several
        raise InvalidRequest(
            f"deployment_config has a RollingUpdatePolicy, but endpoint {name} is {kind}: SageMaker rolls endpoints of "
            f"one variant with instances only; give a BlueGreenUpdatePolicy"
        )


def is_about_scaling(code: str, message: str) -> bool | None:
    """Decide whether a refusal of UpdateEndpoint is about variants that scale; None for a wording that is not known."""
    if _SCALED.search(message):
        return True
    return False if code != "ValidationException" or _OTHERWISE.search(message) else None


def scaled_error(
    endpoint_name: str,
    scaled: Collection[str],
    refusal: RequestRefused | None = None,
    *,
    is_certain: bool = True,
) -> EndpointScaled:
    """Build the error of an update that SageMaker refuses because variants are scalable targets.

    :param scaled: their names; empty where they are not known
    :param refusal: SageMaker's answer; None where no request was sent
    """
    which = f"variant {', '.join(scaled)}" if scaled else "a variant of it"
    likely = "" if is_certain else "probably "
    return EndpointScaled(
        f"endpoint {endpoint_name} cannot be updated, and serves what it served: {likely}{which} is registered with "
        f"Application Auto Scaling, and the update changes its instance type or removes it",
        reason="" if refusal is None else refusal.reason or refusal.as_sentence,
        do="give on_scaled='rescale', which takes the scaling down, updates, and puts it back; or take it down before "
        "(SageMakerScaleEndpointOperator(action='remove'))",
    )


def _changes(now: Mapping[str, Any], wanted: Mapping[str, Any] | None, *, with_pools: bool) -> bool:
    if wanted is None or bool(now.get("ServerlessConfig")) != bool(wanted.get("ServerlessConfig")):
        return True
    types = now.get("InstanceType"), wanted.get("InstanceType")
    if None not in types and types[0] != types[1]:
        return True
    return with_pools and (types[0] != types[1] or _pools(now) != _pools(wanted))


def _pools(variant: Mapping[str, Any]) -> list[str]:
    return sorted(
        f"{pool.get('Priority')} {pool.get('InstanceType')}" for pool in variant.get("InstancePools") or ()
    )


def _is_serverless(description: Mapping[str, Any], served: Mapping[str, Any] | None) -> bool | None:
    sources = (description, served or {})
    variants = [variant for source in sources for variant in source.get("ProductionVariants") or ()]
    keys = ("ServerlessConfig", "CurrentServerlessConfig", "DesiredServerlessConfig")
    return any(variant.get(key) for variant in variants for key in keys) if variants else None
