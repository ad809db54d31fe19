"""Scaling policies: what they ask for as decisions, and endpoints that follow them over HTTP."""

from __future__ import annotations

import datetime
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.faults.outcomes import DeploymentOutcome
from airflow_sm_plugin.local.scaling import scaling_policies as policies
from airflow_sm_plugin.local.scaling.scaling_policies import VariantMetrics, Wish
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import REGION, Clients, changed_settings, clients_of

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient

DIMENSION = "sagemaker:variant:DesiredInstanceCount"
BACKLOG: dict[str, Any] = {
    "TargetValue": 2.0,
    "CustomizedMetricSpecification": {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": "any"}],
        "Statistic": "Average",
    },
    "ScaleInCooldown": 600,
    "ScaleOutCooldown": 10,
}
INVOCATIONS: dict[str, Any] = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
}


def backlog(per_instance: float, instances: int) -> VariantMetrics:
    return VariantMetrics({"ApproximateBacklogSizePerInstance": per_instance}, instances)


@pytest.mark.parametrize(
    ("config", "polled", "wish"),
    [
        (BACKLOG, backlog(5.0, 2), Wish(5, 10.0)),
        (BACKLOG, backlog(2.0, 2), Wish(2)),
        (BACKLOG, backlog(1.9, 2), Wish(2)),  # not far enough below
        (BACKLOG, backlog(0.5, 4), Wish(1, 600.0)),
        (BACKLOG, backlog(0.0, 1), Wish(0, 600.0)),
        (BACKLOG, VariantMetrics({"HasBacklogWithoutCapacity": 1.0}, 0), None),
        ({**BACKLOG, "DisableScaleIn": True}, backlog(0.0, 3), Wish(3)),
        (INVOCATIONS, VariantMetrics({"InvocationsPerInstance": 250.0}, 2), Wish(5, 300.0)),
        ({"TargetValue": 1.0}, backlog(5.0, 2), None),
    ],
)
def test_target_tracking_asks_for_what_brings_its_metric_to_the_target(
    config: dict[str, Any], polled: VariantMetrics, wish: Wish | None
) -> None:
    assert policies.tracking_wish(config, polled) == wish


@pytest.mark.parametrize(
    ("config", "breach", "instances", "wanted"),
    [
        ({"AdjustmentType": "ChangeInCapacity"}, 0.0, 0, 1),
        ({"AdjustmentType": "ExactCapacity"}, 7.0, 2, 5),
        ({"AdjustmentType": "PercentChangeInCapacity", "MinAdjustmentMagnitude": 2}, 0.0, 3, 5),
        ({}, -1.0, 3, None),
    ],
)
def test_step_scaling_takes_the_step_that_the_breach_falls_into(
    config: dict[str, Any], breach: float, instances: int, wanted: int | None
) -> None:
    steps = [
        {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 5, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 5, "ScalingAdjustment": 5},
    ]
    wish = policies.step_wish(
        {**config, "StepAdjustments": steps, "Cooldown": 7}, VariantMetrics({}, instances), breach=breach
    )
    assert wish == (None if wanted is None else Wish(wanted, 7.0))


def test_the_largest_wish_counts_within_the_bounds() -> None:
    bounds = {"instances": 2, "minimum": 1, "maximum": 4}
    assert policies.combined([Wish(0, 9.0), Wish(3, 5.0)], **bounds) == Wish(3, 5.0)
    assert policies.combined([Wish(0, 9.0)], **bounds) == Wish(1, 9.0)
    assert policies.combined([Wish(9, 5.0)], **bounds).instances == 4


@pytest.mark.parametrize(
    ("comparison", "value", "breach"),
    [
        ("GreaterThanOrEqualToThreshold", 1.0, 0.0),
        ("GreaterThanThreshold", 1.0, math.nan),
        ("LessThanOrEqualToThreshold", 0.0, -1.0),
        ("LessThanThreshold", None, None),
        ("GreaterThanUpperThreshold", 1.0, None),
    ],
)
def test_an_alarm_is_judged_by_its_metric_now(
    comparison: str, value: float | None, breach: float | None
) -> None:
    alarm = {"MetricName": "m", "ComparisonOperator": comparison, "Threshold": 1.0}
    result = policies.breach_of(alarm, {} if value is None else {"m": value})
    assert result is breach or result == pytest.approx(breach, nan_ok=True)


