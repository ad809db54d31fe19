"""Every file below a prefix through an asynchronous endpoint, each night: one deferral, one report.

The report lies below `ledger_prefix`: `report.json` with counts that add up, a row for each input, the failed ones
apart. A killed worker's retry goes on from the ledger there: what was accepted is not sent again.
"""

import datetime

from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag  # type: ignore[no-redef,attr-defined]
    from airflow.models.param import Param  # type: ignore[no-redef,import-not-found]


@dag(
    schedule="@daily",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    is_paused_upon_creation=True,
    doc_md=__doc__,
    default_args={"retries": 2},
    params={
        "endpoint": Param("airflow-sm-demo", type="string", title="Endpoint"),
        "inputs": Param(
            "s3://airflow-sm-demo/incoming/",
            type="string",
            pattern="^s3://",
            title="Inputs",
            description="A prefix in S3",
        ),
    },
)
def async_batch() -> None:
    """Send, wait, report."""
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
    )


async_batch()
