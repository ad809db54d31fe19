"""Application Auto Scaling of endpoint variants, and the CloudWatch alarm that wakes one from zero instances.

Every method may be repeated: what is put again is the same, what is missing already counts as removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.autoscaling import (
    OUR_POLICIES,
    SCALABLE_DIMENSION,
    SERVICE_NAMESPACE,
    WAKE_POLICY,
    ScaledVariant,
    ScalingPlan,
    alarm_name_prefix,
    means_missing,
    stale_policies,
    wakes_endpoint,
)
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import AccessDenied
from airflow_sm_plugin.hooks.aws_hook import AwsHook
from airflow_sm_plugin.hooks.connection import AwsConnection
from airflow_sm_plugin.hooks.errors import meaning, translated, words_of
from airflow_sm_plugin.hooks.pages import pages_of

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient

log = get_log(__name__)

_CONSISTENCY_SECONDS = 30.0
_CONSISTENCY_PAUSE = 1.0


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
        with translated(f"application-autoscaling:RegisterScalableTarget {plan.variant.resource_id}"):
            self.client.register_scalable_target(**plan.registration())

    def put_policy(self, request: Mapping[str, Any]) -> str:
        """Create or replace a policy, return its ARN. A variant registered just now may not be visible yet."""
        doing = f"application-autoscaling:PutScalingPolicy {request['PolicyName']} of {request['ResourceId']}"
        with translated(doing):
            return _when_registered(lambda: str(self.client.put_scaling_policy(**request)["PolicyARN"]))

    def registered(
        self, endpoint_name: str, variant_names: Sequence[str] | None = None
    ) -> list[ScaledVariant]:
        """Return those variants of an endpoint that are registered.

        :param variant_names: which to ask for, up to 50; None looks through the account's variants, page by page
        """
        request: dict[str, Any] = {
            "ServiceNamespace": SERVICE_NAMESPACE,
            "ScalableDimension": SCALABLE_DIMENSION,
        }
        if variant_names is not None:
            if not variant_names:  # an empty filter is none
                return []
            request["ResourceIds"] = [
                ScaledVariant(endpoint_name, name).resource_id for name in variant_names
            ]
        with translated(f"application-autoscaling:DescribeScalableTargets endpoint/{endpoint_name}"):
            pages = pages_of(self.client, "describe_scalable_targets", **request)
            ids = [found["ResourceId"] for page in pages for found in page["ScalableTargets"]]
        variants = filter(None, map(ScaledVariant.from_resource_id, ids))
        return [variant for variant in variants if variant.endpoint_name == endpoint_name]

    def policy_names(self, variant: ScaledVariant) -> list[str]:
        """Return the sorted names of the variant's policies, also of those that are not ours."""
        with translated(f"application-autoscaling:DescribeScalingPolicies {variant.resource_id}"):
            pages = pages_of(self.client, "describe_scaling_policies", **variant.target())
            return sorted({policy["PolicyName"] for page in pages for policy in page["ScalingPolicies"]})

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

    def delete(self, name: str) -> bool:
        """Delete an alarm; say whether there was one."""
        return _removed(
            f"cloudwatch:DeleteAlarms {name}", lambda: self.client.delete_alarms(AlarmNames=[name])
        )


@dataclass(frozen=True)
class Applied:
    """What holds after :meth:`EndpointScaling.apply`: policies (name to ARN), our alarms, and what was removed."""

    policies: Mapping[str, str]
    alarm_names: Sequence[str]
    removed: Sequence[str]


