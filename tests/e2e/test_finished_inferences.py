"""The example that finished inferences schedule: endpoint, SNS, SQS, the provider's trigger, an asset, a run."""

from __future__ import annotations

import json
import time
from typing import Any, cast

import boto3
import pytest

from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from tests.support import REGION, Account, unique

pytestmark = pytest.mark.slow

DAG, QUEUE = "finished_inferences", "airflow-sm-demo"


def _topic_to_queue(account: Account) -> str:
    """Return the topic whose messages go to the queue that the example watches."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    sns, sqs = (
        session.client("sns", endpoint_url=account.url),
        session.client("sqs", endpoint_url=account.url),
    )
    topic = sns.create_topic(Name=QUEUE)["TopicArn"]
    url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return topic


def _endpoint(account: Account, topic: str) -> str:
    name = unique("notifying")
    output: dict[str, Any] = {
        "S3OutputPath": f"s3://{account.bucket}/{name}/outputs",
        "S3FailurePath": f"s3://{account.bucket}/{name}/failures",
        "NotificationConfig": {"SuccessTopic": topic, "ErrorTopic": topic},
    }
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": account.create_model(),
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={"OutputConfig": cast("Any", output)},
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    account.wait_for_endpoint(name)
    return name


def _runs(stack: AirflowStack) -> list[str]:
    listed = stack.api._call("GET", f"/dags/{DAG}/dagRuns")
    assert isinstance(listed, dict)
    return [str(cast("dict[str, Any]", run)["dag_run_id"]) for run in cast("list[Any]", listed["dag_runs"])]


def test_a_finished_inference_makes_a_run(airflow_stack: AirflowStack, account: Account) -> None:
    endpoint = _endpoint(account, _topic_to_queue(account))
    airflow_stack.api.wait_for_dag(DAG)
    airflow_stack.api._call("PATCH", f"/dags/{DAG}", json={"is_paused": False})
    # Airflow starts the watchers of a DAG that was paused when it next reads the file.
    (airflow_stack.dags_folder / "finished_inferences.py").touch()
    sent = account.runtime.invoke_endpoint_async(
        EndpointName=endpoint,
        InputLocation=account.upload(b"a row"),
        ContentType="text/plain",
        CustomAttributes="planted-trace",
    )
    found: list[Any] = []
    while not found:
        for run_id in _runs(airflow_stack):
            assert airflow_stack.api.wait_for_run(DAG, run_id, seconds=1700).state == "success"
            read = airflow_stack.api.xcom(DAG, run_id, "read")
            assert isinstance(read, list)
            assert "planted-trace" not in json.dumps(read)
            found += [
                one for one in cast("list[Any]", read) if one["output_location"] == sent["OutputLocation"]
            ]
        time.sleep(0.5)
    airflow_stack.api._call("PATCH", f"/dags/{DAG}", json={"is_paused": True})
    assert len(found) == 1
    assert found[0]["failure_reason"] is None
    account.sagemaker.delete_endpoint(EndpointName=endpoint)
