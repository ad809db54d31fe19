"""Sessions of the hooks: what they share, and what they take from botocore's own settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.hook import AwsHook
from airflow_sm_plugin.exceptions import TaskKilled
from tests.support import closed_port


def loader_of(hook: AwsHook) -> Any:  # noqa: ANN401 - botocore has no annotations
    return hook.get_session()._session.get_component("data_loader")


def test_sessions_share_what_botocore_reads_of_its_services() -> None:
    first = AwsHook(aws_conn_id=None, region_name="us-east-1", client_type="s3")
    second = AwsHook(aws_conn_id=None, region_name="eu-west-1", client_type="s3")
    shape = "ListObjectsV2Output"
    assert loader_of(first) is loader_of(second)
    models = [cast("Any", hook.get_conn()).meta.service_model.shape_for(shape) for hook in (first, second)]
    assert models[0].metadata == models[1].metadata
    assert cast("Any", second.get_conn()).meta.region_name == "eu-west-1"


def test_further_folders_of_models_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = loader_of(AwsHook(aws_conn_id=None, client_type="s3"))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    loader = loader_of(AwsHook(aws_conn_id=None, client_type="s3"))
    assert loader is not before
    assert str(tmp_path) in loader.search_paths


def of(connection: AwsConnection, service: str) -> AwsHook:
    return AwsHook(client_type=service, **connection.hook_arguments())


def test_hooks_of_one_connection_share_a_session_and_those_of_another_do_not() -> None:
    connection, equal = (AwsConnection(aws_conn_id=None, region_name="us-east-1") for _ in range(2))
    session = of(connection, "s3").get_session()
    assert of(connection, "sagemaker").get_session() is session
    assert of(connection, "sagemaker").get_session("us-east-1") is session
    assert of(connection, "s3").get_session("eu-west-1") is not session
    assert connection == equal
    assert of(equal, "s3").get_session() is not session


@pytest.mark.parametrize(
    ("connection_id", "level", "text"),
    [
        (None, logging.INFO, "AWS: boto3's own credentials, region us-east-1, credentials: env"),
        (
            "aws_default",
            logging.INFO,
            "AWS: Airflow has no connection aws_default, so boto3's own credentials, region",
        ),
        (
            "no_such",
            logging.WARNING,
            "AWS: Airflow has no connection no_such, so boto3's own credentials, region",
        ),
        ("aws_given", logging.INFO, "AWS: connection aws_given, region us-east-1, credentials: env"),
    ],
)
def test_the_connection_is_logged_once_for_all_services_and_nothing_else_of_it(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    *,
    connection_id: str | None,
    level: int,
    text: str,
) -> None:
    """By one of our loggers, botocore's, or those of the provider, which go to structlog with Airflow 3."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_GIVEN", "aws://")
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    caplog.set_level(logging.INFO)
    connection = AwsConnection(aws_conn_id=connection_id, region_name="us-east-1")
    for service in ("s3", "sagemaker", "sagemaker-runtime"):
        of(connection, service).get_conn()
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()[: len(text)]) == (level, text)
    printed = capsys.readouterr().out
    assert "No connection ID" not in printed
    assert "Unable to find" not in printed


def test_only_the_killed_hooks_calls_end_though_the_session_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    once = {"retries": {"total_max_attempts": 1}}
    connection = AwsConnection(aws_conn_id=None, region_name="us-east-1", botocore_config=once)
    killed, alive = of(connection, "s3"), of(connection, "s3")
    clients: list[Any] = [killed.get_conn(), alive.get_conn()]

    def is_killed() -> None:
        raise TaskKilled("it was")

    killed.before_call = is_killed
    with pytest.raises(TaskKilled):
        clients[0].list_buckets()
    with pytest.raises(Exception, match="Could not connect"):
        clients[1].list_buckets()
