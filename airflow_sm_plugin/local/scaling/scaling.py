"""Follow the scaling policies that moto's Application Auto Scaling stores for endpoint variants.

While any target is registered, a thread per region polls the targets: it publishes their metrics to CloudWatch, sets
the state of the alarms on these metrics, and scales. Moto lacks DescribeScalingActivities, which is answered here.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.async_inference.requests import backlog
from airflow_sm_plugin.local.endpoints.endpoint_operations import FOLLOWER, scalable_targets, scale_variant
from airflow_sm_plugin.local.endpoints.endpoints import KIND, LiveEndpoint, LiveVariant, endpoint_in_service
from airflow_sm_plugin.local.faults.recorded import RecordedFailure
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.scaling import scaling_policies as policies
from airflow_sm_plugin.local.scaling.scaling_policies import VariantMetrics, Wish

log = logging.getLogger(__name__)

NAMESPACE: Final = "sagemaker"
DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"
_PUBLISH_SECONDS = 60.0
"""A metric is published when it changes and once a minute, as by the service."""

_ACTIVITIES = "scaling-activity"
_PAGE = 50
"""Activities on a page, as by the service."""


@dataclass
class _Watched:
    """The state of a target between two polls."""

    scaled: float = -math.inf
    fewer_since: float | None = None
    published: dict[str, tuple[float, float]] = field(default_factory=dict)


def follow(region: Region, operation: str, resource: str | None) -> None:
    if operation == "RegisterScalableTarget":
        _start(region)
    elif operation == "DeregisterScalableTarget" and resource:
        _deregister(region, resource)


def _start(region: Region) -> None:
    with region.table(FOLLOWER) as followers:
        is_running = bool(followers)
        followers["thread"] = {"_registered": True}
    if not is_running:
        region.in_background("follow scaling policies", lambda: _follow(region))


def _follow(region: Region) -> None:
    watched: dict[str, _Watched] = {}
    while not region.closed.wait(max(region.settings.scaling_interval_seconds, 0.01)):
        with region.table(FOLLOWER) as followers:
            followers["thread"]["_registered"] = False
        try:
            registered = list(scalable_targets(region))
            instances = [target for target in registered if target["ScalableDimension"] == DIMENSION]
            followed = {target["ResourceId"]: target for target in instances}
            _poll(region, followed, watched)
        except (BotoCoreError, ClientError) as error:
            log.warning("scaling policies cannot be followed now: %s", type(error).__name__)
            continue
        with region.table(FOLLOWER) as followers:
            if not registered and not followers["thread"]["_registered"]:
                followers.clear()
                return


def _poll(region: Region, targets: Mapping[str, Record], watched: dict[str, _Watched]) -> None:
    for gone in set(watched) - set(targets):
        del watched[gone]
    alarms = list(_alarms(region)) if targets else []
    for resource, target in targets.items():
        serving = _variant(region, resource)
        if serving is not None:
            memory = watched.setdefault(resource, _Watched())
            _poll_target(region, target, serving, alarms, memory)


def _poll_target(
    region: Region,
    target: Record,
    serving: tuple[LiveEndpoint, LiveVariant],
    alarms: list[Record],
    memory: _Watched,
) -> None:
    live, variant = serving
    polled = VariantMetrics(_metrics(region, live, variant), variant.instance_count)
    _publish(region, live, variant, polled.metrics, memory)
    breaches = _set_alarms(region, live.name, alarms, polled.metrics)
    wishes = list(_wishes(region, str(target["ResourceId"]), polled, breaches))
    if wishes:
        bounds = {"minimum": int(target["MinCapacity"]), "maximum": int(target["MaxCapacity"])}
        wish = policies.combined(wishes, instances=polled.instances, **bounds)
        _grant(region, target, serving, wish, memory)


def _grant(
    region: Region, target: Record, serving: tuple[LiveEndpoint, LiveVariant], wish: Wish, memory: _Watched
) -> None:
    """Scale, unless a cooldown or a suspension prevents it."""
    live, variant = serving
    moment = time.monotonic()
    cooldown = min(wish.cooldown, region.settings.scaling_cooldown_limit_seconds)
    suspended = target.get("SuspendedState", {})
    if wish.instances >= variant.instance_count:
        memory.fewer_since = None
    elif memory.fewer_since is None:
        memory.fewer_since = moment
    if wish.instances == variant.instance_count:
        return
    since = memory.scaled if memory.fewer_since is None else memory.fewer_since
    kind = "Out" if memory.fewer_since is None else "In"
    if moment - since < cooldown or suspended.get(f"DynamicScaling{kind}Suspended"):
        return
    if scale_variant(region, live.name, variant.name, wish.instances):
        log.info("endpoint %s, variant %s: scaling to %d", live.name, variant.name, wish.instances)
        memory.scaled, memory.fewer_since = moment, None
        _record_activity(region, str(target["ResourceId"]), wish)


def _metrics(region: Region, live: LiveEndpoint, variant: LiveVariant) -> dict[str, float]:
    if not live.is_async:
        window = max(region.settings.scaling_window_seconds, 1.0)
        a_minute = variant.invocations(window) * 60 / window
        return {policies.INVOCATIONS_PER_INSTANCE: a_minute / max(variant.instance_count, 1)}
    waiting = backlog(region, live.name)
    metrics = {
        policies.BACKLOG: float(waiting.size),
        policies.BACKLOG_WITHOUT_CAPACITY: float(waiting.without_capacity),
    }
    if waiting.instances:
        metrics[policies.BACKLOG_PER_INSTANCE] = waiting.per_instance
    return metrics


def _publish(
    region: Region, live: LiveEndpoint, variant: LiveVariant, metrics: Mapping[str, float], memory: _Watched
) -> None:
    moment = time.monotonic()
    dimensions = [{"Name": "EndpointName", "Value": live.name}]
    if not live.is_async:
        dimensions.append({"Name": "VariantName", "Value": variant.name})
    changes = []
    for name, value in metrics.items():
        before, when = memory.published.get(name, (math.nan, -math.inf))
        if value != before or moment - when >= _PUBLISH_SECONDS:
            changes.append({"MetricName": name, "Dimensions": dimensions, "Value": value})
            memory.published[name] = (value, moment)
    if changes:
        data = cast("Any", changes)  # plain dicts
        region.aws.cloudwatch(region.name).put_metric_data(Namespace=policies.NAMESPACE, MetricData=data)


def _set_alarms(
    region: Region, endpoint: str, alarms: list[Record], metrics: Mapping[str, float]
) -> dict[str, float]:
    """Set the state of the endpoint's alarms; return the breach of those in ALARM, by policy ARN."""
    breaches: dict[str, float] = {}
    for alarm in alarms:
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm.get("Dimensions", [])}
        breach = policies.breach_of(alarm, metrics)
        if dimensions.get("EndpointName") != endpoint or breach is None:
            continue
        state = "OK" if math.isnan(breach) else "ALARM"
        if alarm["StateValue"] != state:
            region.aws.cloudwatch(region.name).set_alarm_state(
                AlarmName=alarm["AlarmName"],
                StateValue=cast("Any", state),
                StateReason=f"Threshold {'not ' if state == 'OK' else ''}crossed",
            )
        if state == "ALARM" and alarm.get("ActionsEnabled", True):
            breaches.update(dict.fromkeys(alarm.get("AlarmActions", []), breach))
    return breaches


