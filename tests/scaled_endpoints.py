"""Endpoints that scale in every way, by hand, and what is left of that."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3

from airflow_sm_plugin.endpoints.scaling_note import NOTE_TAG
from tests.support import Account

__all__ = ["SUSPENDED", "clients", "notes_on", "scale", "scaling_of", "target_of"]

TRACKING = {
    "TargetValue": 70.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    "ScaleInCooldown": 120,
}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    "Cooldown": 60,
}
SUSPENDED = {
    "DynamicScalingInSuspended": True,
    "DynamicScalingOutSuspended": False,
    "ScheduledScalingSuspended": False,
}


@cache
def clients(url: str) -> tuple[Any, Any]:
    """Clients of the embedded service."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    return (
        session.client("application-autoscaling", endpoint_url=url),
        session.client("cloudwatch", endpoint_url=url),
    )


def target_of(name: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def scale(account: Account, name: str) -> None:
    """Scale an endpoint in every way, by hand."""
    autoscaling, cloudwatch = clients(account.url)
    target = target_of(name)
    autoscaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=4, SuspendedState=SUSPENDED)
    autoscaling.put_scaling_policy(
        **target,
        PolicyName="tracking",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=TRACKING,
    )
    step = autoscaling.put_scaling_policy(
        **target, PolicyName="steps", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS
    )
    autoscaling.put_scheduled_action(
        **target,
        ScheduledActionName="nights",
        Schedule="cron(0 20 * * ? *)",
        ScalableTargetAction={"MinCapacity": 1, "MaxCapacity": 2},
    )
    cloudwatch.put_metric_alarm(
        AlarmName=f"{name}-busy",
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[{"Name": "EndpointName", "Value": name}],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=3,
        Threshold=100.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=["arn:aws:sns:us-east-1:123456789012:people", step["PolicyARN"]],
    )


def scaling_of(account: Account, name: str) -> dict[str, Any]:
    """Return what scales an endpoint, without values that AWS makes new each time."""
    autoscaling, cloudwatch = clients(account.url)
    target = target_of(name)
    by_resource = {"ServiceNamespace": "sagemaker", "ResourceId": target["ResourceId"]}
    targets = autoscaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]]
    )["ScalableTargets"]
    described = autoscaling.describe_scaling_policies(**by_resource)["ScalingPolicies"]
    policies = sorted(described, key=lambda policy: str(policy["PolicyName"]))
    actions = autoscaling.describe_scheduled_actions(**by_resource)["ScheduledActions"]
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[f"{name}-busy"])["MetricAlarms"]
    arns = {policy["PolicyARN"]: policy["PolicyName"] for policy in policies}
    return {
        "targets": [(one["MinCapacity"], one["MaxCapacity"], one["SuspendedState"]) for one in targets],
        "tracking": [one.get("TargetTrackingScalingPolicyConfiguration") for one in policies],
        "steps": [one.get("StepScalingPolicyConfiguration") for one in policies],
        "actions": [
            (one["ScheduledActionName"], one["Schedule"], one["ScalableTargetAction"]) for one in actions
        ],
        "alarm": [arns.get(action, action) for action in alarm["AlarmActions"]],
        "alarm's": (alarm["MetricName"], alarm["Threshold"], alarm["Statistic"], alarm["EvaluationPeriods"]),
    }


def notes_on(account: Account, name: str) -> list[str]:
    arn = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointArn"]
    tags = account.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    return [tag["Value"] for tag in tags if tag["Key"].startswith(NOTE_TAG)]
