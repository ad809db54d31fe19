"""Callbacks for tasks of the Amazon provider. This module imports no boto3 before a callback runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.core.names import TRANSFORM_JOBS_LOG_GROUP, transform_job_streams
from airflow_sm_plugin.exceptions import SageMakerInferenceError

log = get_log(__name__)

_LINK_KEY = "sagemaker_transform_job_details"
"""XCom key of the name under which the provider's operator created the job, when it does not block."""
_CLOCK_SKEW = timedelta(seconds=30)
"""By how much SageMaker's clock is permitted to be behind the worker's. Smaller, a slow clock hides the logs of the
job that just failed; larger, the logs of a job that a try of half a minute ago created may be shown."""


@dataclass(frozen=True, kw_only=True)
class TransformJobLogs:
    """Show a failed transform job's last container log lines, and SageMaker's reason, in the task's log.

    For the provider's ``SageMakerTransformOperator``, blocking or deferrable, as ``on_failure_callback`` and, where the
    task is retried, also as ``on_retry_callback``. The callback uses the task's AWS arguments, and needs
    ``logs:DescribeLogStreams`` and ``logs:GetLogEvents``; without them it logs one line. It never raises, which would
    hide the task's error.

    :param lines: limit for each of the three latest streams, cut to 500 characters a line; default 20, 0 shows none
    """

    lines: int = 20

    def __call__(self, context: Context) -> None:
        if self.lines <= 0:
            return
        try:
            self._show(context)
        except SageMakerInferenceError as error:
            log.info("no logs of a transform job here: %s", error)
        except Exception:
            log.warning("the logs of the transform job could not be read", exc_info=True)

    def _show(self, context: Context) -> None:
        from airflow_sm_plugin.hooks.container_logs import ContainerLogsHook, TransformJobsHook

        task = context["task"]
        name, is_of_this_try = _job_name(context, task)
        if not name:
            log.info("no logs of a transform job here: task %s runs none", task.task_id)
            return
        arguments = _aws_of(task).hook_arguments()
        job = TransformJobsHook(**arguments).describe(name)
        if not is_of_this_try and _is_older(job["CreationTime"], context):
            log.info("no logs of a transform job here: %s is there from before this try", name)
            return
        status = job["TransformJobStatus"]
        if status == "Completed":
            log.info("no logs of a transform job here: %s is Completed", name)
            return
        log.info("transform job %s is %s: %s", name, status, job.get("FailureReason", "no reason given"))
        ContainerLogsHook(**arguments).show_tail(
            TRANSFORM_JOBS_LOG_GROUP, lines=self.lines, streams=transform_job_streams(name)
        )


def _job_name(context: Context, task: object) -> tuple[str | None, bool]:
    """Find the job's name, and whether this try certainly created it.

    The operator makes a name unique when a job has it already. It stores the new name for its link, or, when it blocks,
    in its configuration; a task that resumes after a deferral has its original configuration.
    """
    if stored := _stored_name(context):
        return unquote(stored), True
    config = getattr(task, "config", None)
    if not isinstance(config, Mapping):
        return None, False
    job = config.get("Transform", config)
    name = job.get("TransformJobName") if isinstance(job, Mapping) else None
    return name if isinstance(name, str) else None, False


def _stored_name(context: Context) -> str | None:
    ti: Any = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    stored = ti.xcom_pull(task_ids=ti.task_id, key=_LINK_KEY, map_indexes=map_index)
    name = stored.get("job_name") if isinstance(stored, Mapping) else None
    return name if isinstance(name, str) else None


def _is_older(created: datetime, context: Context) -> bool:
    """Recognize an earlier job with the name that this try failed to use."""
    started: datetime | None = context["ti"].start_date
    return started is not None and created < started - _CLOCK_SKEW


def _aws_of(task: object) -> AwsConnection:
    names = [field.name for field in fields(AwsConnection) if field.compare and hasattr(task, field.name)]
    return AwsConnection(**{name: getattr(task, name) for name in names})
