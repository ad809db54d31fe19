"""A task's links: to the AWS console in every partition, or to an embedded SageMaker; none before it is known where."""

from __future__ import annotations

from typing import Any, cast

import pytest

from airflow_sm_plugin._compat import BaseOperator, BaseOperatorLink, Context, XCom
from airflow_sm_plugin.aws.console import Console, pages_named
from airflow_sm_plugin.links import (
    ALL_LINKS,
    BatchReportLink,
    DataCaptureLink,
    EndpointConsoleLink,
    EndpointLogsLink,
    FailuresLink,
    LocationLink,
    OutputsLink,
    ResultLink,
    console_url,
    forget_links,
    persist_endpoint,
    persist_location,
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


PAGES = "http://127.0.0.1:4566/_embedded/ui/"
IRELAND = Console("eu-west-1")
EMBEDDED = Console("eu-west-1", PAGES, PAGES)


@pytest.mark.parametrize(
    ("location", "in_console", "in_pages"),
    [
        (
            "s3://bucket/a/x.out",
            "s3/object/bucket?region=eu-west-1&prefix=a/x.out",
            "object?bucket=bucket&key=a/x.out",
        ),
        (
            "s3://bucket/a folder/é+&/report.html",
            "s3/object/bucket?region=eu-west-1&prefix=a%20folder/%C3%A9%2B%26/report.html",
            "file?bucket=bucket&key=a%20folder/%C3%A9%2B%26/report.html",
        ),
        ("s3://bucket/a/", "s3/buckets/bucket?region=eu-west-1&prefix=a/", "s3?bucket=bucket&prefix=a/"),
        ("s3://bucket", "s3/buckets/bucket?region=eu-west-1&prefix=", "s3?bucket=bucket&prefix="),
    ],
)
def test_objects_and_folders_are_one_click_away(location: str, in_console: str, in_pages: str) -> None:
    """A report opens at once where that needs no secret in the address."""
    for link in (ResultLink, OutputsLink, FailuresLink, BatchReportLink):
        address = link.address(region_name="eu-west-1", location=location)
        assert address == f"https://eu-west-1.console.aws.amazon.com/{in_console}"
        assert link.address(region_name="eu-west-1", location=location, pages=PAGES) == PAGES + in_pages


def test_offline_an_endpoint_and_its_logs_are_pages_of_the_embedded_service() -> None:
    stored = {"region_name": "eu-west-1", "endpoint_name": "churn", "pages": PAGES}
    assert EndpointConsoleLink.address(**stored) == f"{PAGES}endpoint?region=eu-west-1&name=churn"
    group = "/aws/sagemaker/Endpoints/churn"
    assert EndpointLogsLink.address(**stored) == f"{PAGES}logs?region=eu-west-1&group={group}"


def linked(monkeypatch: pytest.MonkeyPatch, ti: TaskInstanceDouble) -> dict[type, str]:
    """Return the addresses behind the links, as Airflow asks for them."""

    def stored(*, key: str, ti_key: object) -> object:
        return ti.xcom.get(key)

    monkeypatch.setattr(XCom, "get_value", stored)
    operator = BaseOperator(task_id="a_task")
    return {link: link().get_link(operator, ti_key="a key") for link in ALL_LINKS}


def test_a_task_remembers_its_endpoint_and_no_more() -> None:
    ti = TaskInstanceDouble()
    persist_endpoint(context_for(ti), IRELAND, endpoint_name="churn")
    assert list(ti.xcom.values()) == [{"region_name": "eu-west-1", "endpoint_name": "churn"}]


def test_before_anything_is_known_there_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(linked(monkeypatch, TaskInstanceDouble()).values()) == {""}


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
    persist_endpoint(context_for(ti), IRELAND, endpoint_name="churn", data_capture=capture)
    addresses = linked(monkeypatch, ti)
    assert "churn" in addresses[EndpointConsoleLink]
    assert "churn" in addresses[EndpointLogsLink]
    home = "https://eu-west-1.console.aws.amazon.com/s3/buckets/bucket?region=eu-west-1&prefix="
    assert addresses[DataCaptureLink] == (f"{home}{prefix}" if prefix else "")


@pytest.mark.parametrize("link", [link for link in ALL_LINKS if issubclass(link, LocationLink)])
def test_each_link_leads_to_its_own_location(
    monkeypatch: pytest.MonkeyPatch, link: type[LocationLink]
) -> None:
    ti = TaskInstanceDouble()
    persist_location(context_for(ti), EMBEDDED, link, "s3://bucket/x")
    addresses = linked(monkeypatch, ti)
    assert addresses.pop(link) == f"{PAGES}object?bucket=bucket&key=x"
    assert set(addresses.values()) == {""}


def test_failures_among_outputs_are_listed_by_their_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's console cannot search so."""
    ti = TaskInstanceDouble()
    arguments: Any = {"location": "s3://bucket/out/", "ending": ".errors.jsonl"}
    persist_location(context_for(ti), EMBEDDED, FailuresLink, **arguments)
    expected = f"{PAGES}s3?bucket=bucket&prefix=out/&ending=.errors.jsonl"
    assert linked(monkeypatch, ti)[FailuresLink] == expected
    persist_location(context_for(ti), IRELAND, FailuresLink, **arguments)
    assert linked(monkeypatch, ti)[FailuresLink].endswith("/s3/buckets/bucket?region=eu-west-1&prefix=out/")


class _UsersLink(BaseOperatorLink):
    name = "A user's"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's signature
        return "https://example.com"


def test_a_task_has_only_links_that_lead_somewhere() -> None:
    """Airflow 3 stores an XCom for each link of a running task, also an empty one."""
    operator: Any = BaseOperator(task_id="a_task")
    operator.operator_extra_links = (_UsersLink(), *(link() for link in ALL_LINKS))
    forget_links(operator)
    context = cast("Context", {**context_for(TaskInstanceDouble()), "task": operator})
    persist_endpoint(context, IRELAND, endpoint_name="churn")
    for _ in range(2):
        persist_location(context, IRELAND, ResultLink, "s3://bucket/x")
    kept = [type(link) for link in operator.operator_extra_links]
    assert kept == [_UsersLink, EndpointConsoleLink, EndpointLogsLink, ResultLink]


def test_a_users_own_links_as_a_property_stay_as_they_are() -> None:
    class Users(BaseOperator):
        @property
        def operator_extra_links(self) -> tuple[BaseOperatorLink, ...]:  # type: ignore[override] # as Airflow's guide shows it
            return (ResultLink(),)

    operator = Users(task_id="a_task")
    forget_links(operator)
    context = cast("Context", {**context_for(TaskInstanceDouble()), "task": operator})
    persist_location(context, IRELAND, FailuresLink, "s3://bucket/x")
    assert [type(link) for link in operator.operator_extra_links] == [ResultLink]


def test_names_and_keys_are_apart() -> None:
    """A link is found by its name; two of one name would hide each other."""
    assert len({link.name for link in ALL_LINKS}) == len(ALL_LINKS)
    assert len({link.key for link in ALL_LINKS}) == len(ALL_LINKS) - 1  # the endpoint has two links


@pytest.mark.parametrize(
    ("health", "pages"),
    [
        (b'{"status": "ok", "ui": "/_embedded/ui/"}', "http://sagemaker:4566/_embedded/ui/"),
        (
            b'{"status": "ok", "ui": "http://localhost:4566/_embedded/ui/"}',
            "http://localhost:4566/_embedded/ui/",
        ),
        (b'{"status": "ok"}', ""),
        (b'{"services": {"s3": "running"}}', ""),
        (b'{"ui": 1}', ""),
        (b'{"ui": "javascript:alert(1)/"}', ""),
        (b'{"ui": "http://u:p@evil.example/"}', ""),
        (b'{"ui": "/no-slash-at-its-end"}', ""),
        (b'{"ui": "/a?b/"}', ""),
        (b'["ui"]', ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_only_an_embedded_service_names_its_pages(health: bytes, pages: str) -> None:
    assert pages_named(health, base="http://sagemaker:4566/") == pages
