"""The meaning of DescribeEndpoint: every status with the wanted configuration and with another one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin._safe_text import presentable
from airflow_sm_plugin.exceptions import (
    EndpointDeadlineExceeded,
    EndpointError,
    EndpointFailed,
    EndpointRolledBack,
    EndpointTakenOver,
    EndpointUnchangeable,
    ServiceUnavailable,
)
from airflow_sm_plugin.resources.endpoint_status import (
    EndpointState,
    EndpointVerdict,
    Step,
    cannot_be_changed,
    configs_of,
    deadline_exceeded,
    failure,
    in_progress,
    judge,
    next_step,
    uses_config,
)

WANTED, OLD = "churn-new", "churn-old"
STATUSES = (
    "OutOfService",
    "Creating",
    "Updating",
    "SystemUpdating",
    "RollingBack",
    "InService",
    "Deleting",
    "Failed",
    "UpdateRollbackFailed",
)
SERVING, WAIT, ROLLED_BACK, FAILED = (
    EndpointState.SERVING,
    EndpointState.WAIT,
    EndpointState.ROLLED_BACK,
    EndpointState.FAILED,
)
# status: (verdict with the wanted configuration, with another, next step with the wanted, with another)
TABLE = {
    "InService": (SERVING, ROLLED_BACK, Step.NOTHING, Step.UPDATE),
    "Creating": (WAIT, WAIT, Step.AWAIT, Step.WAIT_OUT),
    "Updating": (WAIT, WAIT, Step.WAIT_OUT, Step.WAIT_OUT),
    "SystemUpdating": (WAIT, WAIT, Step.AWAIT, Step.WAIT_OUT),
    "RollingBack": (WAIT, WAIT, Step.AWAIT, Step.WAIT_OUT),
    "Deleting": (FAILED, FAILED, Step.WAIT_OUT, Step.WAIT_OUT),
    "Failed": (FAILED, FAILED, Step.GIVE_UP, Step.GIVE_UP),
    "OutOfService": (FAILED, FAILED, Step.GIVE_UP, Step.GIVE_UP),
    "UpdateRollbackFailed": (FAILED, FAILED, Step.GIVE_UP, Step.GIVE_UP),
}


def endpoint(status: str, config: str = WANTED, reason: str | None = None) -> dict[str, object]:
    description: dict[str, object] = {
        "EndpointName": "churn",
        "EndpointStatus": status,
        "EndpointConfigName": config,
    }
    return description if reason is None else description | {"FailureReason": reason}


def test_the_table_has_all_nine_statuses() -> None:
    assert sorted(TABLE) == sorted(STATUSES)


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_has_its_verdict_and_its_next_step(status: str) -> None:
    """InService proves nothing by itself; Deleting is a failure for a wait, and waited out by a deployment."""
    expected = TABLE[status]
    assert (
        judge(endpoint(status), wanted_config=WANTED).state,
        judge(endpoint(status, OLD), wanted_config=WANTED).state,
        next_step(endpoint(status), wanted_config=WANTED),
        next_step(endpoint(status, OLD), wanted_config=WANTED),
    ) == expected


def test_no_endpoint_is_one_to_create() -> None:
    assert next_step(None, wanted_config=WANTED) is Step.CREATE


@pytest.mark.parametrize("status", STATUSES)
def test_an_endpoint_that_sagemaker_refuses_to_change_is_never_changed(status: str) -> None:
    """UpdateEndpoint and DeleteEndpoint are refused while something is in progress."""
    if in_progress(status):
        assert next_step(endpoint(status, OLD), wanted_config=WANTED) is Step.WAIT_OUT


def test_in_progress_are_exactly_the_statuses_that_end_by_themselves() -> None:
    assert {status for status in STATUSES if in_progress(status)} == {
        "Creating",
        "Updating",
        "SystemUpdating",
        "RollingBack",
        "Deleting",
    }


def test_a_silent_rollback_is_seen_without_a_reason() -> None:
    """A failed update ends InService with the old configuration, sometimes without a FailureReason."""
    verdict = judge(endpoint("InService", OLD), wanted_config=WANTED)
    error = failure(verdict, endpoint_name="churn", wanted_config=WANTED)
    assert isinstance(error, EndpointRolledBack)
    assert all(text in str(error) for text in ("churn", WANTED, f"serves {OLD}", "SageMaker gave no reason"))


@pytest.mark.parametrize("status", ["Failed", "OutOfService", "UpdateRollbackFailed", "Deleting"])
def test_a_failure_names_status_configuration_and_sagemakers_reason(status: str) -> None:
    reason = "The primary container did not pass the ping health check."
    verdict = judge(endpoint(status, WANTED, reason), wanted_config=WANTED)
    error = failure(verdict, endpoint_name="churn", wanted_config=WANTED)
    assert isinstance(error, EndpointFailed)
    assert all(text in str(error) for text in ("churn", status, WANTED, reason))


@pytest.mark.parametrize("status", [status for status in STATUSES if TABLE[status][0] in (SERVING, WAIT)])
def test_who_serves_or_waits_has_not_failed(status: str) -> None:
    verdict = judge(endpoint(status), wanted_config=WANTED)
    assert failure(verdict, endpoint_name="churn", wanted_config=WANTED) is None


@given(st.sampled_from(STATUSES), st.sampled_from([WANTED, OLD]), st.none() | st.text())
def test_a_verdict_is_final_or_waits_and_an_error_comes_with_every_bad_one(
    status: str, config: str, reason: str | None
) -> None:
    verdict = judge(endpoint(status, config, reason), wanted_config=WANTED)
    error = failure(verdict, endpoint_name="churn", wanted_config=WANTED)
    assert (error is None) == (verdict.state in (SERVING, WAIT))
    if error is not None and reason:
        assert presentable(reason) in str(error)


@given(st.sampled_from(EndpointState), st.text(), st.text(), st.text(), st.text())
def test_a_verdict_survives_the_triggers_event(
    state: EndpointState, status: str, config: str, reason: str, arn: str
) -> None:
    verdict = EndpointVerdict(state, status, config, reason, arn)
    assert EndpointVerdict.from_mapping(json.loads(json.dumps(verdict.as_mapping()))) == verdict


def test_a_status_of_tomorrow_is_not_waited_for() -> None:
    """It may never end: it is reported at once, by its name."""
    verdict = judge(endpoint("Hibernating"), wanted_config=WANTED)
    assert verdict.state is FAILED
    assert "Hibernating" in str(failure(verdict, endpoint_name="churn", wanted_config=WANTED))


@pytest.mark.parametrize("replaced", [None, "", OLD])
def test_a_description_without_a_configuration_proves_neither_the_wanted_one_nor_a_rollback(
    replaced: str | None,
) -> None:
    verdict = judge({"EndpointStatus": "InService"}, wanted_config=WANTED)
    assert verdict.state is ROLLED_BACK
    error = failure(verdict, endpoint_name="churn", wanted_config=WANTED, replaced_config=replaced)
    assert isinstance(error, ServiceUnavailable)
    assert "does not name the configuration that it serves" in str(error)
    assert "rolled back" not in str(error)


@pytest.mark.parametrize("status", STATUSES)
def test_a_configuration_that_is_not_described_leaves_no_gap_in_a_text(status: str) -> None:
    verdict = judge({"EndpointStatus": status}, wanted_config=WANTED)
    for build in (failure, cannot_be_changed):
        text = str(build(verdict, endpoint_name="churn", wanted_config=WANTED))
        assert not re.search(r"configuration[ .,]*(\.|and )|  |None ", text), text


def test_a_deletion_by_another_is_an_error_of_its_own() -> None:
    """SageMaker has no reason for it, and there is none to be missed."""
    verdict = judge(endpoint("Deleting", WANTED), wanted_config=WANTED)
    error = failure(verdict, endpoint_name="churn", wanted_config=WANTED)
    assert isinstance(error, EndpointFailed)
    assert f"is deleting it while this task waits for it to serve {WANTED}" in str(error)
    assert "reason" not in str(error).lower()


@pytest.mark.parametrize("status", [status for status in STATUSES if TABLE[status][2] is Step.GIVE_UP])
def test_a_broken_endpoint_is_an_error_with_reason_and_remedy_and_is_not_retried(status: str) -> None:
    """Nothing that a retry does would change it."""
    verdict = judge(endpoint(status, OLD, "no capacity"), wanted_config=WANTED)
    error = cannot_be_changed(verdict, endpoint_name="churn", wanted_config=WANTED)
    assert isinstance(error, EndpointUnchangeable)
    assert not error.retryable
    assert all(text in str(error) for text in ("churn", status, OLD, "Reason: no capacity\n", "elete it"))
    # SageMaker leaves only deletion to a Failed one; elsewhere it is not the one thing to do.
    assert (
        ("cannot be changed" in str(error)) == ("Do: delete it first" in str(error)) == (status == "Failed")
    )


@pytest.mark.parametrize("build", [failure, cannot_be_changed])
@pytest.mark.parametrize("now", [OLD, WANTED])
def test_a_failed_rollback_names_what_serves_and_the_remedy(
    build: Callable[..., EndpointError], now: str
) -> None:
    verdict = judge(endpoint("UpdateRollbackFailed", now, "no capacity"), wanted_config=WANTED)
    text = str(build(verdict, endpoint_name="churn", wanted_config=WANTED))
    assert {now, WANTED} <= set(re.findall(r"churn-\w+", text))
    assert "go on serving and cost money" in text
    assert "update it by hand" in text


@pytest.mark.parametrize("status", [status for status in STATUSES if FAILED is TABLE[status][0]])
@pytest.mark.parametrize("reason", ["No capacity.", "no capacity"])
def test_no_text_ends_a_sentence_twice(status: str, reason: str) -> None:
    verdict = judge(endpoint(status, OLD, reason), wanted_config=WANTED)
    for build in (failure, cannot_be_changed):
        error = build(verdict, endpoint_name="churn", wanted_config=WANTED)
        assert error is not None
        assert f"Reason: {reason}\n" in str(error)
        assert ".." not in error.as_sentence


def test_a_rollback_names_both_configurations_the_reason_and_a_remedy() -> None:
    verdict = judge(endpoint("InService", OLD, "The ping failed."), wanted_config=WANTED)
    text = str(failure(verdict, endpoint_name="churn", wanted_config=WANTED))
    assert f"did not take configuration {WANTED}" in text
    assert f"it serves {OLD}\nReason: The ping failed.\nDo: correct what " in text
    assert "then run the task again" in text


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("Creating", "goes on creating it"),
        ("Updating", "goes on with the update"),
        ("SystemUpdating", "goes on with an update of its own"),
        ("RollingBack", "goes on rolling back"),
        ("Deleting", "goes on deleting it"),
        ("InService", "\nDo: raise"),
        ("Failed", "\nDo: raise"),
    ],
)
def test_a_deadline_names_status_seconds_remedy_and_work_in_progress(status: str, message: str) -> None:
    verdict = judge(endpoint(status), wanted_config=WANTED)
    error = deadline_exceeded(verdict, endpoint_name="churn", seconds=899.6)
    assert isinstance(error, EndpointDeadlineExceeded)
    assert str(error).startswith(f"endpoint churn was still {status} after 15 min\n")
    assert "Do: raise max_wait_seconds" in str(error)
    assert message in str(error)
    assert ("CloudWatch" in str(error)) == (status != "Deleting")


class TestTakenOver:
    """InService with neither the wanted configuration nor the one before: another deployment put it there."""

    @pytest.mark.parametrize(
        ("replaced", "error"),
        [
            (None, EndpointRolledBack),
            ("other", EndpointRolledBack),
            ("before", EndpointTakenOver),
            ("", EndpointTakenOver),
        ],
        ids=["not known", "the one before", "neither", "it was created"],
    )
    def test_a_rollback_differs_from_another_deployment(
        self, replaced: str | None, error: type[EndpointError]
    ) -> None:
        verdict = judge({"EndpointStatus": "InService", "EndpointConfigName": "other"}, wanted_config=WANTED)
        error_of_verdict = failure(
            verdict, endpoint_name="churn", wanted_config=WANTED, replaced_config=replaced
        )
        assert type(error_of_verdict) is error
        assert not error.retryable

    def test_an_endpoint_uses_its_present_and_its_pending_configuration(self) -> None:
        moving = {
            "EndpointStatus": "Updating",
            "EndpointConfigName": "old",
            "PendingDeploymentSummary": {"EndpointConfigName": "new"},
        }
        assert configs_of(moving) == {"old", "new"}
        assert uses_config(moving, "new")
        assert not uses_config(moving, "another")
        assert not uses_config({**moving, "EndpointStatus": "Deleting"}, "old")
        assert not uses_config(None, "old")
        assert uses_config({"EndpointStatus": "InService"}, "old")  # it may use it
