"""A multi-model batch spread over workers that are killed; the run's conf says what and how much may fail."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_sm_plugin.task_groups import multi_model_batch

with DAG("e2e_multi_model", schedule=None):
    multi_model_batch(
        "scores",
        endpoint_name="{{ dag_run.conf['endpoint'] }}",
        inputs="{{ dag_run.conf['inputs'] }}",
        outputs="{{ dag_run.conf['outputs'] }}",
        target_model="{model}.tar.gz",
        content_type="text/plain",
        accept="text/plain",
        custom_attributes="{{ dag_run.conf['secret'] }}/{model}/{first_record}",
        max_shards=2,
        max_concurrent_transforms=6,  # slow enough to be killed on the way
        attempts=10,
        on_error="tolerate",
        tolerated_failure_ratio="{{ dag_run.conf['ratio'] }}",
        task_arguments={"retries": 3, "retry_delay": timedelta(seconds=1)},
    )
