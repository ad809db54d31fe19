"""Links to the AWS console: in every partition, and nothing before the endpoint is known."""

from __future__ import annotations

import pytest

from airflow_sm_plugin._compat import BaseOperator, XCom
from airflow_sm_plugin.links import (
    BatchReportLink,
    DataCaptureLink,
    EndpointConsoleLink,
    EndpointLogsLink,
    console_url,
    persist_endpoint,
    persist_report,
)
from tests.support import TaskInstanceDouble, context_for

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-west-1", "https://eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "https://console.amazonaws.cn"),
        ("us-gov-west-1", "https://console.amazonaws-us-gov.com"),
    ],
)
def test_each_partition_has_its_console(region: str, url: str) -> None:
    assert console_url(region) == url


def test_the_endpoint_is_one_click_away() -> None:
    address = EndpointConsoleLink.address(region_name="us-east-1", endpoint_name="churn")
    assert address == (
        "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/endpoints/churn"
    )


def test_so_are_its_logs() -> None:
    """The console wants the group's slashes quoted twice, with ``$`` for ``%``."""
    address = EndpointLogsLink.address(region_name="us-east-1", endpoint_name="churn")
    assert address == (
        "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
        "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FEndpoints$252Fchurn"
    )


def test_captured_data_is_one_click_away() -> None:
    address = DataCaptureLink.address(region_name="us-east-1", location="s3://bucket/a folder/churn/")
    assert address == (
        "https://us-east-1.console.aws.amazon.com/s3/buckets/bucket?region=us-east-1&prefix=a%20folder/churn/"
    )


def test_a_task_remembers_its_endpoint_and_no_more() -> None:
    ti = TaskInstanceDouble()
    persist_endpoint(context_for(ti), region_name="us-east-1", endpoint_name="churn")
    assert list(ti.xcom.values()) == [{"region_name": "us-east-1", "endpoint_name": "churn"}]


def linked(monkeypatch: pytest.MonkeyPatch, ti: TaskInstanceDouble) -> list[str]:
    """Return the addresses behind the links, as Airflow asks for them."""

    def stored(*, key: str, ti_key: object) -> object:
        return ti.xcom.get(key)

    monkeypatch.setattr(XCom, "get_value", stored)
    links = (EndpointConsoleLink(), EndpointLogsLink(), DataCaptureLink(), BatchReportLink())
    return [link.get_link(BaseOperator(task_id="a_task"), ti_key="a key") for link in links]


def test_before_the_task_knows_its_endpoint_there_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    assert linked(monkeypatch, TaskInstanceDouble()) == ["", "", "", ""]


@pytest.mark.parametrize(
    ("capture", "prefix"),
    [
        ({"EnableCapture": True, "DestinationS3Uri": "s3://bucket/captured"}, "captured/churn/"),
        ({"EnableCapture": True, "DestinationS3Uri": "s3://bucket/captured/"}, "captured/churn/"),
        ({"EnableCapture": True, "DestinationS3Uri": "s3://bucket"}, "churn/"),
        ({"EnableCapture": False, "DestinationS3Uri": "s3://bucket/captured"}, None),
        ({"EnableCapture": True}, None),
        ({"EnableCapture": True, "DestinationS3Uri": "bucket"}, None),
        (None, None),
    ],
)
def test_captured_data_is_linked_where_any_is_captured(
    monkeypatch: pytest.MonkeyPatch, capture: dict[str, object] | None, prefix: str | None
) -> None:
    ti = TaskInstanceDouble()
    persist_endpoint(context_for(ti), region_name="eu-west-1", endpoint_name="churn", data_capture=capture)
    console, logs, captured, _ = linked(monkeypatch, ti)
    assert "churn" in console
    assert "churn" in logs
    home = "https://eu-west-1.console.aws.amazon.com/s3/buckets/bucket?region=eu-west-1&prefix="
    assert captured == (f"{home}{prefix}" if prefix else "")


def test_a_batchs_report_is_linked_once_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    ti = TaskInstanceDouble()
    assert linked(monkeypatch, ti)[-1] == ""
    persist_report(context_for(ti), region_name="eu-west-1", location="s3://bucket/a folder/é+/report.html")
    assert linked(monkeypatch, ti)[-1] == (
        "https://eu-west-1.console.aws.amazon.com/s3/object/bucket"
        "?region=eu-west-1&prefix=a%20folder/%C3%A9%2B/report.html"
    )


def test_names_are_apart_and_registered_with_airflow() -> None:
    """A link is found by its name; two of one name would hide each other."""
    links = (EndpointConsoleLink, EndpointLogsLink, DataCaptureLink, BatchReportLink)
    assert len({link.name for link in links}) == len(links)
