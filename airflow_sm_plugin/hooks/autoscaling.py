"""Calls of Application Auto Scaling about endpoint variants, and of CloudWatch about the alarms that scale them.

Every write can be repeated, and is, while Application Auto Scaling changes the same target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import translated, words_of
from airflow_sm_plugin.hooks.calls import ClientHook, is_not_found, pages_of, removed, repeated, until_visible
from airflow_sm_plugin.resources.scaling import (
    SERVICE_NAMESPACE,
    ScaledVariant,
    alarm_name_prefix,
    means_missing,
    wakes_endpoint,
)

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient

_UPDATE_ATTEMPTS = 6
"""Attempts of a write while Application Auto Scaling changes the same target: up to 23 s of pauses."""
_CONCURRENT = "ConcurrentUpdateException"

_Result = TypeVar("_Result")


class ScalableVariantHook(ClientHook):
    """Talk to Application Auto Scaling about variants. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "application-autoscaling"

    @property
    def client(self) -> ApplicationAutoScalingClient:
        return cast("ApplicationAutoScalingClient", self.get_conn())

    def register(self, request: Mapping[str, Any]) -> None:
        """Register a scalable target, or change it, from the parameters of RegisterScalableTarget."""
        with translated(f"application-autoscaling:RegisterScalableTarget {request['ResourceId']}"):
            _alone(lambda: self.client.register_scalable_target(**request))

    def put_policy(self, request: Mapping[str, Any]) -> str:
        """Create or replace a policy; return its ARN. Repeats while a new variant is not visible yet."""
        doing = f"application-autoscaling:PutScalingPolicy {request['PolicyName']} of {request['ResourceId']}"
        with translated(doing):
            return _when_registered(lambda: str(self.client.put_scaling_policy(**request)["PolicyARN"]))

    def registered(
        self, endpoint_name: str, variant_names: Sequence[str] | None = None
    ) -> list[ScaledVariant]:
        """List the registered variants of an endpoint, whatever dimension is scaled.

        :param variant_names: up to 50; None lists the variants of the whole account, page by page
        """
        return list(self.targets(endpoint_name, variant_names))

    def targets(
        self, endpoint_name: str, variant_names: Sequence[str] | None = None
    ) -> dict[ScaledVariant, Mapping[str, Any]]:
        """Describe the scalable targets of an endpoint's variants; parameters as in :meth:`registered`."""
        request: dict[str, Any] = {"ServiceNamespace": SERVICE_NAMESPACE}
        if variant_names is not None:
            if not variant_names:  # an empty filter is none
                return {}
            request["ResourceIds"] = [
                ScaledVariant(endpoint_name, name).resource_id for name in variant_names
            ]
        with translated(f"application-autoscaling:DescribeScalableTargets endpoint/{endpoint_name}"):
            pages = pages_of(self.client, "describe_scalable_targets", **request)
            described = [target for page in pages for target in page["ScalableTargets"]]
        found = {ScaledVariant.from_target(target): target for target in described}
        return {
            variant: target
            for variant, target in found.items()
            if variant is not None and variant.endpoint_name == endpoint_name
        }

    def policies(self, variant: ScaledVariant) -> list[Mapping[str, Any]]:
        """Describe all policies of the variant, including those that this package did not make."""
        with translated(f"application-autoscaling:DescribeScalingPolicies {variant.resource_id}"):
            pages = pages_of(self.client, "describe_scaling_policies", **variant.target())
            return [policy for page in pages for policy in page["ScalingPolicies"]]

    def policy_names(self, variant: ScaledVariant) -> list[str]:
        return sorted({str(policy["PolicyName"]) for policy in self.policies(variant)})

    def scheduled_actions(self, variant: ScaledVariant) -> list[Mapping[str, Any]]:
        with translated(f"application-autoscaling:DescribeScheduledActions {variant.resource_id}"):
            pages = pages_of(self.client, "describe_scheduled_actions", **variant.target())
            return [action for page in pages for action in page["ScheduledActions"]]

    def put_scheduled_action(self, variant: ScaledVariant, request: Mapping[str, Any]) -> None:
        name = request["ScheduledActionName"]
        with translated(f"application-autoscaling:PutScheduledAction {name} of {variant.resource_id}"):
            _when_registered(lambda: self.client.put_scheduled_action(**variant.target(), **request))

    def delete_policy(self, variant: ScaledVariant, name: str) -> bool:
        """Delete a policy and the alarms that Application Auto Scaling made for it; False when there was none."""
        return _removed(
            f"application-autoscaling:DeleteScalingPolicy {name} of {variant.resource_id}",
            lambda: self.client.delete_scaling_policy(PolicyName=name, **variant.target()),
        )

    def deregister(self, variant: ScaledVariant) -> bool:
        """Deregister the variant; its number of instances stays. False when it was not registered."""
        return _removed(
            f"application-autoscaling:DeregisterScalableTarget {variant.resource_id}",
            lambda: self.client.deregister_scalable_target(**variant.target()),
        )


