"""A process that submits a batch, or waits for one, and tells how much memory that took: what the benchmarks start.

``python -m tests.benchmarks.one_task submit <prefix>`` or ``… wait <location>``; one JSON object on stdout. It is
Linux's: peaks are read from /proc.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_sm_plugin.async_inference.batch.run import AsyncBatch, Waiting
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
from tests.benchmarks.measured import client_libraries
from tests.benchmarks.one_batch import BUCKET, CONNECTION, batch_settings

POLL_SECONDS = 2.0
_OWN = Path("/proc/self")
_LONGEST = 3_600.0


def _megabytes(name: str) -> float:
    """Return a figure of /proc/self/status: ``VmRSS`` now, ``VmHWM`` at its highest."""
    found = re.search(rf"^{name}:\s+(\d+) kB", (_OWN / "status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1_024


async def _submit(prefix: str) -> dict[str, Any]:
    async with AsyncBatch.open(CONNECTION, batch_settings(prefix, "memory")) as batch:
        step = await batch.advance()
        assert isinstance(step, Waiting)
        wait = await batch.publish_wait()
        return {"pending": step.pending, "wait": wait, "client": await client_libraries()}


async def _wait(location: str) -> dict[str, Any]:
    trigger = AsyncInferenceTrigger(
        watch_location=location,
        deadline=time.time() + _LONGEST,
        poll_interval=POLL_SECONDS,
        aws=CONNECTION.as_mapping(),
    )
    events = [event.payload async for event in trigger.run()]
    return {"event": events, "at": time.time(), "client": await client_libraries()}


def main(what: str, where: str) -> None:
    """Do it, and print what it took."""
    with DAG("idle", schedule=None):
        SageMakerAsyncBatchOperator(
            task_id="idle", endpoint_name="x", inputs=f"s3://{BUCKET}/x", ledger_prefix=f"s3://{BUCKET}/y"
        )
    idle, cpu = _megabytes("VmRSS"), time.process_time()
    (_OWN / "clear_refs").write_text("5")  # the peak from now on
    figures = asyncio.run((_submit if what == "submit" else _wait)(where))
    took = {"idle": idle, "peak": _megabytes("VmHWM"), "cpu": time.process_time() - cpu}
    sys.stdout.write(f"{json.dumps(figures | took)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