def _wishes(
    region: Region, resource: str, polled: VariantMetrics, breaches: Mapping[str, float]
) -> Iterator[Wish]:
    for policy in _policies(region, resource):
        wish: Wish | None = None
        tracking = policy.get("TargetTrackingScalingPolicyConfiguration")
        step = policy.get("StepScalingPolicyConfiguration")
        if tracking:
            wish = policies.tracking_wish(tracking, polled)
        elif step and policy["PolicyARN"] in breaches:
            wish = policies.step_wish(step, polled, breach=breaches[policy["PolicyARN"]])
        if wish is not None:
            yield replace(wish, policy=str(policy["PolicyName"]))


def _variant(region: Region, resource: str) -> tuple[LiveEndpoint, LiveVariant] | None:
    """Find the variant of ``endpoint/<name>/variant/<name>``; None when it does not serve."""
    parts = resource.split("/")
    if len(parts) != 4:
        return None
    try:
        live = endpoint_in_service(region, parts[1])
    except RecordedFailure:
        return None
    variant = live.variants.get(parts[3])
    return (live, variant) if variant is not None else None


def _policies(region: Region, resource: str) -> Iterator[Record]:
    pages = region.aws.autoscaling(region.name).get_paginator("describe_scaling_policies")
    for page in pages.paginate(ServiceNamespace=NAMESPACE, ResourceId=resource, ScalableDimension=DIMENSION):
        yield from map(dict, page["ScalingPolicies"])


