"""The outcome of one result, by S3's answers for its two objects and by its deadline."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.poll import HeadRequest
from airflow_sm_plugin.async_inference.single.result import AsyncResult
from airflow_sm_plugin.async_inference.single.state import ResultPresence
from airflow_sm_plugin.async_inference.watch import ObjectKind, group
from airflow_sm_plugin.async_inference.watch_state import ResultOutcome, WatchState
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.invoke.async_request import AsyncInvocation
from tests.async_inference.polls import MemoryS3

INVOCATION = AsyncInvocation("s3://b/out/1.out", "s3://b/failed/1-error.out")
DEADLINE = 10.0
presences = st.builds(ResultPresence, st.sampled_from(Presence), st.sampled_from(Presence))


def outcome_after(presence: ResultPresence, *, now: float) -> ResultOutcome:
    """Poll one invocation once, with these answers."""
    watch, _ = group([INVOCATION], [DEADLINE])

    def answer(request: object) -> Presence:
        assert isinstance(request, HeadRequest)
        return presence.output if request.kind is ObjectKind.OUTPUTS else presence.failure

    state = MemoryS3(trouble=answer).poll(watch, WatchState.begin(watch), now=now)
    ((_, outcome),) = state.outcomes(watch)
    return outcome


@given(presences, st.floats(0, 20))
def test_a_result_wins_over_the_deadline_and_an_output_over_a_failure_object(
    presence: ResultPresence, now: float
) -> None:
    outcome = outcome_after(presence, now=now)
    has_output, has_failure = presence.output is Presence.PRESENT, presence.failure is Presence.PRESENT
    assert (outcome is ResultOutcome.SUCCEEDED) == has_output
    assert (outcome is ResultOutcome.FAILED) == (has_failure and not has_output)
    if not has_output and not has_failure:
        is_answered = Presence.UNKNOWN not in (presence.output, presence.failure)
        assert (outcome is ResultOutcome.TIMED_OUT) == (now >= DEADLINE and is_answered)


@pytest.mark.parametrize("presence", [Presence.ABSENT, Presence.FORBIDDEN, Presence.UNKNOWN])
@pytest.mark.parametrize("now", [0.0, 9.99])
def test_404_403_and_503_are_no_verdicts_before_the_deadline(presence: Presence, now: float) -> None:
    assert outcome_after(ResultPresence(presence, presence), now=now) is ResultOutcome.WAITING


@given(presences)
def test_an_output_wins_over_a_failure_object_at_the_end_of_a_wait(presence: ResultPresence) -> None:
    outcome = AsyncResult(invocation=AsyncInvocation("s3://b/o"), presence=presence).outcome
    has_output, has_failure = presence.output is Presence.PRESENT, presence.failure is Presence.PRESENT
    assert (outcome is ResultOutcome.SUCCEEDED) == has_output
    assert (outcome is ResultOutcome.FAILED) == (has_failure and not has_output)
    assert (outcome is ResultOutcome.TIMED_OUT) == (not has_failure and not has_output)
