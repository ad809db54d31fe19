"""Notifications are hints: they may come twice, late, or be another owner's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sm_plugin.async_inference.queue import CompletionHints, is_stale
from airflow_sm_plugin.async_inference.watch import AwaitedResults, ListedNames, NumberedNames, ResultFolder
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.core.notifications import InferenceNotification

NUMBERED = ResultFolder(
    "s3://b/o/", "s3://b/f/", NumberedNames(0, 2, "{:07}.out", "{:07}.err", "root-r2-{:07}"), (1.0,)
)
LISTED = ResultFolder("s3://b/o/", None, ListedNames(("x.out", "y.out"), ids=("ix", "")), (1.0,))
WATCH = AwaitedResults((NUMBERED, LISTED), own_ids="root-")
DONE = InferenceNotification(
    succeeded=True,
    endpoint_name="e",
    input_location=None,
    output_location=None,
    inference_id=None,
    custom_attributes=None,
    failure_reason=None,
    received_time=None,
    event_time=None,
)


def test_the_hints_cover_the_wait_once_all_missing_results_were_reported() -> None:
    hints, state = CompletionHints(WATCH), WatchState.begin(WATCH)
    reported = [
        replace(DONE, output_location="s3://b/o/0000000.out"),
        replace(DONE, inference_id="root-r2-0000001", succeeded=False),
        replace(DONE, output_location="s3://b/o/y.out"),
    ]
    for notification in [*reported, *reported]:
        assert hints.take(notification)
        assert not hints.cover(state)
    assert hints.cover(state, until_pending=1)
    assert hints.take(replace(DONE, inference_id="ix", succeeded=False))
    assert hints.cover(state)
    hints.forget()
    assert not hints.cover(state)


def test_what_was_seen_needs_no_hint() -> None:
    state = WatchState.begin(WATCH)
    seen = tuple(replace(folder, outputs=0b01) for folder in state.folders)
    hints = CompletionHints(WATCH)
    hints.take(replace(DONE, output_location="s3://b/o/y.out"))
    hints.take(replace(DONE, inference_id="root-r2-0000001"))
    assert hints.cover(replace(state, folders=seen))


def test_an_earlier_rounds_notification_is_ours_and_no_hint() -> None:
    hints = CompletionHints(WATCH)
    assert hints.take(replace(DONE, inference_id="root-r1-0000001"))
    assert not hints.cover(WatchState.begin(WATCH), until_pending=3)


@pytest.mark.parametrize(
    "notification",
    [
        DONE,
        replace(DONE, inference_id="other"),
        replace(DONE, inference_id=""),
        replace(DONE, output_location="s3://b/o/z.out"),
        replace(DONE, output_location="s3://b/elsewhere/x.out", inference_id="root"),
    ],
)
def test_another_owners_notification_is_foreign(notification: InferenceNotification) -> None:
    assert not CompletionHints(WATCH).take(notification)
    assert not CompletionHints(replace(WATCH, own_ids="")).take(notification)


@pytest.mark.parametrize(
    ("event_time", "stale"),
    [
        ("1970-01-01T00:16:39Z", True),
        ("1970-01-01T00:16:39.999999", True),
        ("1970-01-01T00:16:40+00:00", False),
        ("1970-01-01T01:16:39+01:00", True),
        ("yesterday", False),
        (None, False),
    ],
)
def test_what_finished_before_the_wait_began_is_stale(event_time: str | None, stale: bool) -> None:
    assert is_stale(replace(DONE, event_time=event_time), before=1_000.0) is stale
