"""DAGs for what goes wrong: a container that crashes, a worker that is killed, a triggerer that is restarted."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor

NAME = "{{ dag_run.conf['name'] }}"

with DAG("e2e_deploy_fails", schedule=None, default_args={"poll_interval": 1}):
    model = SageMakerCreateModelOperator(
        task_id="model",
        execution_role="arn:aws:iam::123456789012:role/sagemaker",
        image="123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1",
        model_data_url="{{ dag_run.conf['broken_model_data_url'] }}",
        model_name=NAME,
    )
    deploy = SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name=NAME,
        model_name=NAME,
        async_output_path="s3://{{ dag_run.conf['bucket'] }}/outputs",
        deferrable=True,
    )
    invoke = SageMakerInvokeEndpointAsyncOperator(task_id="invoke", endpoint_name=NAME, body="1")
    clean_up = SageMakerDeleteEndpointOperator(task_id="clean_up", endpoint_name=NAME, model_names=[NAME])
    model >> deploy >> invoke >> clean_up.as_teardown(setups=[model])

with DAG("e2e_killed_worker", schedule=None):
    SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name=NAME,
        model_name=NAME,
        deferrable=False,
        poll_interval=1,
        retries=1,
        retry_delay=timedelta(seconds=1),
    )

with DAG("e2e_restarted_triggerer", schedule=None):
    SageMakerAsyncInferenceSensor(
        task_id="await_result",
        output_location="{{ dag_run.conf['output_location'] }}",
        deferrable=True,
        poke_interval=1,
    )

with DAG("e2e_reschedule_times_out", schedule=None):
    SageMakerAsyncInferenceSensor(
        task_id="await_result",
        output_location="s3://{{ dag_run.conf['bucket'] }}/never",
        deferrable=False,
        mode="reschedule",
        timeout=5,
        poke_interval=2,
        retries=0,
    )
