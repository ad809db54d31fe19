"""Container logs in the task's log: the last lines of the latest streams, or a hint; never an error of its own."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import boto3
import pytest

from airflow_sm_plugin.hooks.container_logs import ContainerLogsHook
from tests.support import Account, Answer, answering, closed_port, unique

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

pytestmark = pytest.mark.airflow

Said = Callable[[], str]


@pytest.fixture
def logs(account: Account) -> CloudWatchLogsClient:
    return boto3.client("logs")


@pytest.fixture
def group(logs: CloudWatchLogsClient) -> Iterator[str]:
    name = f"/aws/sagemaker/Endpoints/{unique('e')}"
    logs.create_log_group(logGroupName=name)
    yield name
    logs.delete_log_group(logGroupName=name)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Said:
    """All logged text, whichever way this Airflow's loggers go."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capsys.readouterr())


def show(group: str, *, lines: int = 20, streams: str = "", patience: float = 0, **arguments: object) -> None:
    hook = ContainerLogsHook(**{"aws_conn_id": None} | arguments)
    hook.show_tail(group, lines=lines, streams=streams, patience=patience)


def hints(text: str) -> set[str]:
    """Return the different hints: Airflow 2.11 logs each in two ways."""
    return set(re.findall(r"no container logs here: .*", text))


def write(logs: CloudWatchLogsClient, group: str, stream: str, messages: list[str], *, age: int = 0) -> None:
    """Write events of one second each, the last so many seconds ago."""
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    first = int(time.time()) - age - len(messages)
    events = [{"timestamp": 1000 * (first + number), "message": text} for number, text in enumerate(messages)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)  # type: ignore[arg-type] # plain dicts


def test_the_last_lines_are_shown_in_order_under_their_stream(
    logs: CloudWatchLogsClient, group: str, said: Said
) -> None:
    write(logs, group, "AllTraffic/i-1", [f"line {number}" for number in range(9)])
    show(group, lines=3)
    assert f"last lines of {group} AllTraffic/i-1:\nline 6\nline 7\nline 8" in said()


def test_only_the_latest_three_streams_are_read(logs: CloudWatchLogsClient, group: str, said: Said) -> None:
    for number in range(5):
        write(logs, group, f"AllTraffic/i-{number}", [f"of stream {number}"], age=100 * number)
    show(group)
    text = said()
    assert [number for number in range(5) if f"of stream {number}" in text] == [0, 1, 2]


def test_of_streams_that_begin_so_only_the_latest_three_are_read(
    logs: CloudWatchLogsClient, group: str, said: Said
) -> None:
    """More of them than a page holds: CloudWatch orders such streams by their names."""
    for number in range(52):
        logs.create_log_stream(logGroupName=group, logStreamName=f"job-1/i-{number:02}")
    for number, age in enumerate((400, 100, 300, 200)):
        write(logs, group, f"job-1/i-9{number}", [f"of stream {number}"], age=age)
    write(logs, group, "job-10/i-0", ["of another job"])
    show(group, streams="job-1/")
    text = said()
    assert [number for number in range(4) if f"of stream {number}" in text] == [1, 2, 3]
    assert "of another job" not in text


def test_a_long_line_is_cut_and_its_line_break_dropped(
    logs: CloudWatchLogsClient, group: str, said: Said
) -> None:
    write(logs, group, "AllTraffic/i-1", ["y" * 700 + "\n", "next\n"])
    show(group)
    text = said()
    assert "y" * 500 + "\nnext" in text
    assert "y" * 501 not in text


def test_a_group_without_a_line_is_reported(logs: CloudWatchLogsClient, group: str, said: Said) -> None:
    logs.create_log_stream(logGroupName=group, logStreamName="AllTraffic/i-1")
    show(group)
    assert f"the containers wrote nothing to {group}" in said()


def test_lines_that_come_a_moment_later_are_waited_for_and_no_longer(
    logs: CloudWatchLogsClient, group: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        write(logs, group, "AllTraffic/i-1", ["a late line"])

    monkeypatch.setattr(time, "sleep", pause)
    show(group, patience=6)
    assert f"last lines of {group} AllTraffic/i-1:\na late line" in said()
    assert len(pauses) == 1


def test_nothing_is_reported_after_five_polls(monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    missing = Answer(400, "ResourceNotFoundException", "there is no such group")
    for patience, polls in ((0, 1), (0.04, 5)):
        with answering(missing) as (url, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
            show("/no/such/group", patience=patience)
        assert len(asked) == polls
    assert "the containers wrote nothing to /no/such/group so far" in said()


@pytest.mark.parametrize("lines", [0, -1])
def test_no_lines_cost_no_call(monkeypatch: pytest.MonkeyPatch, said: Said, lines: int) -> None:
    with answering(Answer(400, "AccessDeniedException")) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        show("/any", lines=lines)
    assert asked == []
    assert "/any" not in said()


def test_without_permission_one_line_says_which_and_where(
    monkeypatch: pytest.MonkeyPatch, group: str, said: Said
) -> None:
    with answering(Answer(400, "AccessDeniedException", "not authorized")) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        show(group)
    (hint,) = hints(said())
    assert f"{group}: AWS answered with an error: AccessDeniedException: not authorized. Allow" in hint
    assert "Allow logs:DescribeLogStreams and logs:GetLogEvents" in hint


def test_a_missing_group_a_dead_service_and_a_missing_region_raise_nothing(
    account: Account, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    show("/no/such/group")
    once = {"retries": {"total_max_attempts": 1}}
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", closed_port())
    show("/dead", config=once)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    show("/nowhere", region_name=None)
    text = said()
    assert len(hints(text)) == 2
    assert "the containers wrote nothing to /no/such/group" in text
    assert "the service did not answer" in text
    assert "no AWS region" in text


MARK = " (of the whole endpoint; may belong to other requests)"


def test_lines_of_an_endpoint_are_marked_and_a_data_logs_lines_are_those_of_the_failed_requests(
    logs: CloudWatchLogsClient, group: str, said: Said
) -> None:
    write(logs, group, "AllTraffic/i-1", ["Traceback of another request"])
    data_log = [
        "10:00:[sagemaker logs] [other] failed",
        "10:00:[sagemaker logs] [ours] 415 for application/x",
    ]
    write(logs, group, "AllTraffic/i-1/data-log", data_log)
    ContainerLogsHook(aws_conn_id=None).show_tail(group, lines=20, inference_ids=["ours"])
    text = said()
    assert f"last lines of {group} AllTraffic/i-1{MARK}:\nTraceback of another request" in text
    assert f"last lines of {group} AllTraffic/i-1/data-log:\n{data_log[1]}" in text
    assert "[other]" not in text


def test_the_first_lines_are_those_of_the_endpoint_that_has_the_name_now(
    logs: CloudWatchLogsClient, group: str
) -> None:
    """Its log group stays when an endpoint is deleted."""
    hook = ContainerLogsHook(aws_conn_id=None)
    write(logs, group, "AllTraffic/i-0", ["of the earlier endpoint"], age=600)
    began = time.time()
    assert hook.first_lines(group, since=began + 3_600, lines=5) is None
    assert hook.first_lines("/no/such/group", since=0, lines=5) is None
    write(logs, group, "AllTraffic/i-1", [f"line {number}" for number in range(9)])
    found = hook.first_lines(group, since=began - 1, lines=2)
    assert found is not None
    assert (found.stream, list(found.lines)) == (f"{group} AllTraffic/i-1", ["line 0", "line 1"])