class Scaled:
    """An embedded service with short intervals, and clients of all that scaling takes."""

    def __init__(self, embedded: EmbeddedSageMaker) -> None:
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
        self.clients: Clients = clients_of(embedded.url)
        self.embedded = embedded
        self.scaling: ApplicationAutoScalingClient = session.client(
            "application-autoscaling", endpoint_url=embedded.url
        )
        self.cloudwatch: CloudWatchClient = session.client("cloudwatch", endpoint_url=embedded.url)

    def register(self, name: str, tracking: dict[str, Any], *, least: int, most: int = 3) -> dict[str, Any]:
        which: dict[str, Any] = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{name}/variant/AllTraffic",
            "ScalableDimension": DIMENSION,
        }
        self.scaling.register_scalable_target(**which, MinCapacity=least, MaxCapacity=most)
        self.scaling.put_scaling_policy(
            **which,
            PolicyName="tracking",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,  # type: ignore[arg-type] # a plain dict
        )
        return which

    def wake(self, name: str, which: dict[str, Any]) -> None:
        policy = self.scaling.put_scaling_policy(
            **which,
            PolicyName="wake",
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "Cooldown": 300,
                "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
            },
        )
        self.cloudwatch.put_metric_alarm(
            AlarmName=f"{name}-wake",
            Namespace="AWS/SageMaker",
            MetricName="HasBacklogWithoutCapacity",
            Dimensions=[{"Name": "EndpointName", "Value": name}],
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            Threshold=1,
            EvaluationPeriods=1,
            Period=60,
            Statistic="Average",
            AlarmActions=[policy["PolicyARN"]],
        )

    def asynchronous(self, code: str = "") -> str:
        output = {"OutputConfig": {"S3OutputPath": f"s3://{self.clients.bucket}/out"}}
        return self.clients.deploy(*([code] if code else []), AsyncInferenceConfig=output)

    def instances(self, name: str) -> int:
        described = self.clients.sagemaker.describe_endpoint(EndpointName=name)
        return described["ProductionVariants"][0]["CurrentInstanceCount"]

    def wait_for_instances(self, name: str, count: int) -> None:
        """Poll until there are so many; the test's own time limit ends a wait in vain."""
        while self.instances(name) != count:
            continue
        self.clients.wait_for_endpoint(name)

    def values(self, name: str, metric: str, variant: str = "") -> set[float]:
        dimensions = [{"Name": "EndpointName", "Value": name}]
        if variant:
            dimensions.append({"Name": "VariantName", "Value": variant})
        response = self.cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=dimensions,  # type: ignore[arg-type] # plain dicts
            StartTime=datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1),
            EndTime=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1),
            Period=60,
            Statistics=["Maximum", "Minimum"],
        )
        return {datapoint[kind] for datapoint in response["Datapoints"] for kind in ("Maximum", "Minimum")}


@pytest.fixture(scope="module")
def scaled() -> Iterator[Scaled]:
    settings = Settings(
        scaling_interval_seconds=0.1, scaling_cooldown_limit_seconds=0.3, endpoint_updating_seconds=0.05
    )
    with EmbeddedSageMaker(settings=settings) as embedded:
        yield Scaled(embedded)


def test_an_idle_queue_goes_to_zero_and_a_request_wakes_it_only_with_its_step_policy(scaled: Scaled) -> None:
    clients = scaled.clients
    name = scaled.asynchronous()
    which = scaled.register(name, BACKLOG, least=0)
    scaled.wait_for_instances(name, 0)

    clients.s3.put_object(Bucket=clients.bucket, Key="in", Body=b"waited")
    accepted = clients.runtime.invoke_endpoint_async(
        EndpointName=name, InputLocation=f"s3://{clients.bucket}/in"
    )
    while 1.0 not in scaled.values(name, "HasBacklogWithoutCapacity"):
        continue
    clients.runtime.invoke_endpoint_async(EndpointName=name, InputLocation=f"s3://{clients.bucket}/in")
    while 2.0 not in scaled.values(name, "ApproximateBacklogSize"):
        continue
    assert (
        scaled.instances(name) == 0
    )  # the poll before this one has seen the first request wait, and done nothing

    scaled.wake(name, which)
    key = accepted["OutputLocation"].removeprefix(f"s3://{clients.bucket}/")
    clients.s3.get_waiter("object_exists").wait(
        Bucket=clients.bucket,
        Key=key,
        WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000},  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    )
    assert clients.s3.get_object(Bucket=clients.bucket, Key=key)["Body"].read() == b"waited"
    scaled.wait_for_instances(name, 0)
    (alarm,) = scaled.cloudwatch.describe_alarms(AlarmNames=[f"{name}-wake"])["MetricAlarms"]
    assert alarm["StateValue"] in ("OK", "ALARM")

    scaled.scaling.deregister_scalable_target(**which)
    left = scaled.scaling.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=which["ResourceId"]
    )
    assert left["ScalingPolicies"] == []


