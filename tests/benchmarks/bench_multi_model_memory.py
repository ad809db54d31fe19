"""Memory of a batch of a million records, of one large input, and of very many small ones: ``make bench``.

Each batch is a process of its own (:mod:`tests.benchmarks.one_shard`). The first is so small that its peak is what any
run takes from its start: botocore's clients, connections with their buffers. Growth is the others' peak over that.
"""

from __future__ import annotations

from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.multi_model_runs import figures_of, setting
from tests.benchmarks.report import Report, table
from tests.stubs.endpoint import StubServer
from tests.stubs.models import EndpointSettings

PERCENT = setting("PERCENT", 20)
"""Of the sizes that the goal is about: a million records, 5 GB, 100,000 objects."""

KILOBYTE = 1_024
BATCHES = {
    "a small one": Job(name="small", models=20, records=50),
    "128-byte records, 20 inputs": Job(
        name="records", models=20, records=PERCENT * 10_000 // 20, record_bytes=128
    ),
    "one input of 1 KB records, 64 in a payload": Job(
        name="large", models=1, records=PERCENT * 5 * KILOBYTE * KILOBYTE // 100, max_records=64
    ),
    "objects of one record": Job(
        name="objects", models=20, inputs=PERCENT * 1_000 // 20, records=1, record_bytes=256
    ),
}


def _row(endpoint: StubServer, report: Report, what: str, job: Job) -> tuple[list[str], float]:
    """Return its figures, and its peak."""
    job.fill(endpoint)
    endpoint.behave(EndpointSettings())
    planned = figures_of(["tests.benchmarks.one_shard", "plan", job.as_json()], endpoint)
    done = figures_of(["tests.benchmarks.one_shard", "batch", job.as_json(), planned["plan"]], endpoint)
    report.clients.add(done["client"])
    megabytes = job.total * job.record_bytes / 1_024**2
    row = [
        what,
        f"{job.models * job.inputs:,}",
        f"{job.total:,}",
        f"{megabytes:,.0f}",
        f"{planned['peak'] - planned['idle']:.0f}",
        f"{done['idle']:.0f}",
        f"{done['peak']:.0f}",
        f"{done['wall']:.0f}",
    ]
    assert done["records"] == job.total
    assert not job.lost(endpoint)
    return row, done["peak"]


def test_memory(endpoint: StubServer, report: Report) -> None:
    """Do each batch in a process of its own."""
    rows: list[list[str]] = []
    start = 0.0
    for what, job in BATCHES.items():
        row, peak = _row(endpoint, report, what, job)
        start = start or peak
        rows.append([*row, f"{peak - start:.0f}{' (<= 20)' if peak is not start else ''}"])
    head = (
        "batch",
        "inputs",
        "records",
        "MB",
        "planning grows MB",
        "idle MB",
        "peak MB",
        "s",
        "growth MB",
    )
    report.show(f"{PERCENT} % of the full size\n", table(head, rows))
