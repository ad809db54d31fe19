"""Test a DAG with a real Airflow and the embedded SageMaker: `pytest test_first_model.py`."""

import os
import subprocess
from pathlib import Path

import pytest

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """Run commands of an Airflow of its own, which knows the DAGs under test."""
    settings = {
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = ["airflow", *arguments]
        return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)

    assert run("db", "migrate").returncode == 0
    return run


def test_it_predicts_and_leaves_no_endpoint(sagemaker_local, airflow):
    finished = airflow("dags", "test", "first_model")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    output = sagemaker_local.client("s3").get_object(Bucket="first-model", Key="predictions.csv")
    assert output["Body"].read().split() == [b"2.0,4.0", b"6.0,8.0"]
    assert sagemaker_local.client("sagemaker").list_endpoints()["Endpoints"] == []


def test_a_missing_permission_fails_the_run_and_leaves_no_endpoint(sagemaker_local, airflow):
    denied = {"operation": "InvokeEndpoint", "fault": "error", "code": "AccessDeniedException"}
    sagemaker_local.control("PUT", "faults", [denied])
    finished = airflow("dags", "test", "first_model")
    assert finished.returncode != 0
    assert "AccessDenied" in finished.stdout + finished.stderr
    assert sagemaker_local.client("sagemaker").list_endpoints()["Endpoints"] == []
