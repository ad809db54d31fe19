"""Application Auto Scaling of a production variant: arguments checked, and the requests built from them.

Sources: the SageMaker guide's pages *Autoscale an asynchronous endpoint* (both policies and the alarm) and *Define a
scaling policy* (real-time variants), and the API reference of Application Auto Scaling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.template_values import is_given, number, whole_number
from airflow_sm_plugin.exceptions import EndpointNotInService, EndpointUnchangeable, InvalidRequest
from airflow_sm_plugin.resources.endpoint_status import SERVING_STATUSES

SERVICE_NAMESPACE = "sagemaker"
SCALABLE_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
SERVERLESS_DIMENSION = "sagemaker:variant:DesiredProvisionedConcurrency"
COMPONENT_DIMENSION = "sagemaker:inference-component:DesiredCopyCount"
BACKLOG_POLICY = "airflow-sm-backlog"
WAKE_POLICY = "airflow-sm-wake-from-zero"
INVOCATIONS_POLICY = "airflow-sm-invocations"
OUR_POLICIES = frozenset({BACKLOG_POLICY, WAKE_POLICY, INVOCATIONS_POLICY})
"""Names that only this package gives. A policy's name is unique in its variant: all variants share these names."""
DEFAULT_TARGET_BACKLOG = 5.0
"""Waiting requests per instance: the value of the guide's example."""
_UNSCALABLE = "ml.t2."
_ALARM_METRIC = "HasBacklogWithoutCapacity"
_ALARM_PREFIX = "airflow-sm/"
# The live service answers these as ObjectNotFoundException, moto as ValidationException: the text is the same.
_MISSING = re.compile(r"No (?:scaling policy|scalable target) (?:found|registered) for", re.IGNORECASE)


@dataclass(frozen=True)
class ScaledVariant:
    """A production variant as a scalable target: its instances or, if serverless, its provisioned concurrency."""

    endpoint_name: str
    variant_name: str
    dimension: str = SCALABLE_DIMENSION

    def checked(self) -> ScaledVariant:
        """Return the variant itself, or raise InvalidName for a malformed name."""
        check_name(self.endpoint_name, "endpoint name")
        check_name(self.variant_name, "variant name")
        return self

    @classmethod
    def from_target(cls, target: Mapping[str, Any]) -> ScaledVariant | None:
        """Read a described scalable target; None when it is not a variant."""
        match str(target.get("ResourceId")).split("/"):
            case ["endpoint", endpoint_name, "variant", variant_name]:
                return cls(endpoint_name, variant_name, str(target.get("ScalableDimension")))
        return None

    @property
    def resource_id(self) -> str:
        return f"endpoint/{self.endpoint_name}/variant/{self.variant_name}"

    @property
    def alarm_name(self) -> str:
        """The name of the alarm that wakes the variant; unique, since endpoint and variant names hold no slash."""
        return f"{_ALARM_PREFIX}{self.resource_id}/{_ALARM_METRIC}"

    def target(self) -> dict[str, Any]:
        """Build the three parameters by which every call names the scalable target."""
        return {
            "ServiceNamespace": SERVICE_NAMESPACE,
            "ResourceId": self.resource_id,
            "ScalableDimension": self.dimension,
        }


def alarm_name_prefix(endpoint_name: str) -> str:
    return f"{_ALARM_PREFIX}endpoint/{endpoint_name}/variant/"


def wakes_endpoint(alarm_actions: Sequence[str], endpoint_name: str) -> bool:
    """Check that an alarm sets off our wake policy of a variant of the endpoint: its name alone proves nothing."""
    resource = f":resource/{SERVICE_NAMESPACE}/endpoint/{endpoint_name}/variant/"
    return any(
        resource in action and action.endswith(f":policyName/{WAKE_POLICY}") for action in alarm_actions
    )


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Checked numbers: capacities in instances, cooldowns in seconds; None is no target."""

    min_capacity: int
    max_capacity: int
    target_backlog: float | None
    target_invocations: float | None
    scale_in_cooldown: int
    scale_out_cooldown: int

    @classmethod
    def read(
        cls,
        *,
        min_capacity: object,
        max_capacity: object,
        target_backlog_per_instance: object = None,
        target_invocations_per_instance: object = None,
        scale_in_cooldown: object = 300,
        scale_out_cooldown: object = 300,
    ) -> Scaling:
        """Read an operator's arguments: numbers may be text, empty is not set; raise InvalidRequest otherwise."""
        scaling = cls(
            min_capacity=whole_number(min_capacity, "min_capacity"),
            max_capacity=whole_number(max_capacity, "max_capacity", at_least=1),
            target_backlog=_target(target_backlog_per_instance, "target_backlog_per_instance"),
            target_invocations=_target(target_invocations_per_instance, "target_invocations_per_instance"),
            scale_in_cooldown=whole_number(scale_in_cooldown, "scale_in_cooldown"),
            scale_out_cooldown=whole_number(scale_out_cooldown, "scale_out_cooldown"),
        )
        if scaling.max_capacity < scaling.min_capacity:
            raise InvalidRequest(
                f"max_capacity is {scaling.max_capacity}, less than min_capacity, which is {scaling.min_capacity}: "
                f"raise the first or lower the second"
            )
        return scaling


