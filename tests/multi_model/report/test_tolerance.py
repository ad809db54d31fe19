"""The failures that fail a task, and the text of its error."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.report.tolerance import Tolerance, failed_share, failure_text
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts
from tests.multi_model.report.reports import BAD, GOOD, batch_of, failure_row, shard_of, work_of

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


def test_the_error_has_counts_first_failures_and_locations_but_no_message() -> None:
    rows = [failure_row(), failure_row(error="RecordTooLarge", status=None), failure_row()]
    report = batch_of(
        [shard_of(0, {"a.tar.gz": BAD, "b.tar.gz": GOOD}, failures=rows)],
        [work_of(1, {"a.tar.gz": 2}), work_of(2, {"c.tar.gz": 1})],
    )
    text = failure_text(report, Tolerance(failure_ratio=0.01), rows=2)
    for part in (
        "7 inputs through endpoint stores",
        "3 of 20 records failed (15 %, tolerated 1 %), in 1 of 3 models",
        "2 of 3 shards, with 3 inputs, without a report",
        "1-2",
        "s3://bucket/in/a.tar.gz/1.jsonl from record 4: model a.tar.gz: ModelError (400)",
        "a.tar.gz: RecordTooLarge\nand more",
        "s3://bucket/scored/",
        "s3://b/p/report.html",
    ):
        assert part in text
    assert "convert" not in text


def test_the_error_has_the_reason_why_the_rest_of_an_input_was_not_sent() -> None:
    row = failure_row(
        error="InvalidRequest", status=None, record_count=None, message="line 2 is no whole record"
    )
    text = failure_text(batch_of([shard_of(0, {"a.tar.gz": UNREAD}, failures=[row])]), Tolerance(), rows=5)
    assert "1.jsonl, all from record 4: model a.tar.gz: InvalidRequest: line 2 is no whole record" in text


def test_the_error_can_leave_all_failures_out() -> None:
    text = failure_text(
        batch_of([shard_of(0, {"a.tar.gz": BAD}, failures=[failure_row()])]), Tolerance(), rows=0
    )
    assert "1.jsonl" not in text


def test_a_long_list_of_missing_shards_is_cut() -> None:
    missing = [work_of(shard, {"a.tar.gz": 1}) for shard in range(0, 200, 2)]
    reported = [shard_of(shard) for shard in range(1, 200, 2)]
    text = failure_text(batch_of(reported, missing), Tolerance(), rows=0)
    assert "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, …" in text
    assert len(text) < 700


def test_the_error_counts_unread_inputs() -> None:
    assert "1 input could not be read to the end" in failure_text(
        batch_of([shard_of(0, {"a": UNREAD})]), Tolerance(), rows=0
    )


def test_the_share_of_failures_contradicts_no_limit() -> None:
    """A task that failed does not say that it tolerates all failures."""
    all_tolerated = Tolerance(on_error="tolerate")
    shard = failed_share(BAD, all_tolerated, is_shard=True)
    assert shard.endswith("%, no limit in a shard, the merge task decides)")
    assert failed_share(BAD, all_tolerated).endswith("%, no limit)")
    assert failed_share(BAD, Tolerance(failure_ratio=0.01)).endswith("%, tolerated 1 %)")
