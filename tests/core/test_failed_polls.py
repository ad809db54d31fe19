"""One rule for every wait: a few failed polls in a row are no verdict, a successful one resets their count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.failed_polls import MAX_FAILED_POLLS, FailedPolls
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    EndpointNotFound,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)

BAD_MOMENTS = (ServiceUnavailable("503"), Throttled("Rate exceeded"))


def after(failures: int) -> FailedPolls:
    polls = FailedPolls()
    for _ in range(failures):
        polls = polls.one_more()
    return polls


@given(st.integers(0, 3 * MAX_FAILED_POLLS), st.sampled_from(BAD_MOMENTS))
def test_bad_moments_end_the_wait_from_the_first_too_many_on(
    failures: int, error: SageMakerInferenceError
) -> None:
    polls = after(failures)
    assert polls.in_a_row == failures
    assert polls.too_many == polls.end_the_wait(error) == (failures > MAX_FAILED_POLLS)


@pytest.mark.parametrize("error", [AccessDenied("403"), RequestRefused("400"), EndpointNotFound("gone")])
def test_what_no_later_poll_mends_ends_it_at_once(error: SageMakerInferenceError) -> None:
    assert after(1).end_the_wait(error)


def test_a_failed_poll_does_not_change_the_count_it_was_added_to() -> None:
    polls = after(3)
    polls.one_more()
    assert polls == after(3)


def test_a_failed_poll_is_described_with_its_cause_and_the_limit() -> None:
    polls = after(2).one_more('Could not connect to the endpoint URL: "http://127.0.0.1:1/".')
    assert polls.in_words("S3") == (
        'S3 does not answer (Could not connect to the endpoint URL: "http://127.0.0.1:1/"), 3rd time in a row; '
        f"gives up after {MAX_FAILED_POLLS}"
    )
    assert after(1).in_words("SageMaker").startswith("SageMaker does not answer, 1st time in a row")
