"""The failures that fail a task, and the text of its error."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.report.tolerance import Tolerance, advice, failed_share, failure_text
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, StopReason
from tests.multi_model.report.reports import (
    BAD,
    GOOD,
    batch_of,
    collected,
    explained,
    merged,
    plan_of,
    shard_of,
    work_of,
)

SOURCE = "s3://bucket/in/a.tar.gz/1.jsonl"
OUTPUTS = "Outputs, and the failures of each input as .errors.jsonl, are below s3://bucket/scored/"
UNREAD = ModelCounts(inputs=2, inputs_failed=1, inputs_unread=1, records=10)


@pytest.mark.parametrize(
    ("on_error", "ratio", "counts", "exceeded"),
    [
        ("fail", None, GOOD, False),
        ("fail", None, BAD, True),
        ("fail", 0.3, BAD, False),
        ("fail", 0.29, BAD, True),
        ("fail", 1.0, UNREAD, True),
        ("tolerate", None, BAD, False),
        ("tolerate", None, UNREAD, False),
        ("tolerate", 0.3, BAD, False),
        ("tolerate", 0.29, BAD, True),
        ("tolerate", 0.99, UNREAD, True),
        ("tolerate", 1.0, UNREAD, False),
        ("fail", None, ModelCounts(), False),
    ],
)
def test_a_ratio_counts_records_and_unread_inputs_are_tolerated_only_when_asked(
    on_error: str, ratio: float | None, counts: ModelCounts, exceeded: bool
) -> None:
    assert Tolerance(on_error=on_error, failure_ratio=ratio).checked().is_exceeded(counts) is exceeded


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_ratio_is_a_share(ratio: float) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        Tolerance(failure_ratio=ratio).checked()


def test_the_error_has_counts_groups_of_failures_locations_and_what_to_do() -> None:
    statistics = collected(
        explained(), explained(first_record=9), explained(error="RecordTooLarge", status=None, record_count=1)
    )
    report = batch_of([shard_of(0, {"a.tar.gz": BAD, "b.tar.gz": GOOD}, statistics=statistics)])
    assert failure_text(report, Tolerance(failure_ratio=0.01), rows=1).split("\n") == [
        "batch of 4 inputs through endpoint stores: 3 of 20 records failed (15 %, tolerated 1 %), in 1 of 2 models.",
        f"6 records of model a.tar.gz: ModelError (400): could not convert 'abc'; first {SOURCE} records 4 to 6",
        "and 1 record in 1 further group of failures",
        f"{OUTPUTS}; the report is s3://b/p/report.html",
    ]
    assert advice(report, "s.batch") == "correct the cause, then clear s.batch: only what failed is sent"


def test_the_error_of_a_stopped_batch_has_the_reason_and_what_was_done() -> None:
    stopped = StopReason("EndpointNotFound", "there is no endpoint stores")
    done = shard_of(0, {"a.tar.gz": ModelCounts(inputs=1, records=5)}, stopped=stopped)
    plan = plan_of(inputs=5, shards=2)
    report = merged(plan, [], [(work_of(0, {"a.tar.gz": 3}), done), (work_of(1, {"b.tar.gz": 2}), None)])
    lines = failure_text(report, Tolerance(), rows=5).split("\n")
    assert lines[:2] == [
        "batch of 5 inputs through endpoint stores: 1 input done; 2 of 2 shards stopped, with 4 inputs left.",
        "Reason: 1 of 2 shards (map index 0) stopped: EndpointNotFound: there is no endpoint stores",
    ]
    assert lines[2].startswith("Reason: 1 of 2 shards (map index 1) did not finish and left no error")
    assert (
        advice(report, "s.batch with downstream")
        == "deploy endpoint stores, then clear s.batch with downstream: only what is not done is sent"
    )


def test_the_error_names_the_input_whose_rest_was_not_sent() -> None:
    row: dict[str, Any] = {
        "error": "InvalidRequest",
        "status": None,
        "record_count": None,
        "message": "line 2 is no record",
    }
    shard = shard_of(0, {"a.tar.gz": UNREAD}, statistics=collected(explained(**row)))
    text = failure_text(batch_of([shard]), Tolerance(), rows=5)
    assert (
        f"1 input of model a.tar.gz: InvalidRequest: line 2 is no record; first {SOURCE} record 4 and all after it"
    ) in text
    assert "1 input could not be read to the end" in text


def test_a_containers_message_stays_in_its_line_and_is_cut() -> None:
    message = "Traceback\n  File 'x'\n\x1b[31m" + 250 * "y"
    shard = shard_of(0, {"a.tar.gz": BAD}, statistics=collected(explained(message=message)))
    lines = failure_text(batch_of([shard]), Tolerance(), rows=5).split("\n")
    assert lines[1].startswith(
        "3 records of model a.tar.gz: ModelError (400): Traceback File 'x' \\x1b[31myyy"
    )
    assert len(lines[1]) < 400


def test_the_error_can_leave_all_failures_out() -> None:
    shard = shard_of(0, {"a.tar.gz": BAD}, statistics=collected(explained()))
    assert "1.jsonl" not in failure_text(batch_of([shard]), Tolerance(), rows=0)


def test_a_long_list_of_missing_shards_is_cut() -> None:
    missing = [work_of(shard, {"a.tar.gz": 1}) for shard in range(0, 200, 2)]
    reported = [shard_of(shard) for shard in range(1, 200, 2)]
    text = failure_text(batch_of(reported, missing), Tolerance(), rows=0)
    assert "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, …" in text
    assert len(text) < 700


def test_the_share_of_failures_contradicts_no_limit() -> None:
    """A task that failed does not say that it tolerates all failures."""
    all_tolerated = Tolerance(on_error="tolerate")
    shard = failed_share(BAD, all_tolerated, is_shard=True)
    assert shard.endswith("%, no limit in a shard, the merge task decides)")
    assert failed_share(BAD, all_tolerated).endswith("%, no limit)")
    assert failed_share(BAD, Tolerance(failure_ratio=0.01)).endswith("%, tolerated 1 %)")
