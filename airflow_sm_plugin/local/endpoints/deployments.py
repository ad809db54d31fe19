"""Create, update, scale and delete endpoints in the background: real containers, real statuses, settable durations.

Updates are blue/green: the old instances serve until the new ones answer; through the stages of a DeploymentConfig,
both serve. An update fails when its containers do not start, when its alarm goes off, or when it is set to fail
(``faults/outcomes``). It stays Updating until the endpoint is InService with the old configuration again; only a failed
scaling (UpdateEndpointWeightsAndCapacities) shows RollingBack.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account.state import Record, Region, now
from airflow_sm_plugin.local.containers.containers import ContainerFailed
from airflow_sm_plugin.local.containers.pipelines import Pipeline
from airflow_sm_plugin.local.endpoints import guardrails
from airflow_sm_plugin.local.endpoints.endpoints import (
    DELETED_HOOKS,
    KIND,
    SERVING_HOOKS,
    LiveEndpoint,
    notify,
)
from airflow_sm_plugin.local.endpoints.guardrails import DeploymentConfig, DeploymentStage
from airflow_sm_plugin.local.faults.outcomes import CREATE, SCALE, UPDATE, DeploymentOutcome

log = logging.getLogger(__name__)

_SERVICE_FAILED = "Request to service failed. If failure persists after retry, contact customer support."
_ALARM_POLL_SECONDS = 0.1
"""Seconds between checks of alarms during a baking period, so that a rollback begins soon after an alarm."""


class _RollBack(Exception):
    """The update is to be undone; ``reason`` becomes the FailureReason."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason or "")
        self.reason = reason


def create(region: Region, live: LiveEndpoint) -> None:
    """Start a new endpoint. It ends InService (or OutOfService, when so set), or Failed with the reason."""
    outcome = region.outcomes.take(live.name, CREATE)

    def work() -> None:
        try:
            _bring_up(region, live.start, outcome, lambda: region.settings.endpoint_creating_seconds)
        except _RollBack as failed:
            _settle(region, live.name, "Failed", FailureReason=failed.reason)
            return
        _settle(region, live.name, outcome.end, _live=live)
        if outcome.end == "InService":
            notify(SERVING_HOOKS, region, live.name)

    region.in_background(f"create endpoint {live.name}", work)


def replace(region: Region, old: LiveEndpoint, new: LiveEndpoint, config: DeploymentConfig | None) -> None:
    """Replace ``old`` by ``new`` as ``config`` prescribes. When that fails, ``old`` goes on serving."""
    outcome = region.outcomes.take(old.name, UPDATE)

    def work() -> None:
        try:
            _bring_up(region, new.start, outcome, lambda: region.settings.endpoint_updating_seconds)
            _shift_traffic(region, new, config)
        except _RollBack as failed:
            _roll_back(region, old, outcome, failed.reason, shown="Updating")
            new.retire(timeout=_longest_invocation(region, new))
            return
        config_name = new.config["EndpointConfigName"]
        _settle(region, new.name, outcome.end, _live=new, EndpointConfigName=config_name)
        notify(SERVING_HOOKS, region, new.name)
        old.retire(timeout=_longest_invocation(region, old))

    region.in_background(f"update endpoint {old.name}", work)


def rescale(region: Region, live: LiveEndpoint, wanted: Mapping[str, Record]) -> None:
    outcome = region.outcomes.take(live.name, SCALE)
    removed: list[Pipeline] = []
    for name, change in wanted.items():
        variant = live.variants[name]
        variant.wanted_count = int(change.get("DesiredInstanceCount", variant.instance_count))

    def scale() -> None:
        for name, change in wanted.items():
            variant = live.variants[name]
            removed.extend(variant.scale_to(variant.wanted_count))
            variant.weight = float(change.get("DesiredWeight", variant.weight))

    def work() -> None:
        try:
            _bring_up(region, scale, outcome, lambda: region.settings.endpoint_updating_seconds)
        except _RollBack as failed:
            for variant in live.variants.values():
                variant.wanted_count = variant.instance_count
            _roll_back(region, live, outcome, failed.reason, shown="RollingBack")
            return
        _settle(region, live.name, outcome.end)
        notify(SERVING_HOOKS, region, live.name)
        for pipeline in removed:
            pipeline.retire(timeout=_longest_invocation(region, live))

    region.in_background(f"scale endpoint {live.name}", work)


