"""The texts of the page: the headline, the cards and the tables have the numbers of the report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sm_plugin.batches.report.elements import MOST_SHOWN, RunContext
from airflow_sm_plugin.core.text import THIN
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.report.view import MOST_ROWS, view_of
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, StopReason
from tests.multi_model.report.reports import (
    BAD,
    GOOD,
    T0,
    batch_of,
    busy,
    collected,
    explained,
    merged,
    plan_of,
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
        (batch_of([shard_of(0, {"a": UNREAD})]), "bad", "1 input could not be read to the end"),
        (
            batch_of([shard_of(0)], [work_of(1, {"b": 4})]),
            "bad",
            "Unfinished: 2 of 6 inputs done, 1 of 2 shards stopped",
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
    assert view_of(report)["headline"].details[-2:] == [
        "3 of 20 records failed",
        "1 input could not be read to the end",
    ]


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
    assert cards["Inputs"].notes == [
        ("3 done", False),
        ("1 with failures", True),
        ("9 more were done before", False),
    ]
    assert cards["Duration"].notes == [("of these 10 s active", False), ("1.7 records/s on average", False)]


def test_models_with_failures_come_first_then_those_with_most_records() -> None:
    counts = {
        "few": ModelCounts(inputs=1, records=1),
        "many": ModelCounts(inputs=1, records=99),
        "bad": BAD,
        "worse": ModelCounts(inputs=1, inputs_failed=1, records=5, records_failed=5),
    }
    view = view_of(batch_of([shard_of(0, counts)]))
    assert [(failed, row[0]) for failed, row in view["models"]] == [
        (True, "worse"),
        (True, "bad"),
        (False, "many"),
        (False, "few"),
    ]


def test_the_slowest_and_the_coldest_are_named_with_numbers() -> None:
    statistics = collected(
        busy("slow", seconds=2.0), busy("quick"), lambda s: s.loaded("quick", began=T0, ended=T0 + 50)
    )
    view = view_of(batch_of([shard_of(0, {"slow": GOOD, "quick": GOOD}, statistics=statistics)]))
    assert view["slowest"] == [("slow", "2 s", "20 invocations"), ("quick", "50 ms", "20 invocations")]
    assert view["coldest"] == [("quick", "52 s", "2 cold starts"), ("slow", "2 s", "1 cold start")]


def test_failures_are_grouped_by_model_class_and_message_the_most_first() -> None:
    statistics = collected(
        explained("b.tar.gz", message="no column 'x'"),
        *(explained("a.tar.gz", message=f"could not convert 'x{n}'", first_record=3 * n) for n in range(9)),
        explained("a.tar.gz", error="RecordTooLarge", status=None, record_count=1),
    )
    view = view_of(batch_of([shard_of(0, {"a.tar.gz": BAD, "b.tar.gz": BAD}, statistics=statistics)]))
    assert [(group.quantity, group.error, group.model, group.message) for group in view["groups"]] == [
        ("27 records", "ModelError (400)", "a.tar.gz", "could not convert 'x0'"),
        ("3 records", "ModelError (400)", "b.tar.gz", "no column 'x'"),
        ("1 record", "RecordTooLarge", "a.tar.gz", "could not convert 'abc'"),
    ]
    assert view["groups"][0].examples == [("s3://bucket/in/a.tar.gz/1.jsonl", "records 0 to 2")]


def test_more_groups_than_a_page_shows_are_counted() -> None:
    models = [f"m{number}" for number in range(MOST_SHOWN + 7)]
    statistics = collected(*map(explained, models))
    view = view_of(batch_of([shard_of(0, dict.fromkeys(models, BAD), statistics=statistics)]))
    assert (len(view["groups"]), view["more_groups"]) == (MOST_SHOWN, 7)


def test_invocations_are_all_that_were_sent() -> None:
    """Of a model whose invocations all failed too."""
    statistics = collected(
        busy("a"), *[lambda s: s.called_in_vain("a")] * 5, *[lambda s: s.called_in_vain("b")] * 30
    )
    report = batch_of([shard_of(0, {"a": GOOD, "b": BAD}, statistics=statistics)])
    view = view_of(report)
    card = next(card for card in view["cards"] if card.title == "Invocations")
    assert (card.figure, card.notes[0]) == ("55", ("of these 20 succeeded", False))
    assert report.summary()["invocations"] == 55
    assert [(row[0], row[4]) for _, row in view["models"]] == [("b", "30"), ("a", "25")]


def test_a_stopped_batch_has_what_was_done_the_reason_and_what_to_do() -> None:
    stopped = StopReason("EndpointNotFound", "there is no endpoint stores")
    done = [
        shard_of(number, {"a": replace(GOOD, inputs=3), "b": ModelCounts()}, stopped=stopped)
        for number in range(2)
    ]
    planned = [work_of(number, {"a": 3, "b": 4}) for number in range(3)]
    report = merged(
        plan_of(inputs=21, shards=3),
        [],
        zip(planned, [*done, None], strict=True),
    )
    view = view_of(report, RunContext(clear="batch with downstream"))
    headline = view["headline"]
    assert headline.text == "Unfinished: 6 of 21 inputs done, 3 of 3 shards stopped"
    assert headline.details == [
        "2 of 3 shards (map index 0-1) stopped: EndpointNotFound: there is no endpoint stores",
        "1 of 3 shards (map index 2) did not finish and left no error, as after a kill: see the logs of these tasks",
    ]
    assert (
        headline.advice
        == "Deploy endpoint stores, then clear batch with downstream: only what is not done is sent."
    )
    assert [(failed, row[0], row[3]) for failed, row in view["models"]] == [
        (True, "a", "6 of 9"),
        (True, "b", "0 of 12"),
    ]


def test_the_table_of_models_is_bounded() -> None:
    counts = {f"m{index}": GOOD for index in range(MOST_ROWS + 5)}
    view = view_of(batch_of([shard_of(0, counts)]))
    assert (len(view["models"]), view["more_models"]) == (MOST_ROWS, 5)
