"""Models that must be loaded, more than the endpoint holds: our order beside others: ``make bench``.

60 models of 2 s each on an endpoint that holds 10, evicts the least recently used one, and holds a call while its model
loads, as SageMaker does. The other orders go over the same transport with as many calls at once.

No order can be quicker than the larger of two bounds. Slots: a model keeps one of the ``C`` slots for its load ``L``
and at least for the time ``w`` in which its records are answered when everything that may be on the way is on the way
to it, so ``n`` models take ``n * (L + w) / C``. Work: no answer comes before the first load, and all answers together
take ``n * w``, so that is ``L + n * w``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.benchmarks.multi_model_job import Job
from tests.benchmarks.multi_model_runs import batch, setting
from tests.benchmarks.report import Report, table
from tests.stubs.endpoint import StubServer
from tests.stubs.models import EndpointSettings

MODELS = 60
HOLDS = 10
LOAD_SECONDS = 2.0
LATENCY = 0.02
SIZES = (100, 1_000)
"""Records of a model: loading is the larger part, or the answers are."""

WHOLE = bool(setting("WHOLE", 0))
"""Whether the other orders go all the way; else a twelfth of the models, or a twentieth of the records, scaled."""

GIVEN, FOUND = "ours, max_warm_models=10", "ours, found by itself"
GOALS = {GIVEN: (" (<= +15%)", ""), FOUND: ("", " (<= 1.6)")}
"""Over the bound; times the seconds with the limit given."""

BEHAVIOUR = EndpointSettings(latency=LATENCY, capacity=HOLDS, load_seconds=LOAD_SECONDS)


@dataclass(frozen=True)
class _Order:
    """A way, with a job that is so many times smaller."""

    name: str
    way: str
    job: Job
    times: int = 1


def lower_bound(job: Job) -> float:
    """Return the seconds below which no order comes."""
    work = job.inputs * job.records * LATENCY / job.in_flight
    slots = job.models * (LOAD_SECONDS + work) / HOLDS
    return max(slots, LOAD_SECONDS + job.models * work)


def _orders(records: int) -> list[_Order]:
    job = Job(name="schedule", models=MODELS, records=records)
    ours = [
        _Order(GIVEN, "ours", replace(job, max_warm_models=HOLDS)),
        _Order(FOUND, "ours", job),
    ]
    if records > SIZES[0]:
        return ours
    fewer_models, fewer_records = (1, 1) if WHOLE else (12, 20)
    return [
        *ours,
        _Order(
            "one model after the other",
            "one model after the other",
            replace(job, models=MODELS // fewer_models),
            fewer_models,
        ),
        _Order("random order", "random order", replace(job, records=records // fewer_records), fewer_records),
    ]


def test_schedule(endpoint: StubServer, report: Report) -> None:
    """Do the same work in each order."""
    rows: list[list[str]] = []
    lost = 0
    for records in SIZES:
        bound = lower_bound(Job(name="bound", models=MODELS, records=records))
        given = 0.0
        for order in _orders(records):
            took = batch(endpoint, order.way, order.job, BEHAVIOUR, report)
            lost += took.lost
            seconds = took.wall * order.times
            given = given or seconds
            over_goal, given_goal = GOALS.get(order.name, ("", ""))
            rows.append(
                [
                    f"{MODELS} x {records:,}",
                    f"{order.name}{f', scaled from 1/{order.times}' if order.times > 1 else ''}",
                    f"{seconds:.1f}",
                    f"{bound:.1f}",
                    f"{seconds / bound - 1:+.0%}{over_goal}",
                    f"{seconds / given:.1f}{given_goal}",
                    f"{endpoint.counts()['loaded'] * order.times:,}",
                    took.stub_share,
                ]
            )
    head = (
        "models x records",
        "order",
        "seconds",
        "lower bound",
        "over it",
        "times the first",
        "loads",
        "stub's CPU",
    )
    report.show(table(head, rows))
    assert not lost