class ScalingAlarmHook(ClientHook):
    """Talk to CloudWatch about the alarms that wake variants. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "cloudwatch"

    @property
    def client(self) -> CloudWatchClient:
        return cast("CloudWatchClient", self.get_conn())

    def put(self, request: Mapping[str, Any]) -> str:
        name = str(request["AlarmName"])
        with translated(f"cloudwatch:PutMetricAlarm {name}"):
            self.client.put_metric_alarm(**request)
        return name

    def names(self, endpoint_name: str, variant_names: Sequence[str] | None = None) -> list[str]:
        """List the alarms that this package made for an endpoint: those that set off its wake policy of a variant.

        :param variant_names: default None, all variants
        """
        prefix = alarm_name_prefix(endpoint_name)
        names = [
            alarm["AlarmName"]
            for alarm in self._described(f"{prefix}*", AlarmNamePrefix=prefix)
            if wakes_endpoint(alarm.get("AlarmActions", ()), endpoint_name)
        ]
        if variant_names is None:
            return names
        wanted = {ScaledVariant(endpoint_name, name).alarm_name for name in variant_names}
        return [name for name in names if name in wanted]

    def setting_off(self, policy_arn: str) -> list[str]:
        """List the names of all alarms that set off a policy, whoever made them."""
        alarms = self._described(f"of {policy_arn}", ActionPrefix=policy_arn)
        return sorted(alarm["AlarmName"] for alarm in alarms if policy_arn in alarm.get("AlarmActions", ()))

    def described(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        return self._described(", ".join(names), AlarmNames=list(names))

    def _described(self, which: str, **request: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - DescribeAlarms' own
        with translated(f"cloudwatch:DescribeAlarms {which}"):
            pages = pages_of(self.client, "describe_alarms", AlarmTypes=["MetricAlarm"], **request)
            return [alarm for page in pages for alarm in page["MetricAlarms"]]

    def delete(self, name: str) -> bool:
        return _removed(
            f"cloudwatch:DeleteAlarms {name}", lambda: self.client.delete_alarms(AlarmNames=[name])
        )


def _alone(call: Callable[[], _Result]) -> _Result:
    return repeated(
        call,
        attempts=_UPDATE_ATTEMPTS,
        passes=lambda error: words_of(error)[0] == _CONCURRENT,
        reason="another change of the scaling is under way",
    )


def _when_registered(call: Callable[[], _Result]) -> _Result:
    """Repeat a write for up to 30 s while Application Auto Scaling does not see the variant yet."""
    return until_visible(lambda: _alone(call), is_missing=_is_missing)


def _removed(doing: str, call: Callable[[], object]) -> bool:
    return removed(doing, lambda: _alone(call), is_missing=_is_missing)


def _is_missing(error: ClientError) -> bool:
    return is_not_found(error) or means_missing(words_of(error)[1])
