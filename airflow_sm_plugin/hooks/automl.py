"""Calls of SageMaker's control plane about AutoML (Autopilot) jobs and their candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.exceptions import AccessDenied, AutoMLJobNotFound, CandidateNotFound, RequestRefused
from airflow_sm_plugin.hooks.calls import found, pages_of
from airflow_sm_plugin.hooks.sagemaker_calls import SageMakerCalls


class AutoMLJobs:
    """Describe AutoML jobs and their candidates."""

    def __init__(self, hook: SageMakerCalls) -> None:
        self._hook = hook

    def describe(self, name: str) -> Mapping[str, Any]:
        """Describe a job of CreateAutoMLJob or CreateAutoMLJobV2; ask V1 only where V2 is not permitted.

        :raises AutoMLJobNotFound: no job has that name
        """
        try:
            job = found(
                f"sagemaker:DescribeAutoMLJobV2 {name}",
                lambda: self._hook.client.describe_auto_ml_job_v2(AutoMLJobName=name),
            )
        except AccessDenied as denied:
            job = self._describe_v1(name, denied)
        if job is None:
            raise AutoMLJobNotFound(
                f"there is no AutoML job {name} in {self._hook.conn_region_name}",
                do="correct its name, region_name or the account",
            )
        return job

    def _describe_v1(self, name: str, denied: AccessDenied) -> Mapping[str, Any] | None:
        try:
            return found(
                f"sagemaker:DescribeAutoMLJob {name}",
                lambda: self._hook.client.describe_auto_ml_job(AutoMLJobName=name),
            )
        except (AccessDenied, RequestRefused):
            raise denied from None

    def candidate(self, job_name: str, candidate_name: str) -> Mapping[str, Any]:
        """Find a candidate by its exact name.

        :raises CandidateNotFound: the job has no candidate of that name
        """
        for candidate in self._candidates(job_name, CandidateNameEquals=candidate_name):
            if candidate["CandidateName"] == candidate_name:
                return candidate
        raise CandidateNotFound(
            f"AutoML job {job_name} has no candidate {candidate_name!r}",
            do="correct candidate_name, or leave it out for the best one",
        )

    def completed_candidates(self, job_name: str) -> list[Mapping[str, Any]]:
        """List all completed candidates, over all pages.

        Whether SageMaker reverses its order for a metric to be minimised is not documented: rank them by
        :func:`airflow_sm_plugin.autopilot.candidates.ranked`.
        """
        return self._candidates(
            job_name,
            StatusEquals="Completed",
            SortBy="FinalObjectiveMetricValue",
            SortOrder="Descending",
            PaginationConfig={"PageSize": 100},
        )

    def _candidates(self, job_name: str, **arguments: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - the paginator's
        with translated(f"sagemaker:ListCandidatesForAutoMLJob {job_name}"):
            pages = pages_of(
                self._hook.client, "list_candidates_for_auto_ml_job", AutoMLJobName=job_name, **arguments
            )
            return [
                cast("Mapping[str, Any]", candidate) for page in pages for candidate in page["Candidates"]
            ]
