"""The remedy that a failed invocation asks for, and the text that it shows."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.invoke.failure import Attempt, CallFailure, FailureKind


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("unreachable", Attempt.AGAIN), ("unanswered", Attempt.AGAIN), ("local", Attempt.FINAL)],
)
def test_without_an_answer_only_what_could_be_sent_is_worth_another_attempt(
    kind: FailureKind, wanted: Attempt
) -> None:
    assert CallFailure("SomeError", "text", kind=kind).attempt is wanted


def test_an_answer_is_judged_by_its_words() -> None:
    assert CallFailure("ModelNotReadyException", "", 429).attempt is Attempt.MODEL_LOADS
    assert CallFailure("ModelError", "", 424, original_status=507).attempt is Attempt.AGAIN
    assert CallFailure("ModelError", "", 424, original_status=500).attempt is Attempt.FINAL
    handler_bug = CallFailure("ModelError", "", 424, 503, "Prediction failed")
    assert handler_bug.attempt is Attempt.FINAL
    assert CallFailure("ValidationError", "no", 400).attempt is Attempt.FINAL


def test_the_texts_are_not_shown() -> None:
    failure = CallFailure("ModelError", "text-secret", 424, 500, "original-secret")
    assert "secret" not in f"{failure!r} {failure}"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (CallFailure("ModelError", "outer", 424, 503, "inner"), "inner"),
        (CallFailure("ModelError", "outer", 424, 0, ""), "outer"),
        (CallFailure("ThrottlingException", "", 400), "ThrottlingException"),
        (CallFailure("", "", 502), "HTTP status 502"),
    ],
)
def test_every_failure_has_words(failure: CallFailure, words: str) -> None:
    assert failure.words == words
