"""Every file below a prefix through an asynchronous endpoint: one deferral, one report, one asset for what follows.

The report is written below `ledger_prefix`: `report.html`, and `report.json` with a count for each status. The retry of
a killed task continues from the ledger there: a request that SageMaker accepted is not sent again. The asset
`s3://airflow-sm-demo/scores/` starts the DAG `after_scores`.
"""

import datetime

from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator

try:
    from airflow.sdk import Asset, Param, dag
except ImportError:  # Airflow 2.11
    from airflow.datasets import Dataset as Asset  # type: ignore[no-redef,import-not-found]
    from airflow.decorators import dag  # type: ignore[no-redef,attr-defined]
    from airflow.models.param import Param  # type: ignore[no-redef,import-not-found]

SCORES = Asset("s3://airflow-sm-demo/scores/")


@dag(
    schedule=None,  # or "@daily", with a start_date and catchup=False
    description="Score every file below a prefix through an asynchronous endpoint",
    tags=["sagemaker", "asynchronous"],
    doc_md=__doc__,
    default_args={"owner": "examples", "retries": 2, "retry_delay": datetime.timedelta(seconds=10)},
    params={
        "endpoint": Param("airflow-sm-demo", type="string", title="Endpoint"),
        "inputs": Param(
            "s3://airflow-sm-demo/incoming/",
            type="string",
            pattern="^s3://",
            title="Inputs",
            description="Prefix in S3; every object below it is scored",
        ),
    },
)
def async_batch() -> None:
    """Send the requests, wait for the results, write the report."""
    SageMakerAsyncBatchOperator(
        task_id="score",
        endpoint_name="{{ params.endpoint }}",
        inputs="{{ params.inputs }}",
        ledger_prefix="s3://airflow-sm-demo/batches/",
        content_type="text/csv",
        accept="text/csv",
        custom_attributes="trace-id={run_id}/{name}",
        attempts=2,
        max_wait_seconds=3_600,  # an hour for queue and model; then what has no result is sent once more
        on_failure="fail",
        deferrable=True,
        poll_interval=5,
        outlets=[SCORES],
    )


async_batch()
