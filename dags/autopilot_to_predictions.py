"""From an Autopilot job to predictions in S3, on two real data sets: batch transform and asynchronous inference.

What it creates in SageMaker is removed at the end, also when something failed.
"""

import datetime

import demo_data
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerAutoMLOperator,
    SageMakerTransformOperator,
)

from airflow_sm_plugin.callbacks import TransformJobLogs
from airflow_sm_plugin.operators.autopilot import SageMakerExportAutopilotModelOperator
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor

try:
    from airflow.sdk import dag, task, task_group
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task, task_group  # type: ignore[no-redef,attr-defined]

BUCKET = ROLE = "airflow-sm-demo"
RUN = "{{ macros.uuid.uuid5(macros.uuid.NAMESPACE_URL, run_id).hex[:12] }}"  # a run id holds ':' and '+'
DATA_SETS = {
    "breast_cancer": ("HYPERPARAMETER_TUNING", ["predicted_label", "probability"]),
    "wine": ("ENSEMBLING", ["predicted_label", "probability", "probabilities", "labels"]),
}


@task_group
def main_job(data_set: str, mode: str, keys: list[str]) -> None:
    """Train, export, predict in both ways, compare, clean up."""
    name, topic = f"{data_set.replace('_', '-')}-{RUN}", f"{BUCKET}-{data_set}"
    outputs, trace_id = f"s3://{BUCKET}/{data_set}/{RUN}", f"trace-id={name}"
    account = task(demo_data.create_resources)(BUCKET, ROLE, topic)
    data = task(demo_data.upload_data)(data_set, BUCKET, f"{data_set}/{RUN}")
    train = SageMakerAutoMLOperator(
        task_id="train",
        job_name=name,
        s3_input=data["train"],
        target_attribute="label",
        s3_output=f"{outputs}/autopilot",
        role_arn=account["role"],
        extras={"AutoMLJobConfig": {"Mode": mode}},
        wait_for_completion=False,
    )
    export = SageMakerExportAutopilotModelOperator(
        task_id="export",
        auto_ml_job_name=name,
        execution_role=ROLE,
        inference_response_keys=keys,
        wait_for_job=True,
    )
    model = export.output["model_name"]
    transform = SageMakerTransformOperator(
        task_id="transform",
        config=demo_data.transform_config(name, model, data["held-out"], f"{outputs}/batch"),
        on_failure_callback=TransformJobLogs(),
    )
    deploy = SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name=name,
        model_name=model,
        async_output_path=f"{outputs}/async",
        async_failure_path=f"{outputs}/async-failures",
        async_success_topic=account["topic"],
    )
    invoke = SageMakerInvokeEndpointAsyncOperator(
        task_id="invoke",
        endpoint_name=name,
        input_location=data["held-out"],
        content_type="text/csv",
        accept="text/csv",
        custom_attributes=trace_id,
    )
    result = SageMakerAsyncInferenceSensor(task_id="await_result", invocations=invoke.output)
    found = task(demo_data.find_trace_id)(topic, trace_id, result.output)
    report = task(demo_data.report)(
        export=export.output,
        labels=data["labels"],
        output=result.output,
        found=found,
        data_set=data_set,
        outputs=outputs,
    )
    clean_up = SageMakerDeleteEndpointOperator(
        task_id="clean_up",
        endpoint_name=name,
        model_names=[f"{{{{ ti.xcom_pull('{data_set}.export', key='model_name') or '' }}}}"],
    )
    account >> data >> train >> export >> [transform, deploy]
    deploy >> invoke
    [transform, report] >> clean_up.as_teardown(setups=[export, deploy])


@dag(
    schedule=None,
    description="Autopilot job, model, batch transform, asynchronous inference, clean-up",
    tags=["sagemaker", "autopilot"],
    doc_md=__doc__,
    max_active_runs=1,  # all runs share a queue
    default_args={
        "owner": "examples",
        "retries": 2,
        "retry_delay": datetime.timedelta(seconds=10),
        "deferrable": True,
        "poll_interval": 2,
        "poke_interval": 2,
        "check_interval": 2,
    },
)
def autopilot_to_predictions() -> None:
    """Run the main job on each data set."""
    for data_set, (mode, keys) in DATA_SETS.items():
        main_job.override(group_id=data_set)(data_set, mode, keys)


autopilot_to_predictions()
