"""The page of an asynchronous batch: finished, and stopped by an error."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_plugin.async_inference.batch.ledger import Ledger, RoundOutcome
from airflow_sm_plugin.async_inference.batch.report_page import BatchFigures, RoundFigures, view_of
from airflow_sm_plugin.async_inference.watch_state import WatchCounts
from airflow_sm_plugin.batches.report.elements import NO_RUN, RunContext
from airflow_sm_plugin.batches.report.failures import FailureGroup

FIRST = RoundFigures(sent=10, succeeded=7, failed=3, sent_until=1_000.0, ended_at=1_090.0)
FAILED = (FailureGroup("failed", None, "no", 2), FailureGroup("failed", None, "not so", 1))


def batch_of(*rounds: RoundFigures, **fields: Any) -> BatchFigures:  # noqa: ANN401 - the figures' own
    given = {"inputs": 10, "carried": 0, "started_at": "2026-01-01T00:00:00+00:00", **fields}
    return BatchFigures("churn", "s3://b/f", finished_at="2026-01-01T00:02:00+00:00", rounds=rounds, **given)


@pytest.mark.parametrize(
    ("batch", "level", "text"),
    [
        (batch_of(FIRST, RoundFigures(sent=3, succeeded=3)), "good", "All 10 inputs have an output"),
        (batch_of(FIRST, failures=FAILED), "bad", "3 of 10 inputs have no output"),
        (batch_of(inputs=4, carried=4), "idle", "Nothing to do: an earlier plan did all 4 inputs"),
        (
            batch_of(FIRST, stopped=("Throttled", "slow down")),
            "bad",
            "Unfinished: 7 of 10 inputs done, 3 left",
        ),
    ],
)
def test_the_headline_is_the_result(batch: BatchFigures, level: str, text: str) -> None:
    headline = view_of(batch, NO_RUN)["headline"]
    assert (headline.level, headline.text) == (level, text)


def test_a_stopped_batch_names_the_error_and_the_remedy() -> None:
    stopped = batch_of(FIRST, stopped=("EndpointNotFound", "endpoint churn was deleted"))
    headline = view_of(stopped, RunContext(clear="scores"))["headline"]
    assert headline.details == ["EndpointNotFound: endpoint churn was deleted"]
    assert headline.advice.startswith("Deploy endpoint churn again, then clear scores: outputs are kept")


def test_the_figures_of_an_ended_round_are_those_of_its_outcome() -> None:
    outcome = RoundOutcome(succeeded=0b0011, failed=0b0100, expired=0b1000)
    ledger = Ledger(
        count=6,
        accepted=0b1111,
        refused={4: ("InvalidRequest", "no")},
        refused_numbers=0b10000,
        submitted={0: 50.0, 1: 70.0},
        last_at=100.0,
        outcome=outcome,
    )
    figures = RoundFigures.of(ledger, None)
    assert (figures.sent, figures.succeeded, figures.failed, figures.expired, figures.refused) == (
        4,
        2,
        1,
        1,
        1,
    )
    assert figures.waited == 30.0


def test_the_figures_of_a_round_that_has_not_ended_are_those_of_the_last_poll() -> None:
    ledger = Ledger(count=9, accepted=0b111111, submitted={0: 50.0})
    figures = RoundFigures.of(ledger, WatchCounts(succeeded=2, failed=1, pending=3))
    assert (figures.succeeded, figures.waiting, figures.unsent, figures.waited) == (2, 3, 3, None)


def test_columns_that_are_0_in_all_rounds_are_left_out() -> None:
    view = view_of(batch_of(FIRST, RoundFigures(sent=3, succeeded=3)), NO_RUN)
    assert view["round_titles"] == ["Round", "Sent", "Succeeded", "Failed", "Sent until", "Then waited"]
    assert view["rounds"] == [
        ["1", "10", "7", "3", "00:16:40", "1 min 30 s"],
        ["2", "3", "3", "0", "-", "-"],
    ]


def test_failures_are_groups_the_greatest_first() -> None:
    view = view_of(batch_of(FIRST, failures=FAILED[::-1]), NO_RUN)
    assert [(group.quantity, group.error, group.message) for group in view["groups"]] == [
        ("2 inputs", "failed", "no"),
        ("1 input", "failed", "not so"),
    ]
    cards = {card.title: card for card in view["cards"]}
    assert ("3 failed", True) in cards["Inputs"].notes
    assert cards["Waited for results"].figure == "1 min 30 s"
