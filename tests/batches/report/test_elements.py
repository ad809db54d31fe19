"""The parts of a report's page as texts."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.batches.report.elements import (
    NO_RUN,
    RunContext,
    bad,
    card,
    cause_in,
    group_line,
    records_of,
    shown_groups,
)
from airflow_sm_plugin.batches.report.failures import Example, FailureGroup

GROUP = FailureGroup("ModelError", 400, "no\n  column", 3, examples=(Example("s3://b/k", 4, 3),))


@pytest.mark.parametrize(
    ("example", "records"),
    [
        (Example("s3://b/k", 4, 3), "records 4 to 6"),
        (Example("s3://b/k", 4, 1), "record 4"),
        (Example("s3://b/k", 4, None), "record 4 and all after it"),
        (Example("s3://b/k"), ""),
    ],
)
def test_an_example_names_its_records(example: Example, records: str) -> None:
    assert records_of(example) == records


def test_a_group_is_one_line_of_a_log() -> None:
    line = "3 records of model a: ModelError (400): no column; first s3://b/k records 4 to 6"
    assert group_line("a", GROUP, "record") == line
    expired = FailureGroup("expired", None, "", 1, examples=(Example("s3://b/k"),))
    assert group_line("", expired, "input") == "1 input: expired; first s3://b/k"


def test_a_group_is_shown_with_its_examples() -> None:
    (shown,) = shown_groups([("a", GROUP)], "record")
    assert shown == ("3 records", "ModelError (400)", "a", GROUP.message, [("s3://b/k", "records 4 to 6")])


def test_notes_without_a_text_are_left_out_of_a_card() -> None:
    assert card("Inputs", "3", "", bad(0, "failed"), bad(2, "expired")).notes == [("2 expired", True)]


def test_the_cause_of_an_error_is_its_first_line_and_its_reason() -> None:
    text = "endpoint e is Failed\nKept: 3 inputs\nReason: no capacity\nDo: deploy it"
    assert cause_in(text) == "endpoint e is Failed Reason: no capacity"
    assert cause_in("x" * 900, longest=10) == "x" * 10
    assert cause_in("") == ""


def test_the_facts_of_a_run_are_those_that_are_known() -> None:
    assert RunContext(dag_id="d", task_id="t").facts == [("DAG", "d"), ("task", "t")]
    assert NO_RUN.facts == []
