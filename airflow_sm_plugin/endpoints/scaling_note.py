"""A note of the scaling that a deployment took down: kept in the endpoint's tags, where every later try finds it.

A task's memory ends with its process, and XCom with its try. A tag holds 256 characters of a small alphabet, so the
note is compressed, base64-encoded and spread over several tags.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.resources.scaling import SCALABLE_DIMENSION, ScaledVariant
from airflow_sm_plugin.resources.tags import MAX_TAG_VALUE, MAX_TAGS

NOTE_TAG = "airflow-sm-plugin:scaling-"
"""Begins the keys of a note's tags; the time in hex and the tag's position, from 01, follow."""

_PIECE = MAX_TAG_VALUE - len("50/")
_TARGET_MEMBERS = ("MinCapacity", "MaxCapacity", "RoleARN", "SuspendedState")
_POLICY_MEMBERS = (
    *("PolicyName", "PolicyType"),
    "StepScalingPolicyConfiguration",
    "TargetTrackingScalingPolicyConfiguration",
    "PredictiveScalingPolicyConfiguration",
)
_ACTION_MEMBERS = (
    *("ScheduledActionName", "Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction"),
)
_SERVICE_ROLE = "/aws-service-role/"
_ALARM_MEMBERS = (
    *("AlarmName", "AlarmDescription", "ActionsEnabled", "OKActions", "AlarmActions"),
    *("InsufficientDataActions", "MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Dimensions"),
    *("Period", "Unit", "EvaluationPeriods", "DatapointsToAlarm", "Threshold", "ComparisonOperator"),
    *("TreatMissingData", "EvaluateLowSampleCountPercentile", "Metrics", "ThresholdMetricId"),
)
"""Members that DescribeAlarms answers and PutMetricAlarm takes."""


@dataclass(frozen=True, kw_only=True)
class VariantScaling:
    """The scaling of one variant, as Application Auto Scaling describes it.

    :param target: MinCapacity, MaxCapacity, RoleARN (not the service's own), SuspendedState
    :param policies: parameters of PutScalingPolicy, without those that name the target
    :param actions: parameters of PutScheduledAction, likewise; times as epoch seconds
    :param alarms: step scaling policy → alarms that set it off. They are not deleted, but need the new policy's ARN
    """

    variant: ScaledVariant
    target: Mapping[str, Any]
    policies: Sequence[Mapping[str, Any]] = ()
    actions: Sequence[Mapping[str, Any]] = ()
    alarms: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def described(
        cls,
        variant: ScaledVariant,
        target: Mapping[str, Any],
        policies: Iterable[Mapping[str, Any]],
        actions: Iterable[Mapping[str, Any]],
        alarms: Mapping[str, Sequence[str]],
    ) -> VariantScaling:
        registered = _members(target, _TARGET_MEMBERS)
        if _SERVICE_ROLE in str(registered.get("RoleARN", "")):
            del registered["RoleARN"]  # Application Auto Scaling takes SageMaker's by itself
        return cls(
            variant=variant,
            target=registered,
            policies=[_members(policy, _POLICY_MEMBERS) for policy in policies],
            actions=[_members(action, _ACTION_MEMBERS) for action in actions],
            alarms={policy: list(names) for policy, names in alarms.items() if names},
        )

    @property
    def summary(self) -> str:
        named = {
            "policies": [str(policy["PolicyName"]) for policy in self.policies],
            "scheduled actions": [str(action["ScheduledActionName"]) for action in self.actions],
        }
        capacities = f"{self.target.get('MinCapacity')} to {self.target.get('MaxCapacity')} instances"
        return "; ".join(
            [capacities, *(f"{kind} {', '.join(names)}" for kind, names in named.items() if names)]
        )

    def with_missing_of(self, earlier: VariantScaling) -> VariantScaling:
        """Add policies, actions and alarms that only an earlier note has: a try may have been killed midway."""
        policies = {policy["PolicyName"]: policy for policy in (*earlier.policies, *self.policies)}
        actions = {action["ScheduledActionName"]: action for action in (*earlier.actions, *self.actions)}
        return replace(
            self,
            policies=list(policies.values()),
            actions=list(actions.values()),
            alarms={**earlier.alarms, **self.alarms},
        )

    def registration(self, *, instances: int, asynchronous: bool) -> dict[str, Any]:
        """Build the parameters of RegisterScalableTarget; capacities change only where they contradict the endpoint.

        Only an asynchronous endpoint scales to zero; the maximum is at least the variant's ``instances``.
        """
        least, most = int(self.target.get("MinCapacity", 1)), int(self.target.get("MaxCapacity", 1))
        if not asynchronous and self.variant.dimension == SCALABLE_DIMENSION:
            least = max(least, 1)
        return {
            **self.variant.target(),
            **self.target,
            "MinCapacity": least,
            "MaxCapacity": max(most, least, instances),
        }

    def as_json(self) -> dict[str, Any]:
        dimension = self.variant.dimension
        parts = {
            "d": None if dimension == SCALABLE_DIMENSION else dimension,
            "p": list(self.policies),
            "s": list(self.actions),
            "a": dict(self.alarms),
        }
        given = {key: part for key, part in parts.items() if part}
        return {"v": self.variant.variant_name, "t": dict(self.target), **given}

    @classmethod
    def from_json(cls, endpoint_name: str, value: Mapping[str, Any]) -> VariantScaling:
        return cls(
            variant=ScaledVariant(endpoint_name, value["v"], value.get("d", SCALABLE_DIMENSION)),
            target=value["t"],
            policies=value.get("p", []),
            actions=value.get("s", []),
            alarms=value.get("a", {}),
        )


def note_prefix(tags: Mapping[str, str], moment: int) -> str:
    """Choose the prefix of a new note's keys, different from every other note's.

    Tags that a role without sagemaker:DeleteTags emptied are reused: they count against the endpoint's limit of tags.

    :param moment: epoch nanoseconds; a later note wins over an earlier one
    """
    emptied = {_prefix(key) for key in note_tags(tags)} - set(_filled(tags))
    return min(emptied, default=f"{NOTE_TAG}{moment:x}-")


def note_of(
    scalings: Sequence[VariantScaling], *, prefix: str = NOTE_TAG, room: int = MAX_TAGS
) -> dict[str, str]:
    """Encode scaling as tags; raise InvalidRequest when they are more than ``room``.

    :param prefix: of their keys, by :func:`note_prefix`
    """
    text = json.dumps([scaling.as_json() for scaling in scalings], separators=(",", ":"), default=_epoch)
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    pieces = [packed[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
    if len(pieces) > room:
        raise InvalidRequest(
            f"on_scaled='rescale' keeps what it takes down in {len(pieces)} tags of the endpoint, which has room for "
            f"{max(room, 0)} of {MAX_TAGS}: remove some of its tags, or take the scaling down before and put it back "
            f"after the deployment (SageMakerScaleEndpointOperator)"
        )
    return {f"{prefix}{position:02}": f"{len(pieces)}/{piece}" for position, piece in enumerate(pieces, 1)}


def note_tags(tags: Mapping[str, str]) -> list[str]:
    """List the keys of notes, emptied ones included."""
    return sorted(key for key in tags if key.startswith(NOTE_TAG))


def _prefix(key: str) -> str:
    return key[:-2]


def _filled(tags: Mapping[str, str]) -> list[str]:
    """List the prefixes of the notes that are not emptied, the earliest first."""
    return sorted({_prefix(key) for key in note_tags(tags) if tags[key]})


def noted_in(tags: Mapping[str, str], endpoint_name: str) -> list[VariantScaling]:
    """Decode the scaling in all notes among an endpoint's tags; raise InvalidRequest for a changed note."""
    noted: list[VariantScaling] = []
    for prefix in _filled(tags):
        try:
            count = int(tags[f"{prefix}01"].partition("/")[0])
            pieces = [tags[f"{prefix}{position:02}"].partition("/")[2] for position in range(1, count + 1)]
            text = zlib.decompress(base64.b64decode("".join(pieces), validate=True))
            scalings = [VariantScaling.from_json(endpoint_name, value) for value in json.loads(text)]
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise InvalidRequest(
                f"the tags {prefix}* of endpoint {endpoint_name} note the scaling that was taken down, and cannot "
                f"be read any more ({type(error).__name__}): scale it again (SageMakerScaleEndpointOperator) and "
                f"remove them"
            ) from error
        noted = merged(noted, scalings) if noted else scalings
    return noted


def merged(noted: Sequence[VariantScaling], registered: Sequence[VariantScaling]) -> list[VariantScaling]:
    """Combine the scaling registered now with the scaling that an earlier try noted and did not put back."""
    scalings = {scaling.variant: scaling for scaling in noted}
    for scaling in registered:
        earlier = scalings.get(scaling.variant)
        scalings[scaling.variant] = scaling if earlier is None else scaling.with_missing_of(earlier)
    return list(scalings.values())


def repointed(alarm: Mapping[str, Any], variant: ScaledVariant, policy_arn: str) -> dict[str, Any] | None:
    """Build the parameters of PutMetricAlarm that make a described alarm set off a policy that was put back.

    :return: None where it sets off that policy already, or has nothing to do with that policy of that variant
    """
    name = policy_arn.rpartition(":policyName/")[2]
    end = f":resource/sagemaker/{variant.resource_id}:policyName/{name}"
    actions = [policy_arn if action.endswith(end) else action for action in alarm.get("AlarmActions") or ()]
    if actions == list(alarm.get("AlarmActions") or ()):
        return None
    return {**_members(alarm, _ALARM_MEMBERS), "AlarmActions": list(dict.fromkeys(actions))}


def _members(value: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value[name] for name in names if value.get(name) is not None}


def _epoch(value: object) -> float:
    if isinstance(value, datetime):
        return value.astimezone(UTC).timestamp()
    raise TypeError(f"a note cannot hold a {type(value).__name__}")
