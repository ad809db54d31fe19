"""Why a transform job failed stands in the task's log: the provider's own operator, run by Airflow."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.dags.conftest import logged_run
from tests.releases import calls_from_now, once
from tests.support import ECHO, Account, unique

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import CreateTransformJobRequestTypeDef

FOLDER = Path(__file__).with_name("folder")
WEIGHS_NOTHING = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    print("weighing", flush=True)
    raise ValueError("there is nothing to weigh")
"""

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

AIRFLOW_2 = importlib.metadata.version("apache-airflow").startswith("2.")


def earlier_job(account: Account, name: str, location: str) -> None:
    """Have a job of this name that came to a good end."""
    request: CreateTransformJobRequestTypeDef = {
        "TransformJobName": name,
        "ModelName": account.create_model(ECHO),
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{location}/in"}}
        },
        "TransformOutput": {"S3OutputPath": f"{location}/earlier"},
        "TransformResources": {"InstanceCount": 1, "InstanceType": "ml.m5.large"},
    }
    account.sagemaker.create_transform_job(**request)
    waiter: Any = account.sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12000})


def waited_for(account: Account, job: str) -> Callable[[], bool]:
    """Return what says whether it has been seen twice that a job goes on: by who deferred, and by the trigger."""
    calls = calls_from_now(account, "DescribeTransformJob", job)
    return lambda: sum(call["status"] == 200 for call in calls()) >= 2


def ended(account: Account) -> Callable[[], None]:
    return partial(account.change_settings, transform_seconds=0)


@pytest.mark.parametrize(
    "kind",
    [
        "blocking",
        pytest.param(
            "deferrable",
            marks=pytest.mark.skipif(
                AIRFLOW_2,
                reason="its dag.test() runs a trigger that raises, as the provider's does, for ever",
            ),
        ),
    ],
)
def test_the_last_lines_of_the_job_that_this_run_created_are_in_the_tasks_log(
    airflow_db: None, account: Account, kind: str
) -> None:
    """Its name was taken, so the operator made another."""
    job = unique("job")
    account.upload("1,2\n", f"{job}/in/a.csv")
    location = f"s3://{account.bucket}/{job}"
    earlier_job(account, job, location)
    conf = {
        "job": job,
        "model": account.create_model(WEIGHS_NOTHING),
        "input": f"{location}/in",
        "output": f"{location}/out",
    }
    with account.settings(transform_seconds=3600), once(waited_for(account, f"{job}-*"), ended(account)):
        ran, log = logged_run(FOLDER, f"failing_transform_{kind}", url=account.url, conf=conf)
    assert ran["tasks"] == {"transform": "failed"}
    assert f"transform job {job}-1" in log
    assert "is Failed: AlgorithmError: See job logs for more information" in log
    assert f"last lines of /aws/sagemaker/TransformJobs {job}-1" in log
    assert "ValueError: there is nothing to weigh" in log
    assert "Bad HTTP status received from algorithm: 500" in log
    assert "Error in callback" not in log
    assert "Failed to run task callback" not in log
