"""A task that is killed in the middle of its batch, the try after it, and what checkpoints cost: ``make bench``.

SIGKILL about half way; then the same shard again, as a retry does it. What is invoked twice was answered and not in the
journal yet: that depends on how long ago the last checkpoint was, so each shape is killed several times.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace

from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.multi_model_runs import ROOT, Took, batch, environment, setting
from tests.benchmarks.report import Report, table
from tests.stubs.endpoint import StubServer
from tests.stubs.models import EndpointSettings

RECORDS = setting("RESUME_RECORDS", 15_000)
SHAPES = {
    "20 inputs": Job(name="resume", models=20, records=RECORDS // 20),
    "one input": Job(name="resume", models=1, records=RECORDS),
    "1,000 inputs": Job(name="resume", models=20, inputs=50, records=RECORDS // 1_000),
}
KILLED_AT = (0.4, 0.5, 0.6)
"""Shares of the records."""

CHECKPOINT_ROUNDS = setting("CHECKPOINT_ROUNDS", 3)
CHECKPOINT_RECORDS = setting("CHECKPOINT_RECORDS", 20_000)
NEVER, OFTEN = 3_600.0, 20
"""Seconds between checkpoints that no run lasts, and how many times as often is often."""

LATENCY = 0.02
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class _Resumed:
    """A try after a kill.

    :param first: seconds until its first invocation is answered
    :param repeated: records invoked again
    :param work: seconds in which as many are answered
    :param wall: seconds until all is done
    """

    first: float
    repeated: int
    work: float
    wall: float
    lost: int


def _answered(endpoint: StubServer) -> int:
    return endpoint.counts()["answered"]


def _start(endpoint: StubServer, job: Job) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.batch_ways", "ours", job.as_json()]
    return subprocess.Popen(command, env=environment(endpoint), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _kill(endpoint: StubServer, job: Job, share: float) -> tuple[int, float]:
    """Return how many answers it had got, and how many a second."""
    first, first_at = 0, 0.0
    with _start(endpoint, job) as process:
        while (answered := _answered(endpoint)) < job.total * share:
            if answered and not first:
                first, first_at = answered, time.monotonic()
            assert process.poll() is None
            time.sleep(_POLL_SECONDS)
        rate = (answered - first) / (time.monotonic() - first_at)
        process.send_signal(signal.SIGKILL)
    return _answered(endpoint), rate


def _resume(endpoint: StubServer, report: Report, job: Job, share: float) -> _Resumed:
    job.fill(endpoint)
    endpoint.behave(EndpointSettings(latency=LATENCY))
    endpoint.clear()
    before, rate = _kill(endpoint, job, share)
    with _start(endpoint, job) as process:
        assert process.stdout is not None
        began = float(json.loads(process.stdout.readline())["began"])
        while _answered(endpoint) == before:
            time.sleep(_POLL_SECONDS)
        first = time.time() - began
        figures = json.loads(process.stdout.read().splitlines()[-1])
    report.clients.add(figures["client"])
    repeated = _answered(endpoint) - job.total
    return _Resumed(first, repeated, repeated / rate, figures["wall"], job.lost(endpoint))


def test_resume(endpoint: StubServer, report: Report) -> None:
    """Kill a batch at several shares of its records, and let another process go on."""
    rows: list[list[str]] = []
    lost = 0
    for shape, job in SHAPES.items():
        resumed = [_resume(endpoint, report, job, share) for share in KILLED_AT]
        lost += sum(each.lost for each in resumed)
        rows.append(
            [
                shape,
                ", ".join(f"{each.first:.2f}" for each in resumed),
                ", ".join(f"{each.repeated:,}" for each in resumed),
                ", ".join(f"{each.work:.2f}" for each in resumed),
                f"{max(each.work for each in resumed):.2f} (<= 0.5)",
                ", ".join(f"{each.wall:.1f}" for each in resumed),
            ]
        )
    head = (
        "records in",
        "s until the first answer",
        "answered but not journalled",
        "s of work",
        "most",
        "s until all was done",
    )
    shares = ", ".join(f"{share:.0%}" for share in KILLED_AT)
    report.show(f"{RECORDS:,} records, 20 ms x 64, killed at {shares}\n", table(head, rows))
    assert not lost


def test_checkpoints(endpoint: StubServer, report: Report) -> None:
    """Do the same batch with the default checkpoints, with none before its end, and with many.

    Two runs of the same batch differ by more than the few checkpoints cost; with many the cost of one shows.
    """
    behaviour = EndpointSettings(latency=LATENCY)
    job = Job(name="checkpoints", models=20, records=CHECKPOINT_RECORDS // 20)
    intervals = {
        "by default": job.checkpoint_seconds,
        "none before the end": NEVER,
        "many": job.checkpoint_seconds / OFTEN,
    }
    tooks: dict[str, list[Took]] = {name: [] for name in intervals}
    writes: dict[str, list[int]] = {name: [] for name in intervals}
    for _ in range(CHECKPOINT_ROUNDS):
        for name, seconds in intervals.items():
            each = replace(job, checkpoint_seconds=seconds)
            tooks[name].append(batch(endpoint, "ours", each, behaviour, report))
            writes[name].append(endpoint.counts()["put"])
    cpu = {name: statistics.median(took.cpu for took in several) for name, several in tooks.items()}
    put = {name: statistics.median(several) for name, several in writes.items()}
    rows = [
        [
            name,
            f"{put[name]:,.0f}",
            ", ".join(f"{took.cpu_milliseconds:.4f}" for took in several),
            f"{cpu[name] * 1_000 / job.total:.4f}",
            f"{statistics.median(took.rate for took in several):,.0f}",
        ]
        for name, several in tooks.items()
    ]
    by_default, never, many = intervals
    a_write = (cpu[many] - cpu[never]) / (put[many] - put[never])
    share = a_write * (put[by_default] - put[never]) / cpu[never]
    head = ("checkpoints", "objects written", "CPU ms a record", "median", "records per s")
    report.show(
        f"{job.total:,} records, 20 ms x 64\n",
        table(head, rows),
        f"a write costs {a_write * 1_000:.2f} ms of CPU, so the default checkpoints {share:.1%} (<= 3 %); "
        f"by the difference of the medians {cpu[by_default] / cpu[never] - 1:.1%}\n",
    )
    assert not any(took.lost for several in tooks.values() for took in several)
