"""Memory of a task that submits a hundred thousand inputs and of a triggerer that waits for them: ``make bench``.

Each is a process of its own. Its growth counts from the moment Airflow and our modules are imported and nothing was
done, to its peak. The second test tells how long after the last output the trigger's event comes.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from airflow_sm_plugin.async_inference.watch import AwaitedResults
from tests.benchmarks.one_batch import BUCKET, input_keys, output_keys, watch_over
from tests.benchmarks.one_task import POLL_SECONDS
from tests.benchmarks.report import Report, table
from tests.stubs.aws import StubClient

SIZES = (1_000, 100_000)
WAITS = 7
ROOT = Path(__file__).parents[2]


@contextmanager
def _task(what: str, where: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.benchmarks.one_task", what, where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def _figures(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for its end and return what it said."""
    text, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    return cast("dict[str, Any]", json.loads(text.splitlines()[-1]))


def _polled(stub: StubClient, polls: int = 1) -> None:
    """Return when the waiting process has polled so often."""
    for _ in range(polls):
        while not (stub.take_calls().keys() & {"list", "head"}):
            time.sleep(0.05)
        while stub.take_calls():
            time.sleep(0.3)


def _row(what: str, count: int, figures: dict[str, Any]) -> list[str]:
    growth = figures["peak"] - figures["idle"]
    return [what, f"{count:,}", f"{figures['idle']:.0f}", f"{growth:.0f} (< 150)", f"{figures['cpu']:.1f}"]


def _submit_and_wait(stub: StubClient, report: Report, count: int) -> list[list[str]]:
    prefix = f"inputs-{count}/"
    stub.fill(input_keys(count, prefix))
    with _task("submit", prefix) as process:
        submitted = _figures(process)
    assert submitted["pending"] == count
    with urllib.request.urlopen(submitted["wait"].replace("s3:/", stub.url), timeout=60) as answer:
        keys = output_keys(AwaitedResults.from_mapping(json.load(answer)))
    assert len(keys) == count
    stub.take_calls()
    with _task("wait", submitted["wait"]) as process:
        for some in ([], keys[::2], keys[:-1], keys):
            stub.fill(some)
            _polled(stub, 2 if some is not keys else 1)
        waited = _figures(process)
    report.clients |= {submitted["client"], waited["client"]}
    assert waited["event"][0]["counts"]["succeeded"] == count
    return [_row("submits them", count, submitted), _row("waits for them", count, waited)]


def test_memory(stub: StubClient, report: Report) -> None:
    """Submit a batch in one process, wait for it in another."""
    rows = [row for count in SIZES for row in _submit_and_wait(stub, report, count)]
    report.show(table(("a process that", "inputs", "idle MB", "growth MB", "CPU s"), rows))


def test_from_the_last_output_to_the_event(stub: StubClient, report: Report) -> None:
    """Have all outputs but one, put that, and see when the trigger says so."""
    watch = watch_over(SIZES[-1], "last")
    where, keys = f"s3://{BUCKET}/wait.json", output_keys(watch)
    stub.put(where, json.dumps(watch.as_mapping()).encode())
    stub.fill(keys[:-1])
    seconds = []
    for _ in range(WAITS):
        stub.take_calls()
        with _task("wait", where) as process:
            _polled(stub)
            time.sleep(random.random() * POLL_SECONDS)  # noqa: S311 - it comes at any time between two polls
            put_at = time.time()
            stub.fill(keys[-1:])
            figures = _figures(process)
        assert figures["event"][0]["why"] == "complete"
        report.clients.add(figures["client"])
        seconds.append(figures["at"] - put_at)
        stub.delete(f"s3://{BUCKET}/{keys[-1]}")
    report.show(
        f"from the last of {len(keys):,} outputs to the event, poll_interval {POLL_SECONDS:.0f} s: median "
        f"{statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s\n"
    )
