"""A task that is killed in the middle of its batch, and the try after it: ``make bench``.

SIGKILL at half of the records; then the same shard again, as a retry does it. What is invoked twice is what was not
written down yet: results are, once a second.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.benchmarks.client_cost import table
from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.multi_model_runs import ROOT, environment, load, setting
from tests.stubs.endpoint import StubServer
from tests.stubs.models import EndpointSettings

RECORDS = setting("RESUME_RECORDS", 30_000)
SHAPES = {
    "20 inputs": Job(name="resume", models=20, records=RECORDS // 20),
    "one input": Job(name="resume", models=1, records=RECORDS),
    "1,000 inputs": Job(name="resume", models=20, inputs=50, records=RECORDS // 1_000),
}
LATENCY = 0.02
_POLL_SECONDS = 0.02


def _answered(endpoint: StubServer) -> int:
    return endpoint.counts()["answered"]


def _start(endpoint: StubServer, job: Job) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.batch_ways", "ours", job.as_json()]
    return subprocess.Popen(command, env=environment(endpoint), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _kill_at_half(endpoint: StubServer, job: Job) -> int:
    """Return how many answers it had got."""
    with _start(endpoint, job) as process:
        while _answered(endpoint) < job.total // 2:
            assert process.poll() is None
            time.sleep(_POLL_SECONDS)
        process.send_signal(signal.SIGKILL)
    return _answered(endpoint)


def _row(endpoint: StubServer, shape: str, job: Job) -> tuple[list[str], int]:
    job.fill(endpoint)
    endpoint.behave(EndpointSettings(latency=LATENCY))
    endpoint.clear()
    before = _kill_at_half(endpoint, job)
    with _start(endpoint, job) as process:
        assert process.stdout is not None
        began = float(json.loads(process.stdout.readline())["began"])
        while _answered(endpoint) == before:
            time.sleep(_POLL_SECONDS)
        first = time.time() - began
        figures = json.loads(process.stdout.read().splitlines()[-1])
    repeated = _answered(endpoint) - job.total
    rate = (job.total - before + repeated) / figures["wall"]
    row = [
        shape,
        f"{before:,}",
        f"{first:.2f}",
        f"{repeated:,}",
        f"{repeated / job.total:.2%}",
        f"{repeated / rate:.2f}",
        f"{figures['wall']:.1f}",
    ]
    return row, job.lost(endpoint)


def test_resume(endpoint: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill a batch at half of its records, and let another process go on."""
    rows: list[list[str]] = []
    lost = 0
    for shape, job in SHAPES.items():
        row, missing = _row(endpoint, shape, job)
        rows.append(row)
        lost += missing
    head = (
        "records in",
        "answered before the kill",
        "s until the next call",
        "invoked again",
        "of all",
        "s of work",
        "s until all was done",
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{RECORDS:,} records\n\n{table(head, rows)}{load()}\n")
    assert not lost
