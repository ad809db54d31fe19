"""Runs after `async_batch` has written scores: scheduled by the asset that is an outlet of its task.

The event's extra has the counts of the batch and the location of its report.
"""

import datetime
from typing import Any

try:
    from airflow.sdk import Asset, dag, task
except ImportError:  # Airflow 2.11
    from airflow.datasets import Dataset as Asset  # type: ignore[no-redef,import-not-found]
    from airflow.decorators import dag, task  # type: ignore[no-redef,attr-defined]

SCORES = Asset("s3://airflow-sm-demo/scores/")


@task
def read_summary(triggering_asset_events: Any = None, triggering_dataset_events: Any = None) -> None:  # noqa: ANN401 - Airflow's
    """Print what each batch did."""
    for events in (triggering_asset_events or triggering_dataset_events).values():
        for event in events:
            print(event.extra)  # noqa: T201 - an example


@dag(
    schedule=[SCORES],
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    description="Use the scores of async_batch",
    tags=["sagemaker", "assets"],
    default_args={"owner": "examples", "retries": 2, "retry_delay": datetime.timedelta(seconds=10)},
    doc_md=__doc__,
)
def after_scores() -> None:
    """Use the scores."""
    read_summary()


after_scores()
