"""Take down and put back an endpoint's scaling; meanwhile it is noted in the endpoint's tags."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.endpoints.changes import variant_names
from airflow_sm_plugin.endpoints.scaling_note import (
    VariantScaling,
    merged,
    note_of,
    note_prefix,
    note_tags,
    noted_in,
    repointed,
)
from airflow_sm_plugin.exceptions import AccessDenied, InvalidRequest, RequestRefused, SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.scaling import ScaledVariant
from airflow_sm_plugin.resources.tags import MAX_TAGS

log = get_log(__name__)

_REGISTRABLE = ("InService", "UpdateRollbackFailed")
"""Statuses of an endpoint whose variants can be registered: no change is in progress."""
_LATER = (
    "the next deployment of the endpoint (SageMakerDeployEndpointOperator) puts it back, unless "
    "SageMakerScaleEndpointOperator scales it again before"
)


class NotedScaling:
    """The scaling of an endpoint's variants, noted in the endpoint's tags while it is taken down.

    Whichever task deploys next finds the note. Each note has keys of its own, so that a task that has put one note
    back removes no note that another task wrote meanwhile.
    """

    def __init__(self, hook: SageMakerControlPlaneHook, endpoint_name: str, scaling: EndpointScaling) -> None:
        self._hook = hook
        self._name = endpoint_name
        self.variants, self._alarms = scaling.variants, scaling.alarms
        self._noted: list[str] = []
        """The variants of the notes that were read last, and are not put back."""

    def take_down(self, arn: str, targets: Mapping[ScaledVariant, Mapping[str, Any]]) -> None:
        """Note the scaling of some variants, then deregister them.

        :param targets: as DescribeScalableTargets describes them
        :raises InvalidRequest: the endpoint's tags have no room for the note, or hold an unreadable note
        :raises AccessDenied: a permission is missing; then nothing was taken down
        """
        tags = self._hook.tags_of(arn)
        if tags is None:
            raise AccessDenied(
                f"on_scaled='rescale' keeps what it takes down in tags of endpoint {self._name}, which cannot be read",
                do="allow sagemaker:ListTags, sagemaker:AddTags and sagemaker:DeleteTags",
            )
        scalings = [self._described(variant, target) for variant, target in targets.items()]
        self._note(arn, tags, merged(noted_in(tags, self._name), scalings))
        for scaling in scalings:
            self.variants.deregister(scaling.variant)
            name, summary = scaling.variant.resource_id, scaling.summary
            log.info("%s does not scale during the update; this is put back after it: %s", name, summary)

    def put_back(self, *, arn: str = "", taken_down: Collection[str] = ()) -> None:
        """Put back all noted scaling of the variants that exist now; then remove the notes that were read.

        While a change of the endpoint is in progress, only warn of the scaling that stays down.

        :param arn: the endpoint's; empty where it is not known
        :param taken_down: the variants whose scaling this task took down: a missing note of them is logged
        :raises SageMakerInferenceError: scaling that is not back stays noted
        """
        description = None if arn else self._hook.describe_endpoint(self._name)
        arn = arn or str((description or {}).get("EndpointArn", ""))
        if not arn:
            return
        tags = self._hook.tags_of(arn)
        noted = noted_in(tags or {}, self._name)
        self._noted = [scaling.variant.variant_name for scaling in noted]
        if not noted and not taken_down:
            return
        description = description or self._hook.describe_endpoint(self._name)
        if description is None:
            return
        existing = variant_names(description)
        if not noted:
            self._log_loss([name for name in taken_down if name in existing], tags_are_read=tags is not None)
        elif self._is_registrable(description):
            if not taken_down:
                log.warning(
                    "an earlier deployment took the scaling of endpoint %s down and did not come to put it back: it is "
                    "put back now (variants %s)",
                    self._name,
                    ", ".join(self._noted),
                )
            self._put_back_all(noted, description, existing)
            self._remove_tags(arn, note_tags(tags or {}))
            self._noted = []

    def _is_registrable(self, description: Mapping[str, Any]) -> bool:
        status = str(description.get("EndpointStatus"))
        if status in _REGISTRABLE:
            return True
        log.warning(
            "the scaling of endpoint %s stays down while it is %s (variants %s, noted in its tags): %s",
            self._name,
            status,
            ", ".join(self._noted),
            _LATER,
        )
        return False

    def give_up(self, variants: Collection[str] | None = None) -> None:
        """Remove some variants, None is all, from the notes: another scaling was asked for. A failure is a warning."""
        try:
            description = self._hook.describe_endpoint(self._name)
            if description is None:
                return
            arn = str(description["EndpointArn"])
            tags = self._hook.tags_of(arn) or {}
            noted = noted_in(tags, self._name)
            kept = [
                scaling
                for scaling in noted
                if variants is not None and scaling.variant.variant_name not in variants
            ]
            if len(kept) < len(noted):
                self._note(arn, tags, kept)
                log.info("the scaling that deployments took down of %s is not put back", self._name)
        except (AccessDenied, InvalidRequest) as problem:
            log.warning(
                "the scaling that deployments took down of endpoint %s may still be put back by the next one: %s",
                self._name,
                problem,
            )

    def warn(self, problem: SageMakerInferenceError, taken_down: Collection[str] = ()) -> None:
        """Warn that scaling is not back, unless no scaling is known to be down."""
        names = dict.fromkeys([*taken_down, *self._noted])
        if not names and not isinstance(problem, InvalidRequest):
            log.info(
                "scaling of endpoint %s that earlier tasks took down is not known: %s", self._name, problem
            )
            return
        log.warning(
            "the scaling of endpoint %s was taken down and is not all back (variants %s); its tags keep it, and %s: %s",
            self._name,
            ", ".join(names) or "unknown",
            _LATER,
            problem,
        )

    def _log_loss(self, variants: Sequence[str], *, tags_are_read: bool) -> None:
        """Log the scaling that this task took down and that is neither noted nor registered any more."""
        if not tags_are_read:
            log.warning(
                "whether the scaling of endpoint %s is to be put back is not known: its tags, which keep it, cannot be "
                "read (variants %s). Once they can (sagemaker:ListTags), %s",
                self._name,
                ", ".join(variants),
                _LATER,
            )
            return
        registered = {variant.variant_name for variant in self.variants.registered(self._name, variants)}
        lost = [name for name in variants if name not in registered]
        if lost:
            log.error(
                "the scaling of endpoint %s was taken down and cannot be put back: the tags that kept it were removed. "
                "Variants %s do not scale: scale them again (SageMakerScaleEndpointOperator), unless that was meant. "
                "This task's log line 'does not scale during the update' has their policies and capacities",
                self._name,
                ", ".join(lost),
            )

    def _described(self, variant: ScaledVariant, target: Mapping[str, Any]) -> VariantScaling:
        policies = self.variants.policies(variant)
        alarms = {
            str(policy["PolicyName"]): self._alarms.setting_off(str(policy["PolicyARN"]))
            for policy in policies
            if policy.get("PolicyType") == "StepScaling"
        }
        actions = self.variants.scheduled_actions(variant)
        return VariantScaling.described(variant, target, policies, actions, alarms)

    def _put_back_all(
        self, noted: Sequence[VariantScaling], description: Mapping[str, Any], existing: Sequence[str]
    ) -> None:
        registered = self.variants.targets(self._name, existing)
        for scaling in noted:
            if scaling.variant.variant_name not in existing:
                log.info("%s is no more: its scaling is not put back", scaling.variant.resource_id)
                continue
            if scaling.variant not in registered:
                request = scaling.registration(
                    instances=_instances(description, scaling.variant.variant_name),
                    asynchronous=bool(description.get("AsyncInferenceConfig")),
                )
                self.variants.register(request)
            self._put_back(scaling)

    def _put_back(self, scaling: VariantScaling) -> None:
        """Put back missing policies and actions only: a try may have been killed midway, the rest changed since."""
        variant = scaling.variant
        arns = {
            str(policy["PolicyName"]): str(policy["PolicyARN"]) for policy in self.variants.policies(variant)
        }
        for policy in scaling.policies:
            name = str(policy["PolicyName"])
            if name not in arns:
                arns[name] = self.variants.put_policy({**variant.target(), **policy})
        for name, alarms in scaling.alarms.items():
            # The policy that was put back has another ARN than before.
            requests = [repointed(alarm, variant, arns[name]) for alarm in self._alarms.described(alarms)]
            for alarm_request in filter(None, requests):
                self._alarms.put(alarm_request)
        existing = {action["ScheduledActionName"] for action in self.variants.scheduled_actions(variant)}
        for action in scaling.actions:
            if action["ScheduledActionName"] not in existing:
                self._put_action(variant, action)
        log.info("%s scales again", variant.resource_id)

    def _put_action(self, variant: ScaledVariant, action: Mapping[str, Any]) -> None:
        try:
            self.variants.put_scheduled_action(variant, action)
        except RequestRefused as refusal:
            if not str(action.get("Schedule")).startswith("at("):
                raise
            log.warning("a scheduled action is not put back, its time may be over: %s", refusal)

    def _note(self, arn: str, tags: Mapping[str, str], scalings: Sequence[VariantScaling]) -> None:
        """Write one note instead of all those in the tags; only remove those when there is nothing to note."""
        prefix = note_prefix(tags, time.time_ns())
        reused = [key for key in tags if key.startswith(prefix)]
        room = MAX_TAGS - len(tags) + len(reused)
        note = note_of(scalings, prefix=prefix, room=room) if scalings else {}
        if note:
            self._hook.add_tags(arn, note)
        self._remove_tags(arn, [key for key in note_tags(tags) if tags[key] and key not in note])

    def _remove_tags(self, arn: str, keys: Sequence[str]) -> None:
        """Remove tags of notes; without the permission sagemaker:DeleteTags empty them."""
        if not keys:
            return
        try:
            self._hook.delete_tags(arn, keys)
        except AccessDenied as denied:
            log.info("the tags %s stay, emptied: %s", ", ".join(keys), denied)
            self._hook.add_tags(arn, dict.fromkeys(keys, ""))


def _instances(description: Mapping[str, Any], variant_name: str) -> int:
    """Count the instances that a variant has or is to have, whichever is more."""
    for variant in description.get("ProductionVariants") or ():
        if variant.get("VariantName") == variant_name:
            counts = variant.get("DesiredInstanceCount"), variant.get("CurrentInstanceCount")
            return max(int(count or 0) for count in counts)
    return 0


def remove_for_good(hook: SageMakerControlPlaneHook, aws: AwsConnection, endpoint_name: str) -> list[str]:
    """Remove the scaling of an endpoint that is to be deleted; return what was removed.

    If the deletion fails, the endpoint's next deployment must not restore the scaling: a note of it goes as well.

    :raises AccessDenied: as :meth:`EndpointScaling.remove_scaling`
    """
    scaling = EndpointScaling(aws)
    removed = scaling.remove_scaling(endpoint_name)
    NotedScaling(hook, endpoint_name, scaling).give_up()
    return removed
