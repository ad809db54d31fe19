"""A note of the scaling that a deployment took down: kept in the endpoint's tags, where every later try finds it.

A task's own memory ends with its process, and XCom with its try. A tag holds 256 characters of a small alphabet, so the
note is compressed and spread over several.
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
"""With a moment and a number, from 01: on an endpoint whose scaling is taken down for an update.

Each note has keys of its own, so that a task that has put back what one note says deletes no other.
"""

_PIECE = MAX_TAG_VALUE - len("50/")
_TARGET_MEMBERS = ("MinCapacity", "MaxCapacity", "RoleARN", "SuspendedState")
_POLICY_MEMBERS = (
    "PolicyName",
    "PolicyType",
    "StepScalingPolicyConfiguration",
    "TargetTrackingScalingPolicyConfiguration",
    "PredictiveScalingPolicyConfiguration",
)
_ACTION_MEMBERS = (
    "ScheduledActionName",
    "Schedule",
    "Timezone",
    "StartTime",
    "EndTime",
    "ScalableTargetAction",
)
_SERVICE_ROLE = "/aws-service-role/"
_ALARM_MEMBERS = (
    "AlarmName",
    "AlarmDescription",
    "ActionsEnabled",
    "OKActions",
    "AlarmActions",
    "InsufficientDataActions",
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Dimensions",
    "Period",
    "Unit",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
    "Metrics",
    "ThresholdMetricId",
)
"""What PutMetricAlarm takes of what DescribeAlarms answers."""


@dataclass(frozen=True, kw_only=True)
class VariantScaling:
    """The scaling of one variant, as Application Auto Scaling describes it.

    :param target: MinCapacity, MaxCapacity, RoleARN (not the service's own), SuspendedState
    :param policies: parameters of PutScalingPolicy, without those that name the target
    :param actions: parameters of PutScheduledAction, likewise; times as epoch seconds
    :param alarms: by a step scaling policy's name, the alarms that set it off; they stay where they are, but need the
        ARN of the policy that is put back
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
            del registered["RoleARN"]  # SageMaker's, which Application Auto Scaling takes by itself
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
        """Return what is registered now, with what only an earlier note knows: a try may have been killed midway."""
        policies = {policy["PolicyName"]: policy for policy in (*earlier.policies, *self.policies)}
        actions = {action["ScheduledActionName"]: action for action in (*earlier.actions, *self.actions)}
        return replace(
            self,
            policies=list(policies.values()),
            actions=list(actions.values()),
            alarms={**earlier.alarms, **self.alarms},
        )

    def registration(self, *, instances: int, asynchronous: bool) -> dict[str, Any]:
        """Return the parameters of RegisterScalableTarget.

        Capacities stay as they were, but where they contradict the endpoint as it is now: only an asynchronous one
        scales to zero, and the maximum is at least the number of instances that it was given.
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
    """Return how the keys of a new note begin: as those of no other note.

    Keys that were emptied, by a role without permission to remove tags, are used again, lest they fill the endpoint's
    tags.

    :param tags: the endpoint's
    :param moment: epoch nanoseconds; a later note wins over an earlier one
    """
    emptied = {_prefix(key) for key in note_tags(tags)} - set(_filled(tags))
    return min(emptied, default=f"{NOTE_TAG}{moment:x}-")


def note_of(
    taken: Sequence[VariantScaling], *, prefix: str = NOTE_TAG, room: int = MAX_TAGS
) -> dict[str, str]:
    """Return the tags that hold what was taken down.

    :param prefix: how their keys begin: :func:`note_prefix`
    :param room: how many more tags the endpoint takes
    :raises InvalidRequest: the note needs more
    """
    text = json.dumps([scaling.as_json() for scaling in taken], separators=(",", ":"), default=_moment)
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    pieces = [packed[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
    if len(pieces) > room:
        raise InvalidRequest(
            f"on_scaled='rescale' keeps what it takes down in {len(pieces)} tags of the endpoint, which has room for "
            f"{max(room, 0)} of {MAX_TAGS}: remove some of its tags, or take the scaling down before and put it back "
            f"after the deployment (SageMakerScaleEndpointOperator)"
        )
    return {f"{prefix}{number:02}": f"{len(pieces)}/{piece}" for number, piece in enumerate(pieces, 1)}


def note_tags(tags: Mapping[str, str]) -> list[str]:
    """Return the keys of those tags that hold notes."""
    return sorted(key for key in tags if key.startswith(NOTE_TAG))


def _prefix(key: str) -> str:
    return key[:-2]


def _filled(tags: Mapping[str, str]) -> list[str]:
    """Return how the keys of each note begin that was not emptied, the earliest first."""
    return sorted({_prefix(key) for key in note_tags(tags) if tags[key]})


def noted_in(tags: Mapping[str, str], endpoint_name: str) -> list[VariantScaling]:
    """Read what was taken down of an endpoint's scaling, from all notes in its tags.

    :raises InvalidRequest: the note was changed
    """
    noted: list[VariantScaling] = []
    for prefix in _filled(tags):
        try:
            count = int(tags[f"{prefix}01"].partition("/")[0])
            pieces = [tags[f"{prefix}{number:02}"].partition("/")[2] for number in range(1, count + 1)]
            text = zlib.decompress(base64.b64decode("".join(pieces), validate=True))
            taken = [VariantScaling.from_json(endpoint_name, value) for value in json.loads(text)]
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise InvalidRequest(
                f"the tags {prefix}* of endpoint {endpoint_name} say what was taken down of its scaling, and cannot "
                f"be read any more ({type(error).__name__}): scale it again (SageMakerScaleEndpointOperator) and "
                f"remove them"
            ) from error
        noted = merged(noted, taken) if noted else taken
    return noted


def merged(noted: Sequence[VariantScaling], found: Sequence[VariantScaling]) -> list[VariantScaling]:
    """Return what is to be put back: what was found now, and what an earlier try noted and did not put back."""
    scalings = {scaling.variant: scaling for scaling in noted}
    for scaling in found:
        earlier = scalings.get(scaling.variant)
        scalings[scaling.variant] = scaling if earlier is None else scaling.with_missing_of(earlier)
    return list(scalings.values())


def repointed(alarm: Mapping[str, Any], variant: ScaledVariant, policy_arn: str) -> dict[str, Any] | None:
    """Return the parameters of PutMetricAlarm that have an alarm set off a policy that was put back.

    :param alarm: as DescribeAlarms describes it
    :return: None where it does already, or has nothing to do with that policy of that variant
    """
    name = policy_arn.rpartition(":policyName/")[2]
    end = f":resource/sagemaker/{variant.resource_id}:policyName/{name}"
    actions = [policy_arn if action.endswith(end) else action for action in alarm.get("AlarmActions") or ()]
    if actions == list(alarm.get("AlarmActions") or ()):
        return None
    return {**_members(alarm, _ALARM_MEMBERS), "AlarmActions": list(dict.fromkeys(actions))}


def _members(value: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value[name] for name in names if value.get(name) is not None}


def _moment(value: object) -> float:
    if isinstance(value, datetime):
        return value.astimezone(UTC).timestamp()
    raise TypeError(f"{type(value).__name__} has no place in a note")
