"""Transform jobs that fail, awaited in both ways, with the callback that shows why."""

# Airflow's own types know neither 2.11's import paths nor that a callback may be any callable.
# mypy: disable-error-code="attr-defined,no-redef"

from __future__ import annotations

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTransformOperator

from airflow_sm_plugin.callbacks import TransformJobLogs

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2.11
    from airflow.models.dag import DAG

for deferrable in (False, True):
    kind = "deferrable" if deferrable else "blocking"
    with DAG(f"failing_transform_{kind}", schedule=None) as dag:
        SageMakerTransformOperator(
            task_id="transform",
            config={
                "TransformJobName": "{{ dag_run.conf['job'] }}",
                "ModelName": "{{ dag_run.conf['model'] }}",
                "TransformInput": {
                    "DataSource": {
                        "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "{{ dag_run.conf['input'] }}"}
                    }
                },
                "TransformOutput": {"S3OutputPath": "{{ dag_run.conf['output'] }}"},
                "TransformResources": {"InstanceCount": 1, "InstanceType": "ml.m5.large"},
                "ModelClientConfig": {"InvocationsMaxRetries": 0},
            },
            deferrable=deferrable,
            check_interval=1,
            aws_conn_id=None,
            retries=0,
            on_failure_callback=TransformJobLogs(lines=5),
        )
    globals()[kind] = dag
