"""Links to the AWS console: in every partition, and nothing before the endpoint is known."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.links import (
    EndpointConsoleLink,
    EndpointLogsLink,
    console_url,
    persist_endpoint,
)
from tests.support import TaskInstanceDouble, context_for


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


def test_a_task_remembers_its_endpoint_and_no_more() -> None:
    ti = TaskInstanceDouble()
    persist_endpoint(context_for(ti), region_name="us-east-1", endpoint_name="churn")
    assert list(ti.xcom.values()) == [{"region_name": "us-east-1", "endpoint_name": "churn"}]


def test_names_are_apart_and_told_to_airflow() -> None:
    """A link is found by its name; two of one name would hide each other."""
    assert EndpointConsoleLink().name != EndpointLogsLink().name
