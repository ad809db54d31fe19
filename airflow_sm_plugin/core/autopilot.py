"""Decide about Autopilot (AutoML) jobs: has it ended, which candidate, which containers.

Shapes as ``DescribeAutoMLJobV2`` and ``ListCandidatesForAutoMLJob`` answer them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.exceptions import AutoMLJobFailed, AutoMLJobStillRunning, CandidateNotFound

_METRIC_PREFIX = "validation:"


class JobState(enum.Enum):
    """Where an AutoML job stands, as far as an export is concerned."""

    COMPLETED = "completed"
    RUNNING = "running"
    ENDED_BADLY = "ended badly"


def job_state(job: Mapping[str, Any]) -> JobState:
    """Judge ``AutoMLJobStatus``: Completed, InProgress, Stopping, Stopped or Failed."""
    status = job["AutoMLJobStatus"]
    if status == "Completed":
        return JobState.COMPLETED
    return JobState.RUNNING if status in ("InProgress", "Stopping") else JobState.ENDED_BADLY


def check_completed(job: Mapping[str, Any]) -> None:
    """Return when the job is completed.

    :raises AutoMLJobStillRunning: it has not ended
    :raises AutoMLJobFailed: it is Failed or Stopped
    """
    name, status = job["AutoMLJobName"], job["AutoMLJobStatus"]
    state = job_state(job)
    if state is JobState.RUNNING:
        raise AutoMLJobStillRunning(
            f"AutoML job {name} is {status} ({job.get('AutoMLJobSecondaryStatus', 'no detail')}): "
            f"export it when it has completed, or pass wait_for_job=True"
        )
    if state is JobState.ENDED_BADLY:
        reason = job.get("FailureReason") or job.get("AutoMLJobSecondaryStatus") or "no reason given"
        raise AutoMLJobFailed(
            f"AutoML job {name} ended {status}: {reason}. Run a new job and export that; a job cannot be resumed"
        )


def best_candidate(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the completed job's best candidate.

    :raises CandidateNotFound: the job has none: it only wrote candidate definitions, or every candidate failed
    """
    candidate: Mapping[str, Any] | None = job.get("BestCandidate")
    if not candidate:
        raise CandidateNotFound(
            f"AutoML job {job['AutoMLJobName']} has no best candidate: it generated candidate definitions only, or "
            f"every candidate failed; run a job that trains, or name a candidate"
        )
    return candidate


def containers_of(candidate: Mapping[str, Any], *, job_name: str) -> list[Mapping[str, Any]]:
    """Return the candidate's inference containers, in pipeline order.

    :raises CandidateNotFound: it has none
    """
    containers = candidate.get("InferenceContainers")
    if not containers:
        raise CandidateNotFound(
            f"candidate {candidate.get('CandidateName')} of AutoML job {job_name} has no InferenceContainers "
            f"(candidate status {candidate.get('CandidateStatus', 'unknown')}): choose a completed candidate"
        )
    return list(containers)


def objective_of(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the final objective metric as ``{"name", "type", "value"}``, None when the candidate reports none.

    The name comes without the ``validation:`` prefix that some jobs put before it.
    """
    metric = candidate.get("FinalAutoMLJobObjectiveMetric")
    if not metric:
        return None
    return {
        "name": str(metric["MetricName"]).removeprefix(_METRIC_PREFIX),
        "type": metric.get("Type"),
        "value": float(metric["Value"]),
    }