def delete(region: Region, name: str, live: LiveEndpoint | None) -> None:
    def work() -> None:
        _attempt(
            region,
            lambda: live.retire(timeout=0) if live else None,
            lambda: region.settings.endpoint_deleting_seconds,
        )
        with region.table(KIND) as endpoints:
            endpoints.pop(name, None)
        notify(DELETED_HOOKS, region, name)

    region.in_background(f"delete endpoint {name}", work)


def _bring_up(
    region: Region, start: Callable[[], None], outcome: DeploymentOutcome, least: Callable[[], float]
) -> None:
    def seconds() -> float:
        return least() if outcome.seconds is None else outcome.seconds

    if outcome.fails:
        region.wait(seconds)
        raise _RollBack(outcome.reason)
    reason = _attempt(region, start, seconds)
    if reason is not None:
        raise _RollBack(reason)


def _shift_traffic(region: Region, new: LiveEndpoint, config: DeploymentConfig | None) -> None:
    alarms = guardrails.alarms_of(config)
    instances = max((variant.wanted_count for variant in new.variants.values()), default=1)
    for stage in guardrails.stages(config, instances=instances):
        with region.table(KIND) as endpoints:
            record = endpoints.get(new.name)
            if record is None:
                return
            record["_pending"].update({"stage": stage, "since": now()})
        _wait_out(region, stage, alarms)


def _wait_out(region: Region, stage: DeploymentStage, alarms: list[str]) -> None:
    """Wait for as long as the stage lasts, and poll the alarms at least once. Raises _RollBack."""

    def seconds() -> float:
        return min(stage.seconds, region.settings.deployment_wait_limit_seconds)

    began = time.monotonic()
    while alarms:
        if alarmed := _in_alarm(region, alarms):
            raise _RollBack(
                f"Alarm(s) of the deployment configuration went into ALARM: {', '.join(alarmed)}."
            )
        left = began + seconds() - time.monotonic()
        if left <= 0 or region.closed.wait(min(left, _ALARM_POLL_SECONDS)):
            return
    region.wait(seconds, since=began)


def _in_alarm(region: Region, names: list[str]) -> list[str]:
    try:
        response = region.aws.cloudwatch(region.name).describe_alarms(AlarmNames=names)
    except (BotoCoreError, ClientError):
        log.warning("the alarms of a deployment cannot be read")
        return []
    return [alarm["AlarmName"] for alarm in response["MetricAlarms"] if alarm["StateValue"] == "ALARM"]


def _roll_back(
    region: Region, old: LiveEndpoint, outcome: DeploymentOutcome, reason: str | None, *, shown: str
) -> None:
    with region.table(KIND) as endpoints:
        record = endpoints.get(old.name)
        if record is not None:
            record.update({"EndpointStatus": shown, "LastModifiedTime": now()})
            record["_pending"] = {**record["_pending"], "stage": None} if record["_pending"] else None

    def seconds() -> float:
        if outcome.rolling_back_seconds is None:
            return region.settings.endpoint_rolling_back_seconds
        return outcome.rolling_back_seconds

    region.wait(seconds)
    end = outcome.end if outcome.end in ("UpdateRollbackFailed", "Failed") else "InService"
    _settle(region, old.name, end, FailureReason=reason)


def _longest_invocation(region: Region, live: LiveEndpoint) -> float:
    """For so many seconds, a removed instance can still be answering."""
    settings = region.settings
    return settings.async_invocation_timeout_seconds if live.is_async else settings.invocation_timeout_seconds


def _attempt(region: Region, work: Callable[[], None], seconds: Callable[[], float]) -> str | None:
    """Do the work, taking at least so many seconds; return why it failed, or None."""
    started = time.monotonic()
    reason = None
    try:
        work()
    except ContainerFailed as error:
        reason = str(error)
    except Exception:
        log.exception("an endpoint's containers could not be started")
        reason = _SERVICE_FAILED
    region.wait(seconds, since=started)
    return reason


def _settle(region: Region, name: str, status: str, **changes: object) -> None:
    with region.table(KIND) as endpoints:
        record = endpoints.get(name)
        if record is not None:
            record.update({"FailureReason": None, "_pending": None, **changes})
            record.update({"EndpointStatus": status, "LastModifiedTime": now()})
