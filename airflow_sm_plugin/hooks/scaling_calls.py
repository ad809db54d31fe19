"""Calls of Application Auto Scaling about endpoint variants, and of CloudWatch about the alarms that scale them.

Every write may be repeated, and is, while Application Auto Scaling is at work on the same target.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.exceptions import ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.errors import meaning, translated, words_of
from airflow_sm_plugin.aws.hook import AwsHook
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.hooks.pages import pages_of
from airflow_sm_plugin.resources.scaling import (
    SERVICE_NAMESPACE,
    ScaledVariant,
    ScalingPlan,
    alarm_name_prefix,
    means_missing,
    wakes_endpoint,
)

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient

log = get_log(__name__)

_CONSISTENCY_SECONDS = 30.0
_CONSISTENCY_PAUSE = 1.0
_UPDATE_ATTEMPTS = 6
"""Of a write while Application Auto Scaling changes the same target: up to 23 s of pauses."""
_CONCURRENT = "ConcurrentUpdateException"

_Result = TypeVar("_Result")


class ScalableVariantHook(AwsHook):
    """Talk to Application Auto Scaling about variants. Takes the arguments of the provider's ``AwsBaseHook``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = "application-autoscaling"
        super().__init__(*args, **kwargs)

    @property
    def client(self) -> ApplicationAutoScalingClient:
        """Return the boto3 client."""
        return cast("ApplicationAutoScalingClient", self.get_conn())

    def register(self, plan: ScalingPlan) -> None:
        """Register the variant with its capacity, or change its capacity."""
        self.register_target(plan.registration())

    def register_target(self, request: Mapping[str, Any]) -> None:
        """Register a scalable target, or change it, from the parameters of RegisterScalableTarget."""
        with translated(f"application-autoscaling:RegisterScalableTarget {request['ResourceId']}"):
            alone(lambda: self.client.register_scalable_target(**request))

    def put_policy(self, request: Mapping[str, Any]) -> str:
        """Create or replace a policy, return its ARN. A variant registered just now may not be visible yet."""
        doing = f"application-autoscaling:PutScalingPolicy {request['PolicyName']} of {request['ResourceId']}"
        with translated(doing):
            return when_registered(lambda: str(self.client.put_scaling_policy(**request)["PolicyARN"]))

    def registered(
        self, endpoint_name: str, variant_names: Sequence[str] | None = None
    ) -> list[ScaledVariant]:
        """Return those variants of an endpoint that are registered, for whatever is scaled of them.

        :param variant_names: which to ask for, up to 50; None looks through the account's variants, page by page
        """
        return list(self.targets(endpoint_name, variant_names))

    def targets(
        self, endpoint_name: str, variant_names: Sequence[str] | None = None
    ) -> dict[ScaledVariant, Mapping[str, Any]]:
        """Describe the scalable targets of an endpoint's variants, as :meth:`registered` finds them."""
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
        """Describe the variant's policies, also those that are not ours."""
        with translated(f"application-autoscaling:DescribeScalingPolicies {variant.resource_id}"):
            pages = pages_of(self.client, "describe_scaling_policies", **variant.target())
            return [policy for page in pages for policy in page["ScalingPolicies"]]

    def policy_names(self, variant: ScaledVariant) -> list[str]:
        """Return the sorted names of the variant's policies, also of those that are not ours."""
        return sorted({str(policy["PolicyName"]) for policy in self.policies(variant)})

    def scheduled_actions(self, variant: ScaledVariant) -> list[Mapping[str, Any]]:
        """Describe the variant's scheduled actions."""
        with translated(f"application-autoscaling:DescribeScheduledActions {variant.resource_id}"):
            pages = pages_of(self.client, "describe_scheduled_actions", **variant.target())
            return [action for page in pages for action in page["ScheduledActions"]]

    def put_scheduled_action(self, variant: ScaledVariant, request: Mapping[str, Any]) -> None:
        """Create or replace a scheduled action."""
        name = request["ScheduledActionName"]
        with translated(f"application-autoscaling:PutScheduledAction {name} of {variant.resource_id}"):
            when_registered(lambda: self.client.put_scheduled_action(**variant.target(), **request))

    def delete_policy(self, variant: ScaledVariant, name: str) -> bool:
        """Delete a policy, with the alarms that Application Auto Scaling made for it; say whether there was one."""
        return _removed(
            f"application-autoscaling:DeleteScalingPolicy {name} of {variant.resource_id}",
            lambda: self.client.delete_scaling_policy(PolicyName=name, **variant.target()),
        )

    def deregister(self, variant: ScaledVariant) -> bool:
        """Deregister the variant; its instances stay as many as they are. Say whether it was registered."""
        return _removed(
            f"application-autoscaling:DeregisterScalableTarget {variant.resource_id}",
            lambda: self.client.deregister_scalable_target(**variant.target()),
        )


