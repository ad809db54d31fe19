"""Wait until an AutoML job has ended, successfully or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.autopilot.job import JobState, job_state
from airflow_sm_plugin.aws.errors import meaning, translate
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.triggers.polling import PollingTrigger

log = get_log(__name__)


class AutoMLJobTrigger(PollingTrigger):
    """End when the job is no longer running, or the deadline passed; the task then describes it again."""

    client_type = "sagemaker"

    def __init__(
        self, *, job_name: str, deadline: float, poll_interval: float, aws: Mapping[str, Any]
    ) -> None:
        super().__init__(deadline=deadline, poll_interval=poll_interval, aws=aws)
        self.job_name = job_name
        self.awaited = f"AutoML job {job_name}"

    def arguments(self) -> dict[str, Any]:
        return {"job_name": self.job_name} | super().arguments()

    async def poll(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        job = await self._describe(client)
        log.debug("AutoML job %s is %s", self.job_name, job["AutoMLJobStatus"])
        if job_state(job) is JobState.RUNNING and now < self.deadline:
            return None
        return {"status": "over"}

    async def _describe(self, client: Any) -> Mapping[str, Any]:  # noqa: ANN401 - an aiobotocore client
        """Describe the job. V2 describes both kinds of jobs; V1 serves roles that are not permitted to call V2."""
        try:
            job: Mapping[str, Any] = await client.describe_auto_ml_job_v2(AutoMLJobName=self.job_name)
        except ClientError as denied:
            if meaning(denied) is not Meaning.ACCESS_DENIED:
                raise
            try:
                job = await client.describe_auto_ml_job(AutoMLJobName=self.job_name)
            except ClientError as error:
                raise error if translate(error, "").retryable else denied from None
        return job