class EndpointScaling:
    """Scale the variants of endpoints, callable without any operator.

    :param aws: how to reach AWS
    """

    def __init__(self, aws: AwsConnection) -> None:
        self._variants = ScalableVariantHook(**aws.hook_arguments())
        self._alarms = ScalingAlarmHook(**aws.hook_arguments())

    def apply(self, plan: ScalingPlan) -> Applied:
        """Register the variant, put the policies of the plan and their alarm, remove ours that it does not have.

        What wakes the variant is put before what sends it to zero. Policies that others made are left alone.
        """
        self._variants.register(plan)
        policies: dict[str, str] = {}
        alarms: list[str] = []
        if plan.wakes:
            policies[WAKE_POLICY] = arn = self._variants.put_policy(plan.wake_policy())
            alarms.append(self._alarms.put(plan.alarm(arn)))
        tracking = plan.tracking_policy()
        policies[tracking["PolicyName"]] = self._variants.put_policy(tracking)
        removed = self._remove_stale(plan)
        log.info(
            "%s scales from %d to %d instances by %s",
            plan.variant.resource_id,
            plan.scaling.min_capacity,
            plan.scaling.max_capacity,
            ", ".join(policies),
        )
        return Applied(policies, alarms, removed)

    def _remove_stale(self, plan: ScalingPlan) -> list[str]:
        variant = plan.variant
        stale = stale_policies(plan, self._variants.policy_names(variant))
        # An alarm is put after its policy and deleted before it, so that a real-time variant costs no look here.
        may_ring = not plan.wakes and (plan.asynchronous or WAKE_POLICY in stale)
        alarms = self._alarms.names(variant.endpoint_name, [variant.variant_name]) if may_ring else []
        return self._delete(alarms, {variant: stale})

    def remove(self, endpoint_name: str, variant_names: Sequence[str] | None = None) -> list[str]:
        """Remove our alarms, all policies and the registration of an endpoint's variants; missing is fine.

        To deregister a variant deletes policies and scheduled actions that others attached to it as well, as the
        service does. Alarms that others made stay.

        :param variant_names: default every variant that is registered, also of an endpoint that is gone
        :return: what was removed, e.g. ``"policy airflow-sm-backlog of endpoint/churn/variant/AllTraffic"``
        :raises AccessDenied: a permission is missing
        """
        policies = self._policies(self._variants.registered(endpoint_name, variant_names))
        return self._remove(self._alarms.names(endpoint_name, variant_names), policies)

    def remove_scaling(self, endpoint_name: str) -> list[str]:
        """Remove as :meth:`remove` does, for somebody who deletes an endpoint and may know nothing of scaling.

        A role without permissions for scaling is no hindrance where nothing of ours can be there: it may not look, so
        it registered nothing, or it looks and finds no policy of ours. Then a hint is logged. Where ours is found, a
        missing permission is an error: what we made would stay behind.

        :return: what was removed
        :raises AccessDenied: there are policies of ours, and the role may not remove them
        """
        try:
            variants = self._variants.registered(endpoint_name)
        except AccessDenied as denied:
            _hint(endpoint_name, denied)
            return []
        policies = self._policies(variants)
        try:
            return self._remove(self._alarms.names(endpoint_name), policies)
        except AccessDenied as denied:
            if OUR_POLICIES.intersection(*policies.values()):
                raise
            _hint(endpoint_name, denied)
            return []

    def _policies(self, variants: Sequence[ScaledVariant]) -> dict[ScaledVariant, list[str]]:
        return {variant: self._variants.policy_names(variant) for variant in variants}

    def _remove(self, alarms: Sequence[str], policies: Mapping[ScaledVariant, Sequence[str]]) -> list[str]:
        removed = self._delete(alarms, policies)
        removed += [
            f"scalable target {variant.resource_id}"
            for variant in policies
            if self._variants.deregister(variant)
        ]
        if removed:
            log.info("removed: %s", ", ".join(removed))
        return removed

    def _delete(self, alarms: Sequence[str], policies: Mapping[ScaledVariant, Sequence[str]]) -> list[str]:
        """Delete alarms before the policies that they set off: a try killed in between finds the policies again."""
        deleted = [f"alarm {name}" for name in alarms if self._alarms.delete(name)]
        return deleted + [
            f"policy {name} of {variant.resource_id}"
            for variant, names in policies.items()
            for name in names
            if self._variants.delete_policy(variant, name)
        ]


def _hint(endpoint_name: str, denied: AccessDenied) -> None:
    log.warning(
        "scaling of endpoint %s was not looked at: %s. Nothing is lost if it was never scaled by "
        "SageMakerScaleEndpointOperator",
        endpoint_name,
        denied,
    )


def _when_registered(call: Callable[[], str]) -> str:
    """Repeat a call for a little while as long as Application Auto Scaling does not see the variant yet."""
    give_up = time.monotonic() + _CONSISTENCY_SECONDS
    while True:
        try:
            return call()
        except ClientError as error:
            if not _is_missing(error) or time.monotonic() >= give_up:
                raise
            time.sleep(_CONSISTENCY_PAUSE)


def _removed(doing: str, call: Callable[[], object]) -> bool:
    with translated(doing):
        try:
            call()
        except ClientError as error:
            if _is_missing(error):
                return False
            raise
    return True


def _is_missing(error: ClientError) -> bool:
    return meaning(error) is Meaning.NOT_FOUND or means_missing(words_of(error)[1])
