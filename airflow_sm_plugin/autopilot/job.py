"""Judge the status of an Autopilot (AutoML) job, as ``DescribeAutoMLJobV2`` answers it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.exceptions import AutoMLJobFailed, AutoMLJobStillRunning


class JobState(enum.Enum):
    """The state of an AutoML job, as far as an export is concerned."""

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
    """Raise AutoMLJobStillRunning for a job that has not ended, AutoMLJobFailed for one that is Failed or Stopped."""
    name, status, state = job["AutoMLJobName"], job["AutoMLJobStatus"], job_state(job)
    if state is JobState.RUNNING:
        raise AutoMLJobStillRunning(
            f"AutoML job {name} is {status} ({job.get('AutoMLJobSecondaryStatus', 'no detail')})",
            do="export it when it has completed, or pass wait_for_job=True",
        )
    if state is JobState.ENDED_BADLY:
        raise AutoMLJobFailed(
            f"AutoML job {name} ended {status}",
            reason=str(job.get("FailureReason") or job.get("AutoMLJobSecondaryStatus") or "no reason given"),
            do="run a new job and export that; a job cannot be resumed",
        )
