"""The Amazon provider's own AutoML operator and sensor, unchanged, against the embedded SageMaker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerAutoMLOperator
from airflow.providers.amazon.aws.sensors.sagemaker import SageMakerAutoMLSensor

from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import REGION, ROLE, Clients, unique

ROWS = "x,y\n" + "".join(f"{number},{'high' if number > 14 else 'low'}\n" for number in range(30))


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, sagemaker_server: EmbeddedSageMaker) -> None:
    """Point every AWS client at the embedded SageMaker, as a user does."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", sagemaker_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def _execute(clients: Clients, job: str, *, target: str = "y") -> Mapping[str, object] | None:
    clients.s3.put_object(Bucket=clients.bucket, Key=f"{job}/train.csv", Body=ROWS.encode())
    automl = SageMakerAutoMLOperator(
        task_id="automl",
        job_name=job,
        s3_input=f"s3://{clients.bucket}/{job}/",
        target_attribute=target,
        s3_output=f"s3://{clients.bucket}/models",
        role_arn=ROLE,
        extras={"AutoMLJobConfig": {"CompletionCriteria": {"MaxCandidates": 2}}},
        check_interval=1,
        aws_conn_id=None,
    )
    return cast("Callable[[Mapping[str, object]], Mapping[str, object] | None]", automl.execute)({})


def test_the_operator_returns_the_best_candidate_and_the_sensor_agrees(clients: Clients) -> None:
    job = unique("j")

    best = _execute(clients, job)

    described = clients.sagemaker.describe_auto_ml_job(AutoMLJobName=job)["BestCandidate"]
    assert best is not None
    assert best["CandidateName"] == described["CandidateName"]
    sensor = SageMakerAutoMLSensor(task_id="sensor", job_name=job, aws_conn_id=None)
    assert cast("Callable[[Mapping[str, object]], bool]", sensor.poke)({}) is True


def test_the_operator_fails_with_the_reason_and_the_sensor_fails(clients: Clients) -> None:
    job = unique("j")
    reason = "The target column 'z' was not found"
    with pytest.raises(Exception, match=reason):  # its class differs by version
        _execute(clients, job, target="z")
    sensor = SageMakerAutoMLSensor(task_id="sensor", job_name=job, aws_conn_id=None)
    # The provider's sensor does not pass on the reason of an AutoML job.
    with pytest.raises(Exception, match="autoML job failed"):  # as above
        cast("Callable[[Mapping[str, object]], bool]", sensor.poke)({})
