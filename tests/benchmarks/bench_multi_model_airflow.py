"""One Airflow task for each invocation, beside one task for all, in a real scheduler: ``make bench``.

A run counts from its trigger to its end, as its user sees it. The endpoint answers at once, over TLS.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.multi_model_runs import ROOT, setting
from tests.benchmarks.report import Report, table
from tests.stubs.endpoint import StubServer
from tests.stubs.models import EndpointSettings

FEW = setting("TASKS", 200)
MANY = setting("BATCH_RECORDS", 100_000)
TASKS, BATCH = "bench_task_per_record", "bench_one_batch"
_LONGEST = 600.0


@pytest.fixture
def airflow(endpoint: StubServer, tmp_path: Path) -> Iterator[AirflowStack]:
    """Run an Airflow whose AWS is the stub."""
    shutil.copytree(Path(__file__).parent / "dags", tmp_path / "dags")
    environment = {**endpoint.environment, "PYTHONPATH": str(ROOT)}
    with AirflowStack(tmp_path / "home", tmp_path / "dags", environment=environment) as stack:
        for dag_id in (TASKS, BATCH):
            stack.api.wait_for_dag(dag_id)
        yield stack


def _seconds(stack: AirflowStack, dag_id: str, **conf: str | int) -> float:
    began = time.monotonic()
    run_id = stack.api.trigger(dag_id, conf=conf)
    run_status = stack.api.wait_for_run(dag_id, run_id, seconds=_LONGEST)
    assert run_status.state == "success", stack.api.log_text(dag_id, run_id, run_status.tasks[0].task_id)
    return time.monotonic() - began


def _batch(stack: AirflowStack, endpoint: StubServer, name: str, records: int) -> float:
    models = min(20, records)
    job = Job(name=name, models=models, records=records // models)
    job.fill(endpoint)
    seconds = _seconds(stack, BATCH, outputs=f"out-{name}")
    assert not job.lost(endpoint)
    return seconds


def test_one_task_per_record(endpoint: StubServer, airflow: AirflowStack, report: Report) -> None:
    """Send 200 records as mapped tasks, the same number as a batch (median of three), and many as a batch."""
    endpoint.behave(EndpointSettings())
    _seconds(airflow, TASKS, records=2)
    _batch(airflow, endpoint, "warm", 2)
    endpoint.clear()
    tasks = _seconds(airflow, TASKS, records=FEW)
    assert endpoint.counts()["answered"] == FEW
    few = statistics.median(_batch(airflow, endpoint, f"few-{number}", FEW) for number in range(3))
    many = _batch(airflow, endpoint, "many", MANY)
    each = tasks / FEW
    rows = [
        ["a mapped task for each", f"{FEW:,}", f"{tasks:.1f}", f"{each * 1_000:.1f}", "1"],
        ["one batch", f"{FEW:,}", f"{few:.1f}", f"{few / FEW * 1_000:.1f}", f"{tasks / few:.0f} (>= 30)"],
        [
            "one batch",
            f"{MANY:,}",
            f"{many:.1f}",
            f"{many / MANY * 1_000:.2f}",
            f"{each / (many / MANY):,.0f} (>= 1,500)",
        ],
    ]
    head = ("records as", "records", "s", "ms a record", "times as fast")
    report.show(table(head, rows))
