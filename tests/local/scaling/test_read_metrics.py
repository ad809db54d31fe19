"""Metrics of endpoints in CloudWatch: there when a client reads them, each invocation counted once."""

from __future__ import annotations

import datetime
from typing import Any

import boto3

from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import ECHO, REGION, Clients


def total(server: EmbeddedSageMaker, name: str, metric: str, **dimensions: str) -> list[float]:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    client: Any = session.client("cloudwatch", endpoint_url=server.url)
    now = datetime.datetime.now(datetime.UTC)
    answer = client.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=[
            {"Name": key, "Value": value} for key, value in {"EndpointName": name, **dimensions}.items()
        ],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now + datetime.timedelta(minutes=1),
        Period=3600,
        Statistics=["Sum"],
    )
    return [point["Sum"] for point in answer["Datapoints"]]


def test_each_invocation_is_counted_once(clients: Clients, sagemaker_server: EmbeddedSageMaker) -> None:
    name = clients.deploy(ECHO)
    variant = {"VariantName": "AllTraffic"}
    assert total(sagemaker_server, name, "Invocations", **variant) == []
    for expected in (1.0, 2.0):
        clients.runtime.invoke_endpoint(EndpointName=name, Body=b"1", ContentType="text/csv")
        assert sum(total(sagemaker_server, name, "Invocations", **variant)) == expected
        assert sum(total(sagemaker_server, name, "Invocations", **variant)) == expected
    assert total(sagemaker_server, name, "Invocations", VariantName="other") == []
    assert total(sagemaker_server, name, "ApproximateBacklogSize") == []


def test_an_asynchronous_endpoint_has_a_backlog(
    clients: Clients, sagemaker_server: EmbeddedSageMaker
) -> None:
    output = {"OutputConfig": {"S3OutputPath": f"s3://{clients.bucket}/out"}}
    name = clients.deploy(ECHO, AsyncInferenceConfig=output)
    assert total(sagemaker_server, name, "ApproximateBacklogSize") == [0.0]
