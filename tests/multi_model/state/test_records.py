"""Failures: consecutive ones are joined, and their rows of ``.errors.jsonl`` have the same keys."""

from __future__ import annotations

import json

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import ModelError, TargetModelNotFound
from airflow_sm_plugin.multi_model.state.records import FailedRecords

INPUT = BatchInput(source="s3://b/in/x.csv", target_model="a.tar.gz", output="x.csv")


def gone(start: int, end: int, record: int, *, attempts: int = 0) -> FailedRecords:
    return FailedRecords(start, end, record, 1, TargetModelNotFound, None, "gone", attempts)


def test_records_that_were_never_sent_join_into_one_row() -> None:
    first, second = gone(0, 5, 0), gone(5, 9, 1)
    assert second.follows(first)
    assert first.joined(second) == first._replace(end=9, records=2)
    assert not gone(5, 9, 1, attempts=1).follows(first)
    assert not gone(6, 9, 1).follows(first)


def test_rows_have_the_same_keys_and_are_one_line_each() -> None:
    rows = [
        FailedRecords(0, 5, 0, 1, ModelError, 400, "bäd\nthing", 2),
        FailedRecords(5, 5, 1, None, ModelError, None, "", 0),
    ]
    lines = [failed.line(INPUT) for failed in rows]
    assert [line.count(b"\n") for line in lines] == [1, 1]
    first, second = (json.loads(line) for line in lines)
    assert list(first) == list(second)
    assert (first["error"], first["status"], first["message"]) == ("ModelError", 400, "bäd\nthing")
    assert second["record_count"] is None
