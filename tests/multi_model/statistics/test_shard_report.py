"""A shard's report survives S3, and contradictions between its counts are detected."""

from __future__ import annotations

import json

import pytest

from airflow_sm_plugin.multi_model.statistics.shard_report import (
    MOST_FAILURES,
    ModelCounts,
    ShardReport,
    seconds_between,
)
from tests.multi_model.report.reports import BAD, GOOD, busy, collected, failure_row, shard_of


def test_a_report_survives_encoding() -> None:
    report = shard_of(
        counts={"a.tar.gz": BAD}, statistics=collected(busy("a.tar.gz")), failures=(failure_row(),)
    )
    decoded = ShardReport.from_json(report.as_json())
    assert decoded.as_json() == report.as_json()
    assert (decoded.total, decoded.plan_nonce, decoded.failures) == (BAD, "n1", (failure_row(),))


def test_only_the_first_failures_are_kept() -> None:
    report = shard_of(failures=[failure_row(first_record=record) for record in range(50)])
    assert [row["first_record"] for row in ShardReport.from_json(report.as_json()).failures] == [
        *range(MOST_FAILURES)
    ]


def test_the_summary_is_flat_and_small() -> None:
    report = shard_of(
        counts={"a.tar.gz": BAD, "b.tar.gz": GOOD},
        statistics=collected(busy("a.tar.gz"), lambda s: s.repeated("b.tar.gz", "ThrottlingException")),
        failures=(failure_row(),),
    )
    assert report.summary() == {
        "endpoint_name": "stores",
        "shard": 0,
        "inputs": 4,
        "inputs_failed": 1,
        "records": 20,
        "succeeded": 17,
        "failed": 3,
        "models": 2,
        "models_failed": 1,
        "invocations": 20,
        "retries": 1,
        "cold_starts": 1,
        "seconds": 60.0,
        "plan_digest": "d1",
        "started_at": "2026-11-18T11:06:40+00:00",
        "finished_at": "2026-11-18T11:07:40+00:00",
    }
    assert "convert" not in json.dumps(report.summary())
    assert "convert" not in repr(report)


@pytest.mark.parametrize(
    ("counts", "adds_up"),
    [
        (ModelCounts(), True),
        (GOOD, True),
        (BAD, True),
        (ModelCounts(inputs=1, inputs_failed=1, inputs_unread=1), True),
        (ModelCounts(inputs=1, inputs_failed=2, records=5, records_failed=5), False),
        (ModelCounts(inputs=1, inputs_failed=1, records=5, records_failed=6), False),
        (ModelCounts(inputs=1, records=5, records_failed=1), False),
        (ModelCounts(inputs=1, inputs_failed=1, records=5), False),
        (ModelCounts(inputs=1, inputs_unread=1), False),
        (ModelCounts(inputs=1, records=-1), False),
    ],
)
def test_counts_that_contradict_each_other_are_detected(counts: ModelCounts, adds_up: bool) -> None:
    assert counts.adds_up is adds_up


def test_durations_are_never_negative() -> None:
    """Two workers' clocks differ."""
    assert seconds_between("2026-11-18T11:06:41+00:00", "2026-11-18T11:06:40+00:00") == 0.0
    assert seconds_between("2026-11-18T11:06:40.250+00:00", "2026-11-18T12:07:41+01:00") == 60.8
