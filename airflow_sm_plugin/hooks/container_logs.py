"""Lines that a container wrote to CloudWatch Logs: the last ones for the task's log, the first ones of a start."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from botocore.config import Config

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.hooks.calls import ClientHook, pages_of
from airflow_sm_plugin.resources.container_start import ContainerLines

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

_LINES_SEARCHED = 1_000
"""Last lines of a data log among which those of the failed requests are searched: one page of at most a megabyte."""

_CONNECT_SECONDS, _READ_SECONDS = 5, 20
"""Time limits of a call, unless shorter ones are set: lines of a log explain something, and hold nothing up. In a VPC
without a way to CloudWatch Logs each attempt to connect would take a minute."""

_POLLS = 5
"""Polls within the caller's patience. More would only add requests: lines reach CloudWatch after some seconds."""


class _WantedLines(NamedTuple):
    group: str
    lines: int
    streams: str
    since: float | None
    inference_ids: Collection[str] | None


class ContainerLogsHook(ClientHook):
    """Read container logs. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "logs"

    @property
    def client(self) -> CloudWatchLogsClient:
        return cast("CloudWatchLogsClient", self.get_conn())

    def _get_config(self, config: Config | None = None) -> Config:
        merged = super()._get_config(config)
        connect, read = (vars(merged)[name] for name in ("connect_timeout", "read_timeout"))
        return merged.merge(
            Config(
                connect_timeout=min(connect or _CONNECT_SECONDS, _CONNECT_SECONDS),
                read_timeout=min(read or _READ_SECONDS, _READ_SECONDS),
            )
        )

    def show_tail(
        self,
        group: str,
        *,
        lines: int,
        streams: str = "",
        patience: float = 0,
        since: float | None = None,
        inference_ids: Collection[str] | None = None,
    ) -> None:
        """Write the last lines of the group's latest streams to the log, or one line with the reason for their absence.

        It never raises: it explains another error.

        :param lines: of each stream, cut to 500 characters each; 0 shows none
        :param streams: prefix of the streams' names; default all. The latest of the first 500 streams are read
        :param patience: seconds over which five polls are made while no line is there, since lines reach CloudWatch
            with a delay; default 0, one poll
        :param since: epoch seconds of the earliest lines; default all
        :param inference_ids: of the requests that failed, where the containers serve other requests too. A data log
            names the request of each line, so others' lines are left out; other lines are marked as the endpoint's.
            None where all lines belong to the failure
        """
        if lines <= 0:
            return
        try:
            with translated(f"logs:GetLogEvents {group}"):
                tails = self._awaited_tails(
                    _WantedLines(group, lines, streams, since, inference_ids), patience
                )
        except SageMakerInferenceError as error:
            self.log.info(
                "no container logs here: %s. Allow logs:DescribeLogStreams and logs:GetLogEvents, or see %s there",
                ": ".join([*error.args, error.reason.removesuffix(".")]).removesuffix(": "),
                group,
            )
            return
        if not tails:
            self.log.info("the containers wrote nothing to %s so far", f"{group} {streams}".rstrip())
        for stream, texts in tails.items():
            # Each line is an argument of its own.
            is_shared = inference_ids is not None and not _is_data_log(stream)
            mark = " (of the whole endpoint; may belong to other requests)" if is_shared else ""
            message = "\n".join(["last lines of %s %s%s:", *["%s"] * len(texts)])
            self.log.info(message, group, stream, mark, *texts)

    def first_lines(self, group: str, *, since: float, lines: int) -> ContainerLines | None:
        """Read the first lines of the latest stream that was made since; None while there is none.

        :param since: epoch seconds; streams of an earlier endpoint of the same name are older
        :raises ServiceError: CloudWatch Logs refused or did not answer
        """
        with translated(f"logs:GetLogEvents {group}"):
            try:
                latest = self._latest_streams(group)
            except self.client.exceptions.ResourceNotFoundException:
                return None
            names = [
                stream["logStreamName"]
                for stream in latest
                if stream.get("creationTime", 0) >= int(since * 1_000)
                and not _is_data_log(stream["logStreamName"])
            ]
            if not names:
                return None
            events = self.client.get_log_events(
                logGroupName=group, logStreamName=names[0], limit=lines, startFromHead=True
            )["events"]
        return ContainerLines(
            f"{group} {names[0]}", [event["message"].rstrip()[:_LONGEST_LINE] for event in events]
        )

    def _awaited_tails(self, wanted: _WantedLines, patience: float) -> dict[str, list[str]]:
        tails = self._tails(wanted)
        for _ in range(_POLLS - 1 if patience > 0 else 0):
            if tails:
                break
            time.sleep(patience / (_POLLS - 1))
            tails = self._tails(wanted)
        return tails

    def _tails(self, wanted: _WantedLines) -> dict[str, list[str]]:
        group = wanted.group
        try:
            latest = self._streams(group, wanted.streams) if wanted.streams else self._latest_streams(group)
        except self.client.exceptions.ResourceNotFoundException:  # the group is made with the first line
            return {}
        tails: dict[str, list[str]] = {}
        for stream in latest:
            name = stream["logStreamName"]
            ids = wanted.inference_ids if _is_data_log(name) else None
            events = self.client.get_log_events(
                logGroupName=group,
                logStreamName=name,
                limit=wanted.lines if ids is None else _LINES_SEARCHED,
                startFromHead=False,
                startTime=int((wanted.since or 0) * 1_000),
            )["events"]
            texts = [event["message"].rstrip()[:_LONGEST_LINE] for event in events]
            if ids is not None:
                texts = [text for text in texts if any(f"[{each}]" in text for each in ids)][-wanted.lines :]
            if texts:
                tails[name] = texts
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


def _is_data_log(stream: str) -> bool:
    return stream.endswith("/data-log")


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
