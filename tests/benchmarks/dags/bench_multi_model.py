"""The same records as one task each, and as one batch."""

from __future__ import annotations

from airflow.sdk import DAG, get_current_context, task

from airflow_sm_plugin.operators.multi_model import SageMakerMultiModelBatchOperator

with DAG("bench_task_per_record", schedule=None, max_active_tasks=64):

    @task
    def numbers() -> list[int]:
        """Return the numbers of the records."""
        conf = get_current_context()["dag_run"].conf or {}
        return list(range(int(conf["records"])))

    @task
    def invoke(number: int) -> str:
        """Invoke with one record."""
        from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
        from airflow_sm_plugin.invoke.request import InvokeRequest

        request = InvokeRequest(
            endpoint_name="bench",
            body=f"{number:010}{',1.50' * 200}".encode(),
            content_type="text/csv",
            accept="text/csv",
            target_model="m-000.tar.gz",
        )
        return SageMakerRuntimeHook(aws_conn_id=None).invoke_endpoint(request).body.decode()

    invoke.expand(number=numbers())

with DAG("bench_one_batch", schedule=None):
    SageMakerMultiModelBatchOperator(
        task_id="batch",
        aws_conn_id=None,
        endpoint_name="bench",
        inputs="s3://bench/in/",
        outputs="s3://bench/{{ dag_run.conf['outputs'] }}",
        target_model="{model}.tar.gz",
        content_type="text/csv",
        accept="text/csv",
    )
