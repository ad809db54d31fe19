"""Groups of failures: messages of one cause are one group, whatever values they quote; groups add up."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from airflow_sm_plugin.batches.report.failures import (
    LONGEST_MESSAGE,
    MOST_EXAMPLES,
    MOST_GROUPS,
    OTHERS,
    FailureGroup,
    FailureGroups,
)


def row(message: str = "no", **fields: Any) -> FailureGroup:  # noqa: ANN401 - the row's own
    given = {"source": "s3://b/1", "first_record": 0, "record_count": 2, "error": "ModelError", "status": 400}
    return FailureGroup.of_row({**given, "message": message, **fields})


def groups_of(*failures: FailureGroup) -> FailureGroups:
    groups = FailureGroups()
    for failure in failures:
        groups.add(failure)
    return groups


def shown(groups: FailureGroups) -> list[tuple[str, str, int, int]]:
    return [(group.error, group.message, group.count, group.times) for group in groups]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("could not convert string to float: 'this'", "could not convert string to float: 'that'"),
        ("row 17 has 3 columns", "row 9 has 12 columns"),
        ("<X object at 0x7f5c36224dd0>", "<X object at 0x7f5c36224de0>"),
        ("request 1f0c9a2e-77aa-4b1e-9c11-0123456789ab failed", "request deadbeef-0000-aaaa-bbbb-ccc failed"),
        (LONGEST_MESSAGE * "x" + "one", LONGEST_MESSAGE * "x" + "two"),
    ],
)
def test_messages_that_differ_in_values_only_are_one_group(first: str, second: str) -> None:
    groups = groups_of(row(first), row(second))
    assert shown(groups) == [("ModelError", first[:LONGEST_MESSAGE], 4, 2)]


def test_another_class_or_another_text_is_another_group() -> None:
    groups = groups_of(row("no 'x'"), row("no 'x'", error="ModelUnavailable"), row("not 'x'"))
    assert len(groups) == 3


def test_examples_are_the_first_of_each_of_the_first_inputs() -> None:
    groups = groups_of(*(row(source=f"s3://b/{number}") for number in (1, 1, 2, 3, 4)))
    (group,) = groups
    assert [example.source for example in group.examples] == ["s3://b/1", "s3://b/2", "s3://b/3"]
    assert len(group.examples) == MOST_EXAMPLES
    (group,) = groups_of(row(first_record=0), row(first_record=2))
    assert [example.first_record for example in group.examples] == [0]


def test_many_kinds_of_messages_are_counted_together_by_class() -> None:
    words = [chr(97 + number) for number in range(MOST_GROUPS + 5)]
    groups = groups_of(*map(row, words), row("z", error="RecordTooLarge"))
    assert len(groups) == MOST_GROUPS + 2
    assert shown(groups)[MOST_GROUPS:] == [("ModelError", OTHERS, 10, 5), ("RecordTooLarge", OTHERS, 2, 1)]


def test_groups_of_several_processes_add_up_and_a_class_is_taken_back() -> None:
    one = groups_of(row("a"), row("b", record_count=None), row("c", error="ModelUnavailable"))
    total = FailureGroups()
    for _ in range(2):
        total.add_json(json.loads(json.dumps(one.as_json())))
    assert shown(total) == [
        ("ModelError", "a", 4, 2),
        ("ModelError", "b", 0, 2),
        ("ModelUnavailable", "c", 4, 2),
    ]
    total.add_json(total.taken_back({"ModelError"}))
    assert shown(total) == [("ModelUnavailable", "c", 4, 2)]


def test_a_lone_surrogate_can_be_stored() -> None:
    group = row("half \ud800", source="s3://b/\ud800")
    assert FailureGroup.from_json(msgspec.json.decode(msgspec.json.encode(group.as_json()))) == group
