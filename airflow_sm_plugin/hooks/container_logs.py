"""The last lines that a container wrote to CloudWatch Logs, copied to the task's log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.hooks.calls import ClientHook, pages_of

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import LogStreamTypeDef
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import DescribeTransformJobResponseTypeDef

_LONGEST_LINE = 500
"""Characters of a line: the default of 20 lines from three streams puts at most 30 KB into the task's log."""

_STREAMS = 3
"""Latest streams shown, one GetLogEvents each: instances of one endpoint mostly fail alike."""

_MOST_STREAMS_LISTED = 500
"""Streams among which the latest are searched: ten DescribeLogStreams of 50. In a group with more streams of one prefix
a later one can be missed."""

_POLLS = 5
"""Polls within the caller's patience. More would only add requests: lines reach CloudWatch after some seconds."""


class ContainerLogsHook(ClientHook):
    """Read container logs. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "logs"

    @property
    def client(self) -> CloudWatchLogsClient:
        return cast("CloudWatchLogsClient", self.get_conn())

    def show_tail(
        self, group: str, *, lines: int, streams: str = "", patience: float = 0, since: float | None = None
    ) -> None:
        """Write the last lines of the group's latest streams to the log, or one line with the reason for their absence.

        It never raises: it explains another error.

        :param lines: of each stream, cut to 500 characters each; 0 shows none
        :param streams: prefix of the streams' names; default all. The latest of the first 500 streams are read
        :param patience: seconds over which five polls are made while no line is there, since lines reach CloudWatch
            with a delay; default 0, one poll
        :param since: epoch seconds of the earliest lines; default all
        """
        if lines <= 0:
            return
        try:
            with translated(f"logs:GetLogEvents {group}"):
                tails = self._awaited_tails(group, lines, streams, patience, since)
        except SageMakerInferenceError as error:
            self.log.info(
                "no container logs here: %s. Allow logs:DescribeLogStreams and logs:GetLogEvents, or see %s there",
                error,
                group,
            )
            return
        if not tails:
            self.log.info("the containers wrote nothing to %s so far", f"{group} {streams}".rstrip())
        for stream, texts in tails.items():
            # Each line is an argument of its own.
            message = "\n".join(["last lines of %s %s:", *["%s"] * len(texts)])
            self.log.info(message, group, stream, *texts)

    def _awaited_tails(
        self, group: str, lines: int, streams: str, patience: float, since: float | None
    ) -> dict[str, list[str]]:
        tails = self._tails(group, lines, streams, since)
        for _ in range(_POLLS - 1 if patience > 0 else 0):
            if tails:
                break
            time.sleep(patience / (_POLLS - 1))
            tails = self._tails(group, lines, streams, since)
        return tails

    def _tails(self, group: str, lines: int, streams: str, since: float | None) -> dict[str, list[str]]:
        try:
            latest = self._streams(group, streams) if streams else self._latest_streams(group)
        except self.client.exceptions.ResourceNotFoundException:  # the group is made with the first line
            return {}
        tails: dict[str, list[str]] = {}
        for stream in latest:
            name = stream["logStreamName"]
            events = self.client.get_log_events(
                logGroupName=group,
                logStreamName=name,
                limit=lines,
                startFromHead=False,
                startTime=int((since or 0) * 1_000),
            )["events"]
            if events:
                tails[name] = [event["message"].rstrip()[:_LONGEST_LINE] for event in events]
        return tails

    def _latest_streams(self, group: str) -> Sequence[LogStreamTypeDef]:
        return self.client.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=_STREAMS
        )["logStreams"]

    def _streams(self, group: str, prefix: str) -> Sequence[LogStreamTypeDef]:
        """List the latest streams with the prefix: CloudWatch orders streams with a prefix by name only."""
        pages = pages_of(
            self.client,
            "describe_log_streams",
            logGroupName=group,
            logStreamNamePrefix=prefix,
            PaginationConfig={"MaxItems": _MOST_STREAMS_LISTED},
        )
        found = [stream for page in pages for stream in page["logStreams"]]
        return sorted(found, key=lambda stream: stream.get("lastEventTimestamp", 0), reverse=True)[:_STREAMS]


class TransformJobsHook(ClientHook):
    """Describe transform jobs. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "sagemaker"

    def describe(self, job_name: str) -> DescribeTransformJobResponseTypeDef:
        """Describe a job.

        :raises RequestRefused: the job does not exist
        :raises AccessDenied: without ``sagemaker:DescribeTransformJob``
        """
        with translated(f"sagemaker:DescribeTransformJob {job_name}"):
            client = cast("SageMakerClient", self.get_conn())
            return client.describe_transform_job(TransformJobName=job_name)
