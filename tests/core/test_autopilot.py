"""Has an AutoML job ended, which candidate, which containers: as the two Describes and the listing answer."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.core.autopilot import (
    JobState,
    best_candidate,
    check_completed,
    containers_of,
    job_state,
    objective_of,
)
from airflow_sm_plugin.exceptions import AutoMLJobFailed, AutoMLJobStillRunning, CandidateNotFound

CONTAINER = {"Image": "i", "ModelDataUrl": "s3://b/m.tar.gz", "Environment": {"A": "1"}}
CANDIDATE: dict[str, object] = {
    "CandidateName": "churn-trial-1",
    "CandidateStatus": "Completed",
    "InferenceContainers": [CONTAINER],
    "FinalAutoMLJobObjectiveMetric": {"Type": "Maximize", "MetricName": "validation:f1", "Value": 0.91},
}


def job(status: str, **more: object) -> dict[str, object]:
    return {"AutoMLJobName": "churn", "AutoMLJobStatus": status, **more}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("Completed", JobState.COMPLETED),
        ("InProgress", JobState.RUNNING),
        ("Stopping", JobState.RUNNING),
        ("Stopped", JobState.ENDED_BADLY),
        ("Failed", JobState.ENDED_BADLY),
    ],
)
def test_each_status_has_its_state(status: str, state: JobState) -> None:
    assert job_state(job(status)) is state


def test_a_completed_job_passes() -> None:
    check_completed(job("Completed", AutoMLJobSecondaryStatus="Completed"))


@pytest.mark.parametrize("status", ["InProgress", "Stopping"])
def test_a_running_job_is_refused_with_what_it_does_and_the_remedy(status: str) -> None:
    """Also when it has a best candidate already: a better one may come."""
    running = job(status, AutoMLJobSecondaryStatus="ModelTuning", BestCandidate=CANDIDATE)
    with pytest.raises(AutoMLJobStillRunning, match=f"churn is {status} .ModelTuning.*wait_for_job=True"):
        check_completed(running)


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"FailureReason": "no target column"}, "no target column"),
        ({"AutoMLJobSecondaryStatus": "MaxCandidatesReached"}, "MaxCandidatesReached"),
        ({}, "no reason given"),
    ],
)
def test_a_job_that_ended_badly_is_refused_with_sagemakers_reason(
    status: str, details: dict[str, str], reason: str
) -> None:
    """Also when it has a best candidate: stopped jobs do."""
    with pytest.raises(AutoMLJobFailed, match=f"churn ended {status}: {reason}"):
        check_completed(job(status, BestCandidate=CANDIDATE, **details))


def test_the_best_candidate_is_the_one_the_job_names() -> None:
    assert best_candidate(job("Completed", BestCandidate=CANDIDATE)) is CANDIDATE


@pytest.mark.parametrize("details", [{}, {"BestCandidate": None}, {"BestCandidate": {}}])
def test_a_job_without_a_best_candidate_is_refused(details: dict[str, object]) -> None:
    """It only generated candidate definitions, or every candidate failed."""
    with pytest.raises(CandidateNotFound, match=r"churn has no best candidate.*candidate definitions only"):
        best_candidate(job("Completed", **details))


def test_containers_come_in_the_order_of_the_pipeline() -> None:
    second = {"Image": "j"}
    candidate = CANDIDATE | {"InferenceContainers": [CONTAINER, second]}
    assert containers_of(candidate, job_name="churn") == [CONTAINER, second]


@pytest.mark.parametrize("details", [{}, {"InferenceContainers": None}, {"InferenceContainers": []}])
def test_a_candidate_without_containers_is_refused_with_its_status(details: dict[str, object]) -> None:
    candidate = {"CandidateName": "churn-trial-2", "CandidateStatus": "Failed", **details}
    with pytest.raises(CandidateNotFound, match=r"churn-trial-2 of AutoML job churn.*status Failed"):
        containers_of(candidate, job_name="churn")


@pytest.mark.parametrize("name", ["validation:f1", "f1"])
def test_the_objective_comes_without_the_prefix_that_some_jobs_give_it(name: str) -> None:
    metric = {"Type": "Maximize", "MetricName": name, "Value": 0.91}
    assert objective_of({"FinalAutoMLJobObjectiveMetric": metric}) == {
        "name": "f1",
        "type": "Maximize",
        "value": 0.91,
    }


def test_an_objective_without_a_direction_is_told_all_the_same() -> None:
    """``Type`` is optional in the response."""
    metric = {"MetricName": "accuracy", "Value": 1}
    assert objective_of({"FinalAutoMLJobObjectiveMetric": metric}) == {
        "name": "accuracy",
        "type": None,
        "value": 1.0,
    }


def test_a_candidate_without_a_metric_has_no_objective() -> None:
    assert objective_of({"CandidateName": "churn-trial-1"}) is None
