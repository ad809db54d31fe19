"""A deployment that waits in the triggerer, which is killed meanwhile; the run's conf holds its arguments."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_sm_plugin import base
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator

# On a busy machine the triggerer that takes over comes later than Airflow's safety net.
base.GRACE_SECONDS = 3600

with DAG("e2e_deferred_deploy", schedule=None):
    SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name="{{ dag_run.conf['name'] }}",
        model_name="{{ dag_run.conf['model'] }}",
        max_wait_seconds="{{ dag_run.conf['max_wait_seconds'] }}",
        cleanup_wait_seconds="{{ dag_run.conf.get('cleanup_wait_seconds', 1) }}",
        poll_interval=1,
        deferrable=True,
    )
