"""Score one file, asked for in Airflow's form: pick endpoint, input and content type, get the result's location.

The result's location is the task's XCom `output_location`. A failed inference fails the task with the model's own words
and the location of its failure object. A retry sends nothing a second time: requests are noted below `state_prefix`.
"""

import datetime

from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag  # type: ignore[no-redef,attr-defined]
    from airflow.models.param import Param  # type: ignore[no-redef,import-not-found]

ENDPOINTS = ["airflow-sm-demo"]  # the asynchronous endpoints an analyst may pick from
CONTENT_TYPES = ["text/csv", "application/json", "application/jsonlines", "application/octet-stream"]
STATE_PREFIX = "s3://airflow-sm-demo/state/"


@dag(
    schedule=None,
    description="Score one file with an asynchronous endpoint",
    tags=["sagemaker", "asynchronous", "form"],
    doc_md=__doc__,
    default_args={"owner": "examples", "retries": 2, "retry_delay": datetime.timedelta(seconds=10)},
    params={
        "endpoint": Param(
            ENDPOINTS[0],
            type="string",
            enum=ENDPOINTS,
            title="Endpoint",
            description="Which model scores the file",
        ),
        "input": Param(
            "s3://airflow-sm-demo/incoming/00.csv",
            type="string",
            pattern=r"^s3://[^/]+/.*[^/]$",
            maxLength=1024,
            title="Input",
            description="The file to score in S3, up to 1 GB: s3://bucket/key, not a folder",
        ),
        "content_type": Param(
            CONTENT_TYPES[0],
            type="string",
            enum=CONTENT_TYPES,
            title="Content type",
            description="MIME type of the file",
        ),
        "accept": Param(
            CONTENT_TYPES[0],
            type="string",
            enum=CONTENT_TYPES,
            title="Accept",
            description="MIME type of the result",
        ),
        "trace_id": Param(
            None,
            type=["null", "string"],
            pattern=r"^[!-~]+$",
            maxLength=200,
            title="Trace id",
            description="Sent as CustomAttributes; no spaces; default: the run id",
        ),
    },
)
def score_file() -> None:
    """Invoke the endpoint, wait, and return the location of the result."""
    SageMakerInvokeEndpointAsyncOperator(
        task_id="score",
        endpoint_name="{{ params.endpoint }}",
        input_location="{{ params.input }}",
        content_type="{{ params.content_type }}",
        accept="{{ params.accept }}",
        custom_attributes="trace-id={{ params.trace_id or run_id }}",
        state_prefix=STATE_PREFIX,
        wait_for_completion=True,
        deferrable=True,
        poll_interval=5,
    )


score_file()
