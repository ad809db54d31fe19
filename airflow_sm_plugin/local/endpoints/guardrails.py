"""Deployment guardrails: checks of a DeploymentConfig, and the stages of its update. Pure decisions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.local.faults.recorded import recorded

DeploymentConfig = Mapping[str, Any]
VariantsByName = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class DeploymentStage:
    """One step of an update.

    :param status: VariantStatus: Creating, ActivatingTraffic, Baking or Deleting
    :param share: of the traffic that the new configuration gets, 0 to 1
    :param seconds: how long the stage lasts at least; its alarms are polled all the time
    """

    status: str
    share: float
    seconds: float = 0.0


def check(config: DeploymentConfig | None) -> None:
    """Raise RecordedFailure for a DeploymentConfig that contradicts itself."""
    if config is None:
        return
    blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    if blue_green and rolling:
        raise recorded("two update policies")
    if not blue_green and not rolling:
        raise recorded("no update policy")
    routing = (blue_green or {}).get("TrafficRoutingConfiguration", {})
    for kind, member in (("CANARY", "CanarySize"), ("LINEAR", "LinearStepSize")):
        size = routing.get(member)
        if (routing.get("Type") == kind) != bool(size):
            raise recorded("traffic routing without its size", member=member, kind=kind)
        if size and size["Type"] == "CAPACITY_PERCENT" and size["Value"] > 50:
            raise recorded("a first step of more than half", member=member, size=size["Value"])


def check_update(config: DeploymentConfig | None, before: VariantsByName, after: VariantsByName) -> None:
    """Raise RecordedFailure for a DeploymentConfig that does not fit the variants before and after an update."""
    if config is None:
        return
    if set(before) != set(after):
        names = {"before": ", ".join(before), "after": ", ".join(after)}
        raise recorded("guardrails with other variants", **names)
    if config.get("RollingUpdatePolicy"):
        serverless = any(variant.get("ServerlessConfig") for variant in after.values())
        for is_excluded, kind in ((serverless, "serverless variants"), (len(after) > 1, "several variants")):
            if is_excluded:
                raise recorded("a rolling update of several or serverless variants", what=kind)


def alarms_of(config: DeploymentConfig | None) -> list[str]:
    rollback = (config or {}).get("AutoRollbackConfiguration", {})
    return [alarm["AlarmName"] for alarm in rollback.get("Alarms", [])]


def stages(config: DeploymentConfig | None, *, instances: int) -> tuple[DeploymentStage, ...]:
    """Plan the stages after the start of the first instances; the last has all the traffic.

    :param instances: of the largest variant; a size in instances is relative to it
    """
    config = config or {}
    if config.get("RollingUpdatePolicy"):
        return tuple(_rolling(config["RollingUpdatePolicy"], instances))
    policy = config.get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {})
    size = routing.get("CanarySize") or routing.get("LinearStepSize")
    step = _share(size, instances) if size else 1.0
    shares = [step, 1.0] if routing.get("Type") == "CANARY" else _steps(step)
    wait = float(routing.get("WaitIntervalInSeconds", 0))
    shifts = [
        stage
        for share in shares
        for stage in (DeploymentStage("ActivatingTraffic", share), DeploymentStage("Baking", share, wait))
    ]
    return (*shifts, DeploymentStage("Deleting", 1.0, float(policy.get("TerminationWaitInSeconds", 0))))


def _rolling(policy: Mapping[str, Any], instances: int) -> Iterator[DeploymentStage]:
    wait = float(policy["WaitIntervalInSeconds"])
    before = 0.0
    for share in _steps(_share(policy["MaximumBatchSize"], instances)):
        yield DeploymentStage("Creating", before)
        yield DeploymentStage("ActivatingTraffic", share)
        yield DeploymentStage("Baking", share, wait)
        yield DeploymentStage("Deleting", share)
        before = share


def _share(size: Mapping[str, Any], instances: int) -> float:
    part = size["Value"] / (100 if size["Type"] == "CAPACITY_PERCENT" else max(instances, 1))
    return float(min(max(part, 0.01), 1.0))


def _steps(step: float) -> list[float]:
    multiples = (step * count for count in itertools.count(1))
    return [*itertools.takewhile(lambda share: share < 0.999, multiples), 1.0]
