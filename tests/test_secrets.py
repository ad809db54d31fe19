"""A proxy's password and a presigned URL's signature: not in what Airflow stores or shows, nor in logs and errors."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import pkgutil
import traceback
from typing import Any

import pytest

from airflow_sm_plugin import operators, sensors
from airflow_sm_plugin._compat import BaseOperator
from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.base import AwsArguments
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InvalidS3Uri, SageMakerInferenceError, ServiceUnavailable
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
from airflow_sm_plugin.invoke.async_request import AsyncRequest
from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
from airflow_sm_plugin.triggers.endpoint import EndpointServingTrigger

pytestmark = pytest.mark.airflow

PASSWORD = "hunter2-proxy"
ODD_PASSWORDS = [
    PASSWORD,
    f"a#{PASSWORD}",
    f"a/{PASSWORD}",
    f"a@{PASSWORD}",
    f"a%{PASSWORD}",
    f"a[{PASSWORD}",
]
"""Some of these are no URL, which libraries report with the URL."""

KINDS = [
    operator_class
    for package in (operators, sensors)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    for _, operator_class in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
    if issubclass(operator_class, AwsArguments) and issubclass(operator_class, BaseOperator)
]


def config(password: str) -> dict[str, Any]:
    proxy = f"http://svc:{password}@127.0.0.1:1"
    return {
        "proxies": {"http": proxy, "https": proxy},
        "retries": {"mode": "standard", "total_max_attempts": 1},
        "connect_timeout": 1,
    }


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_no_operator_has_its_botocore_configuration_rendered(kind: type[BaseOperator]) -> None:
    """Airflow stores template fields, in the serialized DAG and for each task instance; nothing else of an operator."""
    assert "botocore_config" not in kind.template_fields


@pytest.mark.parametrize("password", ODD_PASSWORDS)
@pytest.mark.parametrize("call", ["control plane", "runtime", "s3", "trigger"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    call: str, password: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("random.random", lambda: 0.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    connection = AwsConnection(aws_conn_id=None, region_name="us-east-1", botocore_config=config(password))
    shown = repr(connection)
    with pytest.raises((SageMakerInferenceError, AssertionError)) as caught:
        _call(call, connection)
    shown += "".join(traceback.format_exception(caught.value))
    shown += " ".join(record.getMessage() for record in caplog.records)
    assert PASSWORD not in shown


def _call(call: str, connection: AwsConnection) -> None:
    if call == "control plane":
        SageMakerControlPlaneHook(**connection.hook_arguments()).describe_endpoint("e")
    elif call == "runtime":
        request = AsyncRequest(endpoint_name="e", input_location="s3://b/k")
        SageMakerRuntimeHook(**connection.hook_arguments()).invoke_endpoint_async(request, attempts=1)
    elif call == "s3":

        async def read() -> bytes:
            async with S3Objects.open(connection) as s3:
                return await s3.read("s3://bucket/key")

        asyncio.run(read())
    else:
        trigger = EndpointServingTrigger(
            endpoint_name="e",
            wanted_config="c",
            note={},
            deadline=0,
            poll_interval=0.05,
            aws=connection.as_mapping(),
        )

        async def events() -> list[Any]:
            return [event.payload async for event in trigger.run()]

        (event,) = asyncio.run(events())
        assert event["status"] == "error"
        raise AssertionError(f"{trigger!r} {event}")  # whose text is shown as it is


def test_no_trigger_shows_how_it_reaches_aws() -> None:
    aws = AwsConnection(aws_conn_id=None, botocore_config=config(PASSWORD)).as_mapping()
    trigger = AsyncInferenceTrigger(
        deadline=0, poll_interval=1, aws=aws, watch_location="s3://bucket/watch.json"
    )
    assert "s3://bucket/watch.json" in f"{trigger!r} {trigger}"
    assert PASSWORD not in f"{trigger!r} {trigger}"
    assert PASSWORD in json.dumps(trigger.serialize()[1]), "what Airflow stores, encrypted"


def test_a_presigned_url_instead_of_a_location_is_refused_without_its_signature() -> None:
    with pytest.raises(InvalidS3Uri) as caught:
        S3Uri.parse("https://b.s3.amazonaws.com/k?X-Amz-Signature=abc123&X-Amz-Security-Token=def456")
    assert "abc123" not in str(caught.value)
    assert "def456" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["a\nINFO Task succeeded", "a\r\nb", "\x1b[2Kb", "a\u2028b", "a\x85b", "\ud83d", "\u202eb"],
)
def test_no_text_from_outside_makes_a_line_of_a_log_or_an_error(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    get_log("airflow_sm_plugin.test").info("%s, %d: %s", f"s3://b/{value}", 3, ServiceUnavailable(value))
    get_log("airflow_sm_plugin.test").warning("%s", [value])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all(message.isprintable() for message in messages)
    assert caplog.records[0].pathname == __file__, "where it was logged"
