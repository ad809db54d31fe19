"""Apply and remove the scaling of endpoint variants, and the CloudWatch alarm that wakes one from zero instances.

Every method can be repeated: a policy that is put again stays the same, a missing one counts as removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import AccessDenied
from airflow_sm_plugin.hooks.autoscaling import ScalableVariantHook, ScalingAlarmHook
from airflow_sm_plugin.resources.scaling import (
    OUR_POLICIES,
    WAKE_POLICY,
    ScaledVariant,
    ScalingPlan,
    stale_policies,
)

log = get_log(__name__)

_NOT_CHECKED = (
    "scaling of endpoint %s was not checked: %s. Nothing is lost if it was never scaled by "
    "SageMakerScaleEndpointOperator"
)


@dataclass(frozen=True)
class AppliedScaling:
    """The result of :meth:`EndpointScaling.apply`: policies (name to ARN), our alarms, and what was removed."""

    policies: Mapping[str, str]
    alarm_names: Sequence[str]
    removed: Sequence[str]


class EndpointScaling:
    """The scaling of endpoint variants, usable without any operator.

    :param before_call: called before each call of AWS; an exception that it raises ends the call
    """

    def __init__(self, aws: AwsConnection, *, before_call: Callable[[], None] | None = None) -> None:
        self.variants = ScalableVariantHook(**aws.hook_arguments())
        self.alarms = ScalingAlarmHook(**aws.hook_arguments())
        self.variants.before_call = self.alarms.before_call = before_call

    def apply(self, plan: ScalingPlan) -> AppliedScaling:
        """Register the variant, put the plan's policies and alarm, remove policies of ours that the plan lacks.

        The policy that wakes the variant is put before the one that scales it to zero. Others' policies stay.
        """
        self.variants.register(plan.registration())
        policies: dict[str, str] = {}
        alarms: list[str] = []
        if plan.wakes:
            policies[WAKE_POLICY] = arn = self.variants.put_policy(plan.wake_policy())
            alarms.append(self.alarms.put(plan.alarm(arn)))
        tracking = plan.tracking_policy()
        policies[tracking["PolicyName"]] = self.variants.put_policy(tracking)
        variant = plan.variant
        stale = stale_policies(plan, self.variants.policy_names(variant))
        # Also without policies of ours: SageMaker deregisters a deleted endpoint's variants, and leaves alarms behind.
        unwanted = [] if plan.wakes else self.alarms.names(variant.endpoint_name, [variant.variant_name])
        removed = self._delete(unwanted, {variant: stale})
        least, most = plan.scaling.min_capacity, plan.scaling.max_capacity
        names = ", ".join(policies)
        log.info("%s scales from %d to %d instances by %s", variant.resource_id, least, most, names)
        return AppliedScaling(policies, alarms, removed)

    def remove(self, endpoint_name: str, variant_names: Sequence[str] | None = None) -> list[str]:
        """Remove our alarms, all policies and the registration of an endpoint's variants, or raise AccessDenied.

        With a registration the service also deletes others' policies and scheduled actions. Others' alarms stay.

        :param variant_names: default every registered variant, also of an endpoint that is gone
        :return: e.g. ``["policy airflow-sm-backlog of endpoint/churn/variant/AllTraffic"]``
        """
        policies = self._policies(self.variants.registered(endpoint_name, variant_names))
        return self._remove(self.alarms.names(endpoint_name, variant_names), policies)

    def remove_scaling(self, endpoint_name: str) -> list[str]:
        """Remove as :meth:`remove` does, for a task that deletes an endpoint, whose role may lack scaling permissions.

        A role that cannot describe scaling registered nothing, so a hint is logged; likewise where no policy is ours.

        :raises AccessDenied: there are policies of ours, and the role has no permission to remove them
        """
        try:
            variants = self.variants.registered(endpoint_name)
        except AccessDenied as denied:
            log.warning(_NOT_CHECKED, endpoint_name, denied)
            return []
        policies = self._policies(variants)
        try:
            return self._remove(self.alarms.names(endpoint_name), policies)
        except AccessDenied as denied:
            if any(not OUR_POLICIES.isdisjoint(names) for names in policies.values()):
                raise
            log.warning(_NOT_CHECKED, endpoint_name, denied)
            return []

    def _policies(self, variants: Sequence[ScaledVariant]) -> dict[ScaledVariant, list[str]]:
        return {variant: self.variants.policy_names(variant) for variant in variants}

    def _remove(self, alarms: Sequence[str], policies: Mapping[ScaledVariant, Sequence[str]]) -> list[str]:
        removed = self._delete(alarms, policies)
        removed += [
            f"scalable target {variant.resource_id}"
            for variant in policies
            if self.variants.deregister(variant)
        ]
        if removed:
            log.info("removed: %s", ", ".join(removed))
        return removed

    def _delete(self, alarms: Sequence[str], policies: Mapping[ScaledVariant, Sequence[str]]) -> list[str]:
        """Delete alarms before the policies they set off: after a kill in between, a retry finds the policies."""
        deleted = [f"alarm {name}" for name in alarms if self.alarms.delete(name)]
        return deleted + [
            f"policy {name} of {variant.resource_id}"
            for variant, names in policies.items()
            for name in names
            if self.variants.delete_policy(variant, name)
        ]
