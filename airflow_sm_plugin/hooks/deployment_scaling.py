"""The scaling of an endpoint's variants while an update changes them: refused, or taken down and put back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.autoscaling import ScaledVariant, unscalable_types
from airflow_sm_plugin.core.deployment_changes import changing_variants, scaled_error, variant_names
from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.endpoint_status import in_progress
from airflow_sm_plugin.core.scaling_note import (
    VariantScaling,
    merged,
    note_of,
    note_tags,
    noted_in,
    repointed,
)
from airflow_sm_plugin.core.tags import MAX_TAGS
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InvalidRequest,
    RequestRefused,
    SageMakerInferenceError,
    TaskKilled,
)
from airflow_sm_plugin.hooks.autoscaling import EndpointScaling
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

log = get_log(__name__)

_SCALABLE_TARGET = re.compile(r"scalable targets?\b", re.IGNORECASE)
_SERVING = ("InService", "UpdateRollbackFailed")
"""Statuses of an endpoint whose variants can be registered, when nothing is in progress."""


class DeploymentScaling:
    """SageMaker refuses an update that removes a scalable target, or changes its instance type.

    What is taken down is written into the endpoint's tags before, and the tags stay until all of it is back: whichever
    try comes next, of this task or of another that deploys with ``on_scaled="rescale"``, finds it there.

    :param rescale: take the scaling down; else such an update is an error
    """

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        spec: EndpointConfigSpec,
        scaling: EndpointScaling,
        *,
        rescale: bool,
    ) -> None:
        self._hook = hook
        self._spec = spec
        self._variants, self._alarms = scaling.variants, scaling.alarms
        self._rescale = rescale

    def check(self, served: Mapping[str, Any] | None) -> None:
        """Find out before anything is created whether SageMaker would refuse the update.

        Where nobody may look, SageMaker's answer decides.

        :param served: DescribeEndpointConfig's of the configuration that the endpoint has; None where it is not known
        :raises EndpointScaled: it would, and the scaling is not to be taken down
        :raises InvalidRequest: the scaling could not be put back
        """
        changing = [] if served is None else changing_variants(served, self._spec.variants)
        if not changing:
            return
        try:
            scaled = self._variants.registered(self._spec.endpoint_name, changing)
        except AccessDenied as denied:
            log.info("whether endpoint %s scales is not known: %s", self._spec.endpoint_name, denied)
            return
        names = [variant.variant_name for variant in scaled]
        if names and not self._rescale:
            raise scaled_error(self._spec.endpoint_name, names)
        for variant in self._spec.variants:
            fixed = unscalable_types(variant.parameters()) if variant.variant_name in names else []
            if fixed:
                raise InvalidRequest(
                    f"variant {variant.variant_name} of endpoint {self._spec.endpoint_name} scales, and would be moved "
                    f"to {', '.join(fixed)}: Application Auto Scaling does not scale t2 instances. Take another type, "
                    f"or take its scaling down before (SageMakerScaleEndpointOperator(action='remove'))"
                )

    def take_down(
        self,
        description: Mapping[str, Any],
        served: Mapping[str, Any] | None,
        *,
        was_refused: bool = False,
    ) -> None:
        """Write down the scaling of the variants that the update changes, then deregister them.

        Where it is not known what the update changes, or what scales, only SageMaker's refusal is reason enough.

        :raises InvalidRequest: the endpoint's tags have no room for it, or their note cannot be read
        :raises AccessDenied: a permission is missing; then nothing was taken down
        """
        if not self._rescale or (served is None and not was_refused):
            return
        name = self._spec.endpoint_name
        try:
            targets = self._variants.targets(name, self._concerned(description, served))
        except AccessDenied:
            if was_refused:
                raise
            return
        if not targets:
            return
        arn = str(description["EndpointArn"])
        tags = self._tags(arn)
        noted = noted_in(tags, name)
        taken = merged(noted, [self._described(variant, target) for variant, target in targets.items()])
        note = note_of(taken, room=MAX_TAGS - len(tags) + len(note_tags(tags)))
        self._hook.add_tags(arn, note)
        for variant in targets:
            self._variants.deregister(variant)
            log.info(
                "%s does not scale during the update; its scaling is put back after it", variant.resource_id
            )

    def is_reason(
        self, refusal: RequestRefused, description: Mapping[str, Any], served: Mapping[str, Any] | None
    ) -> bool:
        """Say whether SageMaker refused an update for scaling that may be taken down now.

        :raises EndpointScaled: it did, and the scaling is not to be taken down
        """
        said_so = _SCALABLE_TARGET.search(str(refusal)) is not None
        name = self._spec.endpoint_name
        try:
            found = self._variants.registered(name, self._concerned(description, served))
        except AccessDenied:
            found = []
        if not found and not said_so:
            return False
        if self._rescale:
            return True
        raise scaled_error(name, [variant.variant_name for variant in found], refusal) from refusal

    def put_back(self) -> None:
        """Put back what any try has taken down, for the variants that there are now; then remove the note.

        Nothing happens while something is in progress at the endpoint: the next try puts it back.

        :raises SageMakerInferenceError: what is not back stays noted
        """
        if not self._rescale:
            return
        name = self._spec.endpoint_name
        described = self._hook.describe_endpoint(name)
        if described is None:
            return
        arn, status = str(described["EndpointArn"]), str(described.get("EndpointStatus"))
        tags = self._hook.tags_of(arn)
        if tags is None:
            log.warning("whether the scaling of endpoint %s was taken down earlier is not known", name)
            return
        noted = noted_in(tags, name)
        if not noted:
            return
        if in_progress(status) or status not in _SERVING:
            log.warning(
                "the scaling of endpoint %s stays down while it is %s: the next deployment with on_scaled='rescale' "
                "puts it back (tags %s)",
                name,
                status,
                ", ".join(note_tags(tags)),
            )
            return
        there = self._variants.targets(name, variant_names(described))
        for scaling in noted:
            if scaling.variant.variant_name in variant_names(described):
                self._put_back(scaling, described, is_registered=scaling.variant in there)
            else:
                log.info("%s is no more: its scaling is not put back", scaling.variant.resource_id)
        self._forget(arn, note_tags(tags))

    def put_back_after(self, error: SageMakerInferenceError) -> None:
        """Put back, as far as that is possible, what any try took down for an update that came to nothing."""
        if isinstance(error, TaskKilled):
            return
        try:
            self.put_back()
        except SageMakerInferenceError as problem:
            self.warn(problem)

    def warn(self, problem: SageMakerInferenceError) -> None:
        """Say that the scaling is not back."""
        log.warning(
            "the scaling of endpoint %s was taken down and is not all back; its tags keep it, and the next try or the "
            "next deployment with on_scaled='rescale' puts it back: %s",
            self._spec.endpoint_name,
            problem,
        )

    def _concerned(self, description: Mapping[str, Any], served: Mapping[str, Any] | None) -> list[str]:
        """Return the variants that the update changes; all where the configuration is not known."""
        return (
            variant_names(description) if served is None else changing_variants(served, self._spec.variants)
        )

    def _described(self, variant: ScaledVariant, target: Mapping[str, Any]) -> VariantScaling:
        policies = self._variants.policies(variant)
        return VariantScaling.described(
            variant,
            target,
            policies,
            self._variants.scheduled_actions(variant),
            {
                str(policy["PolicyName"]): self._alarms.setting_off(str(policy["PolicyARN"]))
                for policy in policies
                if policy.get("PolicyType") == "StepScaling"
            },
        )

    def _put_back(
        self, scaling: VariantScaling, described: Mapping[str, Any], *, is_registered: bool
    ) -> None:
        """Put back what is missing: a try may have been killed midway, or somebody may have changed the rest since."""
        variant = scaling.variant
        if not is_registered:
            request = scaling.registration(
                instances=_instances(described, variant.variant_name),
                asynchronous=bool(described.get("AsyncInferenceConfig")),
            )
            self._variants.register_target(request)
        arns = {
            str(policy["PolicyName"]): str(policy["PolicyARN"]) for policy in self._variants.policies(variant)
        }
        for policy in scaling.policies:
            name = str(policy["PolicyName"])
            if name not in arns:
                arns[name] = self._variants.put_policy({**variant.target(), **policy})
        for name, alarms in scaling.alarms.items():
            self._repoint(variant, alarms, arns[name])
        there = {action["ScheduledActionName"] for action in self._variants.scheduled_actions(variant)}
        for action in scaling.actions:
            if action["ScheduledActionName"] not in there:
                self._put_action(variant, action)
        log.info("%s scales again", variant.resource_id)

    def _repoint(self, variant: ScaledVariant, alarms: Sequence[str], policy_arn: str) -> None:
        """Have alarms set off the policy that was put back: its ARN is another one than before."""
        for alarm in self._alarms.described(alarms):
            request = repointed(alarm, variant, policy_arn)
            if request is not None:
                self._alarms.put(request)

    def _put_action(self, variant: ScaledVariant, action: Mapping[str, Any]) -> None:
        try:
            self._variants.put_scheduled_action(variant, action)
        except RequestRefused as refusal:
            if not str(action.get("Schedule")).startswith("at("):
                raise
            log.warning("a scheduled action is not put back, its time may be over: %s", refusal)

    def _tags(self, arn: str) -> Mapping[str, str]:
        tags = self._hook.tags_of(arn)
        if tags is None:
            raise AccessDenied(
                f"on_scaled='rescale' keeps what it takes down in tags of endpoint {self._spec.endpoint_name}, which "
                f"cannot be read: allow sagemaker:ListTags, sagemaker:AddTags and sagemaker:DeleteTags"
            )
        return tags

    def _forget(self, arn: str, keys: Sequence[str]) -> None:
        """Remove the note; a role that may only add tags empties it."""
        try:
            self._hook.delete_tags(arn, keys)
        except AccessDenied as denied:
            log.info("the tags %s stay, emptied: %s", ", ".join(keys), denied)
            self._hook.add_tags(arn, dict.fromkeys(keys, ""))


def _instances(described: Mapping[str, Any], variant_name: str) -> int:
    """Return how many instances a variant has or is to have."""
    for variant in described.get("ProductionVariants") or ():
        if variant.get("VariantName") == variant_name:
            counts = variant.get("DesiredInstanceCount"), variant.get("CurrentInstanceCount")
            return max(int(count or 0) for count in counts)
    return 0
