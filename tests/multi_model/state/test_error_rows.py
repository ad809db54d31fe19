from __future__ import annotations

import json

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import ModelError, TargetModelNotFound
from airflow_sm_plugin.multi_model.state.error_rows import FailedRecords

ONE = BatchInput(source="s3://b/in/x.csv", target_model="a.tar.gz", output="x.csv")


def failed(start: int, end: int, record: int, *, attempts: int = 0) -> FailedRecords:
    return FailedRecords(start, end, record, 1, TargetModelNotFound, None, "gone", attempts)


def test_records_that_were_never_sent_join_into_one_row() -> None:
    first, second = failed(0, 5, 0), failed(5, 9, 1)
    assert second.follows(first)
    assert first.joined(second) == first._replace(end=9, records=2)
    assert not failed(5, 9, 1, attempts=1).follows(first)
    assert not failed(6, 9, 1).follows(first)


def test_a_row_has_always_the_same_keys_and_is_one_line() -> None:
    rows = [
        FailedRecords(0, 5, 0, 1, ModelError, 400, "bäd\nthing", 2),
        FailedRecords(5, 5, 1, None, ModelError, None, "", 0),
    ]
    lines = [each.line(ONE) for each in rows]
    assert [line.count(b"\n") for line in lines] == [1, 1]
    first, second = (json.loads(line) for line in lines)
    assert list(first) == list(second)
    assert (first["error"], first["status"], first["message"]) == ("ModelError", 400, "bäd\nthing")
    assert second["record_count"] is None
