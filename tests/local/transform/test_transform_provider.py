"""The Amazon provider's own transform operator, sensor and trigger, unchanged, against the embedded SageMaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTransformOperator
from airflow.providers.amazon.aws.sensors.sagemaker import SageMakerTransformSensor
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import ECHO, IMAGE, REGION, ROLE, Clients, changed_settings, unique

if TYPE_CHECKING:
    from collections.abc import Callable

    Execute = Callable[[Mapping[str, object]], dict[str, dict[str, object]]]

BROKEN = "def model_fn(model_dir):\n    return 1\n\ndef transform_fn(model, data, kind, accept):\n    raise ValueError"


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, sagemaker_server: EmbeddedSageMaker) -> None:
    """Point every AWS client at the embedded SageMaker, as a user does; let nothing sleep for long."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", sagemaker_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def _operator(
    clients: Clients, job: str, code: str = ECHO, **arguments: object
) -> SageMakerTransformOperator:
    clients.s3.put_object(Bucket=clients.bucket, Key=f"{job}/in/a.csv", Body=b"1,2\n")
    config = {
        "Model": {
            "ModelName": unique("model"),
            "ExecutionRoleArn": ROLE,
            "PrimaryContainer": {
                "Image": IMAGE,
                "ModelDataUrl": clients.upload_archive({"code/inference.py": code}),
            },
        },
        "Transform": {
            "TransformJobName": job,
            "ModelName": "",
            "MaxConcurrentTransforms": "2",
            "TransformInput": {
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{clients.bucket}/{job}/in"}
                },
                "ContentType": "text/csv",
                "SplitType": "Line",
            },
            "TransformOutput": {"S3OutputPath": f"s3://{clients.bucket}/{job}/out", "AssembleWith": "Line"},
            "TransformResources": {"InstanceCount": "1", "InstanceType": "ml.m5.large"},
            "ModelClientConfig": {"InvocationsMaxRetries": 0},
        },
    }
    return SageMakerTransformOperator(
        task_id="transform",
        config=config,
        aws_conn_id=None,
        check_interval=1,
        max_ingestion_time=600,
        do_xcom_push=False,
        **arguments,  # type: ignore[arg-type] # whatever the test wants to pass
    )


def _execute(operator: SageMakerTransformOperator) -> dict[str, dict[str, object]]:
    return cast("Execute", operator.execute)({})


def _output(clients: Clients, job: str) -> bytes:
    return clients.s3.get_object(Bucket=clients.bucket, Key=f"{job}/out/a.csv.out")["Body"].read()


def test_the_operator_makes_the_model_and_waits_for_the_job(clients: Clients) -> None:
    job = unique("job")

    described = _execute(_operator(clients, job))

    assert described["Transform"]["TransformJobStatus"] == "Completed"
    assert described["Model"]["ModelName"] == described["Transform"]["ModelName"]
    assert _output(clients, job) == b"1,2\n"


def test_the_operator_takes_another_name_when_the_job_exists(clients: Clients) -> None:
    job = unique("job")
    _execute(_operator(clients, job))

    described = _execute(_operator(clients, job))

    assert str(described["Transform"]["TransformJobName"]).startswith(f"{job}-")


def test_the_operator_fails_with_the_reason_of_the_job(clients: Clients) -> None:
    with pytest.raises(Exception, match="AlgorithmError: See job logs"):  # its class differs by version
        _execute(_operator(clients, unique("job"), BROKEN))


def test_the_sensor_sees_the_end(clients: Clients) -> None:
    job = unique("job")
    _execute(_operator(clients, job, wait_for_completion=False))
    sensor = SageMakerTransformSensor(task_id="sensor", job_name=job, aws_conn_id=None)

    while not cast("Callable[[Mapping[str, object]], bool]", sensor.poke)({}):
        time.sleep(0.05)

    assert _output(clients, job) == b"1,2\n"


def test_the_trigger_sees_the_end(clients: Clients, sagemaker_server: EmbeddedSageMaker) -> None:
    job = unique("job")
    with (
        changed_settings(sagemaker_server, transform_seconds=3600),  # or it has ended before the task defers
        pytest.raises(BaseException) as deferred,  # noqa: PT011 - TaskDeferred: its module differs by version
    ):
        _execute(_operator(clients, job, deferrable=True))
    assert type(deferred.value).__name__ == "TaskDeferred"
    event = asyncio.run(_first_event(cast("BaseTrigger", vars(deferred.value)["trigger"])))

    assert event.payload["status"] == "success"
    assert _output(clients, job) == b"1,2\n"


async def _first_event(trigger: BaseTrigger) -> TriggerEvent:
    async for event in trigger.run():
        return event
    raise AssertionError("the trigger ended without an event")
