"""Secrets in a sensitive field by every way that Airflow knows: template, XCom, mapped, partial."""

# Airflow's own types know neither 2.11's import paths nor that any argument may be an XComArg.
# mypy: disable-error-code="attr-defined,no-redef,arg-type"

from __future__ import annotations

from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import task
    from airflow.models.dag import DAG

SECRET = "{{ dag_run.conf['secret'] }}"
ENDPOINT, INPUT = "{{ dag_run.conf['endpoint'] }}", "{{ dag_run.conf['input'] }}"
ROLE, IMAGE = (
    "arn:aws:iam::123456789012:role/sagemaker",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1",
)


@task
def attribute(number: int) -> str:
    """Return what another task made: on XCom it is the author's own doing."""
    return f"from-xcom-{number}"


with DAG("sensitive", schedule=None):
    Invoke = SageMakerInvokeEndpointAsyncOperator
    Invoke(
        task_id="template",
        endpoint_name=ENDPOINT,
        input_location=INPUT,
        custom_attributes=f"{SECRET}-template",
        aws_conn_id=None,
    )
    Invoke(
        task_id="xcom",
        endpoint_name=ENDPOINT,
        input_location=INPUT,
        custom_attributes=attribute(0),
        aws_conn_id=None,
    )
    literals = Invoke.partial(
        task_id="literals", endpoint_name=ENDPOINT, input_location=INPUT, aws_conn_id=None
    ).expand(custom_attributes=[f"{SECRET}-0", "literal-1"])
    Invoke.partial(task_id="xcoms", endpoint_name=ENDPOINT, input_location=INPUT, aws_conn_id=None).expand(
        custom_attributes=attribute.expand(number=[1, 2])
    )
    Invoke.partial(
        task_id="partial", endpoint_name=ENDPOINT, custom_attributes=f"{SECRET}-partial", aws_conn_id=None
    ).expand(input_location=[INPUT])
    SageMakerCreateModelOperator(
        task_id="nested",
        execution_role=ROLE,
        containers=[
            {
                "Image": IMAGE,
                "ModelDataUrl": "{{ dag_run.conf['model_data_url'] }}",
                "Environment": {"API_KEY": SECRET},
            }
        ],
        model_name=ENDPOINT,
        aws_conn_id=None,
    )
    SageMakerAsyncInferenceSensor(
        task_id="await_mapped",
        invocations=literals.output,
        deferrable=True,
        poke_interval=0.1,
        aws_conn_id=None,
    )
    SageMakerAsyncInferenceSensor(
        task_id="await_nothing",
        output_location="s3://{{ dag_run.conf['bucket'] }}/never",
        deferrable=False,
        mode="reschedule",
        timeout=2,
        poke_interval=1,
        retries=0,
        aws_conn_id=None,
    )