def _alarms(region: Region) -> Iterator[Record]:
    for page in region.aws.cloudwatch(region.name).get_paginator("describe_alarms").paginate():
        alarms = map(dict, page["MetricAlarms"])
        yield from (alarm for alarm in alarms if alarm.get("Namespace") == policies.NAMESPACE)


def _deregister(region: Region, resource: str) -> None:
    """Delete the policies and scheduled actions of a deregistered target: the service does, moto does not."""
    client = cast("Any", region.aws.autoscaling(region.name))  # plain names
    target = {"ServiceNamespace": NAMESPACE, "ResourceId": resource, "ScalableDimension": DIMENSION}
    for policy in list(_policies(region, resource)):
        client.delete_scaling_policy(PolicyName=policy["PolicyName"], **target)
    for page in client.get_paginator("describe_scheduled_actions").paginate(**target):
        for action in page["ScheduledActions"]:
            client.delete_scheduled_action(ScheduledActionName=action["ScheduledActionName"], **target)


def _record_activity(region: Region, resource: str, wish: Wish) -> None:
    activity_id = str(uuid.uuid4())
    change = f"Setting desired instance count to {wish.instances}."
    limit = "a capacity limit of the scalable target"
    with region.table(_ACTIVITIES) as activities:
        activities[activity_id] = {
            "ActivityId": activity_id,
            "ServiceNamespace": NAMESPACE,
            "ResourceId": resource,
            "ScalableDimension": DIMENSION,
            "Description": change,
            "Cause": f"policy {wish.policy} triggered" if wish.policy else limit,
            "StartTime": now(),
            "StatusCode": "InProgress",
            "StatusMessage": f"{change} Waiting for change to be fulfilled.",
            "_instances": wish.instances,
        }


def describe_activities(region: Region, params: Mapping[str, Any]) -> Record:
    """Answer DescribeScalingActivities, the newest activity first."""
    if not params.get("ServiceNamespace"):
        raise ValidationFailure("ServiceNamespace is required")
    limit, token = params.get("MaxResults", _PAGE), str(params.get("NextToken", "0"))
    if not isinstance(limit, int) or not 1 <= limit <= _PAGE:
        raise ValidationFailure(f"MaxResults must be a number from 1 to {_PAGE}, not {limit!r}")
    if not token.isdigit():
        raise ValidationFailure(f"NextToken is none of an earlier answer: {token!r}")
    wanted = {
        name: params[name]
        for name in ("ServiceNamespace", "ResourceId", "ScalableDimension")
        if params.get(name)
    }
    with region.table(_ACTIVITIES) as activities:
        for activity in activities.values():
            _settle(region, activity)
        matching = [
            public(activity)
            for activity in reversed(activities.values())
            if all(activity[name] == value for name, value in wanted.items())
        ]
    end = int(token) + limit
    answer: Record = {"ScalingActivities": matching[int(token) : end]}
    return answer | ({"NextToken": str(end)} if end < len(matching) else {})


def _settle(region: Region, activity: Record) -> None:
    """End an activity when its endpoint has ended the change. The caller holds the region's lock."""
    if activity["StatusCode"] != "InProgress":
        return
    _, name, _, variant = activity["ResourceId"].split("/")
    instances = activity["_instances"]
    with region.table(KIND) as endpoints:
        endpoint = endpoints.get(name)
    if endpoint is not None and endpoint["EndpointStatus"] in ("Updating", "RollingBack"):
        return
    live = endpoint["_live"] if endpoint is not None and endpoint["EndpointStatus"] == "InService" else None
    scaled = live.variants.get(variant) if live is not None else None
    is_successful = scaled is not None and scaled.instance_count == instances
    message = (
        f"Successfully set desired instance count to {instances}. Change successfully fulfilled by sagemaker."
        if is_successful
        else f"Failed to set desired instance count to {instances}. The endpoint did not take it over."
    )
    activity.update(
        StatusCode="Successful" if is_successful else "Failed",
        StatusMessage=message,
        EndTime=endpoint["LastModifiedTime"] if endpoint else now(),
    )
