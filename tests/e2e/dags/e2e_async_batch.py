"""DAGs for asynchronous batches whose worker and triggerer are killed."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator

with DAG("e2e_async_batch", schedule=None):
    SageMakerAsyncBatchOperator(
        task_id="score",
        endpoint_name="{{ dag_run.conf['endpoint'] }}",
        inputs="{{ dag_run.conf['inputs'] }}",
        ledger_prefix="{{ dag_run.conf['ledger'] }}",
        content_type="text/plain",
        custom_attributes="planted-trace/{name}",
        attempts=2,
        max_rate=10,  # what a kill leaves in doubt is about as much as goes in a second
        max_wait_seconds="{{ dag_run.conf['max_wait_seconds'] }}",
        poll_interval=1,
        on_unknown="wait",
        on_failure="collect",
        deferrable=True,
        retries=3,
        retry_delay=timedelta(seconds=1),
    )
