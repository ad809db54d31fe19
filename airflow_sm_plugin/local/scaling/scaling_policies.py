"""The number of instances that a policy asks for: target tracking, step scaling, and its alarms. Pure decisions.

A simplification of Application Auto Scaling. As there, no policy works with a metric that has no value, and the
backlog per instance has no value without instances. So only step scaling on ``HasBacklogWithoutCapacity`` scales an
endpoint up from zero.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAMESPACE = "AWS/SageMaker"
BACKLOG = "ApproximateBacklogSize"
BACKLOG_PER_INSTANCE = "ApproximateBacklogSizePerInstance"
BACKLOG_WITHOUT_CAPACITY = "HasBacklogWithoutCapacity"
INVOCATIONS_PER_INSTANCE = "InvocationsPerInstance"

_PREDEFINED = {"SageMakerVariantInvocationsPerInstance": INVOCATIONS_PER_INSTANCE}
_DEFAULT_COOLDOWN = 300.0
"""Seconds: Application Auto Scaling's default for SageMaker's variants."""
_SCALE_IN_BELOW = 0.9
"""Of the target value: target tracking scales in only below it, to prevent oscillation."""

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanOrEqualToThreshold": operator.le,
    "LessThanThreshold": operator.lt,
}


@dataclass(frozen=True)
class VariantMetrics:
    """A variant's metrics at a moment, by name; a metric without a value is missing."""

    metrics: Mapping[str, float]
    instances: int


@dataclass(frozen=True)
class Wish:
    """The number of instances that a policy asks for.

    :param cooldown: seconds since the last scaling, to scale out; seconds of asking for fewer, to scale in
    :param policy: the policy's name; empty for a bound of the scalable target
    """

    instances: int
    cooldown: float = 0.0
    policy: str = ""


def tracking_wish(config: Mapping[str, Any], polled: VariantMetrics) -> Wish | None:
    """Apply a TargetTrackingScalingPolicyConfiguration; None when its metric has no value."""
    value = polled.metrics.get(_metric(config))
    if value is None:
        return None
    target = float(config["TargetValue"])
    wanted = math.ceil(polled.instances * value / target)
    if value > target:
        return Wish(max(wanted, polled.instances), _cooldown(config, "ScaleOutCooldown"))
    if value < target * _SCALE_IN_BELOW and wanted < polled.instances and not config.get("DisableScaleIn"):
        return Wish(wanted, _cooldown(config, "ScaleInCooldown"))
    return Wish(polled.instances)


def step_wish(config: Mapping[str, Any], polled: VariantMetrics, *, breach: float) -> Wish | None:
    """Apply a StepScalingPolicyConfiguration; *breach* is the metric's signed distance from the alarm's threshold."""
    for step in config.get("StepAdjustments", []):
        lower = step.get("MetricIntervalLowerBound", -math.inf)
        upper = step.get("MetricIntervalUpperBound", math.inf)
        if lower <= breach < upper:
            return Wish(_adjusted(config, step, polled.instances), _cooldown(config, "Cooldown"))
    return None


def combined(wishes: Sequence[Wish], *, instances: int, minimum: int, maximum: int) -> Wish:
    """Choose the largest wish, within the target's bounds."""
    largest = max(wishes, key=lambda wish: wish.instances, default=Wish(instances))
    bounded = min(max(largest.instances, minimum), maximum)
    cooldown = largest.cooldown if bounded == largest.instances or bounded < instances else 0.0
    return Wish(bounded, cooldown, largest.policy)


def breach_of(alarm: Mapping[str, Any], metrics: Mapping[str, float]) -> float | None:
    """Compute the distance of an alarm's metric from its threshold when it is in breach, NaN when it is not.

    None when the metric has no value, or the alarm's comparison is not supported here.
    """
    value, compare = metrics.get(alarm.get("MetricName", "")), _COMPARE.get(alarm["ComparisonOperator"])
    if value is None or compare is None or "Threshold" not in alarm:
        return None
    return value - float(alarm["Threshold"]) if compare(value, float(alarm["Threshold"])) else math.nan


def _metric(config: Mapping[str, Any]) -> str:
    customized = config.get("CustomizedMetricSpecification", {})
    if customized.get("Namespace") == NAMESPACE:
        return str(customized.get("MetricName"))
    predefined = config.get("PredefinedMetricSpecification", {})
    return _PREDEFINED.get(predefined.get("PredefinedMetricType", ""), "")


def _cooldown(config: Mapping[str, Any], name: str) -> float:
    return float(config.get(name, _DEFAULT_COOLDOWN))


def _adjusted(config: Mapping[str, Any], step: Mapping[str, Any], instances: int) -> int:
    by = int(step["ScalingAdjustment"])
    kind = config.get("AdjustmentType", "ChangeInCapacity")
    if kind == "ExactCapacity":
        return by
    if kind == "PercentChangeInCapacity":
        least = int(config.get("MinAdjustmentMagnitude", 1))
        size = max(math.floor(abs(instances * by / 100)), least)
        return instances + (size if by > 0 else -size)
    return instances + by
