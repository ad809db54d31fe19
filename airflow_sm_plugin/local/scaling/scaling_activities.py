"""What scaling has done to endpoint variants: DescribeScalingActivities, which moto does not answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.endpoints.endpoints import KIND
from airflow_sm_plugin.local.protocol.errors import ValidationFailure

_ACTIVITIES = "scaling-activity"
_MOST = 50
"""Activities on a page, as by the service."""


def add(region: Region, resource: str, dimension: str, *, instances: int, policy: str) -> None:
    """Note that a variant begins to be scaled.

    :param resource: ``endpoint/<name>/variant/<name>``
    :param policy: name of the policy that asked for it; empty: a bound of the scalable target did
    """
    activity_id = str(uuid.uuid4())
    with region.table(_ACTIVITIES) as activities:
        activities[activity_id] = {
            "ActivityId": activity_id,
            "ServiceNamespace": "sagemaker",
            "ResourceId": resource,
            "ScalableDimension": dimension,
            "Description": f"Setting desired instance count to {instances}.",
            "Cause": f"policy {policy} triggered" if policy else "a capacity limit of the scalable target",
            "StartTime": now(),
            "StatusCode": "InProgress",
            "StatusMessage": f"Setting desired instance count to {instances}. Waiting for change to be fulfilled.",
            "_instances": instances,
        }


def describe(region: Region, params: Mapping[str, Any]) -> Record:
    """Answer DescribeScalingActivities: the newest first."""
    if not params.get("ServiceNamespace"):
        raise ValidationFailure("ServiceNamespace is required")
    limit, token = params.get("MaxResults", _MOST), str(params.get("NextToken", "0"))
    if not isinstance(limit, int) or not 1 <= limit <= _MOST:
        raise ValidationFailure(f"MaxResults must be a number from 1 to {_MOST}, not {limit!r}")
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
        found = [
            public(activity)
            for activity in reversed(activities.values())
            if all(activity[name] == value for name, value in wanted.items())
        ]
    end = int(token) + limit
    answer: Record = {"ScalingActivities": found[int(token) : end]}
    return answer | ({"NextToken": str(end)} if end < len(found) else {})


def _settle(region: Region, activity: Record) -> None:
    """Bring an activity up to date with its endpoint; the region's lock is held."""
    if activity["StatusCode"] != "InProgress":
        return
    _, name, _, variant = activity["ResourceId"].split("/")
    instances = activity["_instances"]
    with region.table(KIND) as endpoints:
        endpoint = endpoints.get(name)
    if endpoint is not None and endpoint["EndpointStatus"] in ("Updating", "RollingBack"):
        return
    live = endpoint["_live"] if endpoint is not None and endpoint["EndpointStatus"] == "InService" else None
    is_done = (
        live is not None and variant in live.variants and live.variants[variant].instance_count == instances
    )
    outcome = "Successfully set" if is_done else "Failed to set"
    ending = (
        "Change successfully fulfilled by sagemaker." if is_done else "The endpoint did not take it over."
    )
    activity.update(
        StatusCode="Successful" if is_done else "Failed",
        StatusMessage=f"{outcome} desired instance count to {instances}. {ending}",
        EndTime=endpoint["LastModifiedTime"] if endpoint else now(),
    )
