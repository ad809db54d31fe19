"""Wait until an AutoML job has ended, in whichever way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.autopilot.job import JobState, job_state
from airflow_sm_plugin.triggers.polling import PollingTrigger


class AutoMLJobTrigger(PollingTrigger):
    """End when the job is no longer running, or the deadline passed; the task then looks for itself."""

    client_type = "sagemaker"

    def __init__(
        self, *, job_name: str, deadline: float, poll_interval: float, aws: Mapping[str, Any]
    ) -> None:
        super().__init__(deadline=deadline, poll_interval=poll_interval, aws=aws)
        self.job_name = job_name

    def arguments(self) -> dict[str, Any]:
        """Return the arguments beside those of every trigger."""
        return {"job_name": self.job_name}

    async def look(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Describe the job once."""
        job = await client.describe_auto_ml_job_v2(AutoMLJobName=self.job_name)
        if job_state(job) is JobState.RUNNING and now < self.deadline:
            return None
        return {"status": "over"}
