"""Airflow 3: a run as soon as asynchronous inferences have finished, whoever sent them.

The endpoint's SNS topics (`async_success_topic`, `async_error_topic`) fan out into an SQS queue of this DAG's own; the
Amazon provider's trigger watches it and updates an asset that schedules the DAG. Set FINISHED_INFERENCES_QUEUE where
Airflow parses DAGs, and unpause the DAG once the queue exists. Airflow keeps the messages in the asset's events, with
the requests' custom attributes in them: put no secret there.
"""

import datetime
import os
from typing import Any

from airflow.providers.amazon.aws.triggers.sqs import SqsSensorTrigger
from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_sm_plugin.core.notifications import parse
from airflow_sm_plugin.exceptions import InvalidRequest

QUEUE = os.environ.get(
    "FINISHED_INFERENCES_QUEUE", "https://sqs.us-east-1.amazonaws.com/123456789012/airflow-sm-demo"
)
FINISHED = Asset(
    "finished_inferences",
    watchers=[
        AssetWatcher(
            name="queue",
            trigger=SqsSensorTrigger(sqs_queue=QUEUE, max_messages=10, wait_time_seconds=5, waiter_delay=2),
        )
    ],
)


@task
def read(triggering_asset_events: Any = None) -> list[dict[str, Any]]:  # noqa: ANN401 - Airflow's accessor
    """Return what has finished: input, output or the reason of the failure. Custom attributes stay out of XCom."""
    found = []
    for event in triggering_asset_events[FINISHED]:
        for message in event.extra["payload"]["message_batch"]:
            try:
                notification = parse(message["Body"])
            except InvalidRequest:
                continue  # another sender's message
            if notification:
                found.append(
                    {
                        "input_location": notification.input_location,
                        "output_location": notification.output_location,
                        "failure_reason": notification.failure_reason,
                    }
                )
    return found


@task
def use(result: dict[str, Any]) -> None:
    """Process one result."""
    print(result["output_location"] or f"failed: {result['input_location']}")  # noqa: T201 - an example


@dag(
    schedule=[FINISHED],
    is_paused_upon_creation=True,
    catchup=False,
    description="Use each asynchronous inference that has finished, whoever sent it",
    tags=["sagemaker", "asynchronous"],
    default_args={"owner": "examples", "retries": 2, "retry_delay": datetime.timedelta(seconds=10)},
    doc_md=__doc__,
)
def finished_inferences() -> None:
    """Read the notifications; a task for each result."""
    use.expand(result=read())


finished_inferences()