@dataclass(frozen=True, kw_only=True)
class ScalingPlan:
    """The wanted scaling of a variant: capacity, the tracking policy, and the policy that wakes it from zero."""

    variant: ScaledVariant
    scaling: Scaling
    asynchronous: bool

    @property
    def wakes(self) -> bool:
        """Decide whether the variant needs the step scaling policy and its alarm.

        Without an instance there is no backlog *per instance*: target tracking alone may leave requests waiting.
        """
        return self.scaling.min_capacity == 0

    def registration(self) -> dict[str, Any]:
        return {
            **self.variant.target(),
            "MinCapacity": self.scaling.min_capacity,
            "MaxCapacity": self.scaling.max_capacity,
        }

    def tracking_policy(self) -> dict[str, Any]:
        if self.asynchronous:
            name, target = BACKLOG_POLICY, self.scaling.target_backlog
            metric = {"CustomizedMetricSpecification": self._metric("ApproximateBacklogSizePerInstance")}
        else:
            name, target = INVOCATIONS_POLICY, self.scaling.target_invocations
            kind = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
            metric = {"PredefinedMetricSpecification": kind}
        return {
            **self.variant.target(),
            "PolicyName": name,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": target,
                **metric,
                "ScaleInCooldown": self.scaling.scale_in_cooldown,
                "ScaleOutCooldown": self.scaling.scale_out_cooldown,
            },
        }

    def wake_policy(self) -> dict[str, Any]:
        """Build the parameters of PutScalingPolicy for step scaling: one instance more when the alarm goes off."""
        return {
            **self.variant.target(),
            "PolicyName": WAKE_POLICY,
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": {
                "AdjustmentType": "ChangeInCapacity",
                "MetricAggregationType": "Average",
                "Cooldown": self.scaling.scale_out_cooldown,
                "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
            },
        }

    def alarm(self, policy_arn: str) -> dict[str, Any]:
        """Build the parameters of PutMetricAlarm for the alarm that sets off the wake policy of this ARN.

        Two minutes of requests without an instance, as in the guide; without data the alarm does not go off.
        """
        return {
            "AlarmName": self.variant.alarm_name,
            "AlarmDescription": f"Made by airflow-sm-plugin: wakes {self.variant.resource_id} from zero instances",
            **self._metric(_ALARM_METRIC),
            "Period": 60,
            "EvaluationPeriods": 2,
            "DatapointsToAlarm": 2,
            "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "missing",
            "AlarmActions": [policy_arn],
        }

    def _metric(self, name: str) -> dict[str, Any]:
        return {
            "MetricName": name,
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": self.variant.endpoint_name}],
            "Statistic": "Average",
        }


def plan_scaling(
    variant: ScaledVariant,
    scaling: Scaling,
    description: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
) -> ScalingPlan:
    """Plan the scaling of a variant from DescribeEndpoint's answer. An endpoint can be registered during an update.

    :param config: DescribeEndpointConfig's answer; None where that is not known
    :raises EndpointNotInService: the endpoint has no variants yet, or no more
    :raises EndpointUnchangeable: the endpoint is Failed
    :raises InvalidRequest: no such variant, one that does not scale, or numbers that do not fit this kind of endpoint
    """
    _check_variant(variant, description)
    _check_scales(variant, config)
    asynchronous = bool(description.get("AsyncInferenceConfig"))
    fitting = _for_backlog(variant, scaling) if asynchronous else _for_invocations(variant, scaling)
    return ScalingPlan(variant=variant, scaling=fitting, asynchronous=asynchronous)