def test_a_long_queue_gets_more_instances_and_no_more_than_the_most(scaled: Scaled, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waits = f"""
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    with open("{gate}") as opened:
        return opened.read()
"""
    name = scaled.asynchronous(waits)
    scaled.register(name, BACKLOG, least=1, most=2)
    for _ in range(9):
        scaled.clients.runtime.invoke_endpoint_async(EndpointName=name, Body=b"x")
    scaled.wait_for_instances(name, 2)
    scaled.clients.sagemaker.delete_endpoint(EndpointName=name)
    scaled.clients.wait_until_deleted(name)


def test_a_real_time_variant_follows_its_invocations(scaled: Scaled) -> None:
    with changed_settings(scaled.embedded, scaling_window_seconds=2):
        name = scaled.clients.deploy()
        scaled.register(name, {**INVOCATIONS, "TargetValue": 20.0}, least=1, most=2)
        while scaled.instances(name) < 2:
            scaled.clients.runtime.invoke_endpoint(EndpointName=name, Body=b"?")
        scaled.clients.wait_for_endpoint(name)
        scaled.wait_for_instances(name, 1)


def test_invocations_are_published_a_minute_and_instance(scaled: Scaled) -> None:
    """Twelve within ten minutes, on two instances; few enough for no other number of instances."""
    with changed_settings(scaled.embedded, scaling_window_seconds=600):
        name = scaled.clients.deploy(instances=2)
        scaled.register(name, {**INVOCATIONS, "TargetValue": 100.0}, least=2)
        for _ in range(12):
            scaled.clients.runtime.invoke_endpoint(EndpointName=name, Body=b"?")
        while max(scaled.values(name, "InvocationsPerInstance", "AllTraffic"), default=0.0) < 0.6:
            continue
        assert max(scaled.values(name, "InvocationsPerInstance", "AllTraffic")) == pytest.approx(0.6)


def test_what_scaling_did_is_described(scaled: Scaled) -> None:
    name = scaled.asynchronous()
    which = scaled.register(name, BACKLOG, least=2, most=3)
    scaled.wait_for_instances(name, 2)
    described = scaled.scaling.describe_scaling_activities(
        ServiceNamespace="sagemaker", ResourceId=which["ResourceId"]
    )
    (activity,) = described["ScalingActivities"]
    assert "NextToken" not in described
    assert activity["ResourceId"] == which["ResourceId"]
    assert activity["ScalableDimension"] == DIMENSION
    assert activity["Description"] == "Setting desired instance count to 2."
    assert activity["Cause"] == "policy tracking triggered"
    assert activity["StatusCode"] == "Successful"
    assert activity["StartTime"] <= activity["EndTime"]

    scaled.scaling.register_scalable_target(**which, MinCapacity=0, MaxCapacity=3)
    scaled.wait_for_instances(name, 0)
    pages = scaled.scaling.get_paginator("describe_scaling_activities").paginate(
        ServiceNamespace="sagemaker", ResourceId=which["ResourceId"], PaginationConfig={"PageSize": 1}
    )
    descriptions = [[activity["Description"] for activity in page["ScalingActivities"]] for page in pages]
    assert descriptions == [
        ["Setting desired instance count to 0."],
        ["Setting desired instance count to 2."],
    ]
    none = scaled.scaling.describe_scaling_activities(ServiceNamespace="ecs")
    assert none["ScalingActivities"] == []
    with pytest.raises(ClientError, match="MaxResults must be a number from 1 to 50, not 51"):
        scaled.scaling.describe_scaling_activities(ServiceNamespace="sagemaker", MaxResults=51)


def test_a_scaling_whose_endpoint_is_rolled_back_has_failed(scaled: Scaled) -> None:
    name = scaled.asynchronous()
    scaled.embedded.outcomes.replace(name, [DeploymentOutcome(end="RolledBack", on="scale", times=None)])
    which = scaled.register(name, BACKLOG, least=2)

    def statuses() -> set[str]:
        response = scaled.scaling.describe_scaling_activities(
            ServiceNamespace="sagemaker", ResourceId=which["ResourceId"]
        )
        return {activity["StatusCode"] for activity in response["ScalingActivities"]}

    while "Failed" not in statuses():
        continue
    assert "Successful" not in statuses()
    scaled.scaling.deregister_scalable_target(**which)


def test_a_queue_without_instances_gives_a_request_up_after_its_ttl(scaled: Scaled) -> None:
    clients = scaled.clients
    bucket = clients.bucket
    output = {"S3OutputPath": f"s3://{bucket}/out", "S3FailurePath": f"s3://{bucket}/bad"}
    name = clients.deploy(AsyncInferenceConfig={"OutputConfig": output})
    scaled.register(name, BACKLOG, least=0)
    scaled.wait_for_instances(name, 0)
    with changed_settings(scaled.embedded, async_request_ttl_seconds=0.3):
        accepted = clients.runtime.invoke_endpoint_async(EndpointName=name, Body=b"x")
    key = accepted["FailureLocation"].removeprefix(f"s3://{bucket}/")
    waiter = clients.s3.get_waiter("object_exists")
    waiter.wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    assert b"RequestTTLSeconds" in clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_nothing_polls_once_nothing_is_registered() -> None:
    with EmbeddedSageMaker(settings=Settings(scaling_interval_seconds=0.05)) as embedded:
        scaled = Scaled(embedded)
        every = scaled.scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        for left in every:  # moto's state is the process's
            scaled.scaling.deregister_scalable_target(
                ServiceNamespace="sagemaker",
                ResourceId=left["ResourceId"],
                ScalableDimension=left["ScalableDimension"],
            )
        before = set(threading.enumerate())
        which = scaled.register("missing", BACKLOG, least=0)
        (follower,) = [
            thread for thread in threading.enumerate() if "follow" in thread.name and thread not in before
        ]
        scaled.scaling.deregister_scalable_target(**which)
        follower.join(timeout=600)
        assert not follower.is_alive()
        operations = {call.operation for call in embedded.calls.calls(service="*")}
        assert "DescribeScalingPolicies" not in operations  # the service's own calls stay out of the log
