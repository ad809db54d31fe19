"""Deployment guardrails: stages as decisions, and an update that passes them over HTTP."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.endpoints.guardrails import DeploymentStage, stages
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import REGION, Clients, clients_of, unique
from tests.local.endpoints.test_endpoints import says

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

PERCENT_20 = {"Type": "CAPACITY_PERCENT", "Value": 20}


def blue_green(kind: str, termination: int = 0, **routing: object) -> dict[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": kind, "WaitIntervalInSeconds": 9, **routing},
            "TerminationWaitInSeconds": termination,
        }
    }


def shares(config: dict[str, Any] | None, instances: int = 10) -> list[tuple[str, float]]:
    return [(stage.status, round(stage.share, 2)) for stage in stages(config, instances=instances)]


def test_all_at_once_gives_everything_in_one_step() -> None:
    assert shares(None) == [("ActivatingTraffic", 1.0), ("Baking", 1.0), ("Deleting", 1.0)]
    assert stages(blue_green("ALL_AT_ONCE", 5), instances=1) == (
        DeploymentStage("ActivatingTraffic", 1.0),
        DeploymentStage("Baking", 1.0, 9.0),
        DeploymentStage("Deleting", 1.0, 5.0),
    )


def test_a_canary_goes_ahead_and_the_rest_follows() -> None:
    by_count = {"Type": "INSTANCE_COUNT", "Value": 3}
    for size, share in ((PERCENT_20, 0.2), (by_count, 0.3)):
        assert shares(blue_green("CANARY", CanarySize=size)) == [
            ("ActivatingTraffic", share),
            ("Baking", share),
            ("ActivatingTraffic", 1.0),
            ("Baking", 1.0),
            ("Deleting", 1.0),
        ]


def test_linear_and_rolling_go_step_by_step_to_the_whole() -> None:
    linear = shares(blue_green("LINEAR", LinearStepSize={"Type": "CAPACITY_PERCENT", "Value": 40}))
    assert [share for status, share in linear if status == "Baking"] == [0.4, 0.8, 1.0]
    rolling = {"RollingUpdatePolicy": {"MaximumBatchSize": PERCENT_20, "WaitIntervalInSeconds": 0}}
    planned = shares(rolling)
    assert [share for status, share in planned if status == "Baking"] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert planned[:5] == [
        ("Creating", 0.0),
        ("ActivatingTraffic", 0.2),
        ("Baking", 0.2),
        ("Deleting", 0.2),
        ("Creating", 0.2),
    ]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "needs BlueGreenUpdatePolicy or RollingUpdatePolicy"),
        (blue_green("CANARY"), "CanarySize is required"),
        (blue_green("ALL_AT_ONCE", LinearStepSize=PERCENT_20), "LinearStepSize is required"),
        (
            blue_green("CANARY", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 60}),
            "CanarySize must be at most 50 percent",
        ),
        (
            {
                **blue_green("ALL_AT_ONCE"),
                "RollingUpdatePolicy": {"MaximumBatchSize": PERCENT_20, "WaitIntervalInSeconds": 0},
            },
            "Only one of",
        ),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    clients: Clients, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(ClientError, match=says):
        clients.sagemaker.create_endpoint(
            EndpointName=unique("e"), EndpointConfigName="any", DeploymentConfig=cast("Any", config)
        )


def test_a_canary_serves_its_share_and_is_described_and_an_alarm_rolls_it_back() -> None:
    with EmbeddedSageMaker(settings=Settings(deployment_wait_limit_seconds=3600)) as embedded:
        clients = clients_of(embedded.url)
        alarms: CloudWatchClient = boto3.client(
            "cloudwatch",
            endpoint_url=embedded.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        alarm = unique("alarm")
        alarms.put_metric_alarm(
            AlarmName=alarm,
            Namespace="mine",
            MetricName="errors",
            ComparisonOperator="GreaterThanThreshold",
            EvaluationPeriods=1,
            Period=60,
            Statistic="Sum",
            Threshold=1,
        )
        name = clients.deploy(says("one"))
        old = clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
        new = clients.create_config(clients.create_model(says("two")))
        config = blue_green(
            "CANARY", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 50}, WaitIntervalInSeconds=3600
        )
        config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm}]}
        clients.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=new, DeploymentConfig=cast("Any", config)
        )
        described = _at_stage(clients, name, "Baking")
        pending = described["PendingDeploymentSummary"]
        assert described["EndpointConfigName"] == old
        assert described["LastDeploymentConfig"] == config
        assert pending["EndpointConfigName"] == new
        (variant,) = pending["ProductionVariants"]
        assert (variant["InstanceType"], variant["CurrentInstanceCount"]) == ("ml.m5.large", 1)
        assert variant["DeployedImages"][0]["SpecifiedImage"]
        answers = Counter(
            json.loads(clients.runtime.invoke_endpoint(EndpointName=name, Body=b"?")["Body"].read())[0]
            for _ in range(60)
        )
        assert set(answers) == {"one", "two"}
        alarms.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="said the test")
        clients.wait_for_endpoint(name)
        described = dict(clients.sagemaker.describe_endpoint(EndpointName=name))
        assert described["EndpointConfigName"] == old
        assert alarm in described["FailureReason"]
        assert (
            json.loads(clients.runtime.invoke_endpoint(EndpointName=name, Body=b"?")["Body"].read())[0]
            == "one"
        )


def _at_stage(clients: Clients, name: str, status: str) -> dict[str, Any]:
    while True:
        described: dict[str, Any] = dict(clients.sagemaker.describe_endpoint(EndpointName=name))
        variants = described["PendingDeploymentSummary"]["ProductionVariants"]
        if [status["Status"] for variant in variants for status in variant["VariantStatus"]] == [status]:
            return described


def test_a_rolling_update_ends_with_the_new_configuration(clients: Clients) -> None:
    name = clients.deploy(says("one"), instances=2)
    new = clients.create_config(clients.create_model(says("two")), instances=2)
    rolling = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
            "WaitIntervalInSeconds": 0,
        }
    }
    clients.sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=new, DeploymentConfig=cast("Any", rolling)
    )
    clients.wait_for_endpoint(name)
    assert clients.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == new


def test_a_creation_is_described_as_pending_and_a_serverless_one_starts_cold() -> None:
    settings = Settings(
        serverless_cold_start_seconds=0.3, serverless_idle_seconds=3600, endpoint_creating_seconds=3600
    )
    with EmbeddedSageMaker(settings=settings) as embedded:
        clients = clients_of(embedded.url)
        config, name = unique("config"), unique("endpoint")
        clients.sagemaker.create_endpoint_config(
            EndpointConfigName=config,
            ProductionVariants=[
                {
                    "VariantName": "small",
                    "ModelName": clients.create_model(),
                    "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 5},
                }
            ],
        )
        clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        pending = clients.sagemaker.describe_endpoint(EndpointName=name)["PendingDeploymentSummary"]
        (variant,) = pending["ProductionVariants"]
        assert variant["VariantStatus"][0]["Status"] == "Creating"
        assert variant["DesiredServerlessConfig"]["MemorySizeInMB"] == 1024
        settings.endpoint_creating_seconds = 0
        clients.wait_for_endpoint(name)
        before = time.monotonic()
        clients.runtime.invoke_endpoint(EndpointName=name, Body=b"?")
        assert time.monotonic() - before >= 0.3
        settings.serverless_cold_start_seconds = 3600
        clients.runtime.invoke_endpoint(EndpointName=name, Body=b"warm: it does not take that hour")
