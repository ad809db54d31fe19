"""A process that plans a batch, or does it, and tells how much memory that took: what the benchmarks start.

``python -m tests.benchmarks.one_shard plan <job>`` or ``… batch <job> <plan's location>``; one JSON object on stdout.
It is Linux's: peaks are read from /proc.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_sm_plugin.operators.multi_model import SageMakerMultiModelBatchOperator
from tests.benchmarks.multi_model_job import Job, run_as_a_task_does

_OWN = Path("/proc/self")


def _megabytes(name: str) -> float:
    """Return a figure of /proc/self/status: ``VmRSS`` now, ``VmHWM`` at its highest."""
    found = re.search(rf"^{name}:\s+(\d+) kB", (_OWN / "status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1_024


async def _plan(job: Job) -> dict[str, Any]:
    return {"plan": await job.plan()}


async def _batch(job: Job, plan: str) -> dict[str, Any]:
    done = await job.batch(plan)
    return {"records": done.report.total.records}


def main(what: str, text: str, *plan: str) -> None:
    """Do it, and print what it took."""
    job = Job.from_json(text)
    with DAG("idle", schedule=None):
        SageMakerMultiModelBatchOperator(
            task_id="idle", endpoint_name="x", inputs="s3://x/in", outputs="s3://x/out", target_model="x"
        )
    idle, cpu, wall = _megabytes("VmRSS"), time.process_time(), time.perf_counter()
    (_OWN / "clear_refs").write_text("5")  # the peak from now on
    figures = run_as_a_task_does(_plan(job) if what == "plan" else _batch(job, *plan))
    took = {
        "idle": idle,
        "peak": _megabytes("VmHWM"),
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
    }
    client = run_as_a_task_does(job.note_client())
    sys.stdout.write(f"{json.dumps(figures | took | {'client': client})}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
