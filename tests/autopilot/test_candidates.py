"""The end of an AutoML job, its candidates and their containers, as AWS describes and lists them."""

from __future__ import annotations

from typing import ClassVar

import pytest

from airflow_sm_plugin.autopilot.candidates import (
    best_candidate,
    candidate_at,
    check_objective,
    containers_of,
    is_minimised,
    objective_of,
    ranked,
    tags_of,
)
from airflow_sm_plugin.autopilot.job import JobState, check_completed, job_state
from airflow_sm_plugin.exceptions import (
    AutoMLJobFailed,
    AutoMLJobStillRunning,
    CandidateNotFound,
    ObjectiveNotMet,
)

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
def test_a_running_job_is_refused_with_status_and_remedy(status: str) -> None:
    """Also when it has a best candidate already: a better one may come."""
    running = job(status, AutoMLJobSecondaryStatus="ModelTuning", BestCandidate=CANDIDATE)
    with pytest.raises(
        AutoMLJobStillRunning, match=f"churn is {status} .ModelTuning.*\nDo: .*wait_for_job=True"
    ):
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
    with pytest.raises(AutoMLJobFailed, match=f"churn ended {status}\nReason: {reason}\nDo: "):
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


def test_an_objective_without_a_direction_is_read_all_the_same() -> None:
    """``Type`` is optional in the response."""
    metric = {"MetricName": "accuracy", "Value": 1}
    assert objective_of({"FinalAutoMLJobObjectiveMetric": metric}) == {
        "name": "accuracy",
        "type": None,
        "value": 1.0,
    }


def test_a_candidate_without_a_metric_has_no_objective() -> None:
    assert objective_of({"CandidateName": "churn-trial-1"}) is None


def scored(name: str, value: float, *, kind: str | None = "Maximize", **more: object) -> dict[str, object]:
    metric = {"MetricName": "validation:f1", "Value": value} | ({"Type": kind} if kind else {})
    return {
        "CandidateName": name,
        "CandidateStatus": "Completed",
        "FinalAutoMLJobObjectiveMetric": metric,
        **more,
    }


class TestRank:
    def test_candidates_follow_the_best_one_by_their_objective(self) -> None:
        best = scored("best", 0.9)
        listing = [scored("c", 0.7), best, scored("b", 0.8), scored("d", 0.6)]
        assert [one["CandidateName"] for one in ranked(listing, best=best)] == ["best", "b", "c", "d"]

    def test_less_is_better_where_the_metric_is_minimised(self) -> None:
        best = scored("best", 0.1, kind="Minimize")
        listing = [scored("c", 0.9, kind="Minimize"), scored("b", 0.2, kind="Minimize"), best]
        assert [one["CandidateName"] for one in ranked(listing, best=best)] == ["best", "b", "c"]

    def test_the_jobs_choice_among_equals_is_the_first_and_never_twice(self) -> None:
        best, equal = scored("best", 0.9), scored("equal", 0.9)
        assert ranked([equal, best], best=best) == [best, equal]

    def test_a_candidate_that_failed_or_has_no_objective_has_no_rank(self) -> None:
        best = scored("best", 0.9)
        failed = scored("failed", 0.8, CandidateStatus="Failed")
        without = scored("without", 0.8, FinalAutoMLJobObjectiveMetric=None)
        nan = scored("nan", float("nan"))
        assert ranked([failed, without, nan, best], best=best) == [best]

    def test_a_rank_is_a_position_in_that_order(self) -> None:
        best, second = scored("best", 0.9), scored("second", 0.8)
        assert candidate_at(2, [second, best], best=best, job_name="churn") == second
        with pytest.raises(CandidateNotFound, match=r"churn has 2 completed candidates .*none of rank 3"):
            candidate_at(3, [second, best], best=best, job_name="churn")


class TestProcessingUnits:
    """Candidates of text and image jobs (V2) have containers for each processing unit."""

    CANDIDATE: ClassVar[dict[str, object]] = {
        "CandidateName": "text-1",
        "InferenceContainers": [{"Image": "neither"}],
        "InferenceContainerDefinitions": {"CPU": [{"Image": "cpu"}], "GPU": [{"Image": "gpu"}]},
    }

    def test_cpus_are_the_default(self) -> None:
        assert containers_of(self.CANDIDATE, job_name="text") == [{"Image": "cpu"}]

    def test_gpus_are_chosen(self) -> None:
        assert containers_of(self.CANDIDATE, job_name="text", processing_unit="GPU") == [{"Image": "gpu"}]

    def test_a_missing_unit_is_refused_with_the_existing_ones(self) -> None:
        candidate = self.CANDIDATE | {"InferenceContainerDefinitions": {"GPU": [{"Image": "gpu"}]}}
        with pytest.raises(
            CandidateNotFound, match=r"text-1 of AutoML job text has no containers for CPU: .* GPU\nDo: "
        ):
            containers_of(candidate, job_name="text")

    def test_tabular_candidates_have_none_for_gpus(self) -> None:
        assert containers_of(CANDIDATE, job_name="churn", processing_unit="CPU") == [CONTAINER]
        with pytest.raises(CandidateNotFound, match="only those of text and image jobs have"):
            containers_of(CANDIDATE, job_name="churn", processing_unit="GPU")


class TestRequiredObjective:
    @pytest.mark.parametrize(
        ("value", "kind", "required"),
        [(0.9, "Maximize", 0.9), (0.91, "Maximize", 0.9), (0.1, "Minimize", 0.1), (0.05, "Minimize", 0.1)],
    )
    def test_as_good_or_better_passes(self, value: float, kind: str, required: float) -> None:
        check_objective(scored("c", value, kind=kind), required, job_name="churn")

    @pytest.mark.parametrize(
        ("value", "kind", "message"),
        [
            (0.89, "Maximize", "c of AutoML job churn has f1 0.89, required is 0.9 or more"),
            (0.91, "Minimize", "c of AutoML job churn has f1 0.91, required is 0.9 or less"),
            (float("nan"), "Maximize", "f1 nan"),
            (float("nan"), "Minimize", "f1 nan"),
        ],
    )
    def test_worse_is_refused_with_both_figures(self, value: float, kind: str, message: str) -> None:
        with pytest.raises(ObjectiveNotMet, match=message):
            check_objective(scored("c", value, kind=kind), 0.9, job_name="churn")

    def test_a_candidate_that_reports_none_meets_none(self) -> None:
        with pytest.raises(ObjectiveNotMet, match=r"reports no objective metric, 0\.9 is required"):
            check_objective({"CandidateName": "c"}, 0.9, job_name="churn")

    @pytest.mark.parametrize(
        ("name", "minimised"), [("RMSE", True), ("validation:mse", True), ("LogLoss", True), ("AUC", False)]
    )
    def test_a_metric_without_a_type_goes_by_its_name(self, name: str, minimised: bool) -> None:
        """``Type`` is optional in the response."""
        metric = {"MetricName": name, "Value": 0.5}
        objective = objective_of({"FinalAutoMLJobObjectiveMetric": metric})
        assert objective is not None
        assert is_minimised(objective) is minimised

    def test_a_type_has_precedence_over_the_name(self) -> None:
        assert is_minimised({"name": "AUC", "type": "Minimize", "value": 1.0}) is True
        assert is_minimised({"name": "MSE", "type": "Maximize", "value": 1.0}) is False


def test_a_models_tags_tell_job_and_candidate() -> None:
    assert tags_of(CANDIDATE, job_name="churn") == {
        "airflow-sm-plugin:auto-ml-job": "churn",
        "airflow-sm-plugin:candidate": "churn-trial-1",
    }
