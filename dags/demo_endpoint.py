"""An asynchronous endpoint, and inputs, to try `score_file`, `async_batch` and `finished_inferences` on.

Run it once. The endpoint `airflow-sm-demo` answers rows of four numbers (iris) with class and probability; twenty files
to score lie below `s3://airflow-sm-demo/incoming/`. The endpoint costs money
until it is deleted: run this DAG again with `remove` set.
"""

import datetime
from typing import Any

import demo_data
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerAutoMLOperator

from airflow_sm_plugin.operators.autopilot import SageMakerExportAutopilotModelOperator
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task  # type: ignore[no-redef,attr-defined]
    from airflow.models.param import Param  # type: ignore[no-redef,import-not-found]

BUCKET = ROLE = ENDPOINT = TOPIC = "airflow-sm-demo"
RUN = "{{ macros.uuid.uuid5(macros.uuid.NAMESPACE_URL, run_id).hex[:12] }}"  # a run id holds ':' and '+'


@task.branch
def choose(params: Any = None) -> str:  # noqa: ANN401 - Airflow fills it in
    """Choose between deployment and removal."""
    return "remove" if params["remove"] else "create_resources"


@dag(
    schedule=None,
    description="Create the endpoint and the inputs of the other examples, or remove the endpoint",
    tags=["sagemaker", "setup"],
    doc_md=__doc__,
    params={
        "remove": Param(
            default=False,
            type="boolean",
            title="Remove the endpoint",
            description="Delete it instead of creating it",
        )
    },
    default_args={
        "owner": "examples",
        "retries": 2,
        "retry_delay": datetime.timedelta(seconds=10),
        "deferrable": True,
        "poll_interval": 2,
    },
)
def demo_endpoint() -> None:
    """Train on iris, export the best candidate, deploy it."""
    account = task(demo_data.create_resources)(BUCKET, ROLE, TOPIC)
    data = task(demo_data.upload_data)("iris", BUCKET, "iris")
    inputs = task(demo_data.upload_inputs)(data["held-out"], f"s3://{BUCKET}/incoming/", files=20)
    train = SageMakerAutoMLOperator(
        task_id="train",
        job_name=f"iris-{RUN}",
        s3_input=data["train"],
        target_attribute="label",
        s3_output=f"s3://{BUCKET}/autopilot",
        role_arn=account["role"],
        extras={"AutoMLJobConfig": {"Mode": "ENSEMBLING"}},
        wait_for_completion=False,
    )
    export = SageMakerExportAutopilotModelOperator(
        task_id="export",
        auto_ml_job_name=f"iris-{RUN}",
        execution_role=ROLE,
        inference_response_keys=["predicted_label", "probability"],
        wait_for_job=True,
    )
    deploy = SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name=ENDPOINT,
        model_name=export.output["model_name"],
        async_output_path=f"s3://{BUCKET}/scores/",
        async_failure_path=f"s3://{BUCKET}/failures/",
        async_success_topic=account["topic"],
        async_error_topic=account["topic"],
    )
    remove = SageMakerDeleteEndpointOperator(task_id="remove", endpoint_name=ENDPOINT, delete_models=True)
    choose() >> [account, remove]
    account >> data >> [train, inputs]
    train >> export >> deploy


demo_endpoint()
