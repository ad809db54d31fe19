"""An asynchronous endpoint that scales to zero: deploy, scale, invoke three files, wait for all, delete."""

from airflow.sdk import DAG, task

from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor

BUCKET = "my-bucket"
INPUTS = [f"s3://{BUCKET}/inputs/{name}.csv" for name in ("north", "south", "west")]


# callback
def tell_on_call(context):
    """Send the task's error, which says what exists and costs money, to whoever is on call."""
    task_instance = context["task_instance"]
    print(f"{task_instance.dag_id}.{task_instance.task_id} failed: {context['exception']}")  # your pager here


# end of callback

with DAG(
    "asynchronous",
    schedule=None,
    default_args={
        "retries": 1,
        "retry_delay": 5,
        "poll_interval": 2,
        "on_failure_callback": tell_on_call,
    },
):
    # model
    model = SageMakerCreateModelOperator(
        task_id="model",
        execution_role="arn:aws:iam::123456789012:role/SageMakerRole",
        image="683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
        model_data_url=f"s3://{BUCKET}/model.tar.gz",
        environment={"SAGEMAKER_PROGRAM": "inference.py"},
    )
    # deploy
    deploy = SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name="asynchronous",
        model_name=model.output["model_name"],
        instance_type="ml.m5.large",
        async_output_path=f"s3://{BUCKET}/outputs/",
        async_failure_path=f"s3://{BUCKET}/failures/",
        tags={"team": "risk"},
    )
    # scale
    scale = SageMakerScaleEndpointOperator(
        task_id="scale",
        endpoint_name="asynchronous",
        min_capacity=0,
        max_capacity=4,
        target_backlog_per_instance=5,
    )
    # invoke
    invoke = SageMakerInvokeEndpointAsyncOperator.partial(
        task_id="invoke",
        endpoint_name="asynchronous",
        content_type="text/csv",
        accept="text/csv",
        custom_attributes="trace-id={{ run_id }}",
        state_prefix=f"s3://{BUCKET}/state/",
    ).expand(input_location=INPUTS)
    # wait
    wait = SageMakerAsyncInferenceSensor(
        task_id="wait",
        invocations=invoke.output,
        deferrable=True,
        poke_interval=2,
    )

    # hook
    @task
    def ask_again() -> dict:
        """Invoke from Python, without an operator."""
        from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
        from airflow_sm_plugin.invoke.async_request import AsyncRequest

        request = AsyncRequest(
            endpoint_name="asynchronous", input_location=INPUTS[0], content_type="text/csv"
        )
        return SageMakerRuntimeHook().invoke_endpoint_async(request).as_mapping()

    again = ask_again()
    wait_again = SageMakerAsyncInferenceSensor(
        task_id="wait_again", invocations=again, deferrable=True, poke_interval=2
    )

    # delete
    delete = SageMakerDeleteEndpointOperator(
        task_id="delete", endpoint_name="asynchronous", delete_models=True
    ).as_teardown(setups=deploy)

    # end
    deploy >> scale >> invoke
    wait >> again >> wait_again >> delete