class ScalingAlarmHook(AwsHook):
    """Talk to CloudWatch about the alarms that wake variants. Takes the arguments of the provider's ``AwsBaseHook``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = "cloudwatch"
        super().__init__(*args, **kwargs)

    @property
    def client(self) -> CloudWatchClient:
        """Return the boto3 client."""
        return cast("CloudWatchClient", self.get_conn())

    def put(self, request: Mapping[str, Any]) -> str:
        """Create or replace an alarm, return its name."""
        name = str(request["AlarmName"])
        with translated(f"cloudwatch:PutMetricAlarm {name}"):
            self.client.put_metric_alarm(**request)
        return name

    def names(self, endpoint_name: str, variant_names: Sequence[str] | None = None) -> list[str]:
        """Return the names of the alarms that we made for an endpoint: they set off our wake policy of a variant of it.

        :param variant_names: only for these; None is all
        """
        prefix = alarm_name_prefix(endpoint_name)
        with translated(f"cloudwatch:DescribeAlarms {prefix}*"):
            pages = pages_of(
                self.client, "describe_alarms", AlarmNamePrefix=prefix, AlarmTypes=["MetricAlarm"]
            )
            found = [
                alarm["AlarmName"]
                for page in pages
                for alarm in page["MetricAlarms"]
                if wakes_endpoint(alarm.get("AlarmActions", ()), endpoint_name)
            ]
        if variant_names is None:
            return found
        wanted = {ScaledVariant(endpoint_name, name).alarm_name for name in variant_names}
        return [name for name in found if name in wanted]

    def setting_off(self, policy_arn: str) -> list[str]:
        """Return the names of the alarms that set off a policy, whoever made them."""
        with translated(f"cloudwatch:DescribeAlarms of {policy_arn}"):
            pages = pages_of(
                self.client, "describe_alarms", ActionPrefix=policy_arn, AlarmTypes=["MetricAlarm"]
            )
            return sorted(
                alarm["AlarmName"]
                for page in pages
                for alarm in page["MetricAlarms"]
                if policy_arn in alarm.get("AlarmActions", ())
            )

    def described(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        """Describe those of the alarms that are there."""
        with translated(f"cloudwatch:DescribeAlarms {', '.join(names)}"):
            pages = pages_of(
                self.client, "describe_alarms", AlarmNames=list(names), AlarmTypes=["MetricAlarm"]
            )
            return [alarm for page in pages for alarm in page["MetricAlarms"]]

    def delete(self, name: str) -> bool:
        """Delete an alarm; say whether there was one."""
        return _removed(
            f"cloudwatch:DeleteAlarms {name}", lambda: self.client.delete_alarms(AlarmNames=[name])
        )


def alone(call: Callable[[], _Result]) -> _Result:
    """Repeat a write, a few times, as long as Application Auto Scaling is at work on the same target."""
    for attempt in range(1, _UPDATE_ATTEMPTS):
        try:
            return call()
        except ClientError as error:
            if words_of(error)[0] != _CONCURRENT:
                raise
            log.info(
                "another change of the scaling is under way: attempt %d of %d", attempt, _UPDATE_ATTEMPTS
            )
        time.sleep(pause_after(attempt, jitter=random.random()))  # noqa: S311 - jitter
    return call()


def when_registered(call: Callable[[], _Result]) -> _Result:
    """Repeat a write for a little while as long as Application Auto Scaling does not see the variant yet."""
    give_up = time.monotonic() + _CONSISTENCY_SECONDS
    while True:
        try:
            return alone(call)
        except ClientError as error:
            if not _is_missing(error) or time.monotonic() >= give_up:
                raise
            time.sleep(_CONSISTENCY_PAUSE)


def _removed(doing: str, call: Callable[[], object]) -> bool:
    with translated(doing):
        try:
            alone(call)
        except ClientError as error:
            if _is_missing(error):
                return False
            raise
    return True


def _is_missing(error: ClientError) -> bool:
    return meaning(error) is Meaning.NOT_FOUND or means_missing(words_of(error)[1])
