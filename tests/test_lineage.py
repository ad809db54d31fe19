"""What Airflow gets from a task about its S3 data: events of its outlets, and datasets of OpenLineage."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_sm_plugin._compat import Asset, AssetAlias
from airflow_sm_plugin.lineage import event_of
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointOperator
from tests.metrics import Metrics
from tests.support import POLL, Account, TaskInstanceDouble, context_for, unique

if TYPE_CHECKING:
    from airflow.sdk.execution_time.context import OutletEventAccessors
else:
    try:
        from airflow.sdk.execution_time.context import OutletEventAccessors
    except ImportError:  # Airflow 2.11
        from airflow.utils.context import OutletEventAccessors

pytestmark = pytest.mark.airflow

IS_AIRFLOW_3 = find_spec("airflow.sdk") is not None
OPENLINEAGE = Path(__file__).parents[1] / ".cache/openlineage"
"""Where ``make test-openlineage`` installs Airflow's OpenLineage provider."""
EXTRACT = """
import json, sys
from types import SimpleNamespace
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointOperator
task = SageMakerInvokeEndpointOperator(task_id="t", endpoint_name="e", body="1")
task.note_data({}, inputs=["s3://in/a/rows.csv", None], outputs=["s3://out/scores/"])
found = ExtractorManager().extract_metadata(
    dagrun=SimpleNamespace(run_id="r"), task=task, task_instance_state="success", task_instance=SimpleNamespace()
)
print(json.dumps([[(one.namespace, one.name) for one in side] for side in (found.inputs, found.outputs)]))
"""


def context_with_events() -> tuple[Any, OutletEventAccessors]:
    events = OutletEventAccessors()
    context: Any = context_for(TaskInstanceDouble())
    context["outlet_events"] = events
    return context, events


def test_a_batch_gives_counts_and_report_to_its_asset_and_to_airflows_statistics(
    account: Account, metrics: Metrics
) -> None:
    endpoint = account.deploy(asynchronous=True)
    name = unique("inputs")
    for number in range(3):
        account.upload(b"1,2", key=f"{name}/{number}.csv")
    scores = Asset(f"s3://{account.bucket}/scores/")
    task = SageMakerAsyncBatchOperator(
        task_id="score",
        endpoint_name=endpoint,
        inputs=f"s3://{account.bucket}/{name}/",
        ledger_prefix=f"s3://{account.bucket}/{name}-ledger/",
        poll_interval=POLL,
        deferrable=False,
        outlets=[scores],
    )
    context, events = context_with_events()
    summary = task.execute(context)
    assert events[scores].extra == event_of(summary)
    assert (events[scores].extra["succeeded"], events[scores].extra["failed"]) == (3, 0)
    assert str(events[scores].extra["report_location"]).startswith("s3://")
    tags = {"dag_id": "a_dag", "task_id": "a_task", "endpoint_name": endpoint}
    group = "sagemaker_inference.async_batch"
    assert metrics.counts(tags) == {f"{group}.inputs": 3, f"{group}.succeeded": 3}
    ((name, milliseconds, given),) = metrics.timings
    assert (name, given) == (f"{group}.wait", tags)
    assert milliseconds >= 0


def test_an_alias_becomes_the_assets_of_the_outputs(account: Account) -> None:
    endpoint, output = account.deploy(), f"s3://{account.bucket}/{unique('out')}/answer.csv"
    alias = AssetAlias("answers")
    task = SageMakerInvokeEndpointOperator(
        task_id="ask", endpoint_name=endpoint, body="1,2", output_location=output, outlets=[alias]
    )
    context, events = context_with_events()
    task.execute(context)
    accessor: Any = events[alias]
    (event,) = accessor.asset_alias_events if IS_AIRFLOW_3 else accessor.dataset_alias_events
    assert output in str(event)


def test_openlineage_gets_buckets_and_keys() -> None:
    """With the real provider, which the test environment has only where ``make test-openlineage`` put it."""
    if not OPENLINEAGE.is_dir():
        pytest.skip("make test-openlineage installs the provider and runs this")
    environment = {**os.environ, "PYTHONPATH": f"{OPENLINEAGE}{os.pathsep}{Path(__file__).parents[1]}"}
    done = subprocess.run(
        [sys.executable, "-c", EXTRACT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.splitlines()[-1] == '[[["s3://in", "a/rows.csv"]], [["s3://out", "scores"]]]'
