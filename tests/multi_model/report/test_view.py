"""The texts of the page: the headline, the cards and the tables have the numbers of the report."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_plugin.core.text import THIN
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.view import MOST_ROWS, view_of
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts
from tests.multi_model.report.reports import (
    BAD,
    GOOD,
    T0,
    batch_of,
    busy,
    collected,
    failure_row,
    shard_of,
    work_of,
)

UNREAD = ModelCounts(inputs=2, inputs_failed=1, inputs_unread=1, records=10)


@pytest.mark.parametrize(
    ("report", "level", "headline"),
    [
        (batch_of([shard_of(0)]), "good", "All 10 records succeeded"),
        (
            batch_of([shard_of(0, {"a": ModelCounts(inputs=1, records=1)})]),
            "good",
            "The only record succeeded",
        ),
        (batch_of([shard_of(0, {"a": ModelCounts(inputs=1)})]), "good", "All inputs are empty: no records"),
        (batch_of([shard_of(0, {"a": BAD})]), "bad", "3 of 10 records failed"),
        (batch_of([shard_of(0, {"a": UNREAD})]), "bad", "1 input could not be read"),
        (
            batch_of([shard_of(0)], [work_of(1, {"b": 4})]),
            "bad",
            "Unfinished: 1 of 2 shards without a report, with 4 inputs",
        ),
        (batch_of([]), "idle", "Nothing to do: no inputs"),
        (batch_of([], carried=3), "idle", "Nothing to do: an earlier plan did all 3 inputs"),
    ],
)
def test_the_headline_is_the_result(report: BatchReport, level: str, headline: str) -> None:
    shown = view_of(report)["headline"]
    assert (shown.level, shown.text) == (level, headline)


def test_further_problems_follow_the_headline() -> None:
    report = batch_of([shard_of(0, {"a": BAD + UNREAD})], [work_of(1, {"b": 4})])
    assert view_of(report)["headline"].details == ["3 of 20 records failed", "1 input could not be read"]


def test_cards_hold_the_numbers_of_the_summary() -> None:
    report = batch_of(
        [shard_of(0, {"a": BAD, "b": GOOD}, statistics=collected(busy("a"), busy("b")))], carried=9
    )
    cards = {card.title: card for card in view_of(report)["cards"]}
    assert {title: card.figure for title, card in cards.items()} == {
        "Records": "20",
        "Inputs": "4",
        "Models": "2",
        "Duration": "1 min",
        "Invocations": "40",
        "Median latency": "50 ms",
        "Cold starts": "2",
    }
    assert cards["Records"].notes == [("17 succeeded", False), (f"3 failed (15{THIN}%)", True)]
    assert cards["Inputs"].notes == [("1 with failures", True), ("9 more were done before", False)]
    assert cards["Duration"].notes == [("of these 10 s active", False), ("1.7 records/s on average", False)]


def test_models_with_failures_come_first_then_those_with_most_records() -> None:
    counts = {
        "few": ModelCounts(inputs=1, records=1),
        "many": ModelCounts(inputs=1, records=99),
        "bad": BAD,
        "worse": ModelCounts(inputs=1, inputs_failed=1, records=5, records_failed=5),
    }
    view = view_of(batch_of([shard_of(0, counts)]))
    assert [row[0] for row in view["models"]] == ["worse", "bad", "many", "few"]
    assert [row["model"] for row in view["failed_models"]] == ["worse", "bad"]


def test_the_slowest_and_the_coldest_are_named_with_numbers() -> None:
    statistics = collected(
        busy("slow", seconds=2.0), busy("quick"), lambda s: s.loaded("quick", began=T0, ended=T0 + 50)
    )
    view = view_of(batch_of([shard_of(0, {"slow": GOOD, "quick": GOOD}, statistics=statistics)]))
    assert view["slowest"] == [("slow", "2 s", "20 invocations"), ("quick", "50 ms", "20 invocations")]
    assert view["coldest"] == [("quick", "52 s", "2 cold starts"), ("slow", "2 s", "1 cold start")]


def test_many_failures_of_one_class_and_model_do_not_hide_others() -> None:
    many = [failure_row(first_record=10 * index) for index in range(18)]
    others = [failure_row(error="RecordTooLarge"), failure_row("b.tar.gz")]
    shards = [shard_of(0, {"a.tar.gz": BAD}, failures=many), shard_of(1, {"a.tar.gz": BAD}, failures=others)]
    shown = [(row["error"], row["model"], row["records"]) for row in view_of(batch_of(shards))["failures"]]
    assert shown[:4] == [
        ("ModelError", "a.tar.gz", "0 to 2"),
        ("RecordTooLarge", "a.tar.gz", "4 to 6"),
        ("ModelError", "b.tar.gz", "4 to 6"),
        ("ModelError", "a.tar.gz", "10 to 12"),
    ]


def test_failures_of_consecutive_records_are_joined() -> None:
    rows = [failure_row(first_record=record, record_count=1) for record in range(10)]
    rows.append(failure_row(first_record=10, record_count=1, message="another"))
    rows.append(failure_row(first_record=11, record_count=None, message="another"))
    shown = view_of(batch_of([shard_of(0, {"a.tar.gz": BAD}, failures=rows)]))["failures"]
    assert [row["records"] for row in shown] == ["0 to 9", "10", "11 and all after it"]


@pytest.mark.parametrize(
    ("fields", "records"),
    [
        ({"first_record": 4, "record_count": 3}, "4 to 6"),
        ({"first_record": 4, "record_count": 1}, "4"),
        ({"first_record": 4, "record_count": None}, "4 and all after it"),
        ({"first_record": None, "record_count": None}, "-"),
    ],
)
def test_a_failure_names_its_records(fields: dict[str, Any], records: str) -> None:
    report = batch_of([shard_of(0, {"a": BAD}, failures=[failure_row(**fields)])])
    assert view_of(report)["failures"][0]["records"] == records


def test_a_message_is_not_changed() -> None:
    rows = [failure_row(message=""), failure_row(message="<b>no</b>")]
    report = batch_of([shard_of(0, {"a": BAD}, failures=rows)])
    assert [row["message"] for row in view_of(report)["failures"]] == ["", "<b>no</b>"]


def test_the_table_of_models_is_bounded() -> None:
    counts = {f"m{index}": GOOD for index in range(MOST_ROWS + 5)}
    view = view_of(batch_of([shard_of(0, counts)]))
    assert (len(view["models"]), view["more_models"]) == (MOST_ROWS, 5)
