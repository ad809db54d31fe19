"""What a demo's run has to show: the reports of its tasks, and their page as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import boto3

from airflow_sm_plugin.local.stack.airflow_api import AirflowApi, Json, TaskInstance
from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS


def report_of(api: AirflowApi, dag_id: str, run_id: str, task: TaskInstance) -> dict[str, Json] | None:
    """Return what a task named ``report``, alone or in a group, has returned; one that failed has nothing to say."""
    if task.task_id.rpartition(".")[2] != "report" or task.state != "success":
        return None
    value = api.xcom(dag_id, run_id, task.task_id)
    return value if isinstance(value, dict) else None


def saved_page(report: Mapping[str, Json], *, folder: Path, sagemaker: str) -> Path | None:
    """Save the page that a report names as ``report.html`` in a folder; None when it names none.

    :param sagemaker: the address of the embedded SageMaker, whose S3 holds the page
    """
    location = report.get("report")
    if not isinstance(location, str) or not location.endswith(".html"):
        return None
    bucket, _, key = location.removeprefix("s3://").partition("/")
    s3 = boto3.client(
        "s3",
        endpoint_url=sagemaker,
        region_name=AWS_SETTINGS["AWS_DEFAULT_REGION"],
        aws_access_key_id=AWS_SETTINGS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS_SETTINGS["AWS_SECRET_ACCESS_KEY"],
    )
    page = folder / "report.html"
    page.write_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return page
