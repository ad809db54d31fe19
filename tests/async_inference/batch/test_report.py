"""A report is believed only when its counts add up, and its summary contains no secrets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.batch.report import Report, Row, RowCounts, Status
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.exceptions import InferenceError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.builds(
    Row,
    source=TEXT,
    status=st.sampled_from(Status),
    etag=st.none() | TEXT,
    output_location=st.none() | TEXT,
    failure_location=st.none() | TEXT,
    inference_id=st.none() | TEXT,
    attempts=st.integers(0, 9),
    error=st.none() | TEXT,
    custom_attributes=st.none() | TEXT,
)
COUNTS = RowCounts(succeeded=7, failed=2, expired=1, refused=0, attempts=13)
REPORT = Report(
    endpoint_name="churn",
    plan_digest="0123456789abcdef",
    counts=COUNTS,
    started_at="2026-01-01T00:00:00+00:00",
    finished_at="2026-01-01T00:10:00+00:00",
    report_location="s3://b/batch/report.json",
    report_page_location="s3://b/batch/report.html",
    rows_location="s3://b/batch/rows/",
    failures_location="s3://b/batch/failures/",
)


@given(ROWS)
def test_a_row_survives_its_line(row: Row) -> None:
    line = row.as_line()
    assert Row.from_line(line) == row
    assert len(line.splitlines()) == 1


@given(ROWS, ROWS)
def test_lines_have_the_same_keys_whatever_the_status(one: Row, other: Row) -> None:
    assert list(json.loads(one.as_line())) == list(json.loads(other.as_line()))


def test_no_repr_of_a_row_shows_attributes_or_failure_texts() -> None:
    row = Row(source="s3://b/k", status=Status.FAILED, error="secret", custom_attributes="secret")
    assert "secret" not in repr(row)


@given(st.lists(ROWS, max_size=20), st.integers(0, 20))
def test_counts_are_the_same_however_rows_are_taken_together(rows: list[Row], cut: int) -> None:
    one_by_one = RowCounts()
    for row in rows:
        one_by_one += RowCounts.of([row])
    assert one_by_one == RowCounts.of(rows) == RowCounts.of(rows[:cut]) + RowCounts.of(rows[cut:])
    assert one_by_one.total == len(rows)
    assert one_by_one.attempts == sum(row.attempts for row in rows)
    assert one_by_one.unsuccessful == sum(row.status is not Status.SUCCEEDED for row in rows)


@given(st.integers(0, 20))
def test_a_report_that_does_not_count_every_input_once_is_never_believed(total: int) -> None:
    if total == COUNTS.total:
        assert REPORT.checked(total) is REPORT
        return
    with pytest.raises(InferenceError, match=r"s3://b/batch/rows/") as refused:
        REPORT.checked(total)
    assert f"{total} inputs" in str(refused.value)
    assert "7 succeeded, 2 failed, 1 expired, 0 refused" in str(refused.value)


def test_the_summary_is_flat_small_and_counts() -> None:
    summary = REPORT.summary()
    assert summary == {
        "endpoint_name": "churn",
        "inputs": 10,
        "inputs_passed_over": 0,
        "succeeded": 7,
        "failed": 2,
        "expired": 1,
        "refused": 0,
        "attempts": 13,
        "plan_digest": "0123456789abcdef",
        "started_at": "2026-01-01T00:00:00+00:00",
        "finished_at": "2026-01-01T00:10:00+00:00",
        "report_location": "s3://b/batch/report.json",
        "report_page_location": "s3://b/batch/report.html",
        "rows_location": "s3://b/batch/rows/",
        "failures_location": "s3://b/batch/failures/",
    }
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        replace(REPORT, inputs_passed_over=3),
        replace(REPORT, failures=(Row(source="s3://b/k", status=Status.FAILED, error="no").failure,)),
        replace(REPORT, counts=RowCounts(), failures_location=None, run="first", written_by=TaskTry(5.0, 2)),
    ],
)
def test_a_report_survives_its_file(report: Report) -> None:
    assert Report.from_json(report.as_json()) == report
    groups = [group.as_json() for group in report.failures]
    more = {"run": report.run, "written_by": report.written_by.as_list(), "failure_groups": groups}
    assert json.loads(report.as_json()) == report.summary() | more
    assert not more.keys() & report.summary().keys()


def test_a_report_without_later_keys_is_read() -> None:
    """An earlier version wrote it, and a retry returns it."""
    written = json.loads(REPORT.as_json())
    for name in ("failure_groups", "report_page_location"):
        del written[name]
    assert Report.from_json(json.dumps(written)) == replace(REPORT, report_page_location=None)