def stale_policies(plan: ScalingPlan, existing: Sequence[str]) -> list[str]:
    """Select the variant's policies that are ours and no longer wanted."""
    wanted = {BACKLOG_POLICY if plan.asynchronous else INVOCATIONS_POLICY} | (
        {WAKE_POLICY} if plan.wakes else set()
    )
    return sorted((OUR_POLICIES - wanted).intersection(existing))


def means_missing(message: str) -> bool:
    """Recognize an error of Application Auto Scaling for a missing policy or target."""
    return _MISSING.search(message) is not None


def _check_variant(variant: ScaledVariant, description: Mapping[str, Any]) -> None:
    name, status = variant.endpoint_name, str(description.get("EndpointStatus"))
    if status == "Failed":
        raise EndpointUnchangeable(
            f"endpoint {name} is Failed and cannot be scaled",
            reason=str(description.get("FailureReason") or "SageMaker gave none"),
            do="delete it and deploy it again",
        )
    summaries = description.get("ProductionVariants") or ()
    variants = {str(summary.get("VariantName")): summary for summary in summaries}
    if not variants and status in SERVING_STATUSES:
        raise EndpointNotInService(
            f"endpoint {name} is {status}, but DescribeEndpoint names no production variants of it, so that nothing "
            f"can be scaled",
            do="retry, which checks again",
        )
    if not variants or status == "Deleting":
        raise EndpointNotInService(
            f"endpoint {name} is {status}: its variants can be scaled once it is InService",
            do="scale it after the task that deploys it and waits",
        )
    if variant.variant_name not in variants:
        raise InvalidRequest(
            f"endpoint {name} has no variant {variant.variant_name!r}; variant_name is one of {', '.join(variants)}"
        )
    summary = variants[variant.variant_name]
    if summary.get("CurrentServerlessConfig") or summary.get("DesiredServerlessConfig"):
        raise InvalidRequest(
            f"variant {variant.variant_name} of endpoint {name} is serverless: SageMaker scales it by itself, within "
            f"the MaxConcurrency of its configuration; only its provisioned concurrency can be scaled "
            f"({SERVERLESS_DIMENSION}), which this operator does not"
        )


def _check_scales(variant: ScaledVariant, config: Mapping[str, Any] | None) -> None:
    for configured in (config or {}).get("ProductionVariants") or ():
        if configured.get("VariantName") != variant.variant_name:
            continue
        where = f"variant {variant.variant_name} of endpoint {variant.endpoint_name}"
        if not configured.get("ModelName"):
            raise InvalidRequest(
                f"{where} serves inference components: their copies scale ({COMPONENT_DIMENSION}), and its instances "
                f"by the ManagedInstanceScaling of its configuration; this operator does neither"
            )
        if fixed := unscalable_types(configured):
            raise InvalidRequest(
                f"{where} runs on {', '.join(fixed)}, and Application Auto Scaling does not scale t2 instances: deploy "
                f"it on another instance type first, e.g. ml.m5.large"
            )


def unscalable_types(variant: Mapping[str, Any]) -> list[str]:
    """Select the instance types of a variant that do not scale."""
    pools = [pool.get("InstanceType") for pool in variant.get("InstancePools") or ()]
    return [str(kind) for kind in (variant.get("InstanceType"), *pools) if str(kind).startswith(_UNSCALABLE)]


def _for_backlog(variant: ScaledVariant, scaling: Scaling) -> Scaling:
    if scaling.target_invocations is not None:
        raise InvalidRequest(
            f"endpoint {variant.endpoint_name} is asynchronous and scales by its backlog: leave "
            f"target_invocations_per_instance out, give target_backlog_per_instance"
        )
    return replace(scaling, target_backlog=scaling.target_backlog or DEFAULT_TARGET_BACKLOG)


def _for_invocations(variant: ScaledVariant, scaling: Scaling) -> Scaling:
    if scaling.target_backlog is not None:
        raise InvalidRequest(
            f"endpoint {variant.endpoint_name} is real-time and has no backlog: leave target_backlog_per_instance "
            f"out, give target_invocations_per_instance"
        )
    if scaling.min_capacity == 0:
        raise InvalidRequest(
            f"min_capacity is 0, but endpoint {variant.endpoint_name} is real-time: only an asynchronous endpoint "
            f"scales to zero instances; give 1 or more"
        )
    if scaling.target_invocations is None:
        raise InvalidRequest(
            f"endpoint {variant.endpoint_name} is real-time: give target_invocations_per_instance, the invocations a "
            f"minute that one instance should serve"
        )
    return scaling


def _target(value: object, name: str) -> float | None:
    return number(value, name, above=0) if is_given(value) else None
