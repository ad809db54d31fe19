"""Everything secret that our operators take, as a run's configuration hands it in: none of it may appear anywhere."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor

NAME = "{{ dag_run.conf['name'] }}"

with DAG(
    "e2e_keeps_secrets",
    schedule=None,
    default_args={"aws_conn_id": "planted", "deferrable": True, "poll_interval": 1, "poke_interval": 1},
):
    model = SageMakerCreateModelOperator(
        task_id="model",
        execution_role="arn:aws:iam::123456789012:role/sagemaker",
        image="123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1",
        model_data_url="{{ dag_run.conf['model_data_url'] }}",
        environment={"API_KEY": "{{ dag_run.conf['environment'] }}"},
        model_name=NAME,
    )
    deploy = SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name=NAME,
        model_name=NAME,
        async_output_path="s3://{{ dag_run.conf['bucket'] }}/outputs",
        async_failure_path="s3://{{ dag_run.conf['bucket'] }}/failures",
    )
    inline = SageMakerInvokeEndpointAsyncOperator(
        task_id="inline",
        endpoint_name=NAME,
        body="{{ dag_run.conf['body'] }}",
        content_type="text/plain",
        custom_attributes="{{ dag_run.conf['custom_attributes'] }}",
    )
    mapped = SageMakerInvokeEndpointAsyncOperator.partial(
        task_id="mapped", endpoint_name=NAME, body="{{ dag_run.conf['body'] }}", content_type="text/plain"
    ).expand(
        custom_attributes=[
            "{{ dag_run.conf['custom_attributes'] }}-0",
            "{{ dag_run.conf['custom_attributes'] }}-1",
        ]
    )
    refused = SageMakerInvokeEndpointAsyncOperator(
        task_id="refused",
        endpoint_name=NAME,
        body="{{ dag_run.conf['body'] }}",
        custom_attributes="{{ dag_run.conf['custom_attributes'] }}\u00e9",
        retries=3,
        retry_delay=timedelta(seconds=1),
    )
    await_inline = SageMakerAsyncInferenceSensor(task_id="await_inline", invocations=inline.output)
    await_mapped = SageMakerAsyncInferenceSensor(
        task_id="await_mapped", invocations=mapped.output, deferrable=False, mode="reschedule"
    )
    waited = SageMakerInvokeEndpointAsyncOperator(
        task_id="waited",
        endpoint_name=NAME,
        body="{{ dag_run.conf['body'] }}",
        content_type="text/plain",
        custom_attributes="{{ dag_run.conf['custom_attributes'] }}",
        state_prefix="s3://{{ dag_run.conf['bucket'] }}/state",
        wait_for_completion=True,
    )
    batch = SageMakerAsyncBatchOperator(
        task_id="batch",
        endpoint_name=NAME,
        inputs="s3://{{ dag_run.conf['bucket'] }}/secret-inputs/",
        ledger_prefix="s3://{{ dag_run.conf['bucket'] }}/ledger",
        content_type="text/plain",
        custom_attributes="{{ dag_run.conf['custom_attributes'] }}/{name}",
    )
    clean_up = SageMakerDeleteEndpointOperator(task_id="clean_up", endpoint_name=NAME, model_names=[NAME])
    model >> deploy >> [inline, mapped, refused, waited, batch]
    [await_inline, await_mapped, refused, waited, batch] >> clean_up.as_teardown(setups=[model])
